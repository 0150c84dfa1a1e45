"""Keeps as many preallocated endpoints as each network's `preallocate` requires (agent/endpoints/preallocated.py)."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence

from agent.cache import Cache
from agent.endpoints.endpoints import Endpoints
from agent.endpoints.preallocated import PreallocatedPool
from agent.feature import Feature
from specs.model.network import Network
from warren.errors import WarrenError
from warren.worker import Worker

log = logging.getLogger("warren.preallocated")

RETRY_S = 5.0  # pause before the next attempt when an endpoint could not be created (no free address, no controller)
ONLY_HOST = "docker.host"  # label of a network that one host's engine created: no other host will use it


def counts(networks: Iterable[Network], host: str) -> dict[str, int]:
    """Return how many endpoints to keep ready on a host, by network. Pure."""
    return {n.id: n.preallocate for n in networks if n.preallocate and n.labels.get(ONLY_HOST, host) == host}


class PreallocatedFiller(Feature):
    """Creates missing preallocated endpoints and removes superfluous ones, one at a time, never while an attach takes one."""

    def __init__(self, cache: Cache, pool: PreallocatedPool, endpoints: Endpoints) -> None:
        self._cache, self._pool, self._endpoints = cache, pool, endpoints
        self._networks: Mapping[str, Network] = {}  # those that `_counts` follows from
        self._counts: dict[str, int] = {}
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
        if view.snapshot.networks is not self._networks:  # a change of one network replaces the mapping
            self._networks, self._counts = view.snapshot.networks, counts(view.snapshot.networks.values(), self._cache.host)
        for network_id in {*self._counts, *(e.network_id for e in view.local_endpoints.values() if e.spare)}:
            try:
                self._fill_network(network_id, self._counts.get(network_id, 0))
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
