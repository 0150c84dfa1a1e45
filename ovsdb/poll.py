"""`poll` for the `ovs` package, whose own `select` refuses file descriptors above 1023."""

from __future__ import annotations

import select
import time
from typing import Any


class Poll:
    """Has the interface that `ovs.poller` expects: it may register a descriptor twice, and passes the timeout in
    milliseconds."""

    def __init__(self) -> None:
        self._events: dict[int, int] = {}

    def register(self, fd: Any, events: int) -> None:
        number = fd if isinstance(fd, int) else fd.fileno()
        self._events[number] = self._events.get(number, 0) | events

    def poll(self, timeout_ms: int) -> list[tuple[int, int]]:
        poll = select.poll()
        for fd, events in self._events.items():
            poll.register(fd, events)
        return poll.poll(timeout_ms)


def left(deadline: float) -> float:
    """Return the seconds until a time of `time.monotonic`."""
    return deadline - time.monotonic()
