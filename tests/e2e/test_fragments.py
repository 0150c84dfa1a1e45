"""Fragments and extension headers with real packets: no way of cutting a packet passes an ACL or anti-spoofing, and large datagrams
arrive."""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pipeline.protocols import ECHO6, ECHO6_REPLY, ICMPV6, TCP, UDP
from tests import frames
from tests.e2e.conftest import World, clean
from tests.programs import finish, program, ready
from tests.waiting import LIMIT_S, PATIENTLY, eventually
from tools.lab import run
from tools.lab.machine import kernel_datapath

SHUT_TCP, SHUT_UDP, OPEN_TCP, OPEN_UDP = 7301, 7302, 7303, 7304
SHUT: list[dict[str, Any]] = [
    {"proto": "tcp", "tcp_dst": SHUT_TCP, "actions": {"allow": 0}},
    {"proto": "udp", "udp_dst": [SHUT_UDP, "0-1023"], "actions": {"allow": 0}},
    {"rule": {"dl_type": 0x86DD, "nw_proto": ICMPV6, "icmpv6_type": ECHO6, "actions": {"allow": 0}}},
]
LISTED: list[dict[str, Any]] = [
    {"proto": "tcp", "tcp_dst": OPEN_TCP, "actions": {"allow": 1}},
    {"proto": "udp", "udp_dst": OPEN_UDP, "actions": {"allow": 1}},
    {"rule": {"dl_type": 0x800, "nw_proto": 1, "icmpv4_type": 8, "actions": {"allow": 1}}},
    {"rule": {"dl_type": 0x86DD, "nw_proto": ICMPV6, "icmpv6_type": ECHO6, "actions": {"allow": 1}}},
]
ACLS = {
    "cut-shut": [*SHUT, {"actions": {"allow": 1}}],
    "cut-list": LISTED,
    "cut-shut-tracked": [*SHUT, {"proto": "udp", "allow_related": True}, {"actions": {"allow": 1}}],
    "cut-list-tracked": [{**rule, "allow_related": True} if "proto" in rule else rule for rule in LISTED],
}
CONTAINERS = (
    ("cutshut", "h1", "cut", ["cut-shut"]), ("cutlist", "h1", "cut", ["cut-list"]),
    ("cutnear", "h1", "cut", None), ("cutfar", "h2", "cut", None),
    ("traceshut", "h1", "traced", ["cut-shut-tracked"]), ("tracelist", "h1", "traced", ["cut-list-tracked"]),
    ("tracenear", "h1", "traced", None), ("tracefar", "h2", "traced", None),
    ("outany", "h1", "cutout", None), ("outnear", "h1", "cutout", None), ("outfar", "h2", "cutout", None),
)  # fmt: skip
SERVERS = ("cutnear", "cutfar", "tracenear", "tracefar", "outnear", "outfar")
PAIRS = [
    (a, b)
    for a, network in (("cutshut", "cut"), ("traceshut", "trace"), ("outany", "out"))
    for b in (f"{network}near", f"{network}far")
]


class Lab:
    """The networks of these tests."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.id: dict[str, str] = {}
        self.mac: dict[str, str] = {}
        self.address: dict[tuple[str, int], str] = {}

    def ends(self, source: str, target: str, version: int) -> tuple[str, str]:
        """The addresses of two containers."""
        return self.address[source, version], self.address[target, version]


@pytest.fixture(scope="module")
def lab(world: World) -> Iterator[Lab]:
    lab = Lab(world)
    ranges = {
        "cut": ("10.21.0.0/24", "fd21::/64"),
        "traced": ("10.22.0.0/24", "fd22::/64"),
        "cutout": ("10.23.0.0/24", "fd23::/64"),
    }
    networks: list[dict[str, Any]] = [{"name": name, "ip_range": v4, "ipv6_range": v6} for name, (v4, v6) in ranges.items()]
    networks[2]["vlan_out_acl"] = "cut-shut"
    world.apply(acls=ACLS, networks=networks)
    for name, host, network, acls in CONTAINERS:
        endpoint = run.container(world.plan, name, host, network, **({"acls": acls} if acls else {}))
        lab.id[name], lab.mac[name] = endpoint["id"], endpoint["target_veth_mac"]
        lab.address[name, 4] = endpoint["target_veth_ip"].split("/")[0]
        lab.address[name, 6] = endpoint["target_veth_ipv6"].split("/")[0]
    ports = [f"{port}/tcp" for port in (SHUT_TCP, OPEN_TCP)] + [f"{port}/udp" for port in (SHUT_UDP, OPEN_UDP)]
    servers = [ready(world.background(name, *program("serve", "welcome", *ports))) for name in SERVERS]
    yield lab
    for server in servers:
        server.kill()
        server.wait()
    for name, host, *_ in CONTAINERS:
        run.api(world.plan.host(host), "DELETE", f"/endpoints/{lab.id[name]}")  # type: ignore[arg-type]
    for network in ranges:
        run.api(world.plan.hosts[0], "DELETE", f"/networks/{network}")


class Try(NamedTuple):
    """Frames to send, and the bytes in an answer to them."""

    name: str
    sent: list[bytes]
    answer: bytes


def syn(lab: Lab, ends: tuple[str, str], version: int, to: int, number: int) -> tuple[bytes, bytes]:
    """A SYN, and what its SYN-ACK has in it: the ports and, after its own number, the acknowledged one."""
    source, target = lab.ends(*ends, version)
    sequence = 0x5EED0000 + 16 * number
    return frames.tcp_syn(source, target, (20000 + number, to), sequence), struct.pack("!I", sequence + 1)


def datagram(lab: Lab, ends: tuple[str, str], version: int, to: int, number: int) -> tuple[bytes, bytes]:
    """A datagram to `serve`, and the header of its answer."""
    source, target = lab.ends(*ends, version)
    return frames.udp(source, target, (30000 + number, to), b"who is there, please?"), struct.pack("!HHH", to, 30000 + number, 15)


def echo6(lab: Lab, ends: tuple[str, str], number: int) -> tuple[bytes, bytes]:
    """An ICMPv6 echo request, and the beginning of its reply."""
    source, target = lab.ends(*ends, 6)
    body = struct.pack("!HH", number, 1) + b"is anybody there"
    return frames.icmp6(source, target, ECHO6, body), frames.icmp6(target, source, ECHO6_REPLY, body)[:8]


def rewritten(payload: bytes, port: int, size: int) -> list[list[tuple[int, bytes, bool]]]:
    """Fragments of which one overlaps another, so that the port differs between those that come first and those that come last."""
    other = payload[:2] + struct.pack("!H", port) + payload[4:]
    (first, *rest), (decoy, *_) = frames.pieces(payload, size), frames.pieces(other, size)
    return [[decoy, first, *rest], [first, decoy, *rest], [decoy, *rest, first], [*rest, decoy, first]]


def chains(kind: int, payload: bytes, ends: tuple[str, str], ident: int) -> Iterator[tuple[str, list[bytes]]]:
    """The IPv6 packets of one segment, with extension headers before and after the fragment header and with cuts between and inside them."""
    source, target = ends
    behind = frames.padding6(kind) + payload  # destination options, then the segment
    twice = frames.padding6(frames.DESTINATION) + behind
    for size in (8, 16, 24):
        yield f"cut at {size}", frames.cut6(source, target, kind, frames.pieces(payload, size), ident)
        yield f"options, cut at {size}", frames.cut6(source, target, frames.DESTINATION, frames.pieces(behind, size), ident)
        yield f"options twice, cut at {size}", frames.cut6(source, target, frames.DESTINATION, frames.pieces(twice, size), ident)
        hop = frames.cut6(source, target, kind, frames.pieces(payload, size), ident, hop_by_hop=True)
        yield f"hop by hop, cut at {size}", hop
    long = frames.padding6(kind, 3) + payload
    yield "inside the options", frames.cut6(source, target, frames.DESTINATION, frames.pieces(long, 8), ident)
    yield "in reverse", frames.cut6(source, target, kind, frames.pieces(payload, 8)[::-1], ident)
    yield (
        "whole, with a fragment header",
        [frames.ipv6(source, target, frames.FRAGMENT, frames.fragment6(kind, payload, ident=ident))],
    )
    yield "whole, with options", [frames.ipv6(source, target, frames.DESTINATION, behind)]
    nested = [frames.fragment6(kind, body, ident=ident, offset=at, more=more) for at, body, more in frames.pieces(payload, 8)]
    outer = [frames.fragment6(frames.FRAGMENT, piece, ident=ident + 1) for piece in nested]
    yield "two fragment headers", [frames.ipv6(source, target, frames.FRAGMENT, piece) for piece in outer]


def tries(lab: Lab, ends: tuple[str, str]) -> Iterator[Try]:
    """All ways of asking a port that is shut."""
    number = 0
    macs = (lab.mac[ends[0]], lab.mac[ends[1]])

    def sent(name: str, version: int, packets: list[bytes], answer: bytes) -> Try:
        return Try(name, [frames.ethernet(*macs, frames.ETHERTYPE[version], packet) for packet in packets], answer)

    for kind, make, port, other in ((TCP, syn, SHUT_TCP, OPEN_TCP), (UDP, datagram, SHUT_UDP, OPEN_UDP)):
        for size in (8, 16, 24, 32):
            number += 1
            payload, answer = make(lab, ends, 4, port, number)
            cut = frames.pieces(payload, size)
            for order in (cut, cut[::-1]):
                yield sent(f"IPv4 {kind} cut at {size}", 4, frames.cut4(*lab.ends(*ends, 4), kind, order, number), answer)
        for size in (8, 24):
            for way in range(4):
                number += 1
                payload, answer = make(lab, ends, 4, port, number)
                order = rewritten(payload, other, size)[way]
                yield sent(f"IPv4 {kind} overlapping {size}", 4, frames.cut4(*lab.ends(*ends, 4), kind, order, number), answer)
                payload, answer = make(lab, ends, 6, port, number)
                order = rewritten(payload, other, size)[way]
                yield sent(f"IPv6 {kind} overlapping {size}", 6, frames.cut6(*lab.ends(*ends, 6), kind, order, number), answer)
        for way in range(17):
            number += 1
            payload, answer = make(lab, ends, 6, port, number)
            name, packets = list(chains(kind, payload, lab.ends(*ends, 6), number))[way]
            yield sent(f"IPv6 {kind} {name}", 6, packets, answer)
    for way in range(17):
        number += 1
        payload, answer = echo6(lab, ends, number)
        name, packets = list(chains(ICMPV6, payload, lab.ends(*ends, 6), number))[way]
        yield sent(f"IPv6 echo {name}", 6, packets, answer)


def answered(lab: Lab, source: str, tries: list[Try]) -> list[str]:
    """The names of the tries that were answered."""
    listener = ready(lab.world.background(source, *program("count_marks", *(each.answer.hex() for each in tries))))
    for first in range(0, len(tries), 20):
        lab.world.inside(
            source, *program("send_frames", *(frame.hex() for each in tries[first : first + 20] for frame in each.sent))
        )
    counts = map(int, finish(listener, LIMIT_S).split())
    return [each.name for each, count in zip(tries, counts, strict=True) if count]


def controls(lab: Lab, ends: tuple[str, str]) -> list[Try]:
    """Whole packets to open ports: they show that an answer would be heard."""
    made = []
    for version in (4, 6):
        for kind, make, port in ((TCP, syn, OPEN_TCP), (UDP, datagram, OPEN_UDP)):
            payload, answer = make(lab, ends, version, port, 900 + version)
            pair = lab.ends(*ends, version)
            packet = frames.ipv4(*pair, kind, payload) if version == 4 else frames.ipv6(*pair, kind, payload)
            frame = frames.ethernet(lab.mac[ends[0]], lab.mac[ends[1]], frames.ETHERTYPE[version], packet)
            made.append(Try(f"control {version} {kind}", [frame], answer))
    return made


@pytest.mark.parametrize("ends", PAIRS)
def test_no_cut_passes_a_rule_about_ports(lab: Lab, ends: tuple[str, str]) -> None:
    opened = controls(lab, ends)
    names = answered(lab, ends[0], [*opened, *tries(lab, ends)])
    assert "; ".join(names) == "; ".join(each.name for each in opened)
    assert kernel_datapath() or held(lab) == 0


def held(lab: Lab) -> int:
    """How many fragments the datapath of h1 keeps."""
    control = f"{lab.world.plan.host('h1').directory}/ovs-vswitchd.ctl"  # type: ignore[union-attr]
    status = subprocess.run(["ovs-appctl", "-t", control, "dpctl/ipf-get-status"], capture_output=True, text=True, check=True)
    return int(re.search(r"num frag: (\d+)", status.stdout)[1])  # type: ignore[index]


@pytest.mark.skipif(kernel_datapath(), reason="the kernel reassembles by code of its own")
def test_incomplete_datagrams_do_not_stop_the_host(lab: Lab) -> None:
    """More fragments of each than a batch of packets has room for; the rest comes after the datapath would have given them up."""
    ends, host = ("traceshut", "tracenear"), lab.world.plan.host("h1")
    assert host is not None
    pid = int((host.directory / "ovs-vswitchd.pid").read_text())
    source, target = lab.ends(*ends, 4)

    def send(*packets: bytes) -> None:
        parts = [frames.ethernet(lab.mac[ends[0]], lab.mac[ends[1]], frames.ETHERTYPE[4], packet).hex() for packet in packets]
        assert lab.world.inside(ends[0], *program("send_frames", *parts)).returncode == 0

    first, size, idents = 1400, 64, range(4000, 4010)
    for ident in idents:
        send(*(frames.ipv4(source, target, UDP, bytes(size), ident=ident, offset=first + size * n) for n in range(40)))
    assert held(lab) == 0  # so nothing is left to give up, after 15 seconds or ever
    head = frames.udp(source, target, (30000, OPEN_UDP), bytes(first - 8))
    for _ in range(5):
        send(*(frames.ipv4(source, target, UDP, head, ident=ident, more=True) for ident in idents))
    assert Path(f"/proc/{pid}").exists()
    for version in (4, 6):
        address = lab.address["tracenear", version]
        assert lab.world.inside(ends[0], *program("ask", "udp", address, OPEN_UDP, 10)).stdout == "welcome\n"
    eventually(lambda: clean(host))


@pytest.mark.skipif(kernel_datapath(), reason="the kernel reassembles by code of its own")
def test_holding_fragments_is_turned_off_again(lab: Lab) -> None:
    host = lab.world.plan.host("h1")
    assert host is not None
    for version in ("v4", "v6"):
        run.sh("ovs-appctl", "-t", f"{host.directory}/ovs-vswitchd.ctl", "dpctl/ipf-set-enabled", version)
    eventually(lambda: clean(host))


@pytest.mark.parametrize("target", ["near", "far"])
@pytest.mark.parametrize("source", ["cutlist", "cutshut", "tracelist", "traceshut", "outany"])
@pytest.mark.parametrize("version", [4, 6])
def test_large_datagrams_arrive(lab: Lab, source: str, target: str, version: int) -> None:
    """Also where a rule about ports is what lets them."""
    network = next(prefix for prefix in ("cut", "trace", "out") if source.startswith(prefix))
    address = lab.address[f"{network}{target}", version]
    for size in (10, 3000, 8000):
        answer = lab.world.inside(source, *program("ask", "udp", address, OPEN_UDP, size))
        assert answer.stdout == "welcome\n", (size, answer.stdout)
    assert lab.world.inside(source, *program("ask", "udp", address, SHUT_UDP, 8000)).stdout.startswith("error")
    if version == 4 or source.endswith("list"):
        assert lab.world.inside(source, "ping", "-c2", "-i0.1", PATIENTLY, "-s", "4000", address).returncode == 0
