"""Keeps the placements of this host's endpoints in etcd right, by which its agent and its controller find them (specs/interest.py).

Writers of endpoints write them, too, unless they are older than these keys. An agent that finds none confirmed for its host reads all endpoints,
writes what is missing, and confirms: from then on it reads what concerns it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from agent.cache import Cache, CacheView
from agent.feature import Feature
from specs import keys
from specs.model.endpoint import Endpoint
from specs.store.placements import index
from specs.store.repository import Repository
from warren.worker import Worker

log = logging.getLogger("warren.placements")

INTERVAL_S = 60.0
AGAIN_S = 1.0  # a transaction may have been seen in part
NOWHERE = "-"  # the network of a record that nothing leads to


class Placements(Feature):
    """Compares the placements of this host with its endpoints."""

    def __init__(self, cache: Cache, repository: Repository) -> None:
        self._cache, self._repository = cache, repository
        self._worker = Worker("placements", self._step, interval_s=INTERVAL_S)
        cache.reread.add(self._wake)
        cache.changed.add(self._consider)

    def workers(self) -> Sequence[Worker]:
        """Return the worker."""
        return (self._worker,)

    def differences(self) -> list[str]:
        """Return the endpoints whose placements are wrong."""
        view = self._cache.view
        return [f"placement of endpoint {endpoint_id}: not as its record says" for endpoint_id in astray(self._cache.host, view)]

    def _wake(self) -> None:
        self._worker.wake()

    def _consider(self, endpoint_ids: set[str]) -> None:
        """Look at once while writers may be older than placements."""
        if self._cache.view.followed is None:
            self._worker.wake()

    def _step(self, items: frozenset[str]) -> None:
        if not self._cache.synced.is_set():
            return
        suspects = astray(self._cache.host, self._cache.view)
        if suspects:
            self._worker.stopping.wait(AGAIN_S)
            view = self._cache.view
            for endpoint_id, network_id in astray(self._cache.host, view).items():
                if endpoint_id in suspects:
                    self._repository.index_endpoint(self._cache.host, network_id, endpoint_id)
                    log.info("placement.repaired endpoint=%s network=%s", endpoint_id, network_id)
        if self._cache.view.followed is None and keys.placing(self._cache.host) not in self._cache.view.index:
            self._repository.confirm_placements(self._cache.host)


def astray(host: str, view: CacheView) -> dict[str, str]:
    """The endpoints of a host whose placements are not what their records say, with the network where the record is or was."""
    right: dict[str, str] = {}
    for endpoint in view.local_endpoints.values():
        right |= index(endpoint)
    present = {key for key in view.index if key.startswith((keys.PLACEMENTS, keys.PUBLISHERS))}
    wrong = {key.rpartition("/")[2] for key in right.keys() | present if right.get(key) != view.index.get(key)}
    return {endpoint_id: _network(host, endpoint_id, view.local_endpoints, view.index) for endpoint_id in wrong}


def _network(host: str, endpoint_id: str, local: Mapping[str, Endpoint], present: Mapping[str, str]) -> str:
    endpoint = local.get(endpoint_id)
    return endpoint.network_id if endpoint is not None else present.get(keys.placement(host, endpoint_id), NOWHERE)
