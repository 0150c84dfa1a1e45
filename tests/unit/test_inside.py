"""What is wanted of an endpoint's interfaces, how it differs from what was read, when that is compared, and events of interfaces."""

from __future__ import annotations

import struct
from dataclasses import replace
from ipaddress import ip_interface
from typing import Any

import pytest

from agent.endpoints.inspections import AT_ONCE, CALM_S, CYCLE_S, FREE_REPAIRS, SETTLE_S, Inspections
from agent.endpoints.plugging import desired, with_other_settings
from agent.linux.interface import DefaultRoute, Desired, Inside, Link, Pair, differences
from agent.linux.links import RTM_DELADDR, RTM_DELLINK, RTM_DELROUTE, RTM_NEWLINK, FarEnds, LinkEvent, parse
from specs.model.endpoint import Endpoint
from specs.model.host import Host
from specs.model.network import Network
from specs.model.profile import BUILT_IN
from specs.snapshot import Decoded, Snapshot

MAC = "02:57:0a:00:00:02"
WANTED = Desired(
    veth="wv0123456789ab",
    netns="/run/netns/c",
    interface="eth0",
    mac=MAC,
    mtu=1446,
    addresses=(ip_interface("10.0.0.2/24"), ip_interface("fd00::2/64")),
    gateways=("10.0.0.1",),
    offload_off=True,
)
HOST = Link(index=7, name=WANTED.veth, mac="fe:00:00:00:00:01", mtu=1446, up=True, peer=2, peer_nsid=0)
FAR = Link(index=2, name="eth0", mac=MAC, mtu=1446, up=True, peer=7, peer_nsid=0)
INSIDE = Inside(addresses=frozenset(WANTED.addresses), default_routes=frozenset({DefaultRoute(4, "10.0.0.1", True)}))
WHOLE = Pair(host=HOST, far=FAR, inside=INSIDE)


def changed(end: str, **more: Any) -> Pair:
    return replace(WHOLE, **{end: replace(getattr(WHOLE, end), **more)})


def test_a_pair_as_wanted_has_no_difference() -> None:
    assert differences(WANTED, WHOLE) == ()


@pytest.mark.parametrize(
    ("pair", "difference"),
    [
        (Pair(), "interface wv0123456789ab does not exist"),
        (replace(WHOLE, far=None, inside=None), "the far end of wv0123456789ab is not in /run/netns/c"),
        (changed("host", up=False), "interface wv0123456789ab is down"),
        (changed("host", mtu=9000), "interface wv0123456789ab has MTU 9000 instead of 1446"),
        (changed("far", up=False), "interface eth0 in the container is down"),
        (changed("far", mtu=1500), "interface eth0 in the container has MTU 1500 instead of 1446"),
        (changed("far", mtu=1200), "interface eth0 in the container has MTU 1200 instead of 1446"),
        (changed("far", name="lan0"), "interface eth0 is named lan0"),
        (changed("far", mac="02:00:00:00:00:01"), f"interface eth0 has MAC 02:00:00:00:00:01 instead of {MAC}"),
        (changed("inside", addresses=frozenset({ip_interface("10.0.0.2/24")})), "address fd00::2/64 is missing on eth0"),
        (changed("inside", default_routes=frozenset()), "the default route by 10.0.0.1 is missing"),
        (changed("inside", default_routes=frozenset({DefaultRoute(6, "fd00::9")})), "the default route by 10.0.0.1 is missing"),
        (changed("inside", offload=True), "checksum offload of eth0 is on"),
        (changed("inside", ipv6_off=True), "IPv6 is off on eth0 (disable_ipv6)"),
        (
            changed("inside", default_routes=frozenset({DefaultRoute(4, "10.0.0.9", True)})),
            "the default route by 10.0.0.9 is Warren's and no longer wanted",
        ),
    ],
)
def test_each_difference_is_named(pair: Pair, difference: str) -> None:
    assert difference in differences(WANTED, pair)


@pytest.mark.parametrize(
    "pair",
    [
        changed("inside", addresses=frozenset({*WANTED.addresses, ip_interface("192.0.2.1/32")})),
        changed("inside", default_routes=frozenset({DefaultRoute(4, "10.0.0.77")})),
        changed("far", mtu=1400),
    ],
    ids=["another address", "another default route", "a smaller MTU"],
)
def test_what_the_owner_did_is_no_difference(pair: Pair) -> None:
    assert differences(WANTED, pair) == ()


def test_an_mtu_that_warren_set_follows_a_larger_one() -> None:
    before = replace(WHOLE, host=replace(HOST, mtu=1346), far=replace(FAR, mtu=1346))
    assert "interface eth0 in the container has MTU 1346 instead of 1446" in differences(WANTED, before)


def test_an_interface_that_its_engine_has_not_moved_yet_stays_down() -> None:
    target = Desired(veth=WANTED.veth, interface="wp0", mac=MAC, mtu=1446)
    waiting = Pair(host=HOST, far=replace(FAR, name="wp0", up=False))
    assert differences(target, waiting) == ()
    moved = Pair(host=HOST, far=replace(FAR, name="eth0", up=False))
    assert differences(target, moved) == ("interface eth0 in the container is down",)


# ---- what is wanted ------------------------------------------------------------------------------------------------------

NETWORK = Network.model_validate({
    "id": "n", "name": "n", "vxlan_vni": 100, "ip_range": "10.0.0.0/24", "gateway": "10.0.0.1/24", "mode": "nat"
})  # fmt: skip
ENDPOINT = Endpoint.model_validate({
    "id": "e", "network_id": "n", "host": "h1", "mac_address": MAC, "ofport": 5, "ipv4_address": "10.0.0.2",
    "netns": "/run/netns/c", "interface": "eth0",
})  # fmt: skip
HOSTS = [Host.model_validate({"name": f"h{n}", "vtep": f"192.0.2.{n}", "underlay_mtu": mtu}) for n, mtu in ((1, 1500), (2, 1400))]
BOTH = Snapshot(hosts={host.name: host for host in HOSTS})


def test_the_smallest_underlay_decides_the_mtu() -> None:
    assert desired(ENDPOINT, NETWORK, BOTH, True).mtu == 1346
    assert desired(ENDPOINT, NETWORK, Snapshot(hosts={"h1": HOSTS[0]}), True).mtu == 1446
    assert desired(ENDPOINT, NETWORK.model_copy(update={"mtu": 1300}), BOTH, True).mtu == 1300


@pytest.mark.parametrize(
    ("endpoint", "network"),
    [
        ({"set_addresses": False}, {}),
        ({"spare": True}, {}),
        ({"netns": None}, {}),
        ({}, {"dhcp": True}),
    ],
    ids=["not asked for", "preallocated", "moved by an engine", "DHCP"],
)
def test_addresses_are_wanted_only_where_warren_sets_them(endpoint: dict[str, Any], network: dict[str, Any]) -> None:
    target = desired(ENDPOINT.model_copy(update=endpoint), NETWORK.model_copy(update=network), BOTH, True)
    assert (target.addresses, target.gateways) == ((), ())
    ordinary = desired(ENDPOINT, NETWORK, BOTH, True)
    assert (ordinary.addresses, ordinary.gateways) == ((ip_interface("10.0.0.2/24"),), ("10.0.0.1",))


def test_endpoints_follow_their_network_and_the_smallest_underlay() -> None:
    other = ENDPOINT.model_copy(update={"id": "f", "network_id": "m"})
    networks = {"n": NETWORK, "m": NETWORK.model_copy(update={"id": "m"})}
    one, two = Snapshot(hosts={"h1": HOSTS[0]}, networks=networks), Snapshot(hosts=BOTH.hosts, networks=networks)
    network, host, acl = (Decoded(kind, "n", None, None) for kind in ("network", "host", "acl"))

    def woken(before: Snapshot, after: Snapshot, *changes: Decoded) -> set[str]:
        return with_other_settings(before, after, changes, (ENDPOINT, other))

    assert woken(one, one, network) == {"e"}
    assert woken(one, two, host) == {"e", "f"}
    assert woken(two, two, host) == woken(one, two, acl) == set()
    profile = BUILT_IN.model_copy(update={"name": "small", "number": 1, "hosts": ("h1",)})
    of_profile = networks | {"m": networks["m"].model_copy(update={"profile": "small"})}
    before = replace(two, networks=of_profile, profiles={"small": profile})
    after = replace(before, profiles={"small": profile.model_copy(update={"hosts": ("all",)})})
    assert woken(before, after, Decoded("profile", "small", None, None)) == {"f"}


# ---- the schedule ----------------------------------------------------------------------------------------------------------


def test_a_suspect_is_inspected_once_after_its_events_have_settled() -> None:
    inspections = Inspections()
    inspections.suspect(["a"], 100.0)
    inspections.suspect(["a"], 100.1)
    assert inspections.due(["a", "b"], 100.2) == set()
    assert inspections.next_s(100.2) == pytest.approx(SETTLE_S - 0.2)
    assert inspections.due(["a", "b"], 100.0 + SETTLE_S) == {"a"}
    assert inspections.due(["a", "b"], 101.0) == set()


def test_every_endpoint_has_its_turn_and_a_turn_is_short() -> None:
    inspections, names = Inspections(), [f"e{number}" for number in range(3 * AT_ONCE)]
    assert inspections.due(names, 0.0) == set()
    turns = [inspections.due(names, CYCLE_S + second) for second in range(3)]
    assert [len(turn) for turn in turns] == [AT_ONCE] * 3
    assert set().union(*turns) == set(names)


def test_repairs_of_the_same_damage_wait_longer_and_longer() -> None:
    inspections, now, pauses = Inspections(), 0.0, []
    for _ in range(FREE_REPAIRS + 12):
        pause_s = inspections.pause_s("a", ["x"], now)
        pauses.append(pause_s)
        now += pause_s
        inspections.repaired("a", ["x"], now)
    assert pauses[:FREE_REPAIRS] == [0.0] * FREE_REPAIRS
    assert pauses[FREE_REPAIRS : FREE_REPAIRS + 3] == [2.0, 4.0, 8.0]
    assert pauses[-1] == 300.0
    assert inspections.pause_s("a", ["y"], now) == 0.0
    assert inspections.pause_s("b", ["x"], now) == 0.0
    inspections.repaired("a", ["x"], now + 600.0 + CALM_S + 1.0)
    assert inspections.pause_s("a", ["x"], now + 600.0 + CALM_S + 1.0) == 0.0


# ---- events ------------------------------------------------------------------------------------------------------------------


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body + bytes(-len(body) % 4)


def link(index: int, name: bytes, mtu: int, up: bool, peer: int, nsid: int | None) -> bytes:
    values = [(3, name + b"\0"), (4, struct.pack("=I", mtu)), (1, bytes.fromhex("02570a000002")), (5, struct.pack("=I", peer))]
    values += [(37, struct.pack("=i", nsid))] if nsid is not None else []
    body = struct.pack("=BxHiII", 0, 1, index, int(up), 0)
    for kind, value in values:
        body += struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
    return body


def test_events_of_interfaces_are_parsed() -> None:
    data = message(RTM_NEWLINK, link(7, b"wv0123456789ab", 1446, True, 2, 0)) + message(
        RTM_DELLINK, link(7, b"x", 1, False, 2, None)
    )
    first, second = parse(data, None)
    assert first == LinkEvent(None, 7, "wv0123456789ab", MAC, 1446, True, 2, 0)
    assert second.gone
    assert not second.up
    assert list(parse(message(RTM_DELADDR, struct.pack("=BBBBI", 2, 24, 0, 0, 9)), 3)) == [LinkEvent(3, 9, lost=True)]
    assert list(parse(message(RTM_DELROUTE, bytes(12)), 3)) == [LinkEvent(3, 0, lost=True)]
    assert list(parse(b"", None)) == list(parse(bytes(40), None)) == []


def test_far_ends_are_known_by_their_namespace_and_index() -> None:
    far_ends = FarEnds()
    for number, (veth, nsid, peer) in enumerate((("wva", 0, 2), ("wvb", 0, 3), ("wvc", 1, 2)), 7):
        far_ends.learn(LinkEvent(None, number, veth, peer=peer, peer_nsid=nsid))
    assert far_ends.veths(LinkEvent(0, 2)) == ["wva"]
    assert far_ends.veths(LinkEvent(1, 2)) == ["wvc"]
    assert far_ends.veths(LinkEvent(1, 9)) == []
    assert far_ends.veths(LinkEvent(0, 0, lost=True)) == ["wva", "wvb"]
    far_ends.learn(LinkEvent(None, 7, "wva", peer=2, peer_nsid=5))  # moved to another namespace
    assert far_ends.veths(LinkEvent(0, 2)) == []
    assert far_ends.veths(LinkEvent(5, 2)) == ["wva"]
    far_ends.learn(LinkEvent(None, 7, "wva", gone=True))
    assert far_ends.veths(LinkEvent(5, 2)) == []
