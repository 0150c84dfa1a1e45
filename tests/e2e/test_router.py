"""Routers with real packets: two networks on three hosts reach each other through their gateways, under both networks' ACLs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import World
from tests.programs import program, ready
from tests.waiting import LIMIT_S, PATIENTLY, eventually
from tools.lab import run

# l: left, in mode nat, on h1 and h2; r: right, routed, on h1 and h3, tracked because left is; no host but h1 has both
CONTAINERS = (("l1", "h1", "left"), ("l2", "h2", "left"), ("r1", "h1", "right"), ("r3", "h3", "right"))


class Routed:
    """The two networks and who is in them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.v4: dict[str, str] = {}
        self.v6: dict[str, str] = {}

    def apply(self, **sections: Any) -> None:
        """Apply a document and wait for the hosts."""
        self.world.apply(**sections)

    def greeting(self, source: str, target: str, port: int, kind: str = "tcp") -> str:
        """The address by which the target sees the asker; "error ..." without an answer."""
        return self.world.inside(source, *program("ask", kind, self.v4[target], port)).stdout.strip()

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A `warren` command."""
        command = [sys.executable, "-m", "tools.cli.main", "--lab", self.world.plan.name, *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)


@pytest.fixture(scope="module")
def routed(world: World) -> Iterator[Routed]:
    fixture = Routed(world)
    fixture.apply(
        acls={
            "ask": [
                {"to": {"network": "right"}, "proto": "tcp", "tcp_dst": 80, "allow_related": True},
                {"proto": "icmp", "actions": {"allow": 1}},
                {"dl_type": 0x86DD, "actions": {"allow": 1}},
            ],
            "silent": [{"proto": "icmp", "actions": {"allow": 1}}, {"dl_type": 0x86DD, "actions": {"allow": 1}}],
            "no81": [{"proto": "tcp", "tcp_dst": 81, "actions": {"allow": 0}}, {"actions": {"allow": 1}}],
        },
        networks=[
            {"name": "left", "ip_range": "10.20.0.0/24", "ipv6_range": "fd20::/64", "mode": "nat", "default_acl": "ask"},
            {"name": "right", "ip_range": "10.21.0.0/24", "ipv6_range": "fd21::/64", "mode": "routed", "default_acl": "silent",
             "vlan_out_acl": "no81"},
            {"name": "twin", "ip_range": "10.20.0.128/25", "mode": "nat"},
        ],
    )  # fmt: skip
    for name, at, network in CONTAINERS:
        endpoint = run.container(world.plan, name, at, network)
        fixture.v4[name], fixture.v6[name] = (endpoint[f"target_veth_{ip}"].split("/")[0] for ip in ("ip", "ipv6"))
    servers = [world.background(name, *program("serve", "{client}", 80, 81)) for name in ("r1", "r3", "l1")]
    for server in servers:
        ready(server)
    done = fixture.cli("router", "add", "core", "left", "right", "--wait")
    assert done.returncode == 0, done.stderr
    yield fixture
    for server in servers:
        server.kill()
        server.wait()
    for name, at, _ in CONTAINERS:
        endpoint = run.api(world.plan.hosts[0], "GET", f"/endpoints/{name}")["endpoint"]
        run.api(world.plan.host(at), "DELETE", f"/endpoints/{endpoint['id']}")  # type: ignore[arg-type]
    run.api(world.plan.hosts[0], "DELETE", "/routers/core")


@pytest.mark.parametrize(
    ("source", "target"), [("l1", "r1"), ("l1", "r3"), ("l2", "r1"), ("l2", "r3"), ("r3", "l2"), ("r1", "l1")]
)
def test_networks_reach_each_other(routed: Routed, source: str, target: str) -> None:
    for address in (routed.v4[target], routed.v6[target]):
        pinged = routed.world.inside(source, "ping", "-c2", "-i0.2", PATIENTLY, address)
        assert pinged.returncode == 0, pinged.stdout
        assert set(re.findall(r"ttl=(\d+)", pinged.stdout)) == {"63"}  # one router on the way back


def test_two_endpoints_of_one_port_reach_each_other(routed: Routed) -> None:
    """One untagged on the left, the other on the right under a tag of the same port."""
    first = routed.world.plan.hosts[0]
    vm, right = run.container(routed.world.plan, "vm", "h1", "left"), run.api(first, "GET", "/networks/right")["network"]["id"]
    made = run.api(first, "POST", "/endpoints", network_id=right, name="vm-inner", hostname="h1", parent=vm["id"], vlan=30)[
        "endpoint"
    ]
    address = made["target_veth_ip"].split("/")[0]
    station = routed.world.background("vm", *program("tagged_station", 30, made["target_veth_mac"], address, address))
    try:
        ready(station)
        assert routed.world.reaches("vm", address)
    finally:
        station.kill()
        station.communicate()
        for endpoint in (made, vm):
            run.api(first, "DELETE", f"/endpoints/{endpoint['id']}")


def test_the_other_gateway_answers_pings_and_an_address_of_nobody_does_not(routed: Routed) -> None:
    assert routed.world.reaches("l2", "10.21.0.1")
    assert routed.world.reaches("l2", "fd21::1")
    assert not routed.world.pings("l2", "10.21.0.99", count=1)


@pytest.mark.parametrize("target", ["r1", "r3"])
def test_the_gateway_sends_time_exceeded(routed: Routed, target: str) -> None:
    for address, gateway in ((routed.v4[target], "10.20.0.1"), (routed.v6[target], "fd20::1")):
        output = routed.world.inside("l2", "ping", "-c1", PATIENTLY, "-t1", address).stdout
        assert re.search(rf"From {gateway}.*(Time to live exceeded|Hop limit)", output), output
    assert routed.world.reaches("l2", "10.20.0.1")  # the gateway itself is no hop further


@pytest.mark.parametrize("source", ["l1", "l2"])
@pytest.mark.parametrize("target", ["r1", "r3"])
def test_policy_of_both_ends_holds_and_replies_come_back(routed: Routed, source: str, target: str) -> None:
    """What the right sends is silent but for replies; nothing for port 81 is let in."""
    assert routed.greeting(source, target, 80) == routed.v4[source]
    if source == "l1":
        assert "error" in routed.greeting(source, target, 81)  # the sender's list
        assert "error" in routed.greeting(target, "l1", 80)


def test_vlan_out_acl_of_the_target_network_applies_to_routed_packets(routed: Routed) -> None:
    item = {"name": "l2", "network": "left", "host": "h2"}
    routed.apply(acls={"base": [{"proto": "tcp", "allow_related": True}, {"proto": "icmp", "actions": {"allow": 1}}]},
                 endpoints=[item | {"acls": ["base"]}])  # fmt: skip
    assert routed.greeting("l2", "r3", 80) == routed.v4["l2"]
    assert "error" in routed.greeting("l2", "r3", 81)
    routed.apply(endpoints=[item | {"acls": None}])


def test_routed_packets_with_a_foreign_source_are_dropped(routed: Routed) -> None:
    routed.world.inside("l1", "ip", "addr", "add", "10.20.0.77/32", "dev", "lo")
    forged = routed.world.inside("l1", "ping", "-c2", "-i0.2", "-W1", "-I", "10.20.0.77", routed.v4["r1"])
    assert "100% packet loss" in forged.stdout


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        (("right", "twin"), "router.networks[1]: 'twin': expected a network that can be routed to the others: "
                            "the range of network twin overlaps that of left, which right is routed to"),
        (("left", "amber"), "router.networks[1]: 'amber': expected a network that can be routed to the others: network amber is flat"),
        (("left", "nowhere"), "network nowhere does not exist"),
        (("left",), 'networks: ["left"]: expected two networks or more (at most 64), each once'),
    ],
    ids=range(4),
)  # fmt: skip
def test_networks_that_cannot_be_routed_are_refused(routed: Routed, networks: tuple[str, ...], message: str) -> None:
    done = routed.cli("router", "add", "other", *networks)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_router_commands_show_what_is_routed(routed: Routed) -> None:
    assert json.loads(routed.cli("router", "list", "--json").stdout)[0]["networks"] == ["left", "right"]
    assert "10.21.0.0/24" in routed.cli("router", "show", "core").stdout
    for target in ("r1", "r3"):
        trace = routed.cli("trace", "l1", target, "--tcp", "80")
        assert trace.returncode == 0, trace.stdout
        assert "router/core" in trace.stdout
    assert "routers:" in routed.cli("export").stdout


def test_networks_are_isolated_again_after_the_router_is_deleted(routed: Routed) -> None:
    assert routed.cli("router", "delete", "core").returncode == 0
    eventually(lambda: not routed.world.pings("l2", routed.v4["r3"], count=1))
    assert not routed.world.pings("r1", routed.v4["l1"], count=1)
    assert routed.cli("router", "add", "core", "right", "left", "--wait").returncode == 0
    assert routed.world.reaches("l2", routed.v4["r3"])
