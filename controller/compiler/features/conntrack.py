"""CONNTRACK and COMMIT: networks with a stateful rule track their connections on every host, in a zone of their own.

A packet's state is looked up before the ACLs, and its connection is committed once they let it pass: on the host where it
enters and on the one where it is delivered, so that both recognise replies. `allow_related` travels with the packet as a
second VNI of the network (VXLAN-GBP would be the means for it, but Open vSwitch 3.1 refuses such a port every other time).
"""

from __future__ import annotations

from collections.abc import Iterator

from controller.compiler.features import nat
from controller.compiler.features.spoof import ANY_TAG
from intent.views import NetworkView
from pipeline.flow import Ct, Flow, Goto, Origin, Set, Value, match
from pipeline.protocols import ICMPV6, IPV4, IPV6, NEIGHBOUR_DISCOVERY
from pipeline.tables import (
    CT_ESTABLISHED,
    CT_INVALID,
    CT_NEW,
    CT_REPLY,
    CT_TRACKED,
    MARK_RELATED,
    ORIGIN_LOCAL,
    ORIGIN_TUNNEL,
    Table,
    after,
)  # fmt: skip
from pipeline.tunnels import vni_of

UNTRACKED = 110  # neighbour discovery is not tracked
TRACKED = 100
UNTOUCHED = 50


def base(tunnel: int | None) -> Iterator[Flow]:
    """Packets from other hosts of networks that track no connections: their own host has checked them."""
    yield Flow(Table.CONNTRACK, UNTOUCHED, match(reg1=ORIGIN_TUNNEL), (Goto(Table.FORWARD),), Origin("pipeline", "conntrack"))


def network(n: NetworkView, tunnel: int | None) -> Iterator[Flow]:
    """Nothing for a network without stateful rules and without translation. A network without endpoints here that another is
    routed to only tells other hosts of `allow_related`."""
    if n.gateway is not None and n.gateway.uplink is not None:
        yield from nat.enters(n, n.gateway)
    if n.gateway is not None and n.served:
        yield from nat.crosses(n, n.gateway)
    origin = Origin("network", n.id)
    if not n.zone:
        yield from _related_flows(n, origin)
        return
    for entered, onward in ((ORIGIN_LOCAL, after(Table.CONNTRACK)), (ORIGIN_TUNNEL, Table.FORWARD)):
        if n.transparent:  # the same addresses under two tags are two connections
            tagged = match(reg0=n.vni, reg1=entered, vlan_vid=ANY_TAG)
            yield Flow(Table.CONNTRACK, UNTRACKED + 1, tagged, (Goto(onward),), origin)
        for icmp_type in NEIGHBOUR_DISCOVERY:
            nd = match(reg0=n.vni, reg1=entered, eth_type=IPV6, ip_proto=ICMPV6, icmpv6_type=icmp_type)
            yield Flow(Table.CONNTRACK, UNTRACKED, nd, (Goto(onward),), origin)
        for eth_type in (IPV4, IPV6):
            packet = match(reg0=n.vni, reg1=entered, eth_type=eth_type)
            yield Flow(Table.CONNTRACK, TRACKED, packet, (Ct(n.zone, table=onward),), origin)
        yield Flow(Table.CONNTRACK, TRACKED - 1, match(reg0=n.vni, reg1=entered), (Goto(onward),), origin)
    yield from _commits(n, origin)
    yield from nat.commits(n)


def _related_flows(n: NetworkView, origin: Origin) -> Iterator[Flow]:
    if n.zone or n.related_vni:
        yield Flow(Table.COMMIT, TRACKED - 1, match(reg0=n.vni, reg3=1), (*_related_tunnel(n), Goto(after(Table.COMMIT))), origin)


def _related_tunnel(n: NetworkView) -> tuple[Set, ...]:
    return (Set("tunnel_id", vni_of(n.related_vni)),) if n.related_vni else ()


def _commits(n: NetworkView, origin: Origin) -> Iterator[Flow]:
    yield from _related_flows(n, origin)
    for eth_type in (IPV4, IPV6):
        for state, related, keep in kept(n.zone):
            packet = match(**state, reg0=n.vni, reg3=related, eth_type=eth_type)
            to_related = _related_tunnel(n) if related else ()
            yield Flow(Table.COMMIT, TRACKED, packet, (keep, *to_related, Goto(after(Table.COMMIT))), origin)


def kept(zone: int) -> Iterator[tuple[dict[str, Value], int, Ct]]:
    """The packets whose connection a zone commits: their state there, whether their replies are related, and the commit."""
    new = (CT_TRACKED | CT_NEW, CT_TRACKED | CT_NEW | CT_INVALID)
    begun = (CT_TRACKED | CT_ESTABLISHED, CT_TRACKED | CT_ESTABLISHED | CT_REPLY | CT_INVALID)
    related = Ct(zone, commit=True, mark=MARK_RELATED, label=nat.ENDS)
    yield {"ct_state": new}, 1, related
    yield {"ct_state": new}, 0, Ct(zone, commit=True, label=nat.ENDS)
    # the connection began under another rule; from now on its replies are related
    yield {"ct_state": begun, "ct_mark": 0}, 1, related
