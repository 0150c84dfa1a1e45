"""Who a host is, and whether it may act on what etcd shows: the pure decisions, and the reconciler that waits for them."""

from __future__ import annotations

import pytest

from controller.events import KeyState, PortsRead, StoreChanged, StoreRead
from controller.reconcile import Reconciler
from specs import keys
from specs.identity import Machine, contender
from specs.lineage import Offer, StoreOrigin, continues, former_hosts, hold
from tests.unit import worlds

KNOWN = StoreOrigin(cluster=1, lineage="a", revision=200)


def origin(**changes: object) -> StoreOrigin:
    return StoreOrigin(**{"cluster": 1, "lineage": "a", "revision": 201, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("last", "read", "same"),
    [
        (None, origin(), True), (KNOWN, origin(), True), (KNOWN, origin(revision=200), True), (KNOWN, origin(revision=199), False),
        (KNOWN, origin(cluster=2), False), (KNOWN, origin(lineage="b", revision=900), False),
    ],
)  # fmt: skip
def test_what_continues_the_known_history(last: StoreOrigin | None, read: StoreOrigin, same: bool) -> None:
    assert continues(last, read) is same


def test_a_host_holds_only_for_what_it_would_lose_by_another_history() -> None:
    another = origin(lineage="b", revision=9)
    lost = Offer(origin=another, accepted=None, networks=3, lost=("endpoint web",))
    assert "warren etcd accept" in str(hold("h1", KNOWN, lost))
    assert hold("h1", KNOWN, Offer(origin=another, accepted=None, networks=3)) is None
    assert hold("h1", KNOWN, Offer(origin=another, accepted="b", networks=0, lost=("endpoint web",))) is None
    assert hold("h1", KNOWN, Offer(origin=another, accepted="a", networks=0, lost=("endpoint web",))) is not None, "an old accept"
    assert hold("h1", KNOWN, Offer(origin=origin(), accepted=None, networks=0, lost=("endpoint web",))) is None, (
        "deleted meanwhile"
    )
    assert hold("h1", None, Offer(origin=another, accepted=None, networks=3, lost=("endpoint web",))) is None
    assert hold("h1", None, Offer(origin=another, accepted=None, networks=0, lost=("endpoint web",))) is not None


def test_a_machine_is_renamed_when_all_that_is_plugged_in_belongs_to_other_hosts() -> None:
    assert former_hosts("h9", ["h1", "h1", None]) == ("h1",)
    assert former_hosts("h1", ["h1", "h2"]) == (), "an endpoint has moved away: its port goes in a moment"
    assert former_hosts("h1", [None, None]) == former_hosts("h1", []) == ()


def test_a_process_that_starts_again_is_no_contender_and_any_other_machine_is() -> None:
    ours = Machine(id="m", boot="b", vtep="192.0.2.1")
    assert contender(ours, None) is contender(ours, {}) is contender(ours, {"machine": ours.data()}) is None
    for name in ("id", "boot", "vtep"):
        assert contender(ours, {"machine": ours.data() | {name: "other"}}) is not None, name


WORLD = tuple(
    KeyState(key, value, number, number)
    for number, (key, value) in enumerate(
        (worlds.host("h1", "198.18.0.11"), worlds.network("n1", 1), worlds.endpoint("e1", "n1", "h1", 2, 1)), 1
    )
)
ENDPOINT = WORLD[2].key.rpartition("/")[2]


def started(**read: object) -> Reconciler:
    reconciler = Reconciler("h1")
    reconciler.step(PortsRead({ENDPOINT: 1}, 65279))
    reconciler.step(StoreRead(**{"entries": WORLD, "revision": 200, "origin": KNOWN, **read}))  # type: ignore[arg-type]
    return reconciler


@pytest.mark.parametrize("left", [(), WORLD[:1], WORLD[:2]])
def test_a_running_controller_keeps_its_flows_until_the_loss_is_accepted(left: tuple[KeyState, ...]) -> None:
    reconciler = started()
    flows = dict(reconciler.flows)
    another = origin(lineage="b", revision=9)
    reconciler.step(StoreRead(left, 9, origin=another, known=KNOWN))
    assert reconciler.flows == flows
    assert any("warren etcd accept" in problem.reason for problem in reconciler.problems())
    reconciler.step(StoreChanged((KeyState(keys.accepted(), "a", 5, 5),), 10))
    assert reconciler.flows == flows, "an accept of another history"
    reconciler.step(StoreChanged((KeyState(keys.accepted(), "b", 10, 10),), 11))
    assert reconciler.held is None
    assert reconciler.flows != flows


def test_a_hold_ends_when_what_was_missing_is_back() -> None:
    reconciler = started()
    flows = dict(reconciler.flows)
    reconciler.step(StoreRead(WORLD[:2], 9, origin=origin(lineage="b", revision=9), known=KNOWN))
    assert reconciler.held is not None
    reconciler.step(StoreChanged((WORLD[2],), 10))
    assert reconciler.held is None
    assert reconciler.flows == flows


def test_a_controller_that_starts_waits_for_the_ports_before_it_takes_a_store() -> None:
    reconciler = Reconciler("h1")
    reconciler.step(StoreRead((), 9, origin=origin(lineage="b", revision=9), known=KNOWN))
    assert not reconciler.store_read
    reconciler.step(PortsRead({ENDPOINT: 1}, 65279))
    assert reconciler.held is not None
    assert not reconciler.store_read
    reconciler.step(PortsRead({}, 65279))
    assert reconciler.held is None, "nothing is plugged in any more: nothing can be lost"
    assert reconciler.store_read


def test_values_of_another_history_are_taken_although_their_revisions_are_known() -> None:
    reconciler = started()
    key, value = worlds.endpoint("e1", "n1", "h2", 2, 1)
    moved = KeyState(key, value, WORLD[2].created, WORLD[2].modified)
    reconciler.step(StoreRead((*WORLD[:2], moved), 150, origin=origin(lineage="b", revision=150), known=KNOWN))
    assert reconciler.index.snapshot.endpoints[ENDPOINT].host == "h2"
