"""CLASSIFY: determines a packet's network from the port or the VNI by which it came in. Everything else is dropped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_address, ip_network

from controller.compiler.features import names
from intent.gateway import Gateway
from intent.views import EndpointView, NetworkView
from mirror.compile import arrival, copies
from mirror.sessions import MirrorSession
from pipeline.flow import (
    Actions,
    Flow,
    Goto,
    InPort,
    Origin,
    PopVlan,
    Resubmit,
    Set,
    SwitchMeter,
    ToController,
    UseMeter,
    Value,
    match,
)
from pipeline.protocols import IPV4, IPV6, TPIDS
from pipeline.tables import (
    ANSWER_MAC,
    ORIGIN_CHOSEN,
    ORIGIN_GATEWAY,
    ORIGIN_TUNNEL,
    PEER_METER_FIRST,
    PEER_METER_LAST,
    POLICY,
    PROBE_BYTES,
    PROBE_MAC,
    PROBE_VNI,
    REG_NETWORK,
    REG_ORIGIN,
    REG_OUTPUT,
    REG_RELATED,
    REG_SOURCE,
    Table,
)
from pipeline.tunnels import from_vtep, to_vtep, vni_of

UNTAGGED, VLAN_PRESENT = 0x0000, 0x1000
# a tag that belongs to another endpoint on the same port is neither a transparent network's nor a coprocessor's choice
PRIORITY_TAG, SHARED, CHOSEN, OWN = 120, 105, 103, 100
LAST_VID = 4094
PROBE = "probe"  # kind of the origin of flows for probes; its name is the VTEP
RATE, BURST = 20, 40  # packets per second of one host: probes and answers are some four


def base(tunnel: int | None) -> Iterator[Flow]:
    """A tag with VLAN id 0 only gives a priority, and its frame is untagged (IEEE 802.1Q): it is removed, and the frame looked up again.
    A tag below it that Open vSwitch reads as a type (`vlan-limit`) would hide what is inside from SPOOF_GUARD."""
    origin = Origin("pipeline", "priority-tag")
    yield Flow(Table.CLASSIFY, PRIORITY_TAG, match(vlan_vid=VLAN_PRESENT), (PopVlan(), Resubmit(Table.CLASSIFY)), origin)
    for tpid in TPIDS:
        yield Flow(Table.CLASSIFY, PRIORITY_TAG + 1, match(vlan_vid=VLAN_PRESENT, eth_type=tpid), (), origin)


def peer(vtep: str, tunnel: int | None) -> Iterator[Flow | SwitchMeter]:
    """Tunnel probes of another host: the switch returns its probes, and sends its answers to the controller. A meter for each
    host drops a flood, so that it costs neither the controller nor the probes of other hosts anything. They come by the ports of all profiles; only
    what comes out of a tunnel has a sender there."""
    if tunnel is None:
        return
    meter = SwitchMeter(
        PEER_METER_FIRST + int(ip_address(vtep)) % (PEER_METER_LAST - PEER_METER_FIRST + 1), RATE, BURST, packets=True
    )
    yield meter
    back: Actions = (to_vtep(vtep), Set("eth_dst", ANSWER_MAC), InPort())
    show: Actions = (ToController(PROBE_BYTES),)
    for mac, actions in ((PROBE_MAC, back), (ANSWER_MAC, show)):
        probe = match(tunnel_id=PROBE_VNI, **from_vtep(vtep), eth_dst=mac)
        yield Flow(Table.CLASSIFY, 100, probe, (UseMeter(meter.meter_id), *actions), Origin(PROBE, vtep))


def endpoint(e: EndpointView, tunnel: int | None) -> Iterator[Flow]:
    """The flows of an endpoint's port: untagged frames are its network's, in a transparent network tagged ones, too. On a
    port that several share, the tag says whose a frame is; it is removed here and added again in OUTPUT."""
    if e.ofport is None:
        return
    fields, priority = match(in_port=e.ofport, vlan_vid=e.tag | VLAN_PRESENT if e.tag else UNTAGGED), SHARED if e.tag else OWN
    if e.transparent and not e.tag:
        fields = match(in_port=e.ofport)
    policy = (Set(POLICY, e.policy_in),) if e.policy_in else ()
    untag = (PopVlan(),) if e.tag else ()
    enter = (*untag, *copies(e.copies_in), Set(REG_NETWORK, e.vni), Set(REG_SOURCE, e.identity), *policy, Goto(Table.SPOOF_GUARD))
    origin = Origin("endpoint", e.id)
    yield Flow(Table.CLASSIFY, priority, fields, enter, origin)
    yield from names.answers(e)
    if (g := e.gateway) is not None and not e.tag:
        own4, own6 = g.port_transits(e.ofport)
        own_addresses: list[dict[str, Value]] = []
        if own4 is not None:
            own_addresses.append({"eth_type": IPV4, "ipv4_dst": str(own4)})
        if own6 is not None:
            own_addresses.append({"eth_type": IPV6, "ipv6_dst": str(own6)})
        yield from _from_host(g, e.vni, own_addresses, origin)


def session(s: MirrorSession, tunnel: int | None) -> Iterator[Flow]:
    """Copies from other hosts for a target here. They are not packets of a network."""
    if s.arrive and tunnel is not None:
        for vtep in s.copiers:
            copy = match(tunnel_id=s.vni, **from_vtep(vtep), in_port=tunnel)
            yield Flow(Table.CLASSIFY, 100, copy, arrival(s), Origin("mirror", s.name))


def _enters(n: NetworkView) -> Iterator[Flow]:
    """Packets from the host: to the network's transit address, or to its range where nothing is translated."""
    g = n.gateway
    if g is None:
        return
    meant: list[dict[str, Value]] = []
    for eth_type, name, transit in ((IPV4, "ipv4_dst", g.transit4), (IPV6, "ipv6_dst", g.transit6)):
        if transit is not None:
            meant.append({"eth_type": eth_type, name: str(transit)})
    for prefix in map(ip_network, () if g.nat else n.ranges):
        eth_type, name = (IPV4, "ipv4_dst") if prefix.version == 4 else (IPV6, "ipv6_dst")
        meant.append({"eth_type": eth_type, name: (str(prefix.network_address), str(prefix.netmask))})
    yield from _from_host(g, n.vni, meant, Origin("network", n.id))


def _from_host(g: Gateway, vni: int, meant: Iterable[dict[str, Value]], origin: Origin) -> Iterator[Flow]:
    if g.uplink is None:
        return
    policy = (Set(POLICY, g.policy),) if g.policy else ()
    enter = (Set(REG_NETWORK, vni), Set(REG_ORIGIN, ORIGIN_GATEWAY), *policy, Goto(Table.CONNTRACK))
    for fields in meant:
        yield Flow(Table.CLASSIFY, 100, match(in_port=g.uplink, vlan_vid=UNTAGGED, **fields), enter, origin)


def _chosen(n: NetworkView) -> Iterator[Flow]:
    """Frames of a coprocessor that name a port of the network: its own ACL decides, and no other."""
    for ofport, base, policy in n.coprocessors:
        onward = (Set(POLICY, policy), Goto(Table.ACL_IN)) if policy else (Goto(Table.MIRROR),)
        for port in n.ports:
            if base + port <= LAST_VID:
                fields = match(in_port=ofport, vlan_vid=(base + port) | VLAN_PRESENT)
                entered = Set(REG_NETWORK, n.vni), Set(REG_ORIGIN, ORIGIN_CHOSEN), Set(REG_OUTPUT, port)
                yield Flow(Table.CLASSIFY, CHOSEN, fields, (PopVlan(), *entered, *onward), Origin("network", n.id))


def network(n: NetworkView, tunnel: int | None) -> Iterator[Flow]:
    """Packets from other hosts: TUNNEL_GUARD checks who has sent them."""
    yield from _enters(n)
    yield from _chosen(n)
    if tunnel is None or not n.ports:
        return
    origin, entered = Origin("network", n.id), (Set(REG_NETWORK, n.vni), Set(REG_ORIGIN, ORIGIN_TUNNEL))
    onward = Goto(Table.TUNNEL_GUARD)
    yield Flow(Table.CLASSIFY, 100, match(tunnel_id=vni_of(n.vni), in_port=tunnel), (*entered, onward), origin)
    if n.related_vni:
        related = match(tunnel_id=vni_of(n.related_vni), in_port=tunnel)
        yield Flow(Table.CLASSIFY, 100, related, (*entered, Set(REG_RELATED, 1), onward), origin)
