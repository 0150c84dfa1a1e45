"""What the controller holds of a program, and what it compiles again."""

from __future__ import annotations

import pytest

import controller.reconcile
from controller.compiler.compile import compile_view
from controller.events import Commit, Committed, Connected, Disconnected, Effect, KeyState, PortsRead, ReadBack, StoreRead
from controller.reconcile import Reconciler
from controller.units import Unit, compile_unit
from pipeline.flow import Flow, ToController
from tests.unit import worlds

EMPTY: frozenset[int] = frozenset()
ENTRIES = tuple(KeyState(key, value, n, n) for n, (key, value) in enumerate(worlds.BEGINNING, 1) if value)
PORTS = PortsRead({"e0": 1, "e3": 2}, 9, 10)


class Compilations:
    """Counts how often each unit is compiled."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.units: list[Unit] = []
        monkeypatch.setattr(controller.reconcile, "compile_unit", self.compile)

    def compile(self, unit, index):  # type: ignore[no-untyped-def]
        self.units.append(unit)
        return compile_unit(unit, index)


def commit_of(effects: list[Effect]) -> Commit:
    (commit,) = effects
    assert isinstance(commit, Commit)
    return commit


def filled() -> Reconciler:
    """A reconciler whose switch has everything."""
    reconciler = Reconciler("h1")
    reconciler.step(StoreRead(ENTRIES, 20))
    reconciler.step(PORTS)
    reconciler.step(Connected(1))
    commit_of(reconciler.step(ReadBack(1, EMPTY, EMPTY)))
    reconciler.step(Committed(1))
    return reconciler


def flows_of(reconciler: Reconciler) -> set[Flow]:
    return set(compile_view(reconciler.index.view()).flows)


def test_a_switch_that_lost_its_flows_gets_all_of_them_though_none_was_kept() -> None:
    reconciler = filled()
    reconciler.step(Disconnected(1))
    reconciler.step(Connected(2))
    assert {flow.message for flow in commit_of(reconciler.step(ReadBack(2, EMPTY, EMPTY))).flows} == flows_of(reconciler)


def test_a_switch_that_lost_one_flow_gets_that_one() -> None:
    reconciler = filled()
    lost = max(reconciler.flows)
    reconciler.step(Connected(2))
    commit = commit_of(reconciler.step(ReadBack(2, frozenset(reconciler.flows.keys() - {lost}), frozenset(reconciler.groups))))
    assert [flow.cookie for flow in commit.flows] == [lost]


def test_flows_are_kept_whose_packets_and_counters_the_switch_tells() -> None:
    reconciler = filled()
    expected = {
        flow.cookie: flow
        for flow in flows_of(reconciler)
        if flow.origin.kind == "acl" or not flow.actions or any(isinstance(action, ToController) for action in flow.actions)
    }
    assert reconciler.watched == expected
    assert expected
    assert len(expected) < len(reconciler.flows)


def test_a_bundle_that_is_lost_with_its_connection_is_not_compiled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    reconciler = Reconciler("h1")
    reconciler.step(StoreRead(ENTRIES, 20))
    reconciler.step(PORTS)
    reconciler.step(Connected(1))
    first = commit_of(reconciler.step(ReadBack(1, EMPTY, EMPTY)))
    compilations = Compilations(monkeypatch)
    reconciler.step(Disconnected(1))
    reconciler.step(Connected(2))
    assert set(commit_of(reconciler.step(ReadBack(2, EMPTY, EMPTY))).flows) == set(first.flows)
    assert compilations.units == []


def test_a_restart_over_a_full_switch_compiles_each_unit_once_and_keeps_no_other_flows(monkeypatch: pytest.MonkeyPatch) -> None:
    before = filled()
    compilations = Compilations(monkeypatch)
    reconciler = Reconciler("h1")
    reconciler.step(Connected(1))
    reconciler.step(PORTS)
    reconciler.step(StoreRead(ENTRIES, 20))
    assert compilations.units == [], "the read-back comes first: it says which flows are there"
    assert reconciler.index.endpoints == before.index.endpoints, "the view is there all the same"
    held = frozenset(before.flows), frozenset(before.groups), frozenset(before.meters.values())
    assert not any(isinstance(effect, Commit) for effect in reconciler.step(ReadBack(1, *held)))
    assert len(compilations.units) == len(set(compilations.units))
    assert reconciler.flows.keys() == before.flows.keys()


def test_a_step_that_compiles_much_pauses_and_one_change_does_not() -> None:
    pauses: list[int] = []
    reconciler = Reconciler("h1", lambda: pauses.append(len(reconciler.flows)))
    members = [worlds.endpoint(f"m{n}", "amber", "h2", n + 20, n + 20) for n in range(1000)]
    more = tuple(KeyState(*entry, 100 + n, 100 + n) for n, entry in enumerate(members))
    reconciler.step(StoreRead(ENTRIES + more, 2000))
    reconciler.step(Connected(1))
    reconciler.step(ReadBack(1, EMPTY, EMPTY))
    reconciler.step(PORTS)
    reconciler.step(Committed(1))
    assert len(pauses) >= 5
    pauses.clear()
    reconciler.step(PortsRead({"e0": 1}, 9, 10))
    assert pauses == []
