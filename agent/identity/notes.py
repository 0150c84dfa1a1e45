"""Notes about events that the agent has dealt with. `warren status` shows each for ten minutes."""

from __future__ import annotations

import logging
import time

log = logging.getLogger("warren.identity")

SHOWN_S = 600.0


class Notes:
    """Recent lines, oldest first."""

    def __init__(self) -> None:
        self._lines: dict[str, float] = {}

    def add(self, line: str) -> None:
        """Log a line and show it for a while."""
        log.info("identity.noted line=%s", line)
        self._lines = {**self._lines, line: time.monotonic()}

    def lines(self) -> list[str]:
        """Return the lines that are still shown."""
        now = time.monotonic()
        return [line for line, at in self._lines.items() if now - at < SHOWN_S]
