"""Announcements: tell the neighbours of an endpoint where it is now, when it comes up, moves, or changes its MAC or an address.

Each host tells its own endpoints, since each controller knows all members of their networks: nothing crosses the underlay. What has
changed is read from the flows that a bundle adds, so a restarted controller announces what changed while it was away, and nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from controller.dhcp.frames import icmp6, tagged
from controller.events import PlannedFlow
from intent.incremental.index import Index
from intent.views import EndpointView
from pipeline.flow import Flow
from pipeline.protocols import ADVERTISEMENT, ARP, mac_bytes
from pipeline.tables import Table

BROADCAST_MAC, ALL_NODES_MAC, ALL_NODES = "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01", IPv6Address("ff02::1")
OVERRIDE, TARGET_MAC = 0x2000_0000, 2  # RFC 4861, 4.4 and 4.6.1
WHERE = (Table.ARP, Table.TUNNEL_GUARD)  # which MAC an address has and whether it is here; behind which VTEP it is


def planned(flow: Flow, pack: Callable[[Flow], Any]) -> PlannedFlow:
    """A flow as a plan has it: what arrives with it, and the message that adds it."""
    return PlannedFlow(flow.cookie, flow.origin, _arrival(flow), pack(flow))


def _arrival(flow: Flow) -> str | int | None:
    """What arrives on this host with a flow: the id of an endpoint whose place, MAC or address it tells, the VNI of a network, or None."""
    if flow.table in WHERE and flow.origin.kind == "endpoint":
        return flow.origin.name
    if flow.table is Table.CLASSIFY and flow.origin.kind == "network":
        return next((value for name, value in flow.match if name == "tunnel_id" and isinstance(value, int)), None)
    return None


def changed_endpoints(added: Iterable[PlannedFlow], index: Index) -> tuple[str, ...]:
    """The endpoints whose place, MAC or address is new with these flows. Networks that are new on this host are left out: nobody here
    has heard of their endpoints before."""
    arrivals = {flow.arrival for flow in added}
    views = (index.endpoints.get(name) for name in sorted(name for name in arrivals if isinstance(name, str)))
    return tuple(e.id for e in views if e is not None and not e.routed_remote and e.vni not in arrivals)


def announcements(e: EndpointView, neighbours: Iterable[EndpointView]) -> Iterator[tuple[int, bytes]]:
    """An OpenFlow port and a frame for each address of the endpoint and each local neighbour."""
    frames = [arp(e.mac, e.ipv4)] if e.ipv4 is not None else []
    frames += [advertisement(e.mac, e.ipv6)] if e.ipv6 is not None else []
    for neighbour in neighbours:
        if neighbour.ofport is not None and neighbour.id != e.id:  # to itself it would be a duplicate address
            yield from ((neighbour.ofport, tagged(frame, neighbour.tag)) for frame in frames)


def arp(mac: str, address: IPv4Address) -> bytes:
    """The ARP announcement of an address (RFC 5227, 3): a request for it from itself."""
    ethernet = mac_bytes(BROADCAST_MAC) + mac_bytes(mac) + struct.pack("!H", ARP)
    request = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
    return (ethernet + request + mac_bytes(mac) + address.packed + bytes(6) + address.packed).ljust(60, b"\0")


def advertisement(mac: str, address: IPv6Address) -> bytes:
    """The unsolicited neighbour advertisement of an address, which overrides what neighbours know (RFC 4861, 7.2.6)."""
    message = struct.pack("!BBHI", ADVERTISEMENT, 0, 0, OVERRIDE) + address.packed + struct.pack("!BB", TARGET_MAC, 1)
    return icmp6(ALL_NODES_MAC, address, ALL_NODES, message + mac_bytes(mac), sender_mac=mac)
