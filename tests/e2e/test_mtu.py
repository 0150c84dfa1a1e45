"""Path MTU discovery between routed networks of different MTU."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from controller.dhcp import frames
from intent.gateway import GATEWAY_MAC
from pipeline.protocols import mac_bytes
from tests.e2e.conftest import World
from tests.programs import program, ready
from tests.waiting import LIMIT_S, eventually
from tools.lab import run

FULL, SMALL = 1446, 1300
HEADERS = {4: 20 + 8, 6: 40 + 8}  # of a ping, bytes
# name: host, network; wide and even have packets of full size, narrow has smaller ones
CONTAINERS = {"w1": ("h1", "wide"), "w2": ("h2", "wide"), "n1": ("h1", "narrow"), "n2": ("h2", "narrow"), "v2": ("h2", "even")}
RANGES = {"wide": ("10.61.0.0/24", "fd61::/64"), "narrow": ("10.62.0.0/24", "fd62::/64"), "even": ("10.63.0.0/24", "fd63::/64")}


class Joined:
    """The three networks and who is in them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.address: dict[tuple[str, int], str] = {}

    def ping(self, source: str, target: str, version: int, size: int) -> subprocess.CompletedProcess[str]:
        """Two whole packets of `size` bytes that nobody may cut."""
        words = ("ping", "-c2", "-i0.3", "-W2", "-M", "do", "-s", str(size - HEADERS[version]), self.address[target, version])
        return self.world.inside(source, *words)

    def forget(self, name: str) -> None:
        """What a container has learnt of paths."""
        for version in ("-4", "-6"):
            self.world.inside(name, "ip", version, "route", "flush", "cache")

    def measured(self, host: str) -> str:
        """The flows of a host that measure packets that a router leads on, or say what becomes of those that are too large. (SPOOF_GUARD, table 4,
        measures neighbour discovery.)"""
        lines = [line for line in self.world.ofctl(host, "dump-flows", "br-warren").splitlines() if "table=4," not in line]
        return "\n".join(line for line in lines if "check_pkt_larger" in line or "table=29" in line)

    def datapath(self, host: str) -> str:
        """What the datapath of a host does with what it has seen lately."""
        control = f"{self.world.plan.host(host).directory}/ovs-vswitchd.ctl"  # type: ignore[union-attr]
        done = subprocess.run(["ovs-appctl", "-t", control, "dpctl/dump-flows"], capture_output=True, text=True, check=True)
        return done.stdout


@pytest.fixture(scope="module")
def joined(world: World) -> Iterator[Joined]:
    fixture, first = Joined(world), world.plan.hosts[0]
    for name, (v4, v6) in RANGES.items():
        small = {"mtu": SMALL} if name == "narrow" else {}
        run.api(first, "POST", "/networks", name=name, ip_range=v4, ipv6_range=v6, mode="nat", **small)
    run.api(first, "POST", "/routers", name="span", networks=list(RANGES))
    for name, (host, network) in CONTAINERS.items():
        endpoint = run.container(world.plan, name, host, network)
        for version, field in ((4, "target_veth_ip"), (6, "target_veth_ipv6")):
            fixture.address[name, version] = endpoint[field].split("/")[0]
    eventually(lambda: all(world.pings("w1", fixture.address[name, 6], count=1) for name in ("n1", "n2", "v2")))
    yield fixture
    for name, (host, _) in CONTAINERS.items():
        endpoint = run.api(first, "GET", f"/endpoints/{name}")["endpoint"]
        run.api(world.plan.host(host), "DELETE", f"/endpoints/{endpoint['id']}")  # type: ignore[arg-type]
    run.api(first, "DELETE", "/routers/span")
    for name in RANGES:
        run.api(first, "DELETE", f"/networks/{name}")


@pytest.mark.parametrize("target", ["n1", "n2"])
@pytest.mark.parametrize(("version", "gateway"), [(4, "10.61.0.1"), (6, "fd61::1")])
def test_too_large_packets_are_answered_with_the_path_mtu(joined: Joined, target: str, version: int, gateway: str) -> None:
    joined.forget("w1")
    ping = joined.ping("w1", target, version, FULL)
    assert ping.returncode != 0
    assert re.search(rf"From {gateway}.*(Frag needed and DF set \(mtu = {SMALL}\)|Packet too big: mtu={SMALL})", ping.stdout)
    assert joined.ping("w1", target, version, SMALL + 1).returncode != 0
    assert joined.ping("w1", target, version, SMALL).returncode == 0


@pytest.mark.parametrize("version", [4, 6])
def test_the_path_mtu_is_exact(joined: Joined, version: int) -> None:
    """The first packet, when nothing is known of the path: a byte decides."""
    for size, fits in ((SMALL, True), (SMALL + 1, False)):
        joined.forget("w2")
        assert (joined.ping("w2", "n1", version, size).returncode == 0) == fits, size


def test_a_sender_without_dont_fragment_fragments_by_itself(joined: Joined) -> None:
    joined.forget("w1")
    ping = ("ping", "-c4", "-i0.3", "-W2", "-M", "dont", "-s", str(FULL - HEADERS[4]), joined.address["n2", 4])
    assert re.search(r" [123] received", joined.world.inside("w1", *ping).stdout), "all but what it took to learn"


@pytest.mark.parametrize("version", [4, 6])
def test_a_transfer_arrives(joined: Joined, version: int) -> None:
    """The receiver claims to take full segments, so that the sender must learn on the way."""
    joined.forget("w1")
    family = f"-{version}"
    default = joined.world.inside("n2", "ip", family, "route", "show", "default").stdout.split("\n")[0].split()
    changed = joined.world.inside("n2", "ip", family, "route", "replace", *default, "advmss", str(FULL - 40))
    assert changed.returncode == 0, changed.stderr
    server = ready(joined.world.background("n2", *program("sink")))
    sent = joined.world.inside("w1", *program("source", joined.address["n2", version]))
    assert sent.returncode == 0, sent.stderr
    assert server.communicate(timeout=LIMIT_S)[0] == "1000000\n"
    learnt = joined.world.inside("w1", "ip", "route", "get", joined.address["n2", version]).stdout
    assert f"mtu {SMALL}" in learnt, learnt


@pytest.mark.parametrize(("size", "ttl", "answer"), [(FULL, 64, "30 3 4 0 1300"), (100, 1, "30 11 0 0 0")])
def test_an_endpoint_on_a_trunk_is_answered_under_its_tag(joined: Joined, size: int, ttl: int, answer: str) -> None:
    first = joined.world.plan.hosts[0]
    vm = run.container(joined.world.plan, "vm", "h1", "even")
    wide = run.api(first, "GET", "/networks/wide")["network"]["id"]
    made = run.api(first, "POST", "/endpoints", network_id=wide, name="rider", hostname="h1", parent=vm["id"], vlan=30)[
        "endpoint"
    ]
    try:
        source, target = IPv4Address(made["target_veth_ip"].split("/")[0]), IPv4Address(joined.address["n2", 4])
        sent = frames.udp4(GATEWAY_MAC, source, target, (1, 9), bytes(size - HEADERS[4]))
        sent = sent[:22] + bytes([ttl]) + sent[23:]  # Open vSwitch asks no IPv4 header for its checksum
        tagged = sent[:6] + mac_bytes(made["target_veth_mac"]) + b"\x81\0\0\x1e" + sent[12:]
        assert joined.world.inside("vm", *program("icmp_error_under_tag", tagged.hex())).stdout.strip() == answer
    finally:
        for endpoint in (made, vm):
            run.api(first, "DELETE", f"/endpoints/{endpoint['id']}")


def test_networks_with_the_same_mtu_have_no_size_check(joined: Joined) -> None:
    """From wide to even, and from narrow to wide, nothing is measured, and nothing is shown to the controller."""
    flows = joined.measured("h1")
    assert "check_pkt_larger(1314)" in flows
    for prefix in ("10.61.", "fd61:", "10.63.", "fd63:"):
        assert f"dst={prefix}" not in flows
    for version in (4, 6):
        assert joined.ping("w1", "v2", version, FULL).returncode == 0
        assert joined.ping("n1", "w2", version, SMALL).returncode == 0
    lines = joined.datapath("h1").splitlines()
    to = {name: [line for line in lines if f"dst={joined.address[name, 4]}" in line] for name in ("v2", "n2")}
    assert to["v2"]
    assert not any("check_pkt_len" in line for line in to["v2"])
    joined.ping("w1", "n2", 4, SMALL)
    assert "check_pkt_len(size=1314" in joined.datapath("h1")


def test_a_changed_mtu_takes_effect_at_once(joined: Joined) -> None:
    first = joined.world.plan.hosts[0]
    document = '{"networks": [{"name": "narrow", "mtu": %s}]}'
    run.api(first, "POST", "/apply", timeout_s=40, document=document % "null", wait_s=20)
    assert "check_pkt_larger" not in joined.measured("h1")
    run.api(first, "POST", "/apply", timeout_s=40, document=document % SMALL, wait_s=20)
    assert "check_pkt_larger(1314)" in joined.measured("h1")
