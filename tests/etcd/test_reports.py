"""How often a controller writes to etcd, and that what it reports gets there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controller.reports import LONGEST_S, RETRY_S, Reports
from specs import keys
from specs.store.etcd import Store
from specs.store.lease import EtcdLease

THOUSAND = range(1000)


def report(revision: int, *states: tuple[str, str | None], **more: Any) -> dict[str, Any]:
    """A report: endpoints with their states."""
    endpoints = [[name, state, None, revision] for name, state in states]
    return {"revision": revision, "connected": True, "endpoints": endpoints, **more}


def stored(store: Store) -> dict[str, str]:
    """The states in etcd, by endpoint."""
    entries = store.list(keys.status_endpoints_of("h1"))[1]
    return {entry.key.rpartition("/")[2]: json.loads(entry.value)["state"] for entry in entries}


def controller(store: Store) -> dict[str, Any]:
    """The controller's own report in etcd."""
    entry = store.get(keys.status_controller("h1"))
    assert entry is not None
    return dict(json.loads(entry.value))


@pytest.fixture
def reports(store: Store) -> Reports:
    lease = EtcdLease(store)
    lease.put("status/first", "")
    return Reports(store, lease, "h1")


def test_a_thousand_endpoints_cost_eleven_writes(store: Store, reports: Reports) -> None:
    before = store.calls
    reports.take(report(7, *((f"e{i}", "up") for i in THOUSAND)))
    assert reports.write(1.0) is None
    assert store.calls - before == 11
    assert stored(store) == {f"e{i}": "up" for i in THOUSAND}
    assert controller(store)["endpoints"] == {"up": 1000}


def test_a_restart_writes_only_what_differs(store: Store, reports: Reports) -> None:
    reports.take(report(7, *((f"e{i}", "up") for i in THOUSAND)))
    reports.write(1.0)
    again = Reports(store, EtcdLease(store), "h1")
    again.take_stored({entry.key.rpartition("/")[2]: entry.value for entry in store.list(keys.status_endpoints_of("h1"))[1]})
    again.take(report(7, *((f"e{i}", "closed" if i == 5 else None if i == 6 else "up") for i in THOUSAND)))
    before = store.calls
    again.write(1.0)
    assert store.calls - before == 3, "a transaction, the lease and the controller's own report"
    assert stored(store) == {f"e{i}": "closed" if i == 5 else "up" for i in THOUSAND if i != 6}
    assert controller(store)["endpoints"] == {"up": 998, "closed": 1}


def test_a_storm_of_changes_makes_few_reports_and_the_last_one_arrives(store: Store, reports: Reports) -> None:
    before, wait_s = store.calls, None
    for hundredth in range(1000):  # ten seconds
        reports.take(report(hundredth))
        wait_s = reports.write(1 + hundredth / 100)
    assert wait_s is not None
    assert wait_s <= LONGEST_S
    assert store.calls - before < 20
    assert reports.write(11 + wait_s) is None
    assert controller(store)["revision"] == 999


def test_reports_that_come_now_and_then_go_out_at_once(store: Store, reports: Reports) -> None:
    for revision in range(10):
        reports.take(report(revision))
        assert reports.write(1 + revision / 5) is None
        assert controller(store)["revision"] == revision


def test_the_state_of_an_endpoint_goes_out_at_once_in_a_storm_too(store: Store, reports: Reports) -> None:
    for hundredth in range(100):
        reports.take(report(hundredth))
        reports.write(1 + hundredth / 100)
    reports.take(report(100, ("e1", "up")))
    assert reports.write(2) is not None, "the controller's own report waits"
    assert stored(store) == {"e1": "up"}


def test_a_state_that_etcd_has_lost_or_changed_is_written_again(store: Store, reports: Reports) -> None:
    reports.take(report(7, ("e1", "up"), ("e2", "up"), ("e3", "up")))
    reports.write(1)
    store.delete(keys.status_endpoint("h1", "e1"))
    store.put(keys.status_endpoint("h1", "e2"), "{")
    earlier = store.list(keys.status_endpoints_of("h1"))[1]
    reports.take(report(8, ("e3", "closed")))
    reports.write(2)
    reports.take_stored({entry.key.rpartition("/")[2]: entry.value for entry in earlier})
    reports.take(report(7, ("e1", "up"), ("e2", "up"), ("e3", "up")))
    reports.write(9)
    assert stored(store) == {"e1": "up", "e2": "up", "e3": "up"}
    assert controller(store)["endpoints"] == {"up": 3}


def test_what_could_not_be_written_waits(store: Store) -> None:
    away = Store(["http://127.0.0.1:1"], timeout_s=0.2)
    reports = Reports(away, EtcdLease(away), "h1")
    reports.take(report(7, ("e1", "waiting")))
    reports.take(report(8, ("e1", "up")))
    assert reports.write(1) == RETRY_S
    away.endpoints, away.prefix = store.endpoints, store.prefix
    away.close()
    assert reports.write(2) is None
    assert stored(store) == {"e1": "up"}
    assert controller(store)["revision"] == 8
