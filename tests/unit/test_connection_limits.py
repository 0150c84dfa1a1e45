"""Connection limits per network: which zones have one, and how the datapath's are corrected."""

from __future__ import annotations

import dataclasses
import json

from agent.cache import Cache, CacheView
from agent.connections.limits import CHANGED, ConnectionLimits, limits
from specs.checks import ValidNetworks
from specs.snapshot import Snapshot, snapshot
from tests.unit import worlds
from tests.unit.test_gateway import mine


def state(**ct_limits: int | None) -> Snapshot:
    entries = [worlds.host("h1", "198.18.0.11"), worlds.host("h2", "198.18.0.12")]
    for vni, name, on in ((7, "amber", "h1"), (8, "blue", "h1"), (9, "green", "h2")):
        key, value = worlds.network(name, vni, mode="nat")
        entries += [(key, json.dumps(json.loads(value) | {"ct_limit": ct_limits.get(name)}))]
        entries += [worlds.endpoint(f"{name}-1", name, on, 2, vni)]
    return snapshot((key, value, born) for born, (key, value) in enumerate(entries, 1))


class Datapath:
    """What Open vSwitch keeps, behind its own commands."""

    def __init__(self, **limits: int) -> None:
        self.limits = {int(zone.removeprefix("z")): limit for zone, limit in limits.items()}
        self.calls = 0

    def appctl(self, command: str, name: str, *words: str) -> str:
        assert name == "netdev@ovs-netdev"
        self.calls += 1
        if command == "dpctl/ct-set-limits":
            pairs = [word.removeprefix("zone=").split(",limit=") for word in words]
            self.limits |= {int(zone): int(limit) for zone, limit in pairs}
        elif command == "dpctl/ct-del-limits":
            for zone in words[0].removeprefix("zone=").split(","):
                del self.limits[int(zone)]
        return "default limit=0\n" + "".join(f"zone={zone},limit={limit},count=3\n" for zone, limit in self.limits.items())


def limits_of(datapath: Datapath, changes: list[None] | None = None, default: int = 0) -> ConnectionLimits:
    cache = Cache(None, "h1")  # type: ignore[arg-type]
    on_change = (changes if changes is not None else []).append
    return ConnectionLimits(cache, lambda: "netdev@ovs-netdev", datapath.appctl, default, lambda: on_change(None))


def view(**ct_limits: int | None) -> CacheView:
    return CacheView(state(**ct_limits), {e.id: e for e in mine(state(**ct_limits), "h1")})


def test_limits_are_those_of_networks_with_an_endpoint_here() -> None:
    some = state(amber=100, green=50)
    assert limits(ValidNetworks(some), mine(some, "h1"), 0).by_zone == {7: 100}
    assert limits(ValidNetworks(some), mine(some, "h2"), 0).by_zone == {9: 50}
    assert limits(ValidNetworks(some), mine(some, "h1"), 16_384).by_zone == {7: 100, 8: 16_384}
    assert set(limits(ValidNetworks(some), mine(some, "h1"), 0).networks) == {7, 8, 9}


def test_wrong_limits_are_corrected_and_foreign_zones_stay() -> None:
    datapath = Datapath(z7=1, z8=2, z500=3)  # a former life's, and another bridge's
    limits = limits_of(datapath)
    limits.reconcile(view(amber=100))
    assert datapath.limits == {7: 100, 500: 3}
    datapath.limits = {}  # the switch was made anew
    limits.reconcile(view(amber=100, blue=7))
    assert datapath.limits == {7: 100, 8: 7}
    limits.reconcile(view())
    assert datapath.limits == {}


def test_a_network_without_a_limit_of_its_own_has_the_hosts() -> None:
    datapath = Datapath()
    limits_of(datapath, default=1000).reconcile(view(amber=100))
    assert datapath.limits == {7: 100, 8: 1000}


def test_a_change_asks_the_switch_only_if_it_asks_for_other_limits() -> None:
    datapath, commands = Datapath(z7=1), list[str]()
    cache = Cache(None, "h1")  # type: ignore[arg-type]

    def appctl(command: str, *words: str) -> str:
        commands.append(command)
        return "netdev@ovs-netdev\n" if command == "dpctl/dump-dps" else datapath.appctl(command, *words)

    limits = ConnectionLimits(cache, lambda: "netdev@ovs-netdev", appctl, 0, lambda: None)
    (worker,) = limits.workers()
    cache.synced.set()
    cache.view = view(amber=100)
    worker.run_once(frozenset({CHANGED}))
    assert datapath.limits == {7: 100}
    cache.view = dataclasses.replace(cache.view, local_endpoints=dict(cache.view.local_endpoints))
    commands.clear()
    worker.run_once(frozenset({CHANGED}))
    assert commands == []
    worker.run_once()  # in any case after a while: somebody may have changed a limit
    assert "dpctl/ct-get-limits" in commands
    cache.view = dataclasses.replace(cache.view, local_endpoints={})
    worker.run_once(frozenset({CHANGED}))
    assert datapath.limits == {}


def test_a_network_that_has_reached_its_limit_is_named_until_it_has_not() -> None:
    datapath, changes = Datapath(), list[None]()
    limits = limits_of(datapath, changes)
    for limit, reached in ((4, False), (3, True), (2, True), (100, False)):
        limits.reconcile(view(amber=limit))
        limits.reconcile(view(amber=limit))  # the datapath has 3 connections, and has the limit by now
        assert bool(limits.problems()) is reached, limit
        assert all(line.startswith(f"network amber has reached its limit of {limit} connections") for line in limits.problems())
    assert len(changes) == 3


def test_a_limit_that_somebody_changed_is_a_difference() -> None:
    datapath = Datapath(z7=1)
    limits = limits_of(datapath)
    limits._cache.view = view(amber=100)
    assert limits.differences() == ["connections of network amber: their limit is 1 instead of 100"]
    limits.reconcile(limits._cache.view)
    assert limits.differences() == []
