"""DNAT and SNAT: translates addresses of networks in mode nat by connection tracking in the network's own zone.

Outside, the network is one transit address of this host (intent/gateway.py), so networks with equal addresses do not meet. A
published port leads from the transit address to the endpoint; the host's nftables lead the host's own ports to the transit
address. The `ct` that finds a connection also translates its replies and ICMP errors back (CONNTRACK).

A service's port leads to one of several endpoints, chosen by a group for new connections alone. A packet for a member on
another host goes through the tunnel with the host's MAC as its sender. The connection there keeps in its label the VTEP that
it came from, and replies go back to that VTEP (ROUTE), which alone can translate them.
"""

from __future__ import annotations

from collections.abc import Iterator

from intent.gateway import GATEWAY_MAC, HOST_MAC, Gateway
from intent.services import ServiceView
from intent.views import EndpointView, NetworkView
from pipeline.flow import Actions, Bucket, Ct, Flow, Goto, Group, MoveBits, Nat, Origin, Set, ToGroup, Value, match
from pipeline.protocols import IPV4, IPV6, TCP, UDP, WITH_PORTS
from pipeline.tables import (
    CT_INVALID,
    CT_NEW,
    CT_TRACKED,
    LABEL_ORIGIN,
    LABEL_SOURCE,
    LABEL_TARGET,
    LABEL_VTEP,
    MARK_RELATED,
    ORIGIN_GATEWAY,
    ORIGIN_LOCAL,
    ORIGIN_TUNNEL,
    REG_ORIGIN,
    REG_OUTPUT,
    REG_SOURCE,
    REG_TARGET,
    REG_VTEP,
    Table,
    after,
)
from pipeline.tunnels import from_vtep, vtep_number

SHARED, KNOWN, RELATED, CROSSING = 90, 100, 110, 112
OWN_ADDRESS, WITH_NAT_PORTS = 10, 20  # SNAT: added to the priorities of the network's flows
# every connection that is committed keeps whose it is
ENDS = (MoveBits(REG_SOURCE, 0, "ct_label", LABEL_SOURCE, 32), MoveBits(REG_TARGET, 0, "ct_label", LABEL_TARGET, 32))
NEW = (CT_TRACKED | CT_NEW, CT_TRACKED | CT_NEW | CT_INVALID)


def network(n: NetworkView, tunnel: int | None) -> Iterator[Flow]:
    """Packets to the outside get the network's transit address. Only ROUTE sends packets here whose destination is the
    host's MAC. TCP and UDP share it, whichever endpoint sends: translation makes their ports unique."""
    g = n.gateway
    if g is None or g.uplink is None:
        return
    origin = Origin("network", n.id)
    for eth_type, transit in ((IPV4, g.transit4), (IPV6, g.transit6)):
        if transit is None:
            continue
        leaving: dict[str, Value] = {"reg0": n.vni, "reg1": ORIGIN_LOCAL, "reg2": g.uplink, "eth_type": eth_type}
        yield from _translated(leaving, 0, g, str(transit), origin)
        for proto in (TCP, UDP):
            yield from _translated(leaving | {"ip_proto": proto}, WITH_NAT_PORTS, g, str(transit), origin)


def _translated(leaving: dict[str, Value], above: int, g: Gateway, transit: str, origin: Origin) -> Iterator[Flow]:
    """SNAT's flows that give packets a transit address, `above` the priorities of the network's own."""
    for priority, related, mark in ((RELATED, 1, MARK_RELATED), (KNOWN, 0, None)):
        translate = Ct(g.zone, table=Table.OUTPUT, commit=True, mark=mark, nat=Nat("src", transit), label=ENDS)
        yield Flow(Table.SNAT, priority + above, match(**leaving, reg3=related), (translate,), origin)


def endpoint(e: EndpointView, tunnel: int | None) -> Iterator[Flow]:
    """The published ports of an endpoint, and a transit address of its own. Translation changes no ICMP ids and no ports of other protocols
    than TCP and UDP, so two endpoints with one address outside would collide there."""
    g = e.gateway
    if g is None or g.uplink is None or e.ofport is None:
        return
    for eth_type, port_transit in zip((IPV4, IPV6), g.port_transits(e.ofport), strict=True):
        if port_transit is not None and not e.tag:
            leaving: dict[str, Value] = {
                "in_port": e.ofport,
                "reg0": e.vni,
                "reg1": ORIGIN_LOCAL,
                "reg2": g.uplink,
                "eth_type": eth_type,
            }
            yield from _translated(leaving, OWN_ADDRESS, g, str(port_transit), Origin("endpoint", e.id))
    for proto, outside, inside, _ in e.published:
        for version, eth_type, transit, address in ((4, IPV4, g.transit4, e.ipv4), (6, IPV6, g.transit6, e.ipv6)):
            if transit is not None and address is not None:
                fields: dict[str, Value] = {
                    "eth_type": eth_type,
                    "ip_proto": WITH_PORTS[proto],
                    f"ipv{version}_dst": str(transit),
                }
                new = match(ct_state=NEW, reg0=e.vni, reg1=ORIGIN_GATEWAY, **fields, **{f"{proto}_dst": outside})
                translate = _to_member(g.zone, str(address), e.identity, inside)
                yield Flow(Table.DNAT, KNOWN, new, translate, Origin("endpoint", e.id))


def service(s: ServiceView) -> Iterator[Flow | Group]:
    """A service's port: a member for each new connection. A port that an endpoint publishes itself is that endpoint's."""
    g, origin = s.gateway, Origin("service", s.name)
    for version, eth_type, transit, members in ((4, IPV4, g.transit4, s.members4), (6, IPV6, g.transit6, s.members6)):
        if transit is None or not members:
            continue
        buckets = (Bucket(_to_member(g.zone, member.address, member.identity, s.port)) for member in members)
        one = Group(tuple(buckets), origin, select=True)
        yield one
        fields: dict[str, Value] = {"eth_type": eth_type, "ip_proto": WITH_PORTS[s.proto], f"ipv{version}_dst": str(transit)}
        new = match(ct_state=NEW, reg0=s.vni, reg1=ORIGIN_GATEWAY, **fields, **{f"{s.proto}_dst": s.host_port})
        yield Flow(Table.DNAT, SHARED, new, (ToGroup(one.group_id),), origin)


def _to_member(zone: int, address: str, identity: int, port: int) -> Actions:
    """Commits a connection that the gateway leads to an endpoint, and goes on."""
    translate = Ct(zone, table=after(Table.DNAT), commit=True, nat=Nat("dst", address, port), label=ENDS)
    return Set(REG_TARGET, identity), translate


def crosses(n: NetworkView, g: Gateway) -> Iterator[Flow]:
    """CONNTRACK's flows for connections of services between hosts: to a member, and back to the host where they came in."""
    for eth_type in (IPV4, IPV6):
        for sender, numbered, number in _senders(n):
            keep = (MoveBits(number, 0, "ct_label", LABEL_VTEP, 32), MoveBits(REG_ORIGIN, 0, "ct_label", LABEL_ORIGIN, 32))
            arriving = match(reg0=n.vni, reg1=ORIGIN_TUNNEL, **sender, eth_src=HOST_MAC, eth_type=eth_type)
            arrived = (*numbered, Set("eth_src", GATEWAY_MAC), Ct(g.zone, table=Table.FORWARD, commit=True, label=keep))
            yield Flow(Table.CONNTRACK, CROSSING, arriving, arrived, Origin("network", n.id))
        if g.uplink is not None:
            back = match(reg0=n.vni, reg1=ORIGIN_TUNNEL, eth_dst=HOST_MAC, eth_type=eth_type)
            returned = (Set(REG_OUTPUT, g.uplink), Ct(g.zone, table=Table.OUTPUT, nat=Nat()))
            yield Flow(Table.CONNTRACK, CROSSING, back, returned, Origin("network", n.id))


def _senders(n: NetworkView) -> Iterator[tuple[dict[str, Value], Actions, str]]:
    """The hosts that send into a network as the host: the match on one of them, and the field with the number of its VTEP once the
    actions were carried out. An IPv4 address is its own number."""
    if not over_ipv6(n):
        yield {}, (), "tun_ipv4_src"
        return
    for vtep in n.host_vteps:
        yield from_vtep(vtep), (Set(REG_VTEP, vtep_number(vtep)),), REG_VTEP


def over_ipv6(n: NetworkView) -> bool:
    """Whether a host that sends into a network as the host has a VTEP of IPv6. Then each has flows of its own."""
    return any(":" in vtep for vtep in n.host_vteps)


def enters(n: NetworkView, g: Gateway) -> Iterator[Flow]:
    """CONNTRACK's flows for packets from the host: known connections are translated back. CONNTRACK owns them."""
    for eth_type, address in ((IPV4, g.ipv4), (IPV6, g.ipv6)):
        if address is None:
            continue
        packet = match(reg0=n.vni, reg1=ORIGIN_GATEWAY, eth_type=eth_type)
        if g.nat:
            yield Flow(Table.CONNTRACK, KNOWN, packet, (Ct(g.zone, table=Table.DNAT, nat=Nat()),), Origin("network", n.id))
        elif n.zone:
            yield Flow(Table.CONNTRACK, KNOWN, packet, (Ct(g.zone, table=Table.DNAT),), Origin("network", n.id))


def commits(n: NetworkView) -> Iterator[Flow]:
    """COMMIT's flows: a published connection was committed with its translation before policy let it pass."""
    if n.zone and n.gateway is not None and n.gateway.nat:
        for eth_type in (IPV4, IPV6):
            published = match(ct_state=NEW, reg0=n.vni, reg1=ORIGIN_GATEWAY, reg3=0, eth_type=eth_type)
            yield Flow(Table.COMMIT, RELATED, published, (Goto(after(Table.COMMIT)),), Origin("network", n.id))
