"""What somebody takes away or changes by hand comes back: packets flow again without a restart."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from specs.model.derived import veth_name
from tests.e2e.conftest import World
from tests.waiting import eventually
from tools.lab import run

FULL = 1446 - 28  # bytes of a ping that fills the MTU


@dataclass
class Room:
    """A container on h1 and one on h2 in a network with a gateway, and words for what is done to the first."""

    world: World
    addresses: dict[str, str] = field(default_factory=dict)

    @property
    def veth(self) -> str:
        """The host's end of the first container's veth."""
        return veth_name(run.api(self.world.plan.hosts[0], "GET", "/endpoints/d1")["endpoint"]["id"])

    @property
    def host(self) -> str:
        """The namespace of h1."""
        return self.world.plan.hosts[0].netns

    def vsctl(self, *words: str) -> None:
        """ovs-vsctl on h1."""
        database = f"--db=unix:{self.world.plan.hosts[0].directory}/db.sock"
        done = subprocess.run(["ovs-vsctl", "--no-wait", database, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def on_host(self, *command: str) -> None:
        """Run a command in the namespace of h1."""
        done = subprocess.run(["ip", "netns", "exec", self.host, *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def inside(self, *command: str) -> None:
        """Run a command in the first container."""
        done = self.world.inside("d1", *command)
        assert done.returncode == 0, done.stderr

    def works(self) -> bool:
        """Whether full packets reach the other host, both versions of IP, and the gateway's outside is routed."""
        for address in (self.addresses["v4"], self.addresses["v6"]):
            size = str(FULL if "." in address else FULL - 20)
            ping = ("ping", "-c1", "-W1", "-M", "do", "-s", size, address)
            if self.world.inside("d1", *ping).returncode != 0:
                return False
        return "via 10.91.0.1" in self.world.inside("d1", "ip", "route", "get", "192.0.2.77").stdout

    def same_as_recorded(self) -> bool:
        """Whether neither `warren check` nor `warren status` has anything to say of h1."""
        try:
            report = run.api(self.world.plan.hosts[0], "GET", "/hosts/h1/check")
        except run.LabError as error:  # there is no bridge now
            raise AssertionError(str(error)) from None
        assert not report["missing"], report["missing"][:3]
        assert not report["unexpected"], report["unexpected"][:3]
        assert not report["differences"], report["differences"]
        assert problems(self.world) == []
        return True


def problems(world: World) -> list[str]:
    """The problems of h1 in `warren status`."""
    hosts = run.api(world.plan.hosts[0], "GET", "/status")["hosts"]
    return next(host["problems"] for host in hosts if host["id"] == "h1")


@pytest.fixture(scope="module")
def room(world: World) -> Iterator[Room]:
    first = world.plan.hosts[0]
    ranges = {"ip_range": "10.91.0.0/24", "ipv6_range": "fd91::/64"}
    run.api(first, "POST", "/networks", name="damaged", gateway="10.91.0.1/24", mode="nat", **ranges)
    room = Room(world)
    made = {name: run.container(world.plan, name, host, "damaged") for name, host in (("d1", "h1"), ("d2", "h2"))}
    room.addresses = {
        "v4": made["d2"]["target_veth_ip"].split("/")[0],
        "v6": made["d2"]["target_veth_ipv6"].split("/")[0],
        "own4": made["d1"]["target_veth_ip"],
        "own6": made["d1"]["target_veth_ipv6"],
    }
    eventually(room.works)
    yield room
    for name, host in (("d1", "h1"), ("d2", "h2")):
        run.api(world.plan.host(host), "DELETE", f"/endpoints/{made[name]['id']}")  # type: ignore[arg-type]
    run.api(first, "DELETE", "/networks/damaged")


DAMAGES: dict[str, Callable[[Room], None]] = {
    "veth down on the host": lambda r: r.on_host("ip", "link", "set", r.veth, "down"),
    "interface down in the container": lambda r: r.inside("ip", "link", "set", "eth0", "down"),
    "IPv4 address removed": lambda r: r.inside("ip", "addr", "del", r.addresses["own4"], "dev", "eth0"),
    "IPv6 address removed": lambda r: r.inside("ip", "addr", "del", r.addresses["own6"], "dev", "eth0"),
    "all addresses removed": lambda r: r.inside("ip", "addr", "flush", "dev", "eth0"),
    "default route removed": lambda r: r.inside("ip", "route", "del", "default"),
    "IPv6 switched off": lambda r: r.inside("sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1"),
    "MTU raised in the container": lambda r: r.inside("ip", "link", "set", "eth0", "mtu", "9000"),
    "MTU lowered on the host": lambda r: r.on_host("ip", "link", "set", r.veth, "mtu", "1000"),
    "MTU too small for IPv6": lambda r: r.inside("ip", "link", "set", "eth0", "mtu", "1000"),
    "MAC changed": lambda r: r.inside("ip", "link", "set", "eth0", "address", "02:00:00:00:00:99"),
    "interface renamed": lambda r: r.inside("ip", "link", "set", "eth0", "name", "lan0"),
    "veth deleted on the host": lambda r: r.on_host("ip", "link", "del", r.veth),
    "interface deleted in the container": lambda r: r.inside("ip", "link", "del", "eth0"),
    "veth renamed on the host": lambda r: r.on_host("sh", "-c", f"ip link set {r.veth} down; ip link set {r.veth} name lost0"),
    "del-port of the endpoint": lambda r: r.vsctl("del-port", r.veth),
    "del-br": lambda r: r.vsctl("del-br", "br-warren"),
    "external_ids of the interface cleared": lambda r: r.vsctl("clear", "Interface", r.veth, "external_ids"),
    "external_ids of the port cleared": lambda r: r.vsctl(
        "clear", "Port", r.veth, "external_ids", "--", "clear", "Interface", r.veth, "external_ids"
    ),
    "endpoint's id changed": lambda r: r.vsctl("set", "Interface", r.veth, "external_ids:warren-endpoint=another"),
    "ofport_request changed": lambda r: r.vsctl("set", "Interface", r.veth, "ofport_request=4711"),
    "ofport_request cleared": lambda r: r.vsctl("clear", "Interface", r.veth, "ofport_request"),
    "type changed": lambda r: r.vsctl("set", "Interface", r.veth, "type=internal"),
    "mtu_request set": lambda r: r.vsctl("set", "Interface", r.veth, "mtu_request=900"),
    "tag set": lambda r: r.vsctl("set", "Port", r.veth, "tag=99"),
    "emer-reset": lambda r: r.vsctl("emer-reset"),
    "controller deleted": lambda r: r.vsctl("del-controller", "br-warren"),
    "controller elsewhere": lambda r: r.vsctl("set-controller", "br-warren", "tcp:127.0.0.1:1"),
    "fail_mode changed": lambda r: r.vsctl("set-fail-mode", "br-warren", "standalone"),
    "spanning tree on": lambda r: r.vsctl("set", "Bridge", "br-warren", "stp_enable=true"),
    "bridge unmarked": lambda r: r.vsctl("clear", "Bridge", "br-warren", "external_ids"),
    "bridge settings cleared": lambda r: r.vsctl("clear", "Bridge", "br-warren", "other_config"),
    "tunnel port deleted": lambda r: r.vsctl("del-port", "vxlan-warren"),
    "tunnel port unmarked": lambda r: r.vsctl("clear", "Interface", "vxlan-warren", "external_ids"),
    "tunnel options cleared": lambda r: r.vsctl("clear", "Interface", "vxlan-warren", "options"),
    "tunnel to one host": lambda r: r.vsctl("set", "Interface", "vxlan-warren", "options:remote_ip=198.51.100.9"),
    "tunnel with one key": lambda r: r.vsctl("set", "Interface", "vxlan-warren", "options:key=7"),
    "tunnel to another port": lambda r: r.vsctl("set", "Interface", "vxlan-warren", "options:dst_port=4790"),
    "tunnel of another type": lambda r: r.vsctl("set", "Interface", "vxlan-warren", "type=geneve"),
    "gateway port deleted": lambda r: r.vsctl("del-port", "warren-gw"),
    "gateway interface down": lambda r: r.on_host("ip", "link", "set", "warren-gw", "down"),
    "flows deleted": lambda r: r.world.ofctl("h1", "del-flows", "br-warren") and None,
    "groups deleted": lambda r: r.world.ofctl("h1", "del-groups", "br-warren") and None,
    "nft ruleset flushed": lambda r: r.on_host("nft", "flush", "ruleset"),
    "forwarding off": lambda r: r.on_host("sysctl", "-qw", "net.ipv4.ip_forward=0"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(DAMAGES))
def test_damage_is_repaired_without_a_restart(room: Room, name: str) -> None:
    eventually(room.works)
    DAMAGES[name](room)
    eventually(lambda: room.same_as_recorded() and room.works())


def test_what_a_containers_owner_adds_stays(room: Room) -> None:
    room.inside("ip", "addr", "add", "192.0.2.5/32", "dev", "eth0")
    room.inside("ip", "route", "add", "203.0.113.0/24", "via", room.addresses["v4"])
    room.inside("ip", "link", "set", "eth0", "mtu", "1400")
    room.inside("ip", "link", "set", "eth0", "down")
    room.inside("ip", "link", "set", "eth0", "up")
    room.inside("ip", "route", "add", "203.0.113.0/24", "via", room.addresses["v4"])
    eventually(lambda: room.addresses["own6"] in room.world.inside("d1", "ip", "addr", "show", "eth0").stdout)
    eventually(room.same_as_recorded)
    assert "192.0.2.5/32" in room.world.inside("d1", "ip", "addr", "show", "eth0").stdout
    assert "203.0.113.0/24" in room.world.inside("d1", "ip", "route").stdout
    assert "mtu 1400" in room.world.inside("d1", "ip", "link", "show", "eth0").stdout
    room.inside("ip", "addr", "del", "192.0.2.5/32", "dev", "eth0")
    room.inside("ip", "route", "del", "203.0.113.0/24")
    room.inside("ip", "link", "set", "eth0", "mtu", "1446")


def test_a_repair_that_others_undo_is_delayed_and_told(room: Room) -> None:
    """A program in the container removes its address whenever it is there."""
    address = room.addresses["own4"]
    loop = f"while sleep 0.02; do ip addr del {address} dev eth0 2>/dev/null; done"
    fight = room.world.background("d1", "sh", "-c", loop)
    try:
        eventually(lambda: any("somebody undoes each repair" in line and address in line for line in problems(room.world)))
    finally:
        fight.kill()
        fight.wait()
    eventually(lambda: room.same_as_recorded() and room.works())


def test_a_lowered_network_mtu_reaches_running_containers(room: Room) -> None:
    first = room.world.plan.hosts[0]
    document = '{"networks": [{"name": "damaged", "mtu": %s}]}'
    for mtu, shown in (("1300", "mtu 1300"), ("null", "mtu 1446")):
        run.api(first, "POST", "/apply", timeout_s=40, document=document % mtu, wait_s=20)
        for name in ("d1", "d2"):
            eventually(lambda name=name, shown=shown: shown in room.world.inside(name, "ip", "link", "show", "eth0").stdout)
    eventually(room.works)


def test_a_lowered_underlay_mtu_reaches_running_containers(room: Room) -> None:
    """Of all hosts, whichever host it was lowered on."""
    second = room.world.plan.hosts[1]
    shown = room.world.inside("h2", "ip", "-o", "addr", "show", "to", second.vtep).stdout
    underlay = shown.split()[1]
    for mtu, inside in (("1400", "mtu 1346"), ("1500", "mtu 1446")):
        assert room.world.inside("h2", "ip", "link", "set", underlay, "mtu", mtu).returncode == 0
        for name in ("d1", "d2"):
            eventually(lambda name=name, inside=inside: inside in room.world.inside(name, "ip", "link", "show", "eth0").stdout)
    eventually(room.works)
