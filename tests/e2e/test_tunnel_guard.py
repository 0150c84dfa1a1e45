"""What comes out of the tunnel, with crafted VXLAN packets: a host speaks for its own endpoints only, a stranger for none, a container
for no host."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator

import pytest

from intent.gateway import GATEWAY_MAC, HOST_MAC
from pipeline.tables import ANSWER_MAC, PROBE_MAC
from tests.e2e.conftest import World
from tests.e2e.test_packets import mac, udp
from tests.programs import program, ready
from tests.waiting import LIMIT_S, eventually
from tools.lab import run
from tools.lab.machine import kernel_datapath

STRANGER4, STRANGER6, HOST6 = "198.18.0.99", "fd98::99", "fd98::11"
VXLAN, OTHER = 4789, 4790
CONTAINERS = (
    ("v1", "h1", "t-vault"), ("v2", "h2", "t-vault"), ("v3", "h3", "t-vault"), ("s1", "h1", "t-shelf"), ("s2", "h2", "t-shelf"),
    ("a1", "h1", "t-alley"), ("a2", "h2", "t-alley"), ("b1", "h1", "t-beach"), ("b3", "h3", "t-beach"), ("m2", "h2", "t-mall"), ("m1", "h1", "t-mall"),
)  # fmt: skip
BROADCAST = "ff:ff:ff:ff:ff:ff"


def vxlan(vni: int, frame: bytes) -> bytes:
    """The payload of a tunnel's datagram (RFC 7348)."""
    return b"\x08\0\0\0" + (vni << 8).to_bytes(4, "big") + frame


class Underlay:
    """The hosts, a stranger among them, and containers of networks of each kind."""

    def __init__(self, world: World) -> None:
        self.world, self.stranger = world, f"{world.plan.name}-stranger"
        self.v4: dict[str, str] = {}
        self.mac: dict[str, str] = {}
        self.vni: dict[str, int] = {}

    def command(self, name: str, *command: str) -> tuple[str, ...]:
        """The words that run a command in a container, on a host, or at the stranger's."""
        return run.in_netns(self.stranger, *command) if name == "stranger" else self.world.command(name, *command)

    def background(self, name: str, *command: str) -> subprocess.Popen[str]:
        """Start a command there."""
        return subprocess.Popen(self.command(name, *command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def send(self, name: str, address: str, *payloads: bytes, port: int = VXLAN, source_port: int = 0, count: int = 1) -> None:
        """Send datagrams, without waiting for anything."""
        words = program("send_datagrams", source_port, address, port, count, *(payload.hex() for payload in payloads))
        subprocess.run(self.command(name, *words), timeout=LIMIT_S, check=True)

    def arrive(self, target: str, *packets: tuple[str, bytes], at: str = "h1") -> list[int]:
        """Send VXLAN packets to a host, each from a host or the stranger and with its number as a mark in place of MARK; the numbers of
        those that its container hears. The last one must arrive."""
        marks = [f"mark-{number:04}" for number in range(len(packets))]
        ears = ready(self.background(target, *program("hear_until_last", *marks)))
        for mark, (sender, payload) in zip(marks, packets, strict=True):
            self.send(sender, self.world.plan.host(at).vtep, payload.replace(b"mark-....", mark.encode()))  # type: ignore[union-attr]
        heard = ears.communicate(timeout=LIMIT_S)[0].split()
        assert ears.returncode == 0, heard
        return [number for number, mark in enumerate(marks) if mark in heard]

    def frame(self, eth_src: str, target: str, src: str, eth_dst: str | None = None) -> bytes:
        """A datagram to a container, from any MAC."""
        return udp(eth_src, eth_dst or self.mac[target], src, self.v4[target], b"mark-....")

    def packet_ins(self, host: str) -> float:
        """Probes that have come back to a host's controller."""
        text = self.world.inside(host, "curl", "-s", "http://127.0.0.1:9302/metrics").stdout
        return sum(float(n) for n in re.findall(r'^warren_packet_ins_total{.*"probe".*} (\S+)$', text, re.M))


@pytest.fixture(scope="module")
def underlay(world: World) -> Iterator[Underlay]:
    fixture = Underlay(world)
    for line in (
        f"netns add {fixture.stranger}", f"-n {world.plan.netns} link add u9 type veth peer name eth0 netns {fixture.stranger}",
        f"-n {world.plan.netns} link set u9 master under up", f"-n {fixture.stranger} link set eth0 up",
        f"-n {fixture.stranger} addr add {STRANGER4}/24 dev eth0", f"-n {fixture.stranger} addr add {STRANGER6}/64 dev eth0 nodad",
        *(() if kernel_datapath() else (f"-n {world.plan.name}-h1 addr add {HOST6}/64 dev br-phy nodad",)),
        f"-n {fixture.stranger} route add 10.44.0.0/24 via {world.plan.hosts[0].vtep}",
    ):  # fmt: skip
        run.sh("ip", *line.split())
    run.sh(*run.in_netns(fixture.stranger, "ethtool", "-K", "eth0", "tx", "off"))
    world.apply(
        acls={"kept": [{"proto": "udp", "allow_related": True}, {"actions": {"allow": 1}}]},
        networks=[
            {"name": "t-vault", "ip_range": "10.40.0.0/24", "default_acl": "kept"},
            {"name": "t-shelf", "ip_range": "10.40.0.0/24"},
            {"name": "t-alley", "ip_range": "10.43.0.0/24", "ipv6_range": "fd43::/64", "mode": "nat", "host_access": "all"},
            {"name": "t-beach", "ip_range": "10.44.0.0/24", "mode": "routed", "host_access": "all"},
            {"name": "t-mall", "ip_range": "10.45.0.0/24", "mode": "nat", "host_access": "all"},
        ],
        routers=[{"name": "t-lane", "networks": ["t-alley", "t-beach"]}],
    )
    for name, host, network in CONTAINERS:
        endpoint = run.container(world.plan, name, host, network)
        fixture.v4[name], fixture.mac[name] = endpoint["target_veth_ip"].split("/")[0], endpoint["target_veth_mac"]
    for network in ("t-vault", "t-shelf", "t-alley", "t-beach", "t-mall"):
        fixture.vni[network] = run.api(world.plan.hosts[0], "GET", f"/networks/{network}")["network"]["vxlan_vni"]
    common = {"network": "t-mall", "port": 53, "proto": "udp"}
    members = (("far", 9053, "m2"), ("near", 9054, "m1"))
    world.apply(services=[{"name": name, "host_port": port, "endpoints": [member], **common} for name, port, member in members])
    eventually(lambda: "9054" in world.inside("h1", "nft", "list", "chain", "inet", "warren", "prerouting").stdout)
    yield fixture
    for path in ("routers/t-lane", "services/far", "services/near"):
        run.api(world.plan.hosts[0], "DELETE", f"/{path}")
    for name, host, _ in CONTAINERS:
        endpoint = run.api(world.plan.hosts[0], "GET", f"/endpoints/{name}")["endpoint"]
        run.api(world.plan.host(host), "DELETE", f"/endpoints/{endpoint['id']}")  # type: ignore[arg-type]
    for network in ("t-vault", "t-shelf", "t-alley", "t-beach", "t-mall"):
        run.api(world.plan.hosts[0], "DELETE", f"/networks/{network}")
    if not kernel_datapath():
        run.sh("ip", "-n", f"{world.plan.name}-h1", "addr", "del", f"{HOST6}/64", "dev", "br-phy")
    run.sh("ip", "netns", "del", fixture.stranger)


@pytest.mark.parametrize("related", [0, 1 << 23])
def test_a_host_speaks_for_its_own_endpoints_only(underlay: Underlay, related: int) -> None:
    vni, address = underlay.vni["t-vault"] ^ related, underlay.v4

    def packet(eth_src: str, eth_dst: str | None = None) -> bytes:
        return vxlan(vni, underlay.frame(eth_src, "v1", address["v2"], eth_dst))

    second, third, local = (underlay.mac[name] for name in ("v2", "v3", "v1"))
    packets = (
        ("stranger", packet(second)), ("stranger", packet(second, BROADCAST)), ("stranger", packet("02:57:0a:00:00:63")),
        ("h3", packet(second)), ("h3", packet(second, BROADCAST)), ("h2", packet(third)), ("h2", packet(third, BROADCAST)),
        ("h2", packet(local)), ("h2", packet("02:57:0a:00:00:63")), ("h2", packet(GATEWAY_MAC)), ("h2", packet(HOST_MAC)),
        ("h3", packet(third)), ("h2", packet(second, BROADCAST)), ("h2", packet(second)),
    )  # fmt: skip
    assert underlay.arrive("v1", *packets) == [11, 12, 13]


def test_a_host_without_endpoints_in_a_network_sends_nothing_into_it(underlay: Underlay) -> None:
    packet = vxlan(underlay.vni["t-shelf"], underlay.frame(underlay.mac["s2"], "s1", underlay.v4["s2"]))
    assert underlay.arrive("s1", ("h3", packet), ("stranger", packet), ("h2", packet)) == [2]


def test_an_endpoint_that_comes_back_on_another_host_is_that_hosts(underlay: Underlay) -> None:
    plan, address = underlay.world.plan, {"ipv4_address": "10.40.0.77"}
    packet = vxlan(underlay.vni["t-shelf"], underlay.frame("02:57:0a:28:00:4d", "s1", address["ipv4_address"]))
    for number, (host, other) in enumerate((("h2", "h3"), ("h3", "h2"))):
        endpoint = run.container(plan, f"moves{number}", host, "t-shelf", **address)
        try:
            assert endpoint["target_veth_mac"] == "02:57:0a:28:00:4d"
            assert underlay.world.reaches(f"moves{number}", underlay.v4["s1"])  # h1 knows it
            assert underlay.arrive("s1", (other, packet), (host, packet)) == [1]
        finally:
            run.api(plan.host(host), "DELETE", f"/endpoints/{endpoint['id']}")  # type: ignore[arg-type]


def test_the_gateway_speaks_where_hosts_route_and_the_host_where_a_service_is(underlay: Underlay) -> None:
    def packet(network: str, eth_src: str, target: str) -> bytes:
        return vxlan(underlay.vni[network], underlay.frame(eth_src, target, "192.0.2.7"))

    # h3 has an endpoint of beach, h2 has none but routes alley's packets to it
    beach = [
        (sender, packet("t-beach", eth_src, "b1")) for eth_src in (HOST_MAC, GATEWAY_MAC) for sender in ("stranger", "h2", "h3")
    ]
    assert underlay.arrive("b1", *beach) == [4, 5]
    mall = [
        (sender, packet("t-mall", eth_src, "m1")) for eth_src in (HOST_MAC, GATEWAY_MAC) for sender in ("stranger", "h3", "h2")
    ]
    assert underlay.arrive("m1", *mall) == [2, 5]


def test_copies_come_from_the_hosts_that_copy(underlay: Underlay) -> None:
    source, target = {"network": "t-vault", "endpoint": "v2"}, {"network": "t-vault", "endpoint": "v1"}
    underlay.world.apply(mirrors=[{"name": "spy", "sources": [source], "to": target}])
    try:
        mirrors = run.api(underlay.world.plan.hosts[0], "GET", "/mirrors")["mirrors"]
        vni = next(mirror["vni"] for mirror in mirrors if mirror["name"] == "spy")
        copy = vxlan(vni, underlay.frame(underlay.mac["v2"], "v3", underlay.v4["v2"]))
        assert underlay.arrive("v1", ("stranger", copy), ("h3", copy), ("h2", copy)) == [2]
    finally:
        run.api(underlay.world.plan.hosts[0], "DELETE", "/mirrors/spy")


def test_probes_of_a_stranger_get_no_answer_and_a_flood_costs_little(underlay: Underlay) -> None:
    def probe(eth_dst: str, text: bytes) -> bytes:
        return vxlan(0, mac(eth_dst) + mac(GATEWAY_MAC) + b"\x88\xb5" + text.ljust(50, b"\0"))

    vtep = underlay.world.plan.hosts[0].vtep
    ears = ready(underlay.background("stranger", *program("hear_until_last", "mark-probe", "mark-last")))
    underlay.send("stranger", vtep, probe(PROBE_MAC, b"mark-probe"), count=5)
    before, began = underlay.packet_ins("h1"), time.monotonic()
    assert before > 0, "its own probes come back"
    underlay.send("stranger", vtep, probe(ANSWER_MAC, b"mark"), count=3000)
    underlay.send("h2", vtep, probe(ANSWER_MAC, b"mark"), count=3000)
    underlay.send("h1", STRANGER4, b"mark-last")
    assert ears.communicate(timeout=LIMIT_S)[0].split() == ["mark-last"]
    assert underlay.packet_ins("h1") - before < 150 + 40 * (time.monotonic() - began)
    health = run.api(underlay.world.plan.hosts[0], "GET", "/status")["hosts"]
    assert next(host["tunnels"]["broken"].get("h3") for host in health if host["name"] == "h1") is None


def test_a_container_cannot_send_tunnel_packets(underlay: Underlay) -> None:
    """As a host it would be known: its source is masqueraded to that of its host."""
    packet = vxlan(underlay.vni["t-vault"], underlay.frame(underlay.mac["v1"], "v2", underlay.v4["v1"]))
    assert underlay.arrive("v2", ("a1", packet), ("b1", packet), ("h1", packet), at="h2") == [2]
    home = vxlan(underlay.vni["t-vault"], underlay.frame(underlay.mac["v2"], "v1", underlay.v4["v2"]))
    assert underlay.arrive("v1", ("a1", home), ("b1", home), ("h2", home), at="h1") == [2]  # nor to its own host


@pytest.mark.parametrize(("name", "address"), [("a1", STRANGER4), ("a1", STRANGER6), ("b1", STRANGER4)])
def test_nothing_leaves_for_a_tunnel_port(underlay: Underlay, name: str, address: str) -> None:
    """Whole and in fragments, of which the first has the mark; other ports are not concerned, but that the userspace datapath translates no
    fragment (ADR 103)."""
    if ":" in address and kernel_datapath():
        pytest.skip("the hosts have no IPv6 on this laboratory's underlay")
    marks = [f"mark-{kind}{port}" for kind in ("cut", "whole") for port in (VXLAN, OTHER)]
    ears = ready(underlay.background("stranger", *program("hear_until_last", *marks)))
    for kind, size in (("cut", 3000), ("whole", 100)):
        for port in (VXLAN, OTHER):
            underlay.send(name, address, f"mark-{kind}{port}".encode().ljust(size, b"."), port=port, count=2)
    translated = name == "a1" and not kernel_datapath()
    left = {f"mark-whole{OTHER}"} | (set() if translated else {f"mark-cut{OTHER}"})
    assert set(ears.communicate(timeout=LIMIT_S)[0].split()) == left


def test_the_host_drops_what_its_switch_would_let_out(underlay: Underlay) -> None:
    ears = ready(underlay.background("stranger", *program("hear_until_last", f"mark-{VXLAN}", f"mark-{OTHER}")))
    for port in (VXLAN, OTHER):
        frame = udp(GATEWAY_MAC, HOST_MAC, underlay.v4["b1"], STRANGER4, f"mark-{port}".encode())
        frame = frame.replace(b"\x10\x00\x10\x01", b"\x10\x00" + port.to_bytes(2, "big"))
        words = f"in_port=controller,packet={frame.hex()},actions=output:65278"
        underlay.world.ofctl("h1", "packet-out", "br-warren", words)
    assert ears.communicate(timeout=LIMIT_S)[0].split() == [f"mark-{OTHER}"]


@pytest.mark.parametrize("host_port", [9053, 9054])
def test_a_published_port_does_not_answer_to_a_tunnel_port(underlay: Underlay, host_port: int) -> None:
    """The member is on another host (9053) or on this one (9054): who asks with a host's address and its tunnel's port would make a
    container write that host a tunnel packet."""
    member = {9053: "m2", 9054: "m1"}[host_port]
    server = ready(underlay.background(member, *program("echo_datagrams", 53)))
    vtep = underlay.world.plan.hosts[0].vtep

    def answered(port: int) -> None:
        underlay.send("stranger", vtep, f"mark-{port}".encode(), port=host_port, source_port=port, count=3)

    ears = ready(underlay.background("stranger", *program("hear_until_last", f"mark-{VXLAN}", f"mark-{OTHER}")))
    answered(VXLAN)
    answered(OTHER)
    assert ears.communicate(timeout=LIMIT_S)[0].split() == [f"mark-{OTHER}"]
    server.kill()
    server.communicate()


@pytest.mark.parametrize(("source", "target"), [("v1", "v2"), ("a1", "a2"), ("a1", "b3"), ("b3", "a2")])
def test_containers_may_have_tunnels_of_their_own(underlay: Underlay, source: str, target: str) -> None:
    """Within a network and through a router: nobody but the endpoint gets the packet."""
    ears = ready(underlay.background(target, *program("hear_until_last", "mark-inner")))
    underlay.send(source, underlay.v4[target], b"mark-inner", count=3)
    assert ears.communicate(timeout=LIMIT_S)[0].split() == ["mark-inner"]


def test_a_trace_and_the_flows_name_the_guard(underlay: Underlay) -> None:
    hosts = underlay.world.plan.hosts
    trace = run.api(hosts[0], "POST", "/trace", src="v2", dst="v1", proto="udp", port=53)
    assert trace["verdict"] == "delivered"
    arrived = trace["hosts"][1]["steps"]
    assert [(step["table"], step["origin"]) for step in arrived][:2] == [
        ("CLASSIFY", "network/t-vault"),
        ("TUNNEL_GUARD", "endpoint/t-vault/v2"),
    ]

    def refused() -> int:
        rows = run.api(hosts[0], "GET", "/hosts/h1/flows")["flows"]
        return sum(
            row["packets"]
            for row in rows
            if (row["table"], row["origin"], row["actions"]) == ("TUNNEL_GUARD", "network/t-vault", "drop")
        )

    before = refused()
    packet = vxlan(underlay.vni["t-vault"], underlay.frame(underlay.mac["v2"], "v1", underlay.v4["v2"]))
    underlay.send("stranger", hosts[0].vtep, packet, count=7)
    eventually(lambda: refused() == before + 7)
