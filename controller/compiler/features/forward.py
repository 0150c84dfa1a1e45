"""FORWARD: the destination MAC leads to a local port or to the VTEP of another host.

Unknown destinations are dropped, unless the network has endpoints behind interfaces (specs/ports.py): then the destination
can only be behind one of these, and all of them get the frame. A virtual MAC leads to all endpoints that may have it. Nothing is
learnt, so a restart loses nothing and nobody can attract a neighbour's traffic.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_network

from controller.compiler.features.spoof import masked
from intent.gateway import GATEWAY_MAC, HOST_MAC
from intent.views import EndpointView, NetworkView, VirtualView
from pipeline.flow import Bucket, Flow, Goto, Group, Match, Origin, Resubmit, Set, ToGroup, Value, match
from pipeline.protocols import IPV4, IPV6
from pipeline.tables import GROUP_BUCKETS, ORIGIN_GATEWAY, ORIGIN_LOCAL, ORIGIN_TUNNEL, POLICY, REG_OUTPUT, REG_TARGET, Table
from pipeline.tunnels import to_vtep, vni_of

VIRTUAL, KNOWN, UNKNOWN = 300, 100, 50
_DELIVER = Goto(Table.ACL_OUT)
GROUP_BIT = ("01:00:00:00:00:00", "01:00:00:00:00:00")  # broadcast and multicast


def base(tunnel: int | None) -> Iterator[Flow]:
    """Broadcast and multicast go to FLOOD."""
    yield Flow(Table.FORWARD, KNOWN, match(eth_dst=GROUP_BIT), (Goto(Table.FLOOD),), Origin("pipeline", "forward"))


def endpoint(e: EndpointView, tunnel: int | None) -> Iterator[Flow]:
    """To a local port from anywhere; to another host only what began here, so that no packet is tunnelled twice."""
    if e.unknown_macs:
        return
    origin = Origin("endpoint", e.id)
    if e.ofport is not None:
        yield Flow(
            Table.FORWARD,
            KNOWN,
            match(reg0=e.vni, eth_dst=e.mac),
            (*receives(e.policy_out), Set(REG_TARGET, e.identity), Set(REG_OUTPUT, e.ofport), _DELIVER),
            origin,
        )
    elif tunnel is not None and e.vtep is not None:
        to_host = (Set("tunnel_id", vni_of(e.vni)), to_vtep(e.vtep), Set(REG_OUTPUT, tunnel))
        away = (Set(REG_TARGET, e.identity), *to_host, _DELIVER)
        yield Flow(
            Table.FORWARD,
            KNOWN,
            match(reg0=e.vni, reg1=ORIGIN_LOCAL, eth_dst=e.mac),
            away,
            origin,
        )
        if e.served and e.gateway is not None:  # packets that came in by a service's port
            served = match(reg0=e.vni, reg1=ORIGIN_GATEWAY, eth_dst=e.mac)
            yield Flow(Table.FORWARD, KNOWN, served, away, origin)


def network(n: NetworkView, tunnel: int | None) -> Iterator[Flow | Group]:
    """The flows for unknown destinations, and for answers to this host's own questions (`_to_hosts` in route.py)."""
    origin = Origin("network", n.id)
    if n.host_address and n.gateway is not None and n.gateway.uplink is not None:
        name, eth_type = ("ipv6_dst", IPV6) if ":" in n.host_address else ("ipv4_dst", IPV4)
        to: dict[str, Value] = {"eth_dst": HOST_MAC, "eth_type": eth_type, name: n.host_address}
        to_host = Set(REG_OUTPUT, n.gateway.uplink), Goto(Table.OUTPUT)
        yield Flow(Table.FORWARD, KNOWN, match(reg0=n.vni, reg1=ORIGIN_TUNNEL, **to), to_host, origin)
    local, remote = replicate(n, n.unknown_macs_ports, n.unknown_macs_vteps, tunnel, origin)
    yield from local
    yield from remote
    for entered, groups in ((ORIGIN_LOCAL, (*local, *remote)), (ORIGIN_TUNNEL, local)):
        if groups:
            yield Flow(Table.FORWARD, UNKNOWN, match(reg0=n.vni, reg1=entered), copied(groups), origin)
    if n.routed and (local or remote):  # no endpoint has the address that a router was to lead to
        nobody = match(reg0=n.vni, reg1=ORIGIN_LOCAL, eth_dst=GATEWAY_MAC)
        yield Flow(Table.FORWARD, KNOWN, nobody, (), origin)


def virtual(v: VirtualView, tunnel: int | None) -> Iterator[Flow | Group]:
    """To every endpoint that may have a virtual MAC; from the host, to those here: it knows the connections that they began. And from
    the gateway to every endpoint that may have a virtual address with its own MAC."""
    origin = Origin("virtual", v.value)
    if v.macs:
        groups = list(_groups((Bucket((Set("eth_dst", mac), Resubmit(Table.FORWARD))) for mac in v.macs), origin))
        if v.led_to and len(v.macs) > 1:
            yield from groups
            reached = match(reg0=v.vni, eth_dst=GATEWAY_MAC) + virtual_match(v)
            yield Flow(Table.FORWARD, virtual_priority(v, VIRTUAL), reached, copied(groups), origin)
        return
    local, remote = replicate(v, v.ports, v.vteps, tunnel, origin)
    yield from local
    yield from remote
    for entered, copies in ((ORIGIN_LOCAL, (*local, *remote)), (ORIGIN_TUNNEL, local), (ORIGIN_GATEWAY, local)):
        if copies:
            yield Flow(Table.FORWARD, KNOWN, match(reg0=v.vni, reg1=entered, eth_dst=v.value), copied(copies), origin)


def virtual_match(v: VirtualView) -> Match:
    """Packets to a virtual address."""
    prefix = ip_network(v.value)
    return match(eth_type=IPV4, ipv4_dst=masked(prefix)) if prefix.version == 4 else match(eth_type=IPV6, ipv6_dst=masked(prefix))


def virtual_priority(v: VirtualView, below: int) -> int:
    """The priority of a flow for a virtual address, less than `below`: the longer prefix decides."""
    prefix = ip_network(v.value)
    return below - 1 - (prefix.max_prefixlen - prefix.prefixlen)


def replicate(
    n: NetworkView | VirtualView, ports: Iterable[int], vteps: Iterable[str], tunnel: int | None, origin: Origin
) -> tuple[list[Group], list[Group]]:
    """Groups that copy a packet to local ports and to other hosts. Each copy is a bucket, so what is done to one does not
    show in the next. Open vSwitch never sends a copy back out of the port by which the packet came in."""
    deliver = Resubmit(Table.ACL_OUT)
    local = list(_groups((Bucket((*receives(n.policy_out), Set(REG_OUTPUT, port), deliver)) for port in ports), origin))
    if tunnel is None:
        return local, []
    away = (Set("tunnel_id", vni_of(n.vni)), Set(REG_OUTPUT, tunnel))
    return local, list(_groups((Bucket((to_vtep(v), *away, deliver)) for v in vteps), origin))


def copied(groups: Iterable[Group]) -> tuple[ToGroup, ...]:
    """The actions that send a packet through groups."""
    return tuple(ToGroup(group.group_id) for group in groups)


def _groups(buckets: Iterable[Bucket], origin: Origin) -> Iterator[Group]:
    every = tuple(buckets)
    for start in range(0, len(every), GROUP_BUCKETS):
        yield Group(every[start : start + GROUP_BUCKETS], origin)


def receives(policy_out: int) -> tuple[Set, ...]:
    """The metadata for a packet to a port of the network: the policy over what it receives, if there is one."""
    return (Set(POLICY, policy_out),) if policy_out else ()
