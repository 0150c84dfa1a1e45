"""The green thread that sends announcements, at a pace that leaves the switch and the bundles their time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from controller.announcements import announcements
from controller.framework.runtime import hub
from intent.incremental.index import Index

FRAMES_AT_ONCE, PAUSE_S = 50, 0.05  # 1000 frames a second at most


class Announcer:
    """`send` takes an OpenFlow port and a frame. An endpoint that waits already is not announced twice."""

    def __init__(self, index: Callable[[], Index], send: Callable[[int, bytes], None]) -> None:
        self._index, self._send = index, send
        self._queue: Any = hub.Queue()
        self._waiting: set[str] = set()
        self._sent = 0  # frames

    def announce(self, endpoint_ids: Iterable[str]) -> None:
        """Announce endpoints soon."""
        for endpoint_id in endpoint_ids:
            if endpoint_id not in self._waiting:
                self._waiting.add(endpoint_id)
                self._queue.put(endpoint_id)

    def step(self) -> None:
        """Wait for an endpoint, and send its announcements."""
        endpoint_id = self._queue.get()
        self._waiting.discard(endpoint_id)
        index = self._index()
        endpoint, record = index.endpoints.get(endpoint_id), index.snapshot.endpoints.get(endpoint_id)
        if endpoint is None or record is None:  # it went while it waited
            return
        for port, frame in announcements(endpoint, index.neighbours(record.network_id)):
            self._send(port, frame)
            self._sent += 1
            if self._sent % FRAMES_AT_ONCE == 0:
                hub.sleep(PAUSE_S)
