"""Virtual addresses (`allowed`): they move between containers of two hosts, with a MAC of their own or without, and nobody else can claim them."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from specs.model.derived import link_local
from tests.e2e.conftest import World
from tests.e2e.test_metrics import of, scraped
from tests.e2e.test_packets import advertisement, arp_reply, heard, mac, udp
from tests.programs import finish, program, ready
from tests.waiting import LIMIT_S, eventually, patiently
from tools.lab import run
from tools.lab.machine import PATIENCE

VIP4, VIP6, MAC = "10.0.0.240", "fd00::f0", "00:00:5e:00:01:2a"
PLAIN4, PLAIN6 = "10.0.0.241", "fd00::f1"
NESTED = "10.77.1.0/24"
ENTRIES = [f"{VIP4},{MAC}", f"{VIP6},{MAC}", PLAIN4, PLAIN6, NESTED]
Pair = tuple[str, str]
ALL_NODES_MAC = "33:33:00:00:00:01"


class Router:
    """A member of a virtual router in a container."""

    def __init__(self, world: World, name: str, addresses: Pair, mac_address: str) -> None:
        command = world.command(name, *program("virtual_router", *addresses, mac_address))
        pipe = subprocess.PIPE
        self.process = ready(subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True))

    def become(self, role: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{role}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == f"{role}\n"

    def close(self) -> None:
        self.process.communicate(timeout=LIMIT_S)


@pytest.fixture(scope="module")
def routers(world: World) -> Iterator[World]:
    """The containers r1 on h1 and r2 on h2 may have the same addresses."""
    with ExitStack() as stack:
        for name, host in (("r1", "h1"), ("r2", "h2")):
            endpoint = stack.enter_context(world.temporary(name, host, "amber", allowed=ENTRIES))
            world.address[name], world.mac[name] = endpoint["target_veth_ip"].split("/")[0], endpoint["target_veth_mac"]
            world.ipv6[name] = endpoint["target_veth_ipv6"].split("/")[0]
        yield world


@contextmanager
def pair(world: World, addresses: Pair, mac_address: str, *names: str) -> Iterator[list[Router]]:
    members = [Router(world, name, addresses, mac_address) for name in names or ("r1", "r2")]
    try:
        yield members
    finally:
        for member in members:
            member.close()


def answers(world: World, source: str, addresses: Pair) -> bool:
    return all(world.reaches(source, address) for address in addresses)


@pytest.mark.parametrize(("addresses", "mac_address"), [((VIP4, VIP6), MAC), ((PLAIN4, PLAIN6), "own")])
def test_a_virtual_address_moves_between_hosts_and_its_neighbours_go_on(
    routers: World, addresses: Pair, mac_address: str
) -> None:
    """Seen from both hosts of the members and from a member that is none now; a long ping loses next to nothing."""
    with pair(routers, addresses, mac_address) as (first, second):
        assert not routers.pings("web", addresses[0])
        first.become("master")
        for source in ("web", "db", "r2"):
            assert answers(routers, source, addresses), source
        long_ping = routers.background("web", "ping", "-c", "60", "-i", "0.1", "-W", "1", addresses[0])
        for old, new in ((first, second), (second, first), (first, second)):
            old.become("backup")
            new.become("master")
            for source in ("web", "db", "r1" if new is second else "r2"):
                assert answers(routers, source, addresses), source
        text = long_ping.communicate(timeout=LIMIT_S)[0]
        received = int(text.split(" received")[0].split()[-1])
        assert received >= 30, text
        assert "DUP!" not in text
        for source in ("web", "db"):
            expected = MAC if mac_address == MAC else routers.mac["r2"]
            for address in addresses:
                assert expected in routers.inside(source, "ip", "neigh", "show", address).stdout


def test_the_switch_does_not_answer_for_a_virtual_address(routers: World) -> None:
    """Nobody has it, so nobody answers, and duplicate address detection finds it free."""
    for address in (VIP4, VIP6, PLAIN4, PLAIN6):
        assert not routers.pings("web", address, 1)
    for name, address in (("r1", PLAIN4), ("r1", PLAIN6)):
        length = 64 if ":" in address else 32
        try:
            assert routers.inside(name, "ip", "addr", "add", f"{address}/{length}", "dev", "eth0").returncode == 0

            def settled(name: str = name, address: str = address) -> bool:
                shown = routers.inside(name, "ip", "-o", "addr", "show", "dev", "eth0", "to", address).stdout
                assert "dadfailed" not in shown
                return address in shown and "tentative" not in shown

            eventually(settled)
            for source in ("web", "db"):
                routers.inside(source, "ip", "neigh", "flush", "dev", "eth0")  # this kernel announces nothing
                assert routers.reaches(source, address), (source, address)
            back = routers.inside(
                name,
                "ping",
                "-I",
                address,
                "-c",
                "2",
                "-i",
                "0.2",
                "-W",
                "2",
                routers.address["db"] if length == 32 else routers.ipv6["db"],
            )
            assert back.returncode == 0, back.stdout
        finally:
            routers.inside(name, "ip", "addr", "del", f"{address}/{length}", "dev", "eth0")


def arrived(world: World, source: str, target: str, frames: Collection[bytes], expected: Collection[bytes]) -> set[bytes]:
    """Those of the frames that arrive, sent again until the expected ones have."""
    seen: set[bytes] = set()

    def all_expected() -> bool:
        ears = ready(world.background(target, *program("count_marks", *(frame[6:].hex() for frame in frames))))
        world.inside(source, *program("send_frames", *(frame.hex() for frame in frames)))
        counts = finish(ears, LIMIT_S).split()
        seen.update(frame for frame, count in zip(frames, counts, strict=True) if int(count))
        return seen.issuperset(expected)

    patiently(all_expected)
    return seen


def readable(frames: Iterable[bytes]) -> set[str]:
    return {frame.hex(" ") for frame in frames}


@pytest.mark.parametrize("target", ["app", "db"])
def test_a_container_that_is_not_allowed_an_address_cannot_claim_it(routers: World, target: str) -> None:
    me, to, mark, own4, own6 = routers.mac["web"], routers.mac[target], b"claim", routers.address["web"], routers.ipv6["web"]
    frames = [udp(source, to, VIP4, routers.address[target], mark) for source in (me, MAC)]
    frames += [udp(MAC, to, own4, routers.address[target], mark), udp(me, to, "10.77.1.9", routers.address[target], mark)]
    for sha, source in ((me, me), (MAC, me), (MAC, MAC)):
        frames.append(arp_reply(source, to, sha, VIP4, routers.address[target]))
        frames += [advertisement(source, ALL_NODES_MAC, address, "ff02::1", VIP6, sha) for address in (own6, VIP6)]
    honest = [udp(me, to, own4, routers.address[target], mark), advertisement(me, ALL_NODES_MAC, own6, "ff02::1", own6, me)]
    assert readable(arrived(routers, "web", target, [*frames, *honest], honest)) == readable(honest)


@pytest.mark.parametrize("target", ["app", "db"])
def test_what_a_member_may_send_and_what_it_may_not(routers: World, target: str) -> None:
    me, to, own4, own6, peer = (
        routers.mac["r1"],
        routers.mac[target],
        routers.address["r1"],
        routers.ipv6["r1"],
        routers.address[target],
    )
    other_mac, of_mac = "00:00:5e:00:01:2b", str(link_local(MAC))
    sent = [udp(source, to, address, peer, b"member") for source, address in (
        (me, VIP4), (MAC, VIP4), (MAC, own4), (me, PLAIN4), (me, "10.77.1.200"), (me, own4),
    )]  # fmt: skip
    refused = [udp(source, to, address, peer, b"member") for source, address in (
        (MAC, PLAIN4), (MAC, "10.77.1.200"), (me, "10.77.2.1"), (me, "10.0.0.242"), (other_mac, VIP4),
    )]  # fmt: skip
    sent += [arp_reply(mac_address, to, mac_address, VIP4, peer) for mac_address in (MAC, me)]
    refused += [arp_reply(source, to, sha, address, peer) for source, sha, address in (
        (me, MAC, VIP4), (MAC, me, VIP4), (MAC, MAC, own4), (MAC, MAC, PLAIN4),
    )]  # fmt: skip
    sent += [advertisement(source, ALL_NODES_MAC, address, "ff02::1", about, source) for source, address, about in (
        (MAC, VIP6, VIP6), (me, own6, VIP6), (MAC, of_mac, VIP6), (MAC, "fe80::1:2:3:4", VIP6), (me, PLAIN6, PLAIN6),
    )]  # fmt: skip
    refused += [advertisement(source, ALL_NODES_MAC, address, "ff02::1", about, option) for source, address, about, option in (
        (MAC, VIP6, own6, MAC), (MAC, own6, own6, MAC), (MAC, VIP6, PLAIN6, MAC), (me, VIP6, VIP6, MAC), (MAC, VIP6, VIP6, me),
        (MAC, VIP6, routers.ipv6["web"], MAC), (MAC, str(link_local(me)), VIP6, MAC),
    )]  # fmt: skip
    assert readable(arrived(routers, "r1", target, [*sent, *refused], sent)) == readable(sent)


def test_members_hear_each_others_vrrp(routers: World) -> None:
    """From the virtual MAC with the member's own address, to a multicast group (RFC 5798, 5.1.1)."""
    body = (
        b"\x45\0"
        + struct.pack("!H", 44)
        + b"\0\1\0\0\xff\x70\0\0"
        + bytes(map(int, routers.address["r1"].split(".")))
        + bytes((224, 0, 0, 18))
    )
    frame = mac("01:00:5e:00:00:12") + mac(MAC) + b"\x08\x00" + body + b"warren-vrrp-advertisement"
    assert heard(routers, "r1", "r2", frame, b"warren-vrrp-advertisement")


def test_a_frame_to_a_virtual_mac_reaches_all_members_once_and_nobody_else(routers: World) -> None:
    marks = [f"warren-mark-{source}".encode() for source in ("web", "db", "r2")]
    hexadecimal = [mark.hex() for mark in marks]
    ears = {name: ready(routers.background(name, *program("count_marks", *hexadecimal))) for name in ("r1", "r2", "app")}
    for mark, source in zip(marks, ("web", "db", "r2"), strict=True):
        frame = udp(routers.mac[source], MAC, routers.address[source], VIP4, mark)
        routers.inside(source, *program("send_frames", frame.hex()))
    counted = {name: finish(ear, LIMIT_S).split() for name, ear in ears.items()}
    assert counted == {
        "r1": ["1", "1", "1"],
        "r2": ["1", "1", "1"],
        "app": ["0", "0", "0"],
    }  # the last of r2 is what it sent itself


def test_what_is_refused_is_counted_for_its_endpoint_and_a_trace_says_why(routers: World) -> None:
    def counted(name: str) -> float:
        return of(scraped(routers, 9303), "warren_spoofed_packets_total", network="amber", endpoint=name)

    eventually(lambda: counted("app") >= 0)
    before, others = counted("app"), counted("web")
    mark, to = b"warren-counts-this", routers.mac["db"]
    for source, address in ((routers.mac["app"], "10.0.0.250"), (MAC, VIP4), ("02:57:0a:00:00:fa", routers.address["app"])):
        frame = udp(source, to, address, routers.address["db"], mark)
        routers.inside("app", *program("send_frames", *[frame.hex()] * 5))
    eventually(lambda: counted("app") >= before + 15)
    assert counted("web") == others

    def trace(*options: str) -> str:
        command = [sys.executable, "-m", "tools.cli.main", "--lab", routers.plan.name, "trace", *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False).stdout.splitlines()[-1]

    assert (
        trace("app", "db", "--from", "10.0.0.250")
        == "dropped in SPOOF_GUARD on h1: source 10.0.0.250 does not belong to endpoint app"
    )
    assert (
        trace("app", "db", "--from-mac", MAC) == f"dropped in SPOOF_GUARD on h1: source MAC {MAC} does not belong to endpoint app"
    )
    assert trace("r1", "db", "--from", VIP4, "--from-mac", MAC) == "delivered"
    assert trace("r1", "db", "--from", "10.77.1.5") == "delivered"
    for target in ("r1", "r2"):
        assert trace("app", target, "--to", VIP4) == "delivered"
        assert trace("app", target, "--to", PLAIN6) == "delivered"


# ---- gateways and routers ---------------------------------------------------------------------------------------------------

WAYS = {"v-nat": ("10.46.0.0/24", "nat"), "v-out": ("10.47.0.0/24", "routed")}
MEMBERS = (("n1", "h1", "v-nat"), ("n2", "h2", "v-nat"), ("o1", "h1", "v-out"), ("o2", "h2", "v-out"))


@pytest.fixture(scope="module")
def ways(world: World) -> Iterator[World]:
    """A network in mode nat and a routed one, joined by a router, each with two members that share addresses."""
    world.apply(
        networks=[
            {"name": name, "ip_range": ip_range, "ipv6_range": f"fd4{ip_range[4]}::/64", "mode": mode, "host_access": "all"}
            for name, (ip_range, mode) in WAYS.items()
        ],
        routers=[{"name": "v-lane", "networks": list(WAYS)}],
    )
    with ExitStack() as stack:
        for name, host, network in MEMBERS:
            base = f"10.4{WAYS[network][0][4]}.0"
            allowed = [f"{base}.100,{MAC}", f"fd4{base[4]}::64,{MAC}", f"{base}.101", f"fd4{base[4]}::65", "10.78.1.0/24"]
            endpoint = stack.enter_context(world.temporary(name, host, network, allowed=allowed))
            world.address[name], world.mac[name] = endpoint["target_veth_ip"].split("/")[0], endpoint["target_veth_mac"]
            world.ipv6[name] = endpoint["target_veth_ipv6"].split("/")[0]
        yield world
    run.api(world.plan.hosts[0], "DELETE", "/routers/v-lane")
    for name in WAYS:
        run.api(world.plan.hosts[0], "DELETE", f"/networks/{name}")


@contextmanager
def holding(world: World, name: str, *addresses: str) -> Iterator[None]:
    """The kernel of a container has these addresses at a second interface with the virtual MAC (a macvlan, as keepalived makes), or, those that
    have no MAC of their own, at eth0."""
    world.inside(name, "ip", "link", "add", "vrrp", "link", "eth0", "address", MAC, "type", "macvlan", "mode", "bridge")
    world.inside(name, "ip", "link", "set", "vrrp", "up")
    try:
        for address in addresses:
            device = "vrrp" if address.endswith((".100", ":64")) else "eth0"
            length = 128 if ":" in address else 32
            added = world.inside(
                name, "ip", "addr", "add", f"{address}/{length}", "dev", device, *(("nodad",) if length == 128 else ())
            )
            assert added.returncode == 0, added.stderr
        yield
    finally:
        world.inside(name, "ip", "link", "del", "vrrp")
        for address in addresses:
            world.inside(name, "ip", "addr", "del", f"{address}/{128 if ':' in address else 32}", "dev", "eth0")


def pings_from(world: World, name: str, source: str, target: str) -> bool:
    done = world.inside(name, "ping", "-I", source, "-c", "3", "-i", "0.2", "-W", f"{PATIENCE:g}", target)
    return done.returncode == 0 and "DUP!" not in done.stdout


@pytest.mark.parametrize("holder", ["n1", "n2"])
def test_a_virtual_address_reaches_the_outside_translated(ways: World, holder: str) -> None:
    """From the address with a MAC of its own, from that without, and from a container inside, whose addresses are in no range of the network."""
    host = "h1" if holder == "n1" else "h2"
    target = ways.plan.host(host).vtep  # type: ignore[union-attr]
    with holding(ways, holder, "10.46.0.100", "10.46.0.101", "10.78.1.7"):
        for source in ("10.46.0.100", "10.46.0.101", "10.78.1.7", ways.address[holder]):
            eventually(lambda source=source: pings_from(ways, holder, source, target))  # type: ignore[misc]


@pytest.mark.parametrize("holder", ["o1", "o2"])
def test_a_virtual_address_of_a_routed_network_is_reached_from_hosts(ways: World, holder: str) -> None:
    """From its own host; and from another one, as a packet of the underlay that enters there (with IPv4, which the underlay has)."""
    home, other = ("h1", "h2") if holder == "o1" else ("h2", "h1")
    vtep = ways.plan.host(other).vtep  # type: ignore[union-attr]
    addresses = ("10.47.0.100", "10.47.0.101", "fd47::64", "fd47::65")
    with holding(ways, holder, *addresses):
        for address in addresses:
            eventually(lambda address=address: ways.reaches(home, address))  # type: ignore[misc]
        for address in addresses[:2]:
            eventually(lambda address=address: pings_from(ways, other, vtep, address))  # type: ignore[misc]


@pytest.mark.parametrize(("source", "holder"), [("n1", "o1"), ("n1", "o2"), ("n2", "o1"), ("o2", "n1")])
def test_a_virtual_address_is_reached_through_a_router(ways: World, source: str, holder: str) -> None:
    base = "10.46.0" if holder.startswith("n") else "10.47.0"
    addresses = (f"{base}.100", f"{base}.101", f"fd4{base[4]}::64", f"fd4{base[4]}::65")
    with holding(ways, holder, *addresses):
        for address in addresses:
            eventually(lambda address=address: pings_from(ways, source, "eth0", address))  # type: ignore[misc]
    assert not ways.pings(source, f"{base}.100")
