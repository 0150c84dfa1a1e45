"""Reconciles the endpoints of this host with their records: at start, when the store changes, when an event announces damage,
periodically, and again after failures."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from agent.cache import Cache
from agent.endpoints.inspections import Inspections
from agent.endpoints.plugging import with_other_settings
from agent.endpoints.repairs import Repairs
from agent.feature import Feature
from agent.linux.links import Links
from agent.listeners import Listeners
from specs.snapshot import Decoded, Snapshot
from warren.errors import WarrenError
from warren.worker import Worker

log = logging.getLogger("warren.reconciler")

RETRY_S = 5.0  # no event announces that a namespace has appeared or that OVSDB would now accept a transaction
EVERYTHING = ""  # the worker's item for all endpoints, and for veths and ports that belong to none
TURN_S = 1.0
UNDONE = "somebody undoes each repair; the next one waits"


class EndpointReconciler(Feature):
    """Reconciles endpoints one after the other. `reasons` maps the id of each endpoint that differs from its record to the
    reason; `on_change` is called when `reasons` change.

    Wake it: changes of the cache and of OVSDB, failed operations on endpoints, events of interfaces.
    """

    def __init__(
        self,
        cache: Cache,
        repairs: Repairs,
        *,
        failed: Listeners[[str]],
        ovsdb_changed: Listeners[[set[str]]],
        ports_changed: Listeners[[set[str]]],
        link_changed: Listeners[[str]],
        on_change: Callable[[], None],
    ) -> None:
        self._cache, self._repairs, self._on_change = cache, repairs, on_change
        self.reasons: dict[str, str] = {}
        self._retry_at = 0.0
        self._inspections = Inspections()
        self._suspects: deque[str] = deque()  # from other threads
        self._paused: set[str] = set()  # endpoints whose repair waits, because others undo it
        self._worker = Worker("endpoints", self._step, interval_s=TURN_S, on_change=on_change)
        link_changed.add(self._damaged)
        self._links = Links(self._damaged, link_changed, self.wake_all)
        cache.changed.add(self.wake)
        cache.updated.add(self._specs_updated)
        cache.reread.add(self.wake_all)
        failed.add(self._worker.wake)
        ovsdb_changed.add(self._ovsdb_changed)
        ports_changed.add(lambda ids: self.wake(repairs.with_other_rows(ids)))

    def workers(self) -> Sequence[Worker]:
        """Return the reconciling worker, and the one that listens to events of interfaces."""
        return (self._worker, self._links.worker)

    def problems(self) -> list[str]:
        """Return a line for each endpoint that does not match its record."""
        return [f"{self._name(i)}: {reason}" for i, reason in sorted(self.reasons.copy().items())]

    def differences(self) -> list[str]:
        """Compare ports and interfaces of all endpoints with their records; also return ports and interfaces that belong to none."""
        if not self._cache.synced.is_set():
            return []
        local = sorted(self._cache.view.local_endpoints)
        lines = [f"{self._name(i)}: {line}" for i in local for line in self._repairs.differences(i)]
        return lines + [f"{name}: belongs to no endpoint" for name in self._repairs.strays()]

    def _name(self, endpoint_id: str) -> str:
        record = self._cache.view.local_endpoints.get(endpoint_id)
        return f"endpoint {(record.name if record is not None else None) or endpoint_id or 'all'}"

    def wake(self, endpoint_ids: Iterable[str]) -> None:
        """Reconcile these endpoints soon."""
        if ids := tuple(endpoint_ids):
            self._worker.wake(*ids)

    def wake_all(self) -> None:
        """Reconcile all endpoints, and remove veths and ports without a record: after a full read of the store or a new connection
        to OVSDB."""
        self._worker.wake(EVERYTHING)

    def suspect(self, endpoint_ids: Iterable[str]) -> None:
        """Inspect these endpoints soon."""
        if ids := tuple(endpoint_ids):
            self._suspects.extend(ids)
            self._worker.wake()

    def _damaged(self, interface: str) -> None:
        self.suspect(self._repairs.with_veth(interface))

    def _specs_updated(self, before: Snapshot, after: Snapshot, changes: Iterable[Decoded]) -> None:
        self.wake(with_other_settings(before, after, changes, self._cache.view.local_endpoints.values()))

    def _ovsdb_changed(self, what: set[str]) -> None:
        if "connection" in what:
            self.wake_all()
        elif "bridge" in what:
            self.wake(list(self.reasons))  # the controller may just have created the bridge

    # ---- the worker -----------------------------------------------------------------------------------------------

    def _step(self, items: frozenset[str]) -> float | None:
        if not self._cache.synced.is_set():
            return None  # the full read calls `wake_all`
        before, now = dict(self.reasons), time.monotonic()
        for endpoint_id in self._todo(items, now):
            if self._worker.stopping.is_set():
                break
            self._reconcile(endpoint_id)
        active = {endpoint.id for endpoint in self._cache.view.local_endpoints.values() if endpoint.active}
        self._inspections.forget(active)
        while self._suspects:
            self._inspections.suspect((self._suspects.popleft(),), now)
        for endpoint_id in sorted(self._inspections.due(active, now)):
            if self._worker.stopping.is_set():
                break
            self._inspect(endpoint_id)
        if self.reasons != before:
            self._on_change()
        return self._inspections.next_s(time.monotonic())

    def _todo(self, items: Iterable[str], now: float) -> list[str]:
        """Return the endpoints to reconcile: those of the items, and from time to time those that failed."""
        todo = set(items)
        if now >= self._retry_at:
            self._retry_at = now + RETRY_S
            todo |= set(self.reasons) | set(self._repairs.orphaned)
        if EVERYTHING in todo:
            todo = self._sweep(todo - {EVERYTHING})
        return sorted(todo - self._paused)

    def _sweep(self, todo: set[str]) -> set[str]:
        self.reasons.pop(EVERYTHING, None)
        try:
            return todo | self._repairs.sweep()
        except WarrenError as error:
            self.reasons[EVERYTHING] = str(error)
            return todo

    def _inspect(self, endpoint_id: str) -> None:
        """Compare an endpoint with this host, and repair it unless others undo the repairs again and again."""
        differences = self._repairs.differences(endpoint_id)
        self._paused.discard(endpoint_id)
        if not differences:
            self._report(endpoint_id, None)
            return
        now, reason = time.monotonic(), "; ".join(differences)
        if (pause_s := self._inspections.pause_s(endpoint_id, differences, now)) > 0:
            self._inspections.suspect((endpoint_id,), now + pause_s)
            self._paused.add(endpoint_id)
            self._report(endpoint_id, f"{reason}: {UNDONE}")
            return
        log.info("endpoint.damaged id=%s differences=%s", endpoint_id, reason)
        self._inspections.repaired(endpoint_id, differences, now)
        self._report(endpoint_id, reason)
        self._reconcile(endpoint_id, repair=True)

    def _reconcile(self, endpoint_id: str, repair: bool = False) -> None:
        self._report(endpoint_id, self._repairs.reconcile(endpoint_id, repair or endpoint_id in self.reasons))

    def _report(self, endpoint_id: str, reason: str | None) -> None:
        if reason is None:
            self.reasons.pop(endpoint_id, None)
            return
        if self.reasons.get(endpoint_id) != reason:
            log.info("endpoint.not_reconciled id=%s reason=%s", endpoint_id, reason)
        self.reasons[endpoint_id] = reason
