"""Removes the endpoints of containers that a runtime has forgotten: it was killed, the host restarted, or it detaches
and never calls DEL. Runtimes that know GC ask for the same."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from agent.worker import Worker
from warren.errors import WarrenError

log = logging.getLogger("warren.cni")

INTERVAL_S = 2.0


class AttachmentSweep:
    """`suspects` returns ids of endpoints with which something is wrong; `drop` removes one if its container is gone."""

    def __init__(self, suspects: Callable[[], Iterable[str]], drop: Callable[[str], None]) -> None:
        self._suspects, self._drop = suspects, drop
        self._before: set[str] = set()
        self.worker = Worker("CNI sweep", self._step, interval_s=INTERVAL_S)

    def _step(self, items: frozenset[str]) -> None:
        """Drop what was suspect at the step before, too: a DEL that is under way comes first."""
        suspects = set(self._suspects())
        for endpoint_id in sorted(suspects & self._before):
            try:
                self._drop(endpoint_id)
            except WarrenError as error:
                log.info("sweep.waits id=%s reason=%s", endpoint_id, error)
        self._before = suspects
