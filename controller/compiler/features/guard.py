"""TUNNEL_GUARD: a packet from another host must carry a sender that is there: the MAC of an endpoint of that host, or one with
which its switch sends into the network. So a host that is not its own master any more speaks for its own endpoints alone, and
a stranger for none.

Who that is follows from the specs. The addresses inside a packet are checked on the sender's host only (SPOOF_GUARD).
"""

from __future__ import annotations

from collections.abc import Iterator

from intent.gateway import GATEWAY_MAC, HOST_MAC
from intent.views import EndpointView, NetworkView, VirtualView
from pipeline.flow import Action, Flow, Goto, Origin, Set, Value, match
from pipeline.tables import REG_SOURCE, Table
from pipeline.tunnels import from_vtep

KNOWN, ANY, NOBODY = 100, 50, 1


def endpoint(e: EndpointView, tunnel: int | None) -> Iterator[Flow]:
    """Frames of an endpoint of another host, from that host."""
    if tunnel is None or e.vtep is None or e.routed_remote or e.unknown_macs:
        return
    yield _accept(KNOWN, e.vni, e.vtep, Origin("endpoint", e.id), Set(REG_SOURCE, e.identity), eth_src=e.mac)


def network(n: NetworkView, tunnel: int | None) -> Iterator[Flow]:
    """Frames that the switches of other hosts send as the gateway or as the host, and those of machines behind interfaces."""
    if tunnel is None or not n.ports:
        return
    origin = Origin("network", n.id)
    for mac, vteps in ((GATEWAY_MAC, n.gateway_vteps), (HOST_MAC, n.host_vteps)):
        for vtep in vteps:
            yield _accept(KNOWN, n.vni, vtep, origin, eth_src=mac)
    for vtep in n.interface_vteps:
        yield _accept(ANY, n.vni, vtep, origin)
    yield Flow(Table.TUNNEL_GUARD, NOBODY, match(reg0=n.vni), (), origin)  # the miss, counted for each network


def virtual(v: VirtualView, tunnel: int | None) -> Iterator[Flow]:
    """Frames with a virtual MAC, from the hosts with endpoints that may have it."""
    if tunnel is None or v.macs or v.routed_remote:
        return
    for vtep in v.vteps:
        yield _accept(KNOWN, v.vni, vtep, Origin("virtual", v.value), eth_src=v.value)


def _accept(priority: int, vni: int, vtep: str, origin: Origin, *actions: Action, **fields: Value) -> Flow:
    sent = match(reg0=vni, **from_vtep(vtep), **fields)
    return Flow(Table.TUNNEL_GUARD, priority, sent, (*actions, Goto(Table.CONNTRACK)), origin)
