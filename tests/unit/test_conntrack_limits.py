"""Connection limits per network: which zones have one, and how the datapath's are corrected."""

from __future__ import annotations

import json

from agent.gateway.conntrack_limits import Limits, limits
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

    def __init__(self, **found: int) -> None:
        self.limits = {int(zone.removeprefix("z")): limit for zone, limit in found.items()}
        self.asked = 0

    def appctl(self, command: str, name: str, *words: str) -> str:
        assert name == "netdev@ovs-netdev"
        self.asked += 1
        if command == "dpctl/ct-set-limits":
            pairs = [word.removeprefix("zone=").split(",limit=") for word in words]
            self.limits |= {int(zone): int(limit) for zone, limit in pairs}
        elif command == "dpctl/ct-del-limits":
            for zone in words[0].removeprefix("zone=").split(","):
                del self.limits[int(zone)]
        return "default limit=0\n" + "".join(f"zone={zone},limit={limit},count=3\n" for zone, limit in self.limits.items())


def limits_of(datapath: Datapath) -> Limits:
    return Limits(lambda: "netdev@ovs-netdev", datapath.appctl)


def test_limits_are_those_of_networks_with_an_endpoint_here() -> None:
    assert limits(state(amber=100, green=50), mine(state(amber=100, green=50), "h1")) == ({7: 100}, {7, 8, 9})
    assert limits(state(amber=100, green=50), mine(state(amber=100, green=50), "h2")) == ({9: 50}, {7, 8, 9})


def test_wrong_limits_are_corrected_and_foreign_zones_stay() -> None:
    datapath = Datapath(z7=1, z8=2, z500=3)  # a former life's, and another bridge's
    found = limits_of(datapath)
    found.reconcile(state(amber=100), mine(state(amber=100), "h1"))
    assert datapath.limits == {7: 100, 500: 3}
    datapath.limits = {}  # the switch was made anew
    found.reconcile(state(amber=100, blue=7), mine(state(amber=100, blue=7), "h1"))
    assert datapath.limits == {7: 100, 8: 7}
    found.reconcile(state(), mine(state(), "h1"))
    assert datapath.limits == {}


def test_without_limits_open_vswitch_is_queried_once() -> None:
    datapath = Datapath()
    found = limits_of(datapath)
    for _ in range(5):
        found.reconcile(state(), mine(state(), "h1"))
    assert datapath.asked == 1
