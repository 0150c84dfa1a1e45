"""Frames with a priority tag, VLAN id 0 (IEEE 802.1Q): they are untagged, on every kind of port, and hide nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.protocols import ARP, IPV4, UDP, mac_bytes
from tests import frames
from tests.e2e.conftest import World
from tests.e2e.test_packets import arp_reply, heard, ip, unheard
from tools.lab import run

PRIORITY, DEI = 5 << 13, 1 << 12  # of a TCI; the VLAN id is 0
STRANGER = "02:57:0a:00:00:63"


@pytest.fixture(scope="module")
def tagged(world: World) -> Iterator[World]:
    """A transparent network beside the others."""
    first = world.plan.hosts[0]
    run.api(first, "POST", "/networks", name="prio", ip_range="10.24.0.0/24", ipv6_range="fd24::/64", vlan_transparent=True)
    containers = {"prione": "h1", "pritwo": "h1", "prifar": "h2"}
    for name, host in containers.items():
        world.container(name, host, "prio")
    yield world
    for name, host in containers.items():
        endpoint = run.api(first, "GET", f"/endpoints/prio/{name}")["endpoint"]
        run.api(world.plan.host(host), "DELETE", f"/endpoints/{endpoint['id']}")  # type: ignore[arg-type]
    run.api(first, "DELETE", "/networks/prio")


@pytest.mark.parametrize(("source", "target"), [("web", "app"), ("web", "db"), ("prione", "pritwo"), ("prione", "prifar")])
@pytest.mark.parametrize("tci", [0, PRIORITY, PRIORITY | DEI])
def test_a_priority_tag_is_no_tag(tagged: World, source: str, target: str, tci: int) -> None:
    mark = b"warren-priority-tag"
    ends = tagged.address[source], tagged.address[target]
    packet = frames.ipv4(*ends, UDP, frames.udp(*ends, (4000, 4001), mark))
    sent = frames.ethernet(tagged.mac[source], tagged.mac[target], IPV4, packet, [tci])
    arrives = sent[:12] + sent[16:]  # without the tag
    assert heard(tagged, source, target, sent, arrives[6:])


@pytest.mark.parametrize(("source", "target"), [("web", "app"), ("prione", "pritwo"), ("prione", "prifar")])
@pytest.mark.parametrize("tags", [[0], [0, 0], [PRIORITY, 0, 0], [0, 100]])
def test_a_spoofed_sender_does_not_pass_under_priority_tags(tagged: World, source: str, target: str, tags: list[int]) -> None:
    me, to = tagged.mac[source], tagged.mac[target]
    forged = arp_reply(me, to, STRANGER, tagged.address[source], tagged.address[target])
    sent = frames.ethernet(me, to, ARP, forged[14:], tags)
    assert unheard(tagged, source, target, sent, mac_bytes(STRANGER) + ip(tagged.address[source]))
