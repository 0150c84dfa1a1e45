"""ARP: answers ARP requests and neighbour solicitations here, so that none crosses the underlay.

An ARP request is turned into its reply. A neighbour solicitation cannot be: the kernel's Open vSwitch cannot make a target
link-layer option (ovs-fields(7), ICMPv6 Neighbor Discovery), and an advertisement without one says nothing. So the neighbour
seems to ask back: the solicitation returns with the neighbour as its sender and the asker's own address as its target. The
asker learns the neighbour's link-layer address from it (RFC 4861, 7.2.3) and advertises itself; that advertisement, which
has the option, is returned as the neighbour's.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_network

from controller.compiler.features.spoof import FROM_A_MAC, LINK_LOCAL, masked
from intent.gateway import GATEWAY_MAC
from intent.views import EndpointView, NetworkView
from pipeline.flow import Action, Flow, Goto, Match, Move, Origin, Resubmit, Set, Value, match
from pipeline.protocols import ADVERTISEMENT, ARP, ICMPV6, IPV6, SOLICITATION, address_text
from pipeline.tables import ORIGIN_ANSWER, ORIGIN_LOCAL, REG_LARGE, REG_NETWORK, REG_ORIGIN, Table
from specs.model.derived import link_local
from specs.model.dhcp import SERVER4

REQUEST, REPLY = 1, 2
LONG = 120
SELF = 110  # an endpoint that asks for its own address looks for a duplicate: it gets no answer
ALLOWED = 105  # advertisements of addresses that an endpoint is allowed
CHOSEN = 103  # advertisements of link-local addresses that endpoints chose themselves
KNOWN = 100
UNICAST = ("00:00:00:00:00:00", "01:00:00:00:00:00")


def base(tunnel: int | None) -> Iterator[Flow]:
    """Neighbour discovery that SPOOF_GUARD has measured and found too long."""
    for icmp_type in (SOLICITATION, ADVERTISEMENT):
        long = match(eth_type=IPV6, ip_proto=ICMPV6, icmpv6_type=icmp_type, **{REG_LARGE: 1})
        yield Flow(Table.ARP, LONG, long, (), Origin("pipeline", "neighbours"))


def endpoint(e: EndpointView, tunnel: int | None) -> Iterator[Flow]:
    """The answers for one known neighbour."""
    if e.routed_remote:
        return
    origin = Origin("endpoint", e.id)
    yield from _virtual(e, origin)
    if e.ipv4 is not None:
        address = str(e.ipv4)
        request = match(reg0=e.vni, eth_type=ARP, arp_op=REQUEST, arp_tpa=address)
        yield Flow(Table.ARP, KNOWN, request, _arp_reply(e.mac, address), origin)
        if e.ofport is not None:
            gratuitous = match(reg0=e.vni, in_port=e.ofport, eth_type=ARP, arp_op=REQUEST, arp_tpa=address)
            yield Flow(Table.ARP, SELF, gratuitous, (), origin)
    if e.ipv6 is not None:
        for target in (address_text(e.ipv6), address_text(link_local(e.mac))):
            nd: dict[str, Value] = {
                "eth_type": IPV6,
                "ip_proto": ICMPV6,
                "icmpv6_type": SOLICITATION,
                "ipv6_nd_target": target,
            }
            yield Flow(Table.ARP, KNOWN, match(reg0=e.vni, **nd), _asks_back(e.mac, target), origin)
            if e.ofport is not None:
                yield Flow(Table.ARP, SELF, match(reg0=e.vni, in_port=e.ofport, **nd), (), origin)


def _virtual(e: EndpointView, origin: Origin) -> Iterator[Flow]:
    """Advertisements of addresses that the switch does not answer for: they may answer another endpoint, or confirm a solicitation that the
    switch made, so they go on and come back, too."""
    prefixes = [ip_network(address) for address, _ in e.allowed]
    if e.ofport is None or all(prefix.version == 4 for prefix in prefixes):
        return
    targets = [masked(prefix) for prefix in prefixes if prefix.version == 6]
    targets += [address_text(link_local(mac)) for mac in dict.fromkeys(mac for _, mac in e.allowed) if mac != e.mac]
    for target in targets:
        nd: dict[str, Value] = {"eth_type": IPV6, "ip_proto": ICMPV6, "icmpv6_type": ADVERTISEMENT, "ipv6_nd_target": target}
        fields = match(reg0=e.vni, in_port=e.ofport, eth_dst=UNICAST, **nd)
        yield Flow(Table.ARP, ALLOWED, fields, (Resubmit(Table.CONNTRACK), *_ADVERTISEMENT), origin)


def network(n: NetworkView, tunnel: int | None) -> Iterator[Flow]:
    """The answers for the gateway, which is a neighbour on every host, or for the servers of a network without one."""
    g, origin = n.gateway, Origin("network", n.id)
    if n.closed6:  # otherwise machines behind an interface may have asked, and the advertisement is for them
        yield Flow(Table.ARP, KNOWN, _advertised(n, UNICAST), _ADVERTISEMENT, origin)
        # It may answer another endpoint's solicitation, which nobody answered for it, or confirm one of the switch's: so it goes on, too
        for about, actions in ((LINK_LOCAL, (Resubmit(Table.CONNTRACK), *_ADVERTISEMENT)), (FROM_A_MAC, _ADVERTISEMENT)):
            priority = CHOSEN if about is LINK_LOCAL else CHOSEN + 1
            fields = match(**dict(_advertised(n, UNICAST)), ipv6_nd_target=about)
            yield Flow(Table.ARP, priority, fields, actions, origin)
    for address in _server_addresses(n, 4):
        request = match(reg0=n.vni, reg1=ORIGIN_LOCAL, eth_type=ARP, arp_op=REQUEST, arp_tpa=str(address))
        yield Flow(Table.ARP, KNOWN, request, _arp_reply(GATEWAY_MAC, str(address)), origin)
    for target in map(str, _server_addresses(n, 6)):
        nd = match(reg0=n.vni, reg1=ORIGIN_LOCAL, eth_type=IPV6, ip_proto=ICMPV6, icmpv6_type=SOLICITATION, ipv6_nd_target=target)
        yield Flow(Table.ARP, KNOWN, nd, _asks_back(GATEWAY_MAC, target), origin)
    if n.dhcp and g is not None and g.ipv6 is not None:
        # The flags are the endpoint's own: they would say that the gateway is no router, and Linux would then give up the advertised route
        yield Flow(Table.ARP, SELF, _advertised(n, GATEWAY_MAC), (), origin)


def _server_addresses(n: NetworkView, version: int) -> Iterator[IPv4Address | IPv6Address]:
    """The addresses of the gateway's MAC: the gateway's, or those of the name server and the DHCP server of a network without one."""
    if n.gateway is not None:
        interface = n.gateway.ipv4 if version == 4 else n.gateway.ipv6
        address = interface.ip if interface is not None else None
    else:
        address = None if n.server is None else n.server.ipv4 if version == 4 else n.server.ipv6
        if n.dhcp and version == 4:
            yield SERVER4
    if address is not None:
        yield address
        if version == 6:
            yield link_local(GATEWAY_MAC)


# Shared by all these flows: a host has one for each endpoint of a network
_ANSWER: tuple[Action, ...] = (Set(REG_ORIGIN, ORIGIN_ANSWER), Goto(Table.MIRROR))
_TO_ASKER = Move("eth_src", "eth_dst")
_IS_REPLY, _OF_SENDER, _TO_SENDER = Set("arp_op", REPLY), Move("arp_sha", "arp_tha"), Move("arp_spa", "arp_tpa")
_FOR_ASKER, _ABOUT_ASKER = Move("ipv6_src", "ipv6_dst"), Move("ipv6_src", "ipv6_nd_target")


def _arp_reply(mac: str, address: str) -> tuple[Action, ...]:
    hardware, sender = Set("arp_sha", mac), Set("arp_spa", address)
    return (_TO_ASKER, Set("eth_src", mac), _IS_REPLY, _OF_SENDER, hardware, _TO_SENDER, sender, *_ANSWER)


def _asks_back(mac: str, target: str) -> tuple[Action, ...]:
    sender, option = Set("ipv6_src", target), Set("ipv6_nd_sll", mac)
    return (_TO_ASKER, Set("eth_src", mac), _ABOUT_ASKER, _FOR_ASKER, sender, option, *_ANSWER)


def _advertised(n: NetworkView, to: Value) -> Match:
    return match(reg0=n.vni, reg1=ORIGIN_LOCAL, eth_dst=to, eth_type=IPV6, ip_proto=ICMPV6, icmpv6_type=ADVERTISEMENT)


_ADVERTISEMENT: tuple[Action, ...] = (  # swap sender and receiver
    Move("eth_dst", "ipv6_nd_tll"),
    _TO_ASKER,
    Move("ipv6_nd_tll", "eth_src"),
    Move("ipv6_dst", "ipv6_nd_target"),
    _FOR_ASKER,
    Move("ipv6_nd_target", "ipv6_src"),
    *_ANSWER,
)

assert REG_NETWORK == "reg0"  # so that a register's name can be a keyword of match()
