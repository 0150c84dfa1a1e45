"""Mirror targets with real packets: one tagged port for several networks, GRE and ERSPAN collectors, sources behind NAT and ACLs."""

from __future__ import annotations

import ast
import re
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import World
from tests.e2e.test_mirror import COUNT, ONE_WAY, WAY_BACK, Watch, icmp, in_datapath, ports
from tests.programs import program, ready
from tests.waiting import LIMIT_S, eventually
from tools.lab import run

TO_EYE = {"network": "eyes", "endpoint": "eye"}
TAGS = {"left": 301, "right": 302}
WHERE = {
    **{f"{network[0]}{number}": (f"h{number}", network) for network in TAGS for number in (1, 2, 3)},
    "m1": ("h1", "left"), "m2": ("h2", "left"), "out1": ("h1", "ways"), "eye": ("h2", "eyes"),
}  # fmt: skip


@pytest.fixture(scope="module")
def river(world: World) -> Iterator[Watch]:
    """Two networks with one subnet on three hosts, one in mode nat, an analyser, and an interface on h1 and h3."""
    fixture = Watch(world)
    ranges = {name: {"ip_range": "10.41.0.0/24"} for name in TAGS} | {"eyes": {"ip_range": "10.42.0.0/24"}}
    fixture.apply(
        acls={
            "quiet": [{"dl_type": 0x0800, "nw_proto": 1, "icmpv4_type": 8, "actions": {"allow": 0}}, {"actions": {"allow": 1}}]
        },
        networks=[
            *({"name": name, **more} for name, more in ranges.items()),
            {"name": "ways", "ip_range": "10.43.0.0/24", "mode": "nat", "host_access": "all"},
        ],
    )
    for name, (host, network) in WHERE.items():
        fixture.v4[name] = run.container(world.plan, name, host, network)["target_veth_ip"].split("/")[0]
    for host in ("h1", "h3"):
        netns = f"{world.plan.name}-{host}"
        run.sh("ip", "-n", netns, "link", "add", "tap0", "type", "veth", "peer", "name", "tap1")
        for name in ("tap0", "tap1"):
            run.sh("ip", "-n", netns, "link", "set", name, "up")
    for one in (1, 2, 3):  # a VTEP that is met for the first time costs a packet
        for network in TAGS:
            world.inside(f"{network[0]}{one}", "ping", "-c2", "-i0.2", "-W1", fixture.v4[f"{network[0]}{one % 3 + 1}"])
    yield fixture
    for name in WHERE:
        endpoint = run.api(world.plan.hosts[0], "GET", f"/endpoints/{name}")["endpoint"]
        run.api(world.plan.host(endpoint["hostname"]), "DELETE", f"/endpoints/{endpoint['id']}")  # type: ignore[arg-type]
    for host in ("h1", "h3"):
        eventually(lambda host=host: "tap0" not in ports(world, host))
        run.sh("ip", "-n", f"{world.plan.name}-{host}", "link", "del", "tap0")
    for name in (*TAGS, "ways", "eyes"):
        run.api(world.plan.hosts[0], "DELETE", f"/networks/{name}")
    run.api(world.plan.hosts[0], "DELETE", "/acls/quiet")


def test_all_hosts_copies_are_on_one_port_with_the_tag_of_their_network(river: Watch) -> None:
    """Both networks have the same addresses, so the tag alone tells them apart. Each packet is there once."""
    sessions = [
        {"name": f"river-{name}", "sources": [{"network": name}], "to": {"host": "h3", "interface": "tap0"}, "vlan": vlan}
        for name, vlan in TAGS.items()
    ]
    river.apply(mirrors=sessions)
    try:
        eventually(lambda: in_datapath(river.world, "h3", "tap0") and not complaints(river))
        pairs = [(f"{network[0]}{one}", f"{network[0]}{other}") for network in TAGS for one, other in ((1, 2), (2, 3), (3, 1))]
        river.settle(*pairs)
        lines: list[str] = []
        with river.heard("h3", "tap1", "vlan and icmp or icmp", lines):
            for source, target in pairs:
                river.ping(source, target)
        copies = Counter(
            (int(m[1]), m[2], m[3], m[4])
            for line in lines
            if (m := re.search(r"vlan (\d+),.* (\S+) > (\S+): ICMP echo (request|reply)", line))
        )
        expected: Counter[tuple[int, str, str, str]] = Counter()
        for network, vlan in TAGS.items():
            for one, other in ((1, 2), (2, 3), (3, 1)):
                source, target = river.v4[f"{network[0]}{one}"], river.v4[f"{network[0]}{other}"]
                expected[vlan, source, target, "request"] += COUNT
                expected[vlan, target, source, "reply"] += COUNT
        assert copies == expected
        assert len(icmp_lines(lines)) == sum(expected.values()), "nothing without a tag"
    finally:
        for session in sessions:
            run.api(river.world.plan.hosts[0], "DELETE", f"/mirrors/{session['name']}")


def complaints(river: Watch) -> list[str]:
    """What the hosts say of any session."""
    status = run.api(river.world.plan.hosts[0], "GET", "/status")
    return [str(problem) for host in status["hosts"] for problem in host["problems"] if "mirror/" in str(problem)]


def icmp_lines(lines: list[str]) -> list[str]:
    return [line for line in lines if "ICMP echo" in line]


TARGETS = {
    "an interface of the same host": ({"host": "h1", "interface": "tap0"}, "h1", "tap1"),
    "an interface of a third host": ({"host": "h3", "interface": "tap0"}, "h3", "tap1"),
    "an endpoint of the other host": ({"network": "eyes", "endpoint": "eye"}, "eye", "eth0"),
    "a collector by GRE": ({"gre": "198.18.0.13"}, "h3", "eth0"),
    "a collector by VXLAN": ({"vxlan": "198.18.0.13", "key": 77}, "h3", "eth0"),
}


FILTERS = {"gre": "proto gre", "vxlan": "udp port 4789 and udp[12:4] = 0x4d00"}  # the VNI of the session alone


@pytest.mark.parametrize("target", TARGETS)
def test_every_kind_of_target_has_the_tag_and_nothing_else(river: Watch, target: str) -> None:
    to, where, interface = TARGETS[target]
    lines: list[str] = []
    with river.session(sources=[{"network": "left", "endpoint": "m1"}], to=to, vlan=356):
        eventually(lambda: "198.18.0.13" not in to.values() or "wm" in ports(river.world, "h1"))
        river.settle(("m1", "m2"), ("l1", "l2"))
        with river.heard(where, interface, FILTERS.get(next(iter(to)), "vlan 356 or icmp"), lines):
            river.ping("m1", "m2")
            river.ping("l1", "l2")  # others of the same network and hosts
    assert sorted(icmp(lines, river)) == sorted(ONE_WAY + WAY_BACK), lines
    assert all("vlan 356" in line for line in icmp_lines(lines)), lines


@pytest.mark.parametrize("version", [1, 2])
def test_a_collector_by_erspan(river: Watch, version: int) -> None:
    """Every packet of the source once, with the session's number; type II is version 1 on the wire, type III version 2."""
    with river.session(
        sources=[{"network": "left", "endpoint": "m1"}], to={"erspan": "198.18.0.13", "version": version, "key": 77}
    ):
        eventually(lambda: "wm" in ports(river.world, "h1"))
        river.settle(("m1", "m2"))
        listener = ready(river.world.background("h3", *program("collect_erspan", version, 2 * COUNT)))
        river.ping("l1", "l2")
        river.ping("m1", "m2")
        copies = ast.literal_eval(listener.communicate(timeout=2 * LIMIT_S)[0])
    one, two = river.v4["m1"], river.v4["m2"]
    assert sorted(copies) == sorted([(version, 77, one, two, 8), (version, 77, two, one, 0)] * COUNT)


def test_a_source_behind_nat_is_seen_with_its_own_addresses(river: Watch) -> None:
    """What it sends before it is translated, what it receives after."""
    host, lines = str(river.world.plan.hosts[0].management), []  # type: ignore[var-annotated]
    eventually(lambda: river.world.pings("out1", host, 1))
    session = river.session(sources=[{"network": "ways", "endpoint": "out1"}], to=TO_EYE)
    with session, river.heard("eye", "eth0", "icmp", lines):
        assert river.world.reaches("out1", host, COUNT)
    address = river.v4["out1"]
    copies = Counter(tuple(re.search(r"(\S+) > (\S+): ICMP echo (\w+)", line).groups()) for line in icmp_lines(lines))  # type: ignore[union-attr]
    assert copies == {(address, host, "request"): COUNT, (host, address, "reply"): COUNT}, lines


def test_replies_of_the_switch_itself_are_mirrored(river: Watch) -> None:
    """ARP for a neighbour that is watched too, a ping of the gateway: questions and answers, once each."""
    lines: list[str] = []
    river.world.inside("m1", "ip", "neigh", "flush", "dev", "eth0")
    sources = [
        {"network": "left", "endpoint": "m1"},
        {"network": "left", "endpoint": "m2"},
        {"network": "ways", "endpoint": "out1"},
    ]
    with river.session(sources=sources, to=TO_EYE), river.heard("eye", "eth0", "arp or icmp or icmp6", lines):
        river.ping("m1", "m2")
        assert river.world.reaches("out1", "10.43.0.1", COUNT)
    requests = Counter(m[1] for line in lines if (m := re.search(rf"Request who-has {river.v4['m2']} .*tell (\S+),", line)))
    answered = [line for line in lines if f"Reply {river.v4['m2']} is-at" in line]
    assert len(answered) == requests[river.v4["m1"]] >= 1, lines
    address = river.v4["out1"]
    assert sum(f"{address} > 10.43.0.1: ICMP echo request" in line for line in lines) == COUNT, lines
    assert sum(f"10.43.0.1 > {address}: ICMP echo reply" in line for line in lines) == COUNT, lines
    assert sorted(pair for pair in icmp([line for line in lines if "10.43." not in line], river)) == sorted(ONE_WAY + WAY_BACK)


@pytest.mark.parametrize(("where", "expected"), [("sender", ["request"] * COUNT), ("receiver", [])])
def test_a_source_with_acls(river: Watch, where: str, expected: list[str]) -> None:
    """What it sends is copied before policy decides; what policy keeps from it is not."""
    lines: list[str] = []
    watched = "m1" if where == "sender" else "m2"
    river.apply(endpoints=[{"name": "m1", "network": "left", "host": "h1", "acls": ["quiet"]}])
    try:
        session = river.session(sources=[{"network": "left", "endpoint": watched}], to=TO_EYE)
        with session, river.heard("eye", "eth0", "icmp", lines):
            assert not river.world.pings("m1", river.v4["m2"], COUNT)
        assert [kind for _, _, kind in icmp(lines, river)] == expected, lines
    finally:
        river.apply(endpoints=[{"name": "m1", "network": "left", "host": "h1", "acls": None}])
    assert river.world.reaches("m1", river.v4["m2"])


@pytest.mark.parametrize(("host", "process"), [("h1", "agent"), ("h2", "controller"), ("h2", "ovs")])
def test_a_session_across_hosts_survives_a_killed_process_at_either_end(river: Watch, host: str, process: str) -> None:
    """h1 copies, h2 has the analyser; of the agent's death packets under way do not even hear."""
    lines: list[str] = []
    with river.session(sources=[{"network": "left", "endpoint": "m1"}], to={"network": "eyes", "endpoint": "eye"}):
        river.settle(("m1", "m2"))
        run.restart(river.world.plan, host, process, signal.SIGKILL)
        run.wait_until_up(river.world.plan)
        eventually(lambda: river.world.pings("m1", river.v4["m2"], 1))
        eventually(lambda: not river.complaints())
        river.settle(("m1", "m2"))
        with river.heard("eye", "eth0", "icmp", lines):
            river.ping("m1", "m2")
    assert sorted(icmp(lines, river)) == sorted(ONE_WAY + WAY_BACK), lines


def test_mirror_sessions_in_a_loop_do_not_copy_copies(river: Watch) -> None:
    """Two analysers that watch each other: copies are no packets of a network, so none is copied again."""
    ways: list[dict[str, Any]] = [
        {"name": "there", "sources": [{"network": "left", "endpoint": "m1"}], "to": {"network": "left", "endpoint": "m2"}},
        {"name": "back", "sources": [{"network": "left", "endpoint": "m2"}], "to": {"network": "left", "endpoint": "m1"}},
    ]
    river.apply(mirrors=ways)
    try:
        eventually(lambda: not complaints(river))
        river.ping("l1", "l2")
        lines: list[str] = []
        with river.heard("m2", "eth0", "icmp", lines):
            assert river.world.reaches("m1", river.v4["l1"], COUNT)
        assert len(icmp_lines(lines)) == 2 * COUNT, lines
    finally:
        for session in ways:
            run.api(river.world.plan.hosts[0], "DELETE", f"/mirrors/{session['name']}")
