"""What is announced to neighbours, and what is not."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from controller.announcements import advertisement, announcements, arp
from controller.events import (
    Announce,
    Commit,
    Committed,
    Connected,
    Effect,
    KeyState,
    PortsRead,
    ReadBack,
    StoreChanged,
    StoreRead,
)
from controller.reconcile import Reconciler
from pipeline.protocols import checksum
from tests.unit import worlds
from tests.unit.scenarios import HOSTS, TUNNEL

NETWORK = worlds.network("amber", 7)
WEB, PEER = worlds.endpoint("web", "amber", "h1", 2, 1), worlds.endpoint("peer", "amber", "h2", 3, 1)
OTHER = (worlds.network("blue", 8), worlds.endpoint("red", "blue", "h2", 4, 1))


def state(number: int, entry: tuple[str, str]) -> KeyState:
    return KeyState(*entry, number, number)


def committed(reconciler: Reconciler, effects: list[Effect]) -> list[Effect]:
    """The effects of the switch's consent to a bundle."""
    assert any(isinstance(effect, Commit) for effect in effects)
    return reconciler.step(Committed(reconciler.session))


def announced(effects: list[Effect]) -> set[str]:
    return {endpoint_id for effect in effects if isinstance(effect, Announce) for endpoint_id in effect.endpoint_ids}


def started(installed: frozenset[int] = frozenset(), *entries: tuple[str, str]) -> tuple[Reconciler, list[Effect]]:
    """A controller that has just started over a switch with these flows."""
    reconciler = Reconciler("h1")
    specs = [*HOSTS, NETWORK, WEB, PEER, *OTHER, *entries]
    reconciler.step(StoreRead(tuple(state(n, entry) for n, entry in enumerate(specs, 1)), 50))
    reconciler.step(PortsRead({"web": 1}, TUNNEL))
    reconciler.step(Connected(1))
    return reconciler, reconciler.step(ReadBack(1, installed, frozenset()))


def test_a_start_announces_nothing() -> None:
    reconciler, effects = started()
    assert announced(committed(reconciler, effects)) == set()
    again, effects = started(frozenset(reconciler.flows))
    assert announced(committed(again, effects) if any(isinstance(e, Commit) for e in effects) else effects) == set()


def test_a_start_announces_what_changed_meanwhile() -> None:
    before, effects = started()
    committed(before, effects)
    reconciler, effects = started(frozenset(before.flows), worlds.endpoint("late", "amber", "h3", 9, 2))
    assert announced(committed(reconciler, effects)) == {"late"}


def test_what_comes_up_moves_or_changes_is_announced() -> None:
    reconciler, effects = started()
    committed(reconciler, effects)
    for number, (entry, named) in enumerate(
        [
            (worlds.endpoint("late", "amber", "h3", 9, 2), {"late"}),
            (worlds.endpoint("late", "amber", "h2", 9, 2), {"late"}),  # it moves
            (worlds.endpoint("late", "amber", "h2", 10, 2), {"late"}),  # another MAC and address
            (worlds.endpoint("green", "blue", "h3", 10, 2), set()),  # no neighbour of it is here
        ],
        60,
    ):
        effects = reconciler.step(StoreChanged((state(number, entry),), number))
        assert announced(committed(reconciler, effects) if any(isinstance(e, Commit) for e in effects) else effects) == named, (
            entry
        )
    reconciler.step(StoreChanged((state(70, worlds.endpoint("here", "amber", "h1", 11, 3)),), 70))
    assert announced(committed(reconciler, reconciler.step(PortsRead({"web": 1, "here": 3}, TUNNEL)))) == {"here"}


def test_other_local_endpoints_hear_it_and_not_itself() -> None:
    reconciler, _ = started(frozenset(), worlds.endpoint("here", "amber", "h1", 11, 3))
    reconciler.step(PortsRead({"web": 1, "here": 3}, TUNNEL))
    web, neighbours = reconciler.index.endpoints["web"], reconciler.index.neighbours("amber")
    assert {e.id for e in neighbours} == {"web", "here"}
    frames = list(announcements(web, neighbours))
    assert [port for port, _ in frames] == [3, 3]
    assert web.ipv4 is not None
    assert frames[0][1] == arp(web.mac, web.ipv4)


def test_frames() -> None:
    mac, address = "02:57:0a:00:00:02", IPv6Address("fd00::2")
    assert arp(mac, IPv4Address("10.0.0.2")).hex() == (
        "ffffffffffff" "02570a000002" "0806" "0001080006040001" "02570a0000020a000002" "0000000000000a000002" + "00" * 18
    )  # fmt: skip
    frame = advertisement(mac, address)
    assert frame[:14].hex() == "33330000000102570a00000286dd"
    assert (frame[21], frame[22:38], frame[38:54]) == (255, address.packed, IPv6Address("ff02::1").packed)
    assert frame[54:56] + frame[58:] == b"\x88\0" + b"\x20\0\0\0" + address.packed + b"\2\1" + bytes.fromhex("02570a000002")
    pseudo = frame[22:54] + (len(frame) - 54).to_bytes(4, "big") + b"\0\0\0\x3a"
    assert checksum(pseudo + frame[54:]) == 0
