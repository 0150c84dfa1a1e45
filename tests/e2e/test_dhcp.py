"""DHCP and router advertisements with real clients (busybox udhcpc, ISC dhclient, the kernel), answered without a server process."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest

from controller.dhcp import frames, v4, v6
from intent.gateway import GATEWAY_MAC
from pipeline.protocols import mac_bytes
from pipeline.tables import PORT_METER_FIRST, PORT_METER_LAST
from specs.model.derived import link_local
from tests.e2e.conftest import World
from tests.e2e.test_metrics import of, scraped
from tests.programs import program, ready
from tests.unit.test_dhcp import question
from tests.waiting import LIMIT_S, eventually
from tools.lab import run

GATEWAY6 = str(link_local(GATEWAY_MAC))
MTU = 1300

# what a client calls when something becomes of its lease: a line of the log for each event, and the address on the interface
UDHCPC = """#!/bin/sh
case $1 in
    bound|renew) ip addr replace $ip/$mask dev $interface ;;
    deconfig) ip -4 addr flush dev $interface ;;
esac
echo "event=$1 ip=$ip mask=$mask router=$router dns=$dns mtu=$mtu hostname=$hostname domain=$domain lease=$lease \
server=$serverid routes=$staticroutes;" >>"$LOG"
"""
DHCLIENT = """#!/bin/sh
case $reason in
    PREINIT|PREINIT6) exit 0 ;;
    BOUND|RENEW|REBIND|REBOOT)
        ip addr replace $new_ip_address/$new_subnet_mask dev $interface
        set -- $new_rfc3442_classless_static_routes
        [ "$1 $6" != "32 0" ] || ip route replace $2.$3.$4.$5 dev $interface ;;
    BOUND6|RENEW6|REBIND6) ip -6 addr replace $new_ip6_address/$new_ip6_prefixlen dev $interface nodad ;;
    EXPIRE|RELEASE|STOP|FAIL) ip -4 addr flush dev $interface ;;
    *6) ip -6 addr flush dev $interface scope global ;;
esac
echo "event=$reason ip=$new_ip_address$new_ip6_address dns=$new_domain_name_servers$new_dhcp6_name_servers \
domain=$new_domain_name$new_dhcp6_domain_search mtu=$new_interface_mtu name=$new_host_name;" >>"$LOG"
"""


class Leases:
    """The networks with DHCP, who asks there, and what their clients have written down."""

    def __init__(self, world: World, directory: Path) -> None:
        self.world, self.plan, self.directory = world, world.plan, directory
        self.v4: dict[str, str] = {}
        self.v6: dict[str, str] = {}
        self.mac: dict[str, str] = {}
        for name, text in (("udhcpc", UDHCPC), ("dhclient", DHCLIENT)):
            (directory / name).write_text(text)
            (directory / name).chmod(0o755)
        # a copy: the profile that AppArmor has for the original lets it run no script but Debian's
        if (original := shutil.which("dhclient", path="/sbin:/usr/sbin")) is not None:
            shutil.copy(original, directory / "client")

    def container(self, name: str, host: str, network: str) -> None:
        """Plug a container in."""
        made = run.container(self.plan, name, host, network)
        self.v4[name], self.mac[name] = made["target_veth_ip"].split("/")[0], made["target_veth_mac"]
        self.v6[name] = made["target_veth_ipv6"].split("/")[0]

    def shown(self, name: str, *words: str) -> str:
        """What `ip` says in a container."""
        return self.world.inside(name, "ip", *words).stdout

    def udhcpc(self, name: str, *more: str) -> subprocess.Popen[str]:
        """busybox's client, in the foreground."""
        script = ("-s", str(self.directory / "udhcpc"), "-O", "mtu", "-O", "staticroutes", "-t", "20", "-T", "5", "-A", "1")
        return self._start(name, "busybox", "udhcpc", "-f", "-R", "-i", "eth0", *script, *more)

    def dhclient(self, name: str, version: str, *more: str) -> subprocess.Popen[str]:
        """ISC's client, in the foreground."""
        if not (self.directory / "client").exists():
            pytest.skip("this Debian has no ISC dhclient")
        files = [word for flag in ("lf", "pf") for word in (f"-{flag}", str(self.directory / f"{name}{version}.{flag}"))]
        script = ("-sf", str(self.directory / "dhclient"), "-e", f"LOG={self.log(name)}")
        return self._start(name, str(self.directory / "client"), version, "-d", *script, *files, *more, "eth0")

    def _start(self, name: str, *command: str) -> subprocess.Popen[str]:
        output = (self.directory / f"{name}.out").open("a")
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LOG": str(self.log(name))}
        return subprocess.Popen(
            self.world.command(name, *command), stdin=subprocess.DEVNULL, stdout=output, stderr=output, text=True, env=environment
        )

    def log(self, name: str) -> Path:
        """The events of a container's client."""
        return self.directory / f"{name}.log"

    def events(self, name: str) -> list[str]:
        """What has become of the lease, in order."""
        return re.findall(r"event=(\w+)", self.log(name).read_text()) if self.log(name).exists() else []

    def event(self, name: str, event: str) -> dict[str, str]:
        """What the client was told when this happened last."""
        lines = [line for line in self.log(name).read_text().split(";\n") if line.startswith(f"event={event} ")]
        return dict(word.partition("=")[::2] for word in re.split(r" (?=\w+=)", lines[-1]))


@pytest.fixture(scope="module")
def leases(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Leases]:
    fixture = Leases(world, tmp_path_factory.mktemp("leases"))
    short = {"ip_range": "10.22.0.0/24", "ipv6_range": "fd22::/64", "dhcp": True, "dhcp_lease_s": 10}
    networks: list[dict[str, Any]] = [
        {
            "name": "leased", "ip_range": "10.20.0.0/24", "ipv6_range": "fd20::/64", "mode": "nat", "dhcp": True, "mtu": MTU,
            "dns": ["192.0.2.53", "2001:db8::53"], "domain": "example.org", "dhcp_lease_s": 300,
            "dhcp_routes": [{"to": "10.99.0.0/16", "via": "10.20.0.9"}],
        },
        {"name": "alone", **short, "dns": "2001:db8::53"},
    ]  # fmt: skip
    for network in networks:
        run.api(world.plan.hosts[0], "POST", "/networks", **network)
    for name, host, network in (("l1", "h1", "leased"), ("l2", "h1", "leased"), ("a1", "h1", "alone"), ("a2", "h2", "alone")):
        fixture.container(name, host, network)
    yield fixture
    for name in fixture.v4:
        made = run.api(world.plan.hosts[0], "GET", f"/endpoints/{name}")["endpoint"]
        host = next(host for host in world.plan.hosts if host.name == made["hostname"])
        run.api(host, "DELETE", f"/endpoints/{made['id']}")
        run.sh("ip", "netns", "del", run.netns_of(world.plan, name))
    eventually(lambda: not ports_meters(world))  # they go with their ports
    for network in networks:
        run.api(world.plan.hosts[0], "DELETE", f"/networks/{network['name']}")


def ports_meters(world: World) -> list[int]:
    """The meters of ports that h1's switch has."""
    numbers = map(int, re.findall(r"meter=(\d+)", world.ofctl("h1", "dump-meters", "br-warren")))
    return [number for number in numbers if PORT_METER_FIRST <= number <= PORT_METER_LAST]


@pytest.fixture
def client() -> Iterator[Callable[[subprocess.Popen[str]], subprocess.Popen[str]]]:
    """Ends the clients that a test has started."""
    started: list[subprocess.Popen[str]] = []

    def keep(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
        started.append(process)
        return process

    yield keep
    for process in started:
        process.kill()
        process.wait()


Keep = Callable[[subprocess.Popen[str]], subprocess.Popen[str]]


def test_an_endpoint_of_a_dhcp_network_has_its_link_up_and_no_address(world: World, leases: Leases) -> None:
    shown = leases.shown("l1", "-o", "addr", "show", "dev", "eth0")
    assert "inet " not in shown
    assert "scope global" not in shown
    assert "UP" in leases.shown("l1", "link", "show", "dev", "eth0")
    assert leases.v4["l1"] == "10.20.0.2"
    assert len(ports_meters(world)) == 3


def test_udhcpc_gets_a_lease_keeps_it_through_kills_and_releases(world: World, leases: Leases, client: Keep) -> None:
    before = len(leases.events("l1"))
    one, two = client(leases.udhcpc("l1")), client(leases.udhcpc("l2"))
    for name in ("l1", "l2"):
        eventually(lambda name=name: "bound" in leases.events(name))  # type: ignore[misc]
    lease = leases.event("l1", "bound")
    assert lease == {
        "event": "bound", "ip": leases.v4["l1"], "mask": "24", "router": "10.20.0.1", "dns": "192.0.2.53", "mtu": str(MTU),
        "hostname": "l1", "domain": "example.org", "lease": "300", "server": "10.20.0.1",
        "routes": "0.0.0.0/0 10.20.0.1 10.99.0.0/16 10.20.0.9",
    }  # fmt: skip
    assert world.reaches("l1", leases.v4["l2"])
    ping = world.background("l1", "ping", "-q", "-i", "0.05", "-w", "8", leases.v4["l2"])
    for process in ("controller", "agent"):
        run.stop(world.plan, "h1", process, signal.SIGKILL)
    one.send_signal(signal.SIGUSR1)  # it begins to renew while nobody is there, and asks four times, five seconds apart
    for process in ("controller", "agent"):
        run.start(world.plan, "h1", process)
    eventually(lambda: "renew" in leases.events("l1")[before:])
    run.wait_until_up(world.plan)
    eventually(lambda: of(scraped(world, 9302), "dp_status") == 1)
    assert world.reaches("l1", "10.20.0.1")  # the gateway is known, so that the next renewal goes to it alone
    one.send_signal(signal.SIGUSR1)
    eventually(lambda: leases.events("l1")[before:].count("renew") == 2)
    assert leases.events("l1")[before:] == ["deconfig", "bound", "renew", "renew"]  # never without its address
    assert ", 0% packet loss" in ping.communicate(timeout=LIMIT_S)[0]
    assert leases.event("l1", "renew") == {**lease, "event": "renew"}
    assert world.reaches("l2", "10.20.0.1")  # else the release waits for a MAC, and the client does not
    for process in (one, two):
        process.terminate()  # releases first (-R)
        process.wait(timeout=LIMIT_S)
    eventually(lambda: of(scraped(world, 9302), "warren_dhcp_asked_total", what="release") >= 2)


def test_dhclient_renews_in_time(leases: Leases, client: Keep) -> None:
    client(leases.dhclient("a1", "-4"))
    eventually(lambda: "RENEW" in leases.events("a1"))  # by itself, after half of ten seconds, without a gateway
    assert leases.event("a1", "BOUND")["ip"] == leases.event("a1", "RENEW")["ip"] == leases.v4["a1"]


def test_dhclient_reboots_with_its_own_lease_and_gets_a_nak_for_anothers(world: World, leases: Leases, client: Keep) -> None:
    def counted(metric: str, what: str) -> float:
        return max(0.0, of(scraped(world, 9302), metric, what=what))

    def since(before: int, event: str) -> bool:
        return event in leases.events("l2")[before:]

    def ended(process: subprocess.Popen[str]) -> int:
        process.kill()
        process.wait()
        return len(leases.events("l2"))

    before = len(leases.events("l2"))
    first = client(leases.dhclient("l2", "-4"))
    eventually(lambda: since(before, "BOUND"))
    before = ended(first)
    again = client(leases.dhclient("l2", "-4"))
    eventually(lambda: since(before, "REBOOT"))  # the lease is on its disk: it asks for that
    before = ended(again)
    remembered, refused = leases.directory / "l2-4.lf", counted("warren_dhcp_told_total", "nak")
    remembered.write_text(remembered.read_text().replace(leases.v4["l2"], "10.20.0.77"))
    client(leases.dhclient("l2", "-4"))
    eventually(lambda: since(before, "BOUND"))
    assert leases.event("l2", "BOUND")["ip"] == leases.v4["l2"]
    assert counted("warren_dhcp_told_total", "nak") >= refused + 1
    released = counted("warren_dhcp_asked_total", "release")
    assert world.reaches("l2", "10.20.0.1")
    client(leases.dhclient("l2", "-4", "-r")).wait(timeout=LIMIT_S)
    eventually(lambda: counted("warren_dhcp_asked_total", "release") >= released + 1)


def test_dhclient_6_renews_in_time(leases: Leases, client: Keep) -> None:
    settled(leases, "a1")
    client(leases.dhclient("a1", "-6"))
    eventually(lambda: "RENEW6" in leases.events("a1"))
    assert leases.event("a1", "BOUND6")["ip"] == leases.event("a1", "RENEW6")["ip"] == leases.v6["a1"]


def test_dhclient_6_gets_and_releases(world: World, leases: Leases, client: Keep) -> None:
    for name in ("l1", "l2"):
        settled(leases, name)
        client(leases.dhclient(name, "-6"))
    for name in ("l1", "l2"):
        eventually(lambda name=name: "BOUND6" in leases.events(name))  # type: ignore[misc]
    lease = leases.event("l1", "BOUND6")
    assert (lease["ip"], lease["dns"]) == (leases.v6["l1"], "2001:db8::53")
    assert leases.v6["l1"] in leases.shown("l1", "-6", "addr", "show", "dev", "eth0")
    assert world.reaches("l1", leases.v6["l2"])  # by the range that the advertisement says is on the link
    before = max(0.0, of(scraped(world, 9302), "warren_dhcp_asked_total", what="release6"))
    client(leases.dhclient("l1", "-6", "-r")).wait(timeout=LIMIT_S)
    eventually(lambda: of(scraped(world, 9302), "warren_dhcp_asked_total", what="release6") >= before + 1)


def settled(leases: Leases, name: str) -> None:
    """The kernel has made sure that nobody else has the link-local address; before that no client begins."""
    eventually(lambda: "tentative" not in leases.shown(name, "-6", "addr", "show", "dev", "eth0"))


def test_the_kernel_takes_the_router_from_the_advertisement(world: World, leases: Leases) -> None:
    eventually(lambda: GATEWAY6 in leases.shown("l1", "-6", "route", "show", "default"))
    assert "proto ra" in leases.shown("l1", "-6", "route", "show", "default")
    world.inside("l1", "ip", "link", "set", "eth0", "mtu", str(MTU + 80))  # what IPv6 uses is the advertisement's all the same
    eventually(lambda: world.inside("l1", "cat", "/proc/sys/net/ipv6/conf/eth0/mtu").stdout.strip() == str(MTU))
    world.inside("l1", "ip", "link", "set", "eth0", "mtu", str(MTU))
    eventually(lambda: "fd22::/64" in leases.shown("a1", "-6", "route"))
    assert leases.shown("a1", "-6", "route", "show", "default") == ""  # no gateway, no default route
    for name in ("l1", "a1"):  # the range is on the link, and nobody makes an address of it by himself
        assert not re.search(r"inet6 fd2\S+ .*(dynamic|mngtmpaddr)", leases.shown(name, "-6", "addr", "show", "dev", "eth0"))
    # told again without being asked
    leases.world.inside("l1", "ip", "-6", "route", "flush", "proto", "ra")
    eventually(lambda: GATEWAY6 in leases.shown("l1", "-6", "route", "show", "default"))


def test_a_chosen_link_local_address_gets_the_router_and_dhcpv6(world: World, leases: Leases) -> None:
    """One that does not derive from the MAC (RFC 7217)."""
    chosen, mac = IPv6Address("fe80::a1b2:c3d4:e5f6:7"), leases.mac["l2"]
    solicitation = frames.icmp6("33:33:00:00:00:02", chosen, IPv6Address("ff02::2"), b"\x85" + bytes(7), sender_mac=mac)
    solicit = b"\x01xyz\0\1\0\x0a\0\3\0\1" + mac_bytes(mac) + b"\0\3\0\x0ceth0" + bytes(8)
    request = frames.udp6("33:33:00:01:00:02", chosen, v6.ALL_SERVERS, (v6.CLIENT, v6.SERVER), solicit)
    for frame, answer in (
        (solicitation, chosen.packed + b"\x86\0"),
        (request[:6] + mac_bytes(mac) + request[12:], chosen.packed + b"\x02\x23\x02\x22"),
    ):
        listener = ready(world.background("l2", *program("hear_mark", answer.hex(), LIMIT_S, 0)))
        world.inside("l2", *program("send_frames", *[frame.hex()] * 3))
        assert "heard" in listener.communicate()[0]


def test_the_router_answers_neighbour_probes_as_a_router(world: World, leases: Leases, tmp_path: Path) -> None:
    """RFC 4861, 7.2.5: an advertisement without the router flag ends every route by its sender."""
    eventually(lambda: GATEWAY6 in leases.shown("l1", "-6", "route", "show", "default"))
    seen = tmp_path / "seen"
    with seen.open("w") as file:
        changes = subprocess.Popen(world.command("l1", "ip", "-6", "monitor", "route", "neigh"), stdout=file)

    def probe() -> bool:
        entry = (GATEWAY6, "lladdr", GATEWAY_MAC, "dev", "eth0", "router")
        assert world.inside("l1", "ip", "-6", "neigh", "replace", *entry, "nud", "probe").returncode == 0
        return "PROBE" in seen.read_text()

    try:
        eventually(probe)  # the monitor listens
        eventually(lambda: "FAILED" in seen.read_text().rpartition("PROBE")[2])  # three probes, a second apart
        eventually(lambda: world.pings("l1", GATEWAY6 + "%eth0"))
    finally:
        changes.terminate()
        changes.wait()
    assert "Deleted default" not in seen.read_text()


@pytest.mark.parametrize(("rogue", "victim"), [("web", "app"), ("web", "db"), ("l1", "l2")])
def test_a_rogue_dhcp_server_or_router_in_a_container_is_not_heard(world: World, leases: Leases, rogue: str, victim: str) -> None:
    """On networks with and without DHCP, on one host and two; all frames have the sender's own addresses."""
    mac = (leases.mac | world.mac)[rogue]
    own4, own6 = IPv4Address((leases.v4 | world.address)[rogue]), link_local(mac)
    nodes, everybody = IPv6Address("ff02::1"), frames.BROADCAST
    frame_of: dict[str, bytes] = {}
    for ports in ((67, 68), (1000, 68), (67, 1000), (1000, 1001)):
        frame_of[f"four-{ports[0]}-{ports[1]}."] = frames.udp4(
            "ff:ff:ff:ff:ff:ff", own4, everybody, ports, f"four-{ports[0]}-{ports[1]}.".encode()
        )
    frame_of["router."] = frames.icmp6("33:33:00:00:00:01", own6, nodes, b"\x86" + bytes(15) + b"router.".ljust(16, b"\0"))
    for ports in ((547, 546), (1000, 546), (547, 1000), (1000, 1001)):
        frame_of[f"six-{ports[0]}-{ports[1]}."] = frames.udp6(
            "33:33:00:00:00:01", own6, nodes, ports, f"six-{ports[0]}-{ports[1]}.".encode()
        )
    ears = ready(world.background(victim, *program("hear_until_last", *frame_of)))
    world.inside(rogue, *program("send_frames", *((f[:6] + mac_bytes(mac) + f[12:]).hex() for f in frame_of.values())))
    assert ears.communicate(timeout=LIMIT_S)[0].split() == ["four-1000-1001.", "six-1000-1001."]


def test_an_endpoint_on_a_trunk_is_answered_under_its_tag(world: World, leases: Leases) -> None:
    parent = run.api(world.plan.hosts[0], "GET", "/endpoints/l1")["endpoint"]
    network = run.api(world.plan.hosts[0], "GET", "/networks/alone")["network"]["id"]
    made = run.api(world.plan.hosts[0], "POST", "/endpoints", network_id=network, name="rider", parent=parent["id"], vlan=30)[
        "endpoint"
    ]
    try:
        mac = made["target_veth_mac"]
        discover = question(v4.DISCOVER, mac=mac)
        tagged = discover[:6] + mac_bytes(mac) + b"\x81\0\0\x1e" + discover[12:]
        offer = world.inside("l1", *program("dhcp_offer_under_tag", tagged.hex()))
        assert offer.stdout.split() == ["30", made["target_veth_ip"].split("/")[0]], offer
    finally:
        run.api(world.plan.hosts[0], "DELETE", f"/endpoints/{made['id']}")


def broken(leases: Leases, name: str) -> list[str]:
    """Questions of a container that no client would ask."""
    mac, source = leases.mac[name], link_local(leases.mac[name])

    def of_its_own(frame: bytes) -> str:
        return (b"\xff" * 6 + mac_bytes(mac) + frame[12:]).hex()

    unset, everybody = v4.UNSET, frames.BROADCAST
    bodies = [b"", b"\x01", b"\x01\x01\x06" + bytes(233) + v4.COOKIE, b"\xff" * 1200, bytes(236) + v4.COOKIE + b"\x34\xff\x03"]
    questions = [of_its_own(frames.udp4(mac, unset, everybody, (68, 67), body)) for body in bodies]
    bodies = [b"", b"\x01abc\x00\x01\xff\xff", b"\x0bxyz" + b"\x00\x03\x00\x00" * 250]
    questions += [of_its_own(frames.udp6(mac, source, v6.ALL_SERVERS, (546, 547), body)) for body in bodies]
    questions.append(of_its_own(frames.icmp6(mac, source, v6.ALL_SERVERS, b"\x85" + bytes(7) + b"\x01\x00")))
    return questions


def test_a_flood_of_malformed_dhcp_packets_does_not_slow_other_clients(world: World, leases: Leases, client: Keep) -> None:
    eventually(lambda: of(scraped(world, 9303), "warren_dhcp_limited_packets", endpoint="l2") >= 0)
    flood, began = client(world.background("l2", *program("spray_frames", 3600, 0, *broken(leases, "l2")))), time.monotonic()
    ready(flood)
    eventually(lambda: of(scraped(world, 9303), "warren_dhcp_limited_packets", endpoint="l2") > 1000)
    before = len(leases.events("l1"))
    client(leases.udhcpc("l1"))
    eventually(lambda: "bound" in leases.events("l1")[before:])
    made = run.container(world.plan, "late", "h1", "leased")  # bundles are committed as ever
    run.api(world.plan.hosts[0], "DELETE", f"/endpoints/{made['id']}")
    run.sh("ip", "netns", "del", run.netns_of(world.plan, "late"))

    def ignored(reason: str) -> float:
        return of(scraped(world, 9302), "warren_dhcp_ignored_total", reason=reason)

    eventually(lambda: min(ignored("truncated"), ignored("malformed")) > 0)
    flood.terminate()
    sent, seconds = int(flood.communicate(timeout=LIMIT_S)[0]), time.monotonic() - began
    seen = ignored("truncated") + ignored("malformed")
    assert seen < 100 + 10 * seconds, "the meter lets ten a second by"
    print(f"flood: {sent} packets sent in {seconds:.1f} s, {seen:.0f} seen by the controller")


def test_reserved_addresses_and_a_pool_with_short_leases(leases: Leases) -> None:
    world, mac = leases.world, "52:54:00:00:00:01"
    fields = {
        "ip_range": "10.24.0.0/24",
        "dhcp": True,
        "dhcp_lease_s": 600,
        "dhcp_pool": {"first": "10.24.0.100", "last": "10.24.0.101"},
    }
    world.apply(networks=[{"name": "contest", **fields, "reservations": [{"mac": mac, "ipv4_address": "10.24.0.11"}]}])
    with (
        world.temporary("c1", "h1", "contest", mac_address=mac),
        world.temporary("c2", "h2", "contest"),
        world.temporary("c3", "h1", "contest"),
    ):
        clients = {name: leases.udhcpc(name) for name in ("c1", "c2")}
        try:
            for name, address, seconds in (("c1", "10.24.0.11", "600"), ("c2", "10.24.0.100", "30")):
                eventually(lambda name=name: "bound" in leases.events(name))  # type: ignore[misc]
                bound = leases.event(name, "bound")
                assert (bound["ip"], bound["lease"]) == (address, seconds)
            assert world.reaches("c2", "10.24.0.11")
            with pytest.raises(run.LabError, match=r"no free address is left in 10.24.0.100 to 10.24.0.101"):
                run.container(leases.plan, "c4", "h1", "contest")
            with pytest.raises(run.LabError, match=rf"10.24.0.11 of network contest is reserved for {mac}"):
                run.container(leases.plan, "c4", "h1", "contest", mac_address="52:54:00:00:00:02", ipv4_address="10.24.0.11")
        finally:
            for client in clients.values():
                client.terminate()
                client.wait()
    with world.temporary("c4", "h1", "contest") as guest:
        assert guest["target_veth_ip"] == "10.24.0.100/24", "it went back to the pool"
    run.api(world.plan.hosts[0], "DELETE", "/networks/contest")
