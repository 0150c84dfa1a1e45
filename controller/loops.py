"""Loops: runs the controller's endless loops. They survive any exception and show it in `warren status`."""

from __future__ import annotations

import logging
from collections.abc import Callable

log = logging.getLogger("warren.loops")

BACKOFF_S = (1.0, 30.0)  # the first and the longest pause after an exception


class Loops:
    """Holds the problems of all loops. `on_change` is called when `problems` has changed; `sleep` lets other green threads run."""

    def __init__(self, on_change: Callable[[], None], sleep: Callable[[float], None]) -> None:
        self._on_change, self._sleep = on_change, sleep
        self._problems: dict[str, str] = {}  # by loop

    def problems(self) -> list[str]:
        """Return the exceptions of loops whose last step failed."""
        return [f"{name}: {problem}" for name, problem in sorted(self._problems.items())]

    def repeat(self, name: str, step: Callable[[], None], *, pause: bool = True) -> None:
        """Run a step again and again, until the green thread is killed. After an exception, pause for 1 to 30 seconds; without
        `pause` go on at once, for loops in which others choose how often a step fails."""
        failures = 0
        while True:
            try:
                step()
            except Exception as error:
                log.exception("loop.failed name=%s", name)
                self._report(name, f"internal error: {type(error).__name__}")
                first_s, longest_s = BACKOFF_S
                self._sleep(min(longest_s, first_s * 2 ** min(failures, 10)) if pause else 0)
                failures += 1
            else:
                failures = 0
                self._report(name, None)

    def works(self, name: str) -> None:
        """Clear the problem of a loop whose step has no end while it succeeds."""
        self._report(name, None)

    def _report(self, name: str, problem: str | None) -> None:
        if problem == self._problems.get(name):
            return
        if problem is None:
            del self._problems[name]
        else:
            self._problems[name] = problem
        try:
            self._on_change()
        except Exception:
            log.exception("loop.failed name=%s", name)
