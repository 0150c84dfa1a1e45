"""Reconciles the endpoints of this host with their records: at start, when the store changes, and again after failures."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from agent.cache import Cache
from agent.endpoints.endpoints import Endpoints
from agent.feature import Feature
from agent.linux.links import Links
from agent.listeners import Listeners
from agent.worker import Worker
from warren.errors import WarrenError

log = logging.getLogger("warren.reconciler")

RETRY_S = 5.0  # no event announces that a namespace has appeared or that OVSDB would now accept a transaction
EVERYTHING = ""  # item that means all endpoints, and the veths and ports that belong to none


class EndpointReconciler(Feature):
    """Reconciles endpoints one after the other. `reasons` maps the id of each endpoint that failed to the reason;
    `on_change` is called when `reasons` change.

    Changes of the cache or of OVSDB, failed operations on endpoints, and veths that vanish wake it.
    """

    def __init__(
        self, cache: Cache, endpoints: Endpoints, ovsdb_changed: Listeners[[set[str]]], on_change: Callable[[], None]
    ) -> None:
        self._cache, self._endpoints, self._on_change = cache, endpoints, on_change
        self.reasons: dict[str, str] = {}
        self._worker = Worker("endpoints", self._step, on_change=on_change)
        self._links = Links(lambda name: self.wake(endpoints.veth_vanished(name)), self.wake_all)
        cache.changed.add(self.wake)
        cache.reread.add(self.wake_all)
        endpoints.failed.add(self._worker.wake)
        ovsdb_changed.add(self._ovsdb_changed)

    def workers(self) -> Sequence[Worker]:
        """Return the reconciling worker, and the one that listens for deleted veths."""
        return (self._worker, self._links.worker)

    def problems(self) -> list[str]:
        """Return a line for each endpoint that does not match its record."""
        local = self._cache.view.local_endpoints
        names = {i: record.name or i for i in self.reasons if (record := local.get(i)) is not None}
        return [f"endpoint {names.get(i) or i or 'all'}: {reason}" for i, reason in sorted(self.reasons.copy().items())]

    def wake(self, endpoint_ids: Iterable[str]) -> None:
        """Reconcile these endpoints soon."""
        if ids := tuple(endpoint_ids):
            self._worker.wake(*ids)

    def wake_all(self) -> None:
        """Reconcile all endpoints, and remove what belongs to no record: after a full read of the store or a new connection
        to OVSDB."""
        self._worker.wake(EVERYTHING)

    def _ovsdb_changed(self, what: set[str]) -> None:
        if "connection" in what:
            self.wake_all()
        elif "bridge" in what:
            self.wake(list(self.reasons))  # the controller may just have created the bridge

    def _step(self, items: frozenset[str]) -> float | None:
        if not self._cache.synced.is_set():
            return None  # the full read calls `wake_all`
        before = dict(self.reasons)
        todo = set(items) or set(self.reasons) | set(self._endpoints.orphaned)
        if EVERYTHING in todo:
            todo = self._sweep(todo - {EVERYTHING})
        for endpoint_id in sorted(todo):
            if self._worker.stopping.is_set():
                break
            self._reconcile(endpoint_id)
        if self.reasons != before:
            self._on_change()
        return RETRY_S if self.reasons or self._endpoints.orphaned else None

    def _sweep(self, todo: set[str]) -> set[str]:
        self.reasons.pop(EVERYTHING, None)
        try:
            return todo | self._endpoints.sweep()
        except WarrenError as error:
            self.reasons[EVERYTHING] = str(error)
            return todo

    def _reconcile(self, endpoint_id: str) -> None:
        reason = self._endpoints.reconcile(endpoint_id)
        if reason is None:
            self.reasons.pop(endpoint_id, None)
            return
        if self.reasons.get(endpoint_id) != reason:
            log.info("endpoint.not_reconciled id=%s reason=%s", endpoint_id, reason)
        self.reasons[endpoint_id] = reason
