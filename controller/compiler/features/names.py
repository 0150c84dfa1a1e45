"""Questions of endpoints to their network's name server, and the answers of the host's resolver (intent/names.py). The flows
stand in tables of others: CLASSIFY and ROUTE.

A question has passed the endpoint's ACLs. An answer goes straight to the endpoint, as answers to pings of the gateway do.
"""

from __future__ import annotations

from collections.abc import Iterator

from intent.gateway import GATEWAY_MAC, HOST_MAC
from intent.names import PORT, inner4, inner6
from intent.views import EndpointView, NetworkView
from pipeline.flow import Flow, Goto, Origin, Set, Value, match
from pipeline.protocols import IPV4, IPV6, TCP, UDP, address_text
from pipeline.tables import ORIGIN_GATEWAY, ORIGIN_LOCAL, REG_NETWORK, REG_ORIGIN, REG_OUTPUT, REG_TARGET, Table

QUESTION, ANSWER = 120, 100
UNTAGGED = 0


def questions(n: NetworkView) -> Iterator[Flow]:
    """From the gateway's addresses to the resolver, for ROUTE."""
    server = n.server
    if server is None or not n.ports:
        return
    for eth_type, version, address, inner in (
        (IPV4, 4, server.ipv4, str(inner4(server.zone))),
        (IPV6, 6, server.ipv6, address_text(inner6(server.zone))),
    ):
        for proto, name in ((UDP, "udp"), (TCP, "tcp")) if address is not None else ():
            to: dict[str, Value] = {
                "eth_type": eth_type,
                f"ipv{version}_dst": str(address),
                "ip_proto": proto,
                f"{name}_dst": PORT,
            }
            question = match(reg0=n.vni, reg1=ORIGIN_LOCAL, eth_dst=GATEWAY_MAC, vlan_vid=UNTAGGED, **to)
            onward = Set(f"ipv{version}_dst", inner), Set("eth_dst", HOST_MAC), Set(REG_OUTPUT, server.port), Goto(Table.OUTPUT)
            yield Flow(Table.ROUTE, QUESTION, question, onward, Origin("network", n.id))


def answers(e: EndpointView) -> Iterator[Flow]:
    """From the resolver to an endpoint, for CLASSIFY."""
    server = e.server
    if server is None or e.ofport is None:
        return
    for eth_type, version, address, gateway, inner in (
        (IPV4, 4, e.ipv4, server.ipv4, str(inner4(server.zone))),
        (IPV6, 6, e.ipv6, server.ipv6, address_text(inner6(server.zone))),
    ):
        if address is None or gateway is None:
            continue
        way: dict[str, Value] = {"eth_type": eth_type, f"ipv{version}_src": inner, f"ipv{version}_dst": address_text(address)}
        actions = (
            Set(REG_NETWORK, e.vni),
            Set(REG_ORIGIN, ORIGIN_GATEWAY),
            Set(REG_TARGET, e.identity),
            Set(f"ipv{version}_src", str(gateway)),
            Set("eth_src", GATEWAY_MAC),
            Set("eth_dst", e.mac),
            Set(REG_OUTPUT, e.ofport),
            Goto(Table.MIRROR),
        )
        yield Flow(
            Table.CLASSIFY, ANSWER, match(in_port=server.port, vlan_vid=UNTAGGED, **way), actions, Origin("endpoint", e.id)
        )
