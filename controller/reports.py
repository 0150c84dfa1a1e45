"""Writes what a controller reports to `status/`; part of its child process (controller/feed.py).

The states of endpoints go out at once, a hundred in a transaction, because somebody may wait for one. The controller's own report, which stands under its lease,
waits a little where reports come in a row, so that a burst of changes makes few writes."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

from specs import keys
from specs.store.etcd import Store
from specs.store.lease import EtcdLease
from specs.store.values import Delete, Put, TxnOperation
from warren.errors import WarrenError

log = logging.getLogger("warren.feed")

BATCH = 100  # operations in one transaction; etcd's default limit is 128
SHORTEST_S, LONGEST_S = 0.05, 1.0  # between two reports of the controller's own; the pause grows while reports come in a row
RETRY_S = 0.5


class Reports:
    """The reports of the controller of `host`: takes them, and writes what differs from what etcd has. One thread uses it."""

    def __init__(self, store: Store, lease: EtcdLease, host: str) -> None:
        self._store, self._lease, self._host = store, lease, host
        self._pending: dict[str, str | None] = {}  # endpoint -> its state as JSON; None: none any more
        self._stored: dict[str, str] = {}  # likewise, as etcd has them
        self._counts: Counter[str] = Counter()  # of the states in `_stored`
        self._report: dict[str, Any] | None = None  # the controller's own, if it is not written
        self._written_at, self._pause_s, self._delayed = 0.0, SHORTEST_S, False

    def take_stored(self, states: Mapping[str, str]) -> None:
        """Take the states that etcd had a moment ago, by endpoint. Those that differ from what was written last count as unknown."""
        self._stored = {
            endpoint_id: value for endpoint_id, value in states.items() if self._stored.get(endpoint_id, value) == value
        }
        self._counts = Counter(map(_state, self._stored.values()))

    def take(self, report: dict[str, Any]) -> None:
        """Take a report. Of several that are not written yet, the newest counts."""
        for endpoint_id, state, reason, revision in report.pop("endpoints"):
            value = {"state": state, "reason": reason, "revision": revision}
            self._pending[endpoint_id] = None if state is None else json.dumps(value, sort_keys=True)
        self._report = report

    def write(self, now: float) -> float | None:
        """Write what is due. Returns after how many seconds to call again; None: there is nothing left to write."""
        try:
            self._write_states()
            return self._write_report(now)
        except WarrenError as error:
            log.info("feed.report_waits reason=%s", error)
            return RETRY_S

    def _write_states(self) -> None:
        self._pending = {e: value for e, value in self._pending.items() if value != self._stored.get(e)}
        while batch := dict(sorted(self._pending.items())[:BATCH]):
            self._store.txn((), [self._operation(endpoint_id, value) for endpoint_id, value in batch.items()])
            for endpoint_id, value in batch.items():
                del self._pending[endpoint_id]
                if (old := self._stored.pop(endpoint_id, None)) is not None:
                    self._counts[_state(old)] -= 1
                if value is not None:
                    self._stored[endpoint_id] = value
                    self._counts[_state(value)] += 1

    def _operation(self, endpoint_id: str, value: str | None) -> TxnOperation:
        key = keys.status_endpoint(self._host, endpoint_id)
        return Delete(key) if value is None else Put(key, value)

    def _write_report(self, now: float) -> float | None:
        if self._report is None:
            return None
        due = self._written_at + self._pause_s
        if now < due:
            self._delayed = True
            return due - now
        self._pause_s = min(2 * self._pause_s, LONGEST_S) if self._delayed else SHORTEST_S
        report = {**self._report, "endpoints": dict(+self._counts)}
        self._lease.put(keys.status_controller(self._host), json.dumps(report, sort_keys=True))
        self._written_at, self._delayed, self._report = now, False, None
        return None


def _state(value: str) -> str:
    try:
        state = json.loads(value)
    except ValueError:
        return "unknown"
    return str(state.get("state", "unknown")) if isinstance(state, dict) else "unknown"
