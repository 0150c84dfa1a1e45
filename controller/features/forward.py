"""FORWARD: the destination MAC leads to a local port or to the VTEP of another host. Unknown destinations are dropped."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.flow import Flow, Goto, Ref, Set, match
from pipeline.tables import ORIGIN_LOCAL, POLICY, REG_OUTPUT, Table, at
from specs.view import EndpointView

KNOWN = 100
GROUP_BIT = ("01:00:00:00:00:00", "01:00:00:00:00:00")  # broadcast and multicast


def base(tunnel: int | None) -> Iterator[Flow]:
    """Broadcast and multicast go to FLOOD."""
    yield Flow(Table.FORWARD, KNOWN, match(eth_dst=GROUP_BIT), (Goto(at(Table.FLOOD)),), Ref("pipeline", "forward"))


def endpoint(e: EndpointView, tunnel: int | None) -> Iterator[Flow]:
    """To a local port from anywhere; to another host only what began here, so that no packet is tunnelled twice."""
    origin = Ref("endpoint", e.id)
    deliver = Goto(at(Table.ACL_OUT))
    if e.ofport is not None:
        yield Flow(
            Table.FORWARD,
            KNOWN,
            match(reg0=e.vni, eth_dst=e.mac),
            (*receives(e.policy_out), Set(REG_OUTPUT, e.ofport), deliver),
            origin,
        )
    elif tunnel is not None and e.vtep is not None:
        yield Flow(
            Table.FORWARD,
            KNOWN,
            match(reg0=e.vni, reg1=ORIGIN_LOCAL, eth_dst=e.mac),
            (Set("tunnel_id", e.vni), Set("tun_ipv4_dst", e.vtep), Set(REG_OUTPUT, tunnel), deliver),
            origin,
        )


def receives(policy_out: int) -> tuple[Set, ...]:
    """What decides over a packet for a port of the network: nothing where there is no policy."""
    return (Set(POLICY, policy_out),) if policy_out else ()
