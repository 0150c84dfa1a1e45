"""OUTPUT: the packet leaves by the port in the output register. Port 0 is no port, so an unset register drops.

The switch's own answers go back to the port that asked.
"""

from __future__ import annotations

from collections.abc import Iterator

from controller.compiler.features.classify import VLAN_PRESENT
from intent.gateway import GATEWAY_MAC
from intent.views import EndpointView, NetworkView
from pipeline.flow import Flow, InPort, Origin, OutputReg, PushVlan, Set, Value, match
from pipeline.protocols import DOT1Q, IPV4, IPV6
from pipeline.tables import ORIGIN_ANSWER, REG_OUTPUT, Table

ANSWER = 130  # made in the ARP or the ROUTE table: back to the port that asked
ROUND, TAG = 105, 100


def base(tunnel: int | None) -> Iterator[Flow]:
    """Without this drop an unset register would mean port 0."""
    origin = Origin("pipeline", "output")
    yield Flow(Table.OUTPUT, ANSWER, match(reg1=ORIGIN_ANSWER), (InPort(),), origin)
    yield Flow(Table.OUTPUT, 100, match(reg2=0), (), origin)
    yield Flow(Table.OUTPUT, 90, match(), (OutputReg(REG_OUTPUT),), origin)


def endpoint(e: EndpointView, tunnel: int | None) -> Iterator[Flow]:
    """On a shared port, an endpoint's frames leave under its tag. A packet that a router routes from one endpoint of a port
    to another one of the same port goes back out of it."""
    if e.ofport is None:
        return
    origin = Origin("endpoint", e.id)
    tag = (PushVlan(DOT1Q), Set("vlan_vid", e.tag | VLAN_PRESENT)) if e.tag else ()
    if e.routed and not e.unknown_macs:
        round_ = match(reg0=e.vni, reg2=e.ofport, in_port=e.ofport, eth_src=GATEWAY_MAC)
        yield Flow(Table.OUTPUT, ROUND, round_, (*tag, InPort()), origin)
    if not e.tag:
        return
    back = match(reg0=e.vni, reg1=ORIGIN_ANSWER, in_port=e.ofport)
    yield Flow(Table.OUTPUT, ANSWER + 1, back, (*tag, InPort()), origin)
    yield Flow(Table.OUTPUT, TAG, match(reg0=e.vni, reg2=e.ofport), (*tag, OutputReg(REG_OUTPUT)), origin)


def network(n: NetworkView, tunnel: int | None) -> Iterator[Flow]:
    """A network in mode nat shows its transit addresses and those of its endpoints to the outside, and no others."""
    g = n.gateway
    if g is None or g.uplink is None or not g.nat:
        return
    origin = Origin("network", n.id)
    for eth_type, name, transit, ports in ((IPV4, "ipv4_src", g.transit4, g.ports4), (IPV6, "ipv6_src", g.transit6, g.ports6)):
        sources: list[Value] = [str(transit)] if transit is not None else []
        if ports is not None:
            sources.append((str(ports.network_address), str(ports.netmask)))
        for source in sources:
            shown: dict[str, Value] = {"eth_type": eth_type, name: source}
            yield Flow(Table.OUTPUT, 120, match(reg0=n.vni, reg2=g.uplink, **shown), (OutputReg(REG_OUTPUT),), origin)
    yield Flow(Table.OUTPUT, 110, match(reg0=n.vni, reg2=g.uplink), (), origin)
