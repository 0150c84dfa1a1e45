"""Keeps as many preallocated endpoints as each network's `preallocate` requires (agent/endpoints/preallocated.py)."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from agent.cache import Cache
from agent.endpoints.endpoints import Endpoints
from agent.endpoints.preallocated import PreallocatedPool
from agent.feature import Feature
from warren.errors import WarrenError
from warren.worker import Worker

log = logging.getLogger("warren.preallocated")

RETRY_S = 5.0  # pause before the next attempt when an endpoint could not be created (no free address, no controller)
ONLY_HOST = "docker.host"  # label of a network that one host's engine created: no other host will use it


class PreallocatedFiller(Feature):
    """Creates missing preallocated endpoints and removes superfluous ones, one at a time, never while an attach takes one."""

    def __init__(self, cache: Cache, pool: PreallocatedPool, endpoints: Endpoints) -> None:
        self._cache, self._pool, self._endpoints = cache, pool, endpoints
        self._worker = Worker("preallocated endpoints", self._step)
        cache.changed.add(lambda ids: self._worker.wake())
        pool.changed.add(self._worker.wake)

    def workers(self) -> Sequence[Worker]:
        """Return the filling worker."""
        return (self._worker,)

    def _step(self, items: frozenset[str]) -> float | None:
        calm_s = self._pool.calm_s()
        if calm_s > 0:
            return min(calm_s, RETRY_S)
        if not self._cache.synced.is_set():
            return None
        return None if self._fill() else RETRY_S

    def _fill(self) -> bool:
        """Create or remove at most one endpoint for each network; return whether no network failed."""
        complete, view = True, self._cache.view
        networks = view.snapshot.networks.values()
        counts = {n.id: n.preallocate for n in networks if n.labels.get(ONLY_HOST, self._cache.host) == self._cache.host}
        for network_id in {*counts, *(e.network_id for e in view.local_endpoints.values() if e.spare)}:
            try:
                self._fill_network(network_id, counts.get(network_id, 0))
            except WarrenError as error:
                complete = False
                log.info("preallocated.waits network=%s reason=%s", network_id, error)
        return complete

    def _fill_network(self, network_id: str, count: int) -> None:
        ready = self._pool.ready(network_id)
        for superfluous in ready[count:]:
            if self._pool.hold(superfluous.id):
                try:
                    self._endpoints.detach(superfluous)
                finally:
                    self._pool.release(superfluous.id)
        if len(ready) < count and not self._worker.stopping.is_set():
            began = time.monotonic()
            with self._pool.paused():
                self._endpoints.preallocate(network_id)
            log.info("preallocated.made network=%s ms=%.1f", network_id, (time.monotonic() - began) * 1000)
            self._worker.wake()  # the network may need more
