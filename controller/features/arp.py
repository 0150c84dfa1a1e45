"""ARP: requests and neighbour solicitations for known neighbours are answered here, so that none crosses the underlay."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

from controller.features.spoof import ADVERTISEMENT, ARP, ICMPV6, IPV6, SOLICITATION
from pipeline.flow import Action, Flow, Goto, Move, Ref, Set, Value, match
from pipeline.tables import ORIGIN_ANSWER, ORIGIN_LOCAL, REG_NETWORK, REG_ORIGIN, Table, at
from specs.derived import link_local
from specs.dhcp import SERVER4
from specs.gateway import GATEWAY_MAC
from specs.view import EndpointView, NetworkView

REQUEST, REPLY = 1, 2
SELF = 110  # an endpoint that asks for itself looks for a double: silence is the right answer
KNOWN = 100

SOLICITED_OVERRIDE = 0x6000_0000  # flags of a neighbour advertisement (RFC 4861, 4.4)
TARGET_LINK_LAYER = 2  # option type (RFC 4861, 4.6.1)


def base(tunnel: int | None) -> Iterator[Flow]:
    """Finishes an advertisement. OVS lets only a flow that matches type 136 write its link-layer option."""
    advertised = match(reg1=ORIGIN_ANSWER, eth_type=IPV6, ip_proto=ICMPV6, icmpv6_type=ADVERTISEMENT)
    actions = (
        Set("nd_reserved", SOLICITED_OVERRIDE),
        Set("nd_options_type", TARGET_LINK_LAYER),
        Move("eth_src", "ipv6_nd_tll"),
        Goto(at(Table.MIRROR)),
    )
    yield Flow(Table.ANSWER, KNOWN, advertised, actions, Ref("pipeline", "answer"))


def endpoint(e: EndpointView, tunnel: int | None) -> Iterator[Flow]:
    """Answers for one known neighbour."""
    if e.distant:
        return
    origin = Ref("endpoint", e.id)
    if e.ipv4 is not None:
        address = str(e.ipv4)
        asked = match(reg0=e.vni, eth_type=ARP, arp_op=REQUEST, arp_tpa=address)
        yield Flow(Table.ARP, KNOWN, asked, _arp_reply(e.mac, e.ipv4), origin)
        if e.ofport is not None:
            own = match(reg0=e.vni, in_port=e.ofport, eth_type=ARP, arp_op=REQUEST, arp_tpa=address)
            yield Flow(Table.ARP, SELF, own, (), origin)
    if e.ipv6 is not None:
        for target in (e.ipv6, link_local(e.mac)):
            nd: dict[str, Value] = {
                "eth_type": IPV6,
                "ip_proto": ICMPV6,
                "icmpv6_type": SOLICITATION,
                "ipv6_nd_target": str(target),
            }
            yield Flow(Table.ARP, KNOWN, match(reg0=e.vni, **nd), _advertisement(e.mac, target), origin)
            if e.ofport is not None:
                yield Flow(Table.ARP, SELF, match(reg0=e.vni, in_port=e.ofport, **nd), (), origin)


def network(n: NetworkView, tunnel: int | None) -> Iterator[Flow]:
    """The gateway is a neighbour on every host, and so is the DHCP server of a network without one."""
    g, origin = n.gateway, Ref("network", n.id)
    if g is None:
        if n.dhcp:
            asked = match(reg0=n.vni, reg1=ORIGIN_LOCAL, eth_type=ARP, arp_op=REQUEST, arp_tpa=str(SERVER4))
            yield Flow(Table.ARP, KNOWN, asked, _arp_reply(GATEWAY_MAC, SERVER4), origin)
        return
    if g.ipv4 is not None:
        asked = match(reg0=n.vni, reg1=ORIGIN_LOCAL, eth_type=ARP, arp_op=REQUEST, arp_tpa=str(g.ipv4.ip))
        yield Flow(Table.ARP, KNOWN, asked, _arp_reply(GATEWAY_MAC, g.ipv4.ip), origin)
    for target in (g.ipv6.ip, link_local(GATEWAY_MAC)) if g.ipv6 is not None else ():
        nd = match(
            reg0=n.vni, reg1=ORIGIN_LOCAL, eth_type=IPV6, ip_proto=ICMPV6, icmpv6_type=SOLICITATION, ipv6_nd_target=str(target)
        )
        yield Flow(Table.ARP, KNOWN, nd, _advertisement(GATEWAY_MAC, target), origin)


def _arp_reply(mac: str, address: IPv4Address) -> tuple[Action, ...]:
    return (
        Move("eth_src", "eth_dst"),
        Set("eth_src", mac),
        Set("arp_op", REPLY),
        Move("arp_sha", "arp_tha"),
        Set("arp_sha", mac),
        Move("arp_spa", "arp_tpa"),
        Set("arp_spa", str(address)),
        Set(REG_ORIGIN, ORIGIN_ANSWER),
        Goto(at(Table.MIRROR)),
    )


def _advertisement(mac: str, target: IPv6Address) -> tuple[Action, ...]:
    return (
        Move("eth_src", "eth_dst"),
        Set("eth_src", mac),
        Move("ipv6_src", "ipv6_dst"),
        Set("ipv6_src", str(target)),
        Set("icmpv6_type", ADVERTISEMENT),
        Set(REG_ORIGIN, ORIGIN_ANSWER),
        Goto(Table.ANSWER),
    )


assert REG_NETWORK == "reg0"  # match() takes register names as keywords
