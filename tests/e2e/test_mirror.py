"""Mirror sessions with real packets: each packet is copied exactly once, to a target on any host."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.e2e.conftest import World
from tests.waiting import LIMIT_S, PATIENTLY, eventually, listening, quiet
from tools.lab import run
from tools.lab.machine import kernel_datapath

COUNT = 5


class Watch:
    """The world with containers that are watched, and analysers."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.v4: dict[str, str] = {}

    def apply(self, **sections: Any) -> None:
        """Apply a document and wait for the hosts."""
        self.world.apply(**sections)

    @contextmanager
    def session(self, **fields: Any) -> Iterator[None]:
        """A mirror session for a while; ready when nobody reports a problem of it."""
        self.apply(mirrors=[{"name": "watch", **fields}])
        try:
            eventually(lambda: not self.complaints())
            yield
        finally:
            run.api(self.world.plan.hosts[0], "DELETE", "/mirrors/watch")

    def complaints(self) -> list[str]:
        """What the hosts say of the session."""
        status = run.api(self.world.plan.hosts[0], "GET", "/status")
        return [str(problem) for host in status["hosts"] for problem in host["problems"] if "mirror/watch" in str(problem)]

    @contextmanager
    def heard(self, where: str, interface: str, expression: str, lines: list[str]) -> Iterator[None]:
        """What tcpdump hears meanwhile, a line for each packet."""
        command = ("tcpdump", "--immediate-mode", "-l", "-n", "-e", "-Q", "in", "-i", interface, expression)
        with tempfile.TemporaryFile("w+") as output:
            dump = subprocess.Popen(self.world.command(where, *command), stdout=output, stderr=subprocess.PIPE, text=True)
            listening(dump)
            yield
            quiet(lambda: os.fstat(output.fileno()).st_size)
            dump.send_signal(signal.SIGINT)
            dump.communicate(timeout=LIMIT_S)
            output.seek(0)
            lines += output.read().splitlines()

    def settle(self, *pairs: tuple[str, str]) -> None:
        """Wait until pings between these containers are all answered. A port that Open vSwitch adds to the datapath can cost others a packet."""
        for source, target in pairs:
            eventually(lambda s=source, t=target: self._answers(s, t) == COUNT)  # type: ignore[misc]

    def _answers(self, source: str, target: str) -> int:
        ping = ("ping", "-c", str(COUNT), "-i", "0.05", PATIENTLY, self.v4[target])
        answers = re.search(r"(\d+) received", self.world.inside(source, *ping).stdout)
        return int(answers[1]) if answers else 0

    def ping(self, source: str, target: str) -> None:
        """Some pings, all answered."""
        assert self._answers(source, target) == COUNT


@pytest.fixture(scope="module")
def watch(world: World) -> Iterator[Watch]:
    fixture = Watch(world)
    fixture.apply(networks=[{"name": "seen", "ip_range": "10.12.0.0/24"}, {"name": "seers", "ip_range": "10.13.0.0/24"}])
    names = (("m1", "h1", "seen"), ("m2", "h2", "seen"), ("m3", "h1", "seen"), ("eye1", "h1", "seers"), ("eye3", "h3", "seers"))
    for name, host, network in names:
        fixture.v4[name] = run.container(world.plan, name, host, network)["target_veth_ip"].split("/")[0]
    host3 = f"{world.plan.name}-h3"
    run.sh("ip", "-n", host3, "link", "add", "tap0", "type", "veth", "peer", "name", "tap1")
    for name in ("tap0", "tap1"):
        run.sh("ip", "-n", host3, "link", "set", name, "up")
    fixture.settle(("m1", "m2"))
    yield fixture
    for name, _, _ in names:
        endpoint = run.api(world.plan.hosts[0], "GET", f"/endpoints/{name}")["endpoint"]
        run.api(world.plan.host(endpoint["hostname"]), "DELETE", f"/endpoints/{endpoint['id']}")  # type: ignore[arg-type]
    eventually(lambda: "tap0" not in ports(world, "h3"))
    run.sh("ip", "-n", host3, "link", "del", "tap0")


def ports(world: World, host: str) -> str:
    """The ports of the bridge."""
    directory = world.plan.host(host).directory  # type: ignore[union-attr]
    return run.sh("ovs-vsctl", f"--db=unix:{directory}/db.sock", "list-ports", "br-warren")


def in_datapath(world: World, host: str, port: str) -> bool:
    """Whether a port of the bridge has its OpenFlow port: `ports` has it earlier."""
    directory = world.plan.host(host).directory  # type: ignore[union-attr]
    shown = run.sh("ovs-vsctl", f"--db=unix:{directory}/db.sock", "--if-exists", "get", "Interface", port, "ofport").strip()
    return shown.isdigit()


def icmp(lines: list[str], watch: Watch) -> list[tuple[str, str, str]]:
    """(source, destination, kind) of each ping in a dump."""
    names = {address: name for name, address in watch.v4.items()}
    pings = [re.search(r"(\S+) > (\S+): ICMP echo (request|reply)", line) for line in lines]
    return [(names[m[1]], names[m[2]], m[3]) for m in pings if m]


ONE_WAY, WAY_BACK = [("m1", "m2", "request")] * COUNT, [("m2", "m1", "reply")] * COUNT
TARGETS = {
    "an endpoint of the same host": ({"network": "seers", "endpoint": "eye1"}, "eye1", "eth0"),
    "an endpoint of a third host": ({"network": "seers", "endpoint": "eye3"}, "eye3", "eth0"),
    "an interface of a third host": ({"host": "h3", "interface": "tap0"}, "h3", "tap1"),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("direction", "expected"),
    [("in", ONE_WAY), ("out", WAY_BACK), ("both", sorted(ONE_WAY + WAY_BACK))],
    ids=["in", "out", "both"],
)
def test_mirrored_packets_arrive_exactly_once(watch: Watch, target: str, direction: str, expected: list[Any]) -> None:
    to, where, interface = TARGETS[target]
    lines: list[str] = []
    with watch.session(sources=[{"network": "seen", "endpoint": "m1"}], direction=direction, to=to):
        watch.settle(("m1", "m2"))  # a VTEP that is met for the first time costs a packet
        with watch.heard(where, interface, "icmp", lines):
            watch.ping("m1", "m2")
            watch.ping("m3", "m2")
    assert sorted(icmp(lines, watch)) == expected


def test_packets_between_two_mirrored_endpoints_are_copied_once(watch: Watch) -> None:
    """On one host and across hosts, with a broadcast; by label of nobody else."""
    lines: list[str] = []
    to = {"network": "seers", "endpoint": "eye1"}
    with watch.session(sources=[{"network": "seen"}], to=to):
        watch.settle(("m1", "m2"), ("m1", "m3"))
        with watch.heard("eye1", "eth0", "icmp", lines):
            watch.ping("m1", "m2")
            watch.ping("m1", "m3")
    pairs = icmp(lines, watch)
    for pair in (("m1", "m2", "request"), ("m2", "m1", "reply"), ("m1", "m3", "request"), ("m3", "m1", "reply")):
        assert pairs.count(pair) == COUNT, pairs


def test_filter_tag_and_length(watch: Watch) -> None:
    lines: list[str] = []
    match = {"dl_type": 0x0800, "nw_proto": 1, "icmpv4_type": 0}
    to = {"network": "seers", "endpoint": "eye3"}
    with watch.session(sources=[{"network": "seen", "endpoint": "m1"}], match=match, vlan=356, snap=60, to=to):
        watch.settle(("m1", "m2"))
        with watch.heard("eye3", "eth0", "vlan 356", lines):
            watch.ping("m1", "m2")
    assert [kind for _, _, kind in icmp(lines, watch)] == ["reply"] * COUNT, lines
    length = 64 if kernel_datapath() else 60  # the kernel's Open vSwitch cuts before it writes the tag
    assert all(f"length {length}:" in line for line in lines if line), lines


def test_a_collector_by_gre(watch: Watch) -> None:
    """The collector is the underlay address of h3."""
    lines: list[str] = []
    collector = str(watch.world.plan.host("h3").vtep)  # type: ignore[union-attr]
    with watch.session(sources=[{"network": "seen", "endpoint": "m1"}], to={"gre": collector}):
        eventually(lambda: "wm" in ports(watch.world, "h1"))
        watch.settle(("m1", "m2"))
        with watch.heard("h3", "eth0", "proto gre", lines):
            watch.ping("m1", "m2")
    assert sorted(icmp(lines, watch)) == sorted(ONE_WAY + WAY_BACK)
    eventually(lambda: "wm" not in ports(watch.world, "h1"))


def test_traffic_of_the_source_does_not_wait_for_the_mirror_target(watch: Watch) -> None:
    """The analyser is gone; a target that does not exist does nothing and is told."""
    host = f"{watch.world.plan.name}-h3"
    with watch.session(sources=[{"network": "seen", "endpoint": "m1"}], to={"host": "h3", "interface": "tap0"}):
        run.sh("ip", "-n", host, "link", "set", "tap1", "down")
        watch.ping("m1", "m2")
        run.sh("ip", "-n", host, "link", "set", "tap1", "up")
    watch.apply(mirrors=[{"name": "lost", "sources": [{"network": "seen"}], "to": {"network": "seers", "endpoint": "nobody"}}])
    reported = lambda: "endpoint seers/nobody does not exist" in json.dumps(run.api(watch.world.plan.hosts[0], "GET", "/status"))  # noqa: E731
    eventually(reported)
    watch.ping("m1", "m2")
    run.api(watch.world.plan.hosts[0], "DELETE", "/mirrors/lost")


@pytest.mark.parametrize("process", ["controller", "ovs"])
def test_a_session_survives_a_restart(watch: Watch, process: str) -> None:
    lines: list[str] = []
    with watch.session(sources=[{"network": "seen", "endpoint": "m1"}], to={"network": "seers", "endpoint": "eye1"}):
        run.restart(watch.world.plan, "h1", process, signal.SIGKILL)
        eventually(lambda: watch.world.pings("m1", watch.v4["m2"], 1))
        run.wait_until_up(watch.world.plan)
        watch.settle(("m1", "m2"))
        with watch.heard("eye1", "eth0", "icmp", lines):
            watch.ping("m1", "m2")
    assert sorted(icmp(lines, watch)) == sorted(ONE_WAY + WAY_BACK)


def traced(watch: Watch, src: str, dst: str) -> tuple[str, str]:
    """The verdict of a trace, and where each host says that the packet goes."""
    data = {"src": src, "dst": dst, "proto": "icmp"}
    trace = run.api(watch.world.plan.hosts[0], "POST", "/trace", **data)
    return trace["verdict"], trace["text"]


def test_a_trace_tells_a_mirrors_copy_from_the_packet(watch: Watch) -> None:
    for eye in ("eye1", "eye3"):  # here, and through the tunnel to a host that the packet does not go to
        with watch.session(sources=[{"network": "seen"}], to={"network": "seers", "endpoint": eye}):
            assert traced(watch, "m1", "m2")[0] == traced(watch, "m1", "m3")[0] == "delivered"
            verdict, text = traced(watch, "m1", eye)  # it gets a copy of what is for somebody else
            assert (verdict, "(a mirror's copy)" in text) == ("dropped", True), text
            assert "by the flow of mirror/" not in text


def test_a_trace_follows_every_copy_of_a_flood_past_the_tunnels(watch: Watch) -> None:
    """Open vSwitch tells in between what the underlay's bridge does with each tunnel packet."""
    plan = watch.world.plan
    with watch.world.temporary("m4", "h3", "seen"):
        sender = run.api(plan.hosts[0], "GET", "/endpoints/m1")["endpoint"]
        mac, address = sender["target_veth_mac"], watch.v4["m1"]
        flow = f"in_port=1,dl_src={mac},dl_dst=ff:ff:ff:ff:ff:ff,udp,nw_src={address},nw_dst=255.255.255.255,udp_dst=9"
        answer = run.api(plan.hosts[0], "POST", "/hosts/h1/trace", flow=flow, enters=sender["id"])
        vteps = {each["vtep"] for each in answer["tunnels"]}
        assert vteps == {host.vtep for host in plan.hosts[1:]}, answer["text"]
        m3 = run.api(plan.hosts[0], "GET", "/endpoints/m3")["endpoint"]
        assert answer["delivered_to"] == [m3["id"]]
