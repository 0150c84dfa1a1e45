"""FORWARD: the destination MAC leads to a local port or to the VTEP of another host.

Unknown destinations are dropped, unless the network has endpoints behind interfaces (specs/ports.py): then the destination
can only be behind one of these, and all of them get the frame. Nothing is learnt, so a restart loses nothing and nobody can
attract a neighbour's traffic.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from intent.gateway import GATEWAY_MAC
from intent.views import EndpointView, NetworkView
from pipeline.flow import Bucket, Flow, Goto, Group, Origin, Resubmit, Set, ToGroup, match
from pipeline.tables import GROUP_BUCKETS, ORIGIN_GATEWAY, ORIGIN_LOCAL, ORIGIN_TUNNEL, POLICY, REG_OUTPUT, REG_TARGET, Table
from pipeline.tunnels import to_vtep

KNOWN, UNKNOWN = 100, 50
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
        to_host = (Set("tunnel_id", e.vni), to_vtep(e.vtep), Set(REG_OUTPUT, tunnel))
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
    """The flows for unknown destinations."""
    local, remote = replicate(n, n.unknown_macs_ports, n.unknown_macs_vteps, tunnel)
    yield from local
    yield from remote
    for entered, groups in ((ORIGIN_LOCAL, (*local, *remote)), (ORIGIN_TUNNEL, local)):
        if groups:
            actions = tuple(ToGroup(group.group_id) for group in groups)
            yield Flow(Table.FORWARD, UNKNOWN, match(reg0=n.vni, reg1=entered), actions, Origin("network", n.id))
    if n.routed and (local or remote):  # no endpoint has the address that a router was to lead to
        nobody = match(reg0=n.vni, reg1=ORIGIN_LOCAL, eth_dst=GATEWAY_MAC)
        yield Flow(Table.FORWARD, KNOWN, nobody, (), Origin("network", n.id))


def replicate(n: NetworkView, ports: Iterable[int], vteps: Iterable[str], tunnel: int | None) -> tuple[list[Group], list[Group]]:
    """Groups that copy a packet to local ports and to other hosts. Each copy is a bucket, so what is done to one does not
    show in the next. Open vSwitch never sends a copy back out of the port by which the packet came in."""
    origin, deliver = Origin("network", n.id), Resubmit(Table.ACL_OUT)
    local = list(_groups((Bucket((*receives(n.policy_out), Set(REG_OUTPUT, port), deliver)) for port in ports), origin))
    if tunnel is None:
        return local, []
    away = (Set("tunnel_id", n.vni), Set(REG_OUTPUT, tunnel))
    return local, list(_groups((Bucket((to_vtep(v), *away, deliver)) for v in vteps), origin))


def _groups(buckets: Iterable[Bucket], origin: Origin) -> Iterator[Group]:
    every = tuple(buckets)
    for start in range(0, len(every), GROUP_BUCKETS):
        yield Group(every[start : start + GROUP_BUCKETS], origin)


def receives(policy_out: int) -> tuple[Set, ...]:
    """The metadata for a packet to a port of the network: the policy over what it receives, if there is one."""
    return (Set(POLICY, policy_out),) if policy_out else ()
