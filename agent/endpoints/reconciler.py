"""The thread that keeps the host as the records say: at start, on changes of the store, and again for what could not be done."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterable

from agent.endpoints.endpoints import Endpoints
from warren.errors import WarrenError

log = logging.getLogger("warren.keeper")

RETRY_S = 5.0  # a namespace gives no event when it appears, nor does an OVSDB that refused
EVERYTHING = ""


class Keeper:
    """Settles endpoints, one after the other. `problems` says per endpoint why it could not be; `on_change` hears of news."""

    def __init__(self, endpoints: Endpoints, on_change: Callable[[], None]) -> None:
        self._endpoints, self._on_change = endpoints, on_change
        self.problems: dict[str, str] = {}
        self._queue: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the endpoint that it is at."""
        self._stop.set()
        self._queue.put(EVERYTHING)

    def look(self, endpoint_ids: Iterable[str]) -> None:
        """These endpoints may need something."""
        for endpoint_id in endpoint_ids:
            self._queue.put(endpoint_id)

    def look_at_everything(self) -> None:
        """After a full read of the store or of OVSDB: also sweep what belongs to no record."""
        self._queue.put(EVERYTHING)

    def _run(self) -> None:
        while not self._stop.is_set():
            retry = bool(self.problems or self._endpoints.orphaned)
            try:
                todo = {self._queue.get(timeout=RETRY_S if retry else None)}
            except queue.Empty:
                todo = set(self.problems) | set(self._endpoints.orphaned)
            while not self._queue.empty():
                todo.add(self._queue.get())
            if not self._stop.is_set() and self._endpoints.known.read.is_set():
                self._settle(todo)

    def _settle(self, todo: set[str]) -> None:
        before = dict(self.problems)
        if EVERYTHING in todo:
            todo.discard(EVERYTHING)
            self.problems.pop(EVERYTHING, None)
            try:
                todo |= self._endpoints.sweep()
            except WarrenError as error:
                self.problems[EVERYTHING] = str(error)
        for endpoint_id in sorted(todo):
            reason = self._endpoints.settle(endpoint_id)
            if reason is None:
                self.problems.pop(endpoint_id, None)
            else:
                if self.problems.get(endpoint_id) != reason:
                    log.info("endpoint.unsettled id=%s reason=%s", endpoint_id, reason)
                self.problems[endpoint_id] = reason
        if self.problems != before:
            self._on_change()
