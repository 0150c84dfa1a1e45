"""Neighbour discovery whose options name somebody else's link-layer address, in every form that a switch may misread: no neighbour learns
from it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import ip_address
from itertools import product

import pytest

from pipeline.protocols import ADVERTISEMENT, ICMPV6, IPV6, SOLICITATION, mac_bytes
from tests import frames
from tests.e2e.conftest import World
from tests.programs import finish, program, ready
from tests.waiting import LIMIT_S

SOURCE_OPTION, TARGET_OPTION = 1, 2  # RFC 4861, 4.6.1


def option(kind: int, mac: str, units: int = 1) -> bytes:
    """A link-layer address option of `units` times 8 bytes; 1 is right for Ethernet."""
    return (bytes((kind, units)) + mac_bytes(mac)).ljust(8 * units, b"\0")


def messages(kind: int, mine: str, forged: str) -> Iterator[tuple[str, bytes]]:
    """Lists of options that hide a forged one."""
    which, other = (SOURCE_OPTION, TARGET_OPTION) if kind == SOLICITATION else (TARGET_OPTION, SOURCE_OPTION)
    yield "the forged one alone", option(which, forged)
    yield "mine, then the forged one", option(which, mine) + option(which, forged)
    yield "the forged one, then mine", option(which, forged) + option(which, mine)
    yield "the forged one twice", option(which, forged) * 2
    yield "the forged one is too long", option(which, forged, 2)
    yield "mine, then a forged one that is too long", option(which, mine) + option(which, forged, 2)
    yield "behind an option of the other kind twice", option(other, mine) * 2 + option(which, forged)


def packets(source: str, target: str, message: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A message plain, behind extension headers, and in fragments."""
    yield "plain", [frames.ipv6(source, target, ICMPV6, message)]
    yield "hop by hop", [frames.ipv6(source, target, frames.HOP_BY_HOP, frames.padding6(ICMPV6) + message)]
    yield "destination options", [frames.ipv6(source, target, frames.DESTINATION, frames.padding6(ICMPV6) + message)]
    yield "fragment header", [frames.ipv6(source, target, frames.FRAGMENT, frames.fragment6(ICMPV6, message))]
    for size in (8, 24):  # the options are in the second fragment
        yield f"cut at {size}", frames.cut6(source, target, ICMPV6, frames.pieces(message, size), 1)


@pytest.mark.parametrize("target", ["app", "db"])
@pytest.mark.parametrize("kind", [SOLICITATION, ADVERTISEMENT])
def test_no_form_of_an_option_teaches_neighbours_a_wrong_address(world: World, target: str, kind: int) -> None:
    """42 forms, each with a MAC of its own."""
    mine, source, target_address = world.mac["web"], world.ipv6["web"], world.ipv6[target]
    assert (
        world.inside(target, "ip", "-6", "neigh", "replace", source, "lladdr", mine, "dev", "eth0", "nud", "stale").returncode
        == 0
    )
    names: dict[str, str] = {}
    sent: list[bytes] = []
    for number, (form, way) in enumerate(product(range(7), range(6))):
        forged = f"02:57:66:00:00:{number:02x}"
        name, options = list(messages(kind, mine, forged))[form]
        flags, about = (0, target_address) if kind == SOLICITATION else (0x20000000, source)  # override
        message = frames.icmp6(source, target_address, kind, struct.pack("!I", flags) + ip_address(about).packed + options)
        header, cut = list(packets(source, target_address, message))[way]
        names[forged] = f"{name}, {header}"
        sent += [frames.ethernet(mine, world.mac[target], IPV6, packet) for packet in cut]
    honest = "02:57:66:00:00:ff"  # in a payload: it shows that the listener hears
    sent.append(frames.ethernet(mine, world.mac[target], IPV6, frames.ipv6(source, target_address, 253, mac_bytes(honest))))
    listener = ready(world.background(target, *program("count_marks", *(mac_bytes(mac).hex() for mac in (*names, honest)))))
    world.inside("web", *program("send_frames", *(frame.hex() for frame in sent)))
    *counts, control = map(int, finish(listener, LIMIT_S).split())
    learnt = world.inside(target, "ip", "-6", "neigh", "show", source).stdout
    assert control
    assert "02:57:66" not in learnt, [names[mac] for mac in names if mac in learnt]
    arrived = [name for name, count in zip(names.values(), counts, strict=True) if count]
    assert not [name for name in arrived if ", cut at" not in name], "a later fragment is worth nothing without the first one"
