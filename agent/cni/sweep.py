"""Removes the endpoints of containers for which no DEL will come: the runtime was killed, the host restarted, or the runtime
detaches without DEL. Runtimes that support GC request the same."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from warren.errors import WarrenError
from warren.worker import Worker

log = logging.getLogger("warren.cni")

INTERVAL_S = 2.0


class AttachmentSweep:
    """Removes endpoints whose container is gone. `suspects` returns the ids of endpoints that do not match their record;
    `drop` removes an endpoint if its container is gone."""

    def __init__(self, suspects: Callable[[], Iterable[str]], drop: Callable[[str], None]) -> None:
        self._suspects, self._drop = suspects, drop
        self._before: set[str] = set()
        self.worker = Worker("CNI sweep", self._step, interval_s=INTERVAL_S)

    def _step(self, items: frozenset[str]) -> None:
        """Drop the endpoints that were suspects in the previous step too, so that a DEL that is under way finishes
        first."""
        suspects = set(self._suspects())
        for endpoint_id in sorted(suspects & self._before):
            try:
                self._drop(endpoint_id)
            except WarrenError as error:
                log.info("sweep.waits id=%s reason=%s", endpoint_id, error)
        self._before = suspects
