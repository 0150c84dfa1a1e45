"""SPOOF_GUARD: a packet from an endpoint's port must carry the endpoint's own MAC and addresses, or those that it is allowed, also inside
ARP and neighbour discovery. An allowed address may have its own MAC or the one that the spec gives it; the endpoint's own addresses
have the endpoint's MAC in ARP and neighbour discovery."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_network

from acl.fragments import headless
from intent.views import EndpointView
from pipeline.flow import FRAG_ANY, CheckLarger, Flow, Goto, Match, Origin, Value, match
from pipeline.protocols import (
    ADVERTISEMENT,
    ARP,
    ICMPV6,
    IPV4,
    IPV6,
    MLD2_REPORT,
    NEIGHBOUR_DISCOVERY,
    REDIRECT,
    ROUTER_ADVERTISEMENT,
    ROUTER_SOLICITATION,
    SOLICITATION,
    TPIDS,
    UDP,
    IpNetwork,
    address_text,
)
from pipeline.tables import REG_LARGE, Table, after
from specs.model.derived import link_local

CLIENT_TO_SERVER = {IPV4: 67, IPV6: 547}  # UDP ports of DHCP servers (RFC 2131, RFC 8415)
SERVER_TO_CLIENT = {IPV4: 68, IPV6: 546}
ABSENT = "00:00:00:00:00:00"  # how OVS shows a link-layer option that a message does not have
LINK_PROTOCOLS = ("01:80:c2:00:00:00", "ff:ff:ff:ff:ff:f0")  # IEEE 802.1D: bridges never forward these

ANY_TAG = (0x1000, 0x1000)

LINK_LOCAL = ("fe80::", "ffc0::")  # RFC 4291, 2.5.6
FROM_A_MAC = ("fe80::ff:fe00:0", "ffc0::ff:ff00:0")  # those with the mark of a modified EUI-64 (RFC 4291, appendix A)

OWN = 100  # the endpoint's own addresses
REFUSE = 90  # ARP, IPv4, IPv6: other senders are refused
OTHER = 80  # anything else with the right MAC
FOREIGN = 1  # another MAC
TAGGED = 105
NEVER = 110  # refused from any sender
OPEN = 115  # behind an interface there may be routers and any machine: its ACL decides
GUARDED = 117  # a DHCP server behind an interface, on a network that the controller serves
BRIDGES = 120  # refused there, too: bridge protocols, hidden headers

# Open vSwitch shows a message with two options of one kind as one without, and ignores those of another length. No message with
# more than one option is longer (RFC 4861, 4.3 and 4.4, with one option of 8 bytes): ARP drops what is.
LONGEST_ND = 14 + 40 + 24 + 8
_MEASURED = (CheckLarger(LONGEST_ND, REG_LARGE), Goto(after(Table.SPOOF_GUARD)))


def base(tunnel: int | None) -> Iterator[Flow]:
    """Refused on every port: router advertisements, redirects, replies of DHCP servers, bridge protocols, fragments that hide what they are. Clients check the
    port that a reply comes to, not the one that it comes from, so either of the two gives a server away."""
    origin = Origin("pipeline", "spoof")
    for icmp_type in (ROUTER_ADVERTISEMENT, REDIRECT):
        fields = match(eth_type=IPV6, ip_proto=ICMPV6, icmpv6_type=icmp_type)
        yield Flow(Table.SPOOF_GUARD, NEVER, fields, (), origin)
    for eth_type, port in CLIENT_TO_SERVER.items():
        yield Flow(Table.SPOOF_GUARD, NEVER, match(eth_type=eth_type, ip_proto=UDP, udp_src=port), (), origin)
        yield Flow(
            Table.SPOOF_GUARD, NEVER, match(eth_type=eth_type, ip_proto=UDP, udp_dst=SERVER_TO_CLIENT[eth_type]), (), origin
        )
    yield Flow(Table.SPOOF_GUARD, BRIDGES, match(eth_dst=LINK_PROTOCOLS), (), origin)
    for fields in headless():
        yield Flow(Table.SPOOF_GUARD, BRIDGES, fields, (), origin)
    for icmp_type in NEIGHBOUR_DISCOVERY:  # its options could be in a later fragment (RFC 6980)
        fields = match(eth_type=IPV6, ip_proto=ICMPV6, ip_frag=FRAG_ANY, icmpv6_type=icmp_type)
        yield Flow(Table.SPOOF_GUARD, BRIDGES, fields, (), origin)


def endpoint(e: EndpointView, tunnel: int | None) -> Iterator[Flow]:
    """The senders that one endpoint may be. In a network without ranges only MACs are checked."""
    if e.ofport is None:
        return
    if e.unknown_macs:
        # past the ARP table: machines change their cards, and the endpoint that they ask learns the new MAC from the request
        fields = match(reg0=e.vni, in_port=e.ofport)
        yield Flow(Table.SPOOF_GUARD, OPEN, fields, (Goto(Table.CONNTRACK),), Origin("endpoint", e.id))
        if e.guarded:
            yield from _no_server(e, e.ofport)
        return
    yield Flow(Table.SPOOF_GUARD, FOREIGN, match(reg0=e.vni, in_port=e.ofport), (), Origin("endpoint", e.id))
    for mac in dict.fromkeys((e.mac, *(mac for _, mac in e.allowed))):
        yield _allow(e, OTHER, mac)
        yield from _tags(e, mac)
        if e.bound:
            for eth_type in (ARP, IPV4, IPV6):
                yield _refuse(e, REFUSE, mac, eth_type=eth_type)
            yield from dict.fromkeys((*_senders4(e, mac), *_senders6(e, mac)))


def _no_server(e: EndpointView, ofport: int) -> Iterator[Flow]:
    """What a DHCP server behind an interface sends: the outer network's must not answer where the controller does."""
    for eth_type, port in CLIENT_TO_SERVER.items():
        for field in ({"udp_src": port}, {"udp_dst": SERVER_TO_CLIENT[eth_type]}):
            fields = match(reg0=e.vni, in_port=ofport, eth_type=eth_type, ip_proto=UDP, **field)
            yield Flow(Table.SPOOF_GUARD, GUARDED, fields, (), Origin("endpoint", e.id))


def _tags(e: EndpointView, mac: str) -> Iterator[Flow]:
    """Packets inside a tag, or inside a second one under the tag that was removed."""
    if e.transparent:  # they have addresses of their own: the ARP table does not answer them
        fields = _from(e, mac, vlan_vid=ANY_TAG)
        yield Flow(Table.SPOOF_GUARD, TAGGED, fields, (Goto(Table.CONNTRACK),), Origin("endpoint", e.id))
    elif e.tag:
        yield _refuse(e, TAGGED, mac, vlan_vid=ANY_TAG)
        for tpid in TPIDS:  # beyond `vlan-limit` (1 by default, ovs-vswitchd.conf.db(5)) OVS reads a tag as a type
            yield _refuse(e, TAGGED, mac, eth_type=tpid)


def _senders4(e: EndpointView, mac: str) -> Iterator[Flow]:
    """The senders in IPv4 and ARP: the endpoint's address, and none while it asks a DHCP server for one; and those that it is allowed."""
    if e.ipv4 is not None:
        yield _allow(e, OWN, mac, eth_type=IPV4, ipv4_src=address_text(e.ipv4))
    if e.ipv4 is not None and mac == e.mac:
        yield from _arp(e, mac, address_text(e.ipv4))
        if e.dhcp:  # it has no address yet
            yield _allow(e, OWN, mac, eth_type=IPV4, ip_proto=UDP, ipv4_src="0.0.0.0", udp_dst=CLIENT_TO_SERVER[IPV4])
    if e.leases and mac == e.mac:  # it has no address, or is about to lose the one that it has
        yield _allow(e, OWN, mac, **asks_outside("0.0.0.0"))
        if e.ipv4 is None:  # a probe of what it was offered (RFC 5227)
            yield _allow(e, OWN, mac, eth_type=ARP, arp_spa="0.0.0.0", arp_sha=mac)
    for address in _allowed(e, mac, 4):
        yield _allow(e, OWN, mac, eth_type=IPV4, ipv4_src=address)
        yield from _arp(e, mac, address)


def _arp(e: EndpointView, mac: str, address: Value) -> Iterator[Flow]:
    for sender in (address, "0.0.0.0"):  # the latter is an address probe (RFC 5227)
        yield _allow(e, OWN, mac, eth_type=ARP, arp_spa=sender, arp_sha=mac)


def _allowed(e: EndpointView, mac: str, version: int) -> list[Value]:
    """The allowed addresses and ranges that may have a MAC: the endpoint's own goes with all of them."""
    prefixes = (ip_network(address) for address, bound in e.allowed if mac in (bound, e.mac))
    return [masked(prefix) for prefix in prefixes if prefix.version == version]


def masked(prefix: IpNetwork) -> Value:
    """A prefix as the value of a field: an address, or one with its mask."""
    return (
        str(prefix.network_address)
        if prefix.prefixlen == prefix.max_prefixlen
        else (str(prefix.network_address), str(prefix.netmask))
    )


def _senders6(e: EndpointView, mac: str) -> Iterator[Flow]:
    """The senders in IPv6: the endpoint's address, its link-local one, and those that it is allowed, and none while it looks for routers and
    duplicates. Its neighbour discovery is measured on the way to ARP."""
    own_addresses, allowed = (address_text(e.ipv6),) if e.ipv6 is not None else (), _allowed(e, mac, 6)
    if not own_addresses and not allowed:
        return
    named = (
        (*own_addresses, address_text(link_local(mac))) if mac == e.mac else (address_text(link_local(mac)),)
    )  # in neighbour discovery
    accepted = [fields for address in named for fields in _nd(mac, address, named)]
    accepted += [fields for address in allowed for fields in _nd(mac, address, (address,))]
    accepted += [_advertises(address, target, option) for address in named for target in allowed for option in (mac, ABSENT)]
    for fields in accepted:
        yield Flow(Table.SPOOF_GUARD, OWN, _from(e, mac, **fields), _MEASURED, Origin("endpoint", e.id))
    for address in (*own_addresses, address_text(link_local(e.mac)), *named, *allowed):
        yield _allow(e, OWN - 4, mac, eth_type=IPV6, ipv6_src=address)
    yield from _chosen_link_local(e, mac, (*(own_addresses if mac == e.mac else ()), *allowed))
    for icmp_type in (SOLICITATION, ADVERTISEMENT):
        yield _refuse(e, OWN - 3, mac, eth_type=IPV6, ip_proto=ICMPV6, icmpv6_type=icmp_type)
    for icmp_type in (ROUTER_SOLICITATION, MLD2_REPORT) if e.dhcp and mac == e.mac else (MLD2_REPORT,):
        yield _allow(e, OWN, mac, eth_type=IPV6, ip_proto=ICMPV6, ipv6_src="::", icmpv6_type=icmp_type)


def _chosen_link_local(e: EndpointView, mac: str, addresses: Iterable[Value]) -> Iterator[Flow]:
    """Link-local addresses that the endpoint has chosen itself (RFC 7217), except those derived from a MAC: that would be another endpoint's, or
    the gateway's. It may advertise its other `addresses` from them."""
    nd: dict[str, Value] = {"eth_type": IPV6, "ip_proto": ICMPV6}
    for icmp_type in (SOLICITATION, ADVERTISEMENT):
        yield _refuse(e, OWN - 1, mac, **nd, ipv6_src=FROM_A_MAC, icmpv6_type=icmp_type)
    yield _refuse(e, OWN - 1, mac, **nd, icmpv6_type=ADVERTISEMENT, ipv6_nd_target=FROM_A_MAC)
    detects: dict[str, Value] = {**nd, "ipv6_src": "::", "icmpv6_type": SOLICITATION}
    yield _refuse(e, OWN - 1, mac, **detects, ipv6_nd_target=FROM_A_MAC)
    accepted: list[dict[str, Value]] = [{**detects, "ipv6_nd_target": LINK_LOCAL, "ipv6_nd_sll": ABSENT}]
    pairs = [
        (LINK_LOCAL, LINK_LOCAL),
        *(pair for address in addresses for pair in ((address, LINK_LOCAL), (LINK_LOCAL, address))),
    ]
    for option in (mac, ABSENT):
        accepted.append({**nd, "ipv6_src": LINK_LOCAL, "icmpv6_type": SOLICITATION, "ipv6_nd_sll": option})
        accepted += [_advertises(sender, target, option) for sender, target in pairs]
    for fields in accepted:
        yield Flow(Table.SPOOF_GUARD, OWN - 2, _from(e, mac, **fields), _MEASURED, Origin("endpoint", e.id))
    yield _refuse(e, OWN - 5, mac, eth_type=IPV6, ipv6_src=FROM_A_MAC)
    yield _allow(e, OWN - 6, mac, eth_type=IPV6, ipv6_src=LINK_LOCAL)


def asks_outside(sender: str) -> dict[str, Value]:
    """The questions of an endpoint to a DHCP server outside."""
    ports = {"udp_src": SERVER_TO_CLIENT[IPV4], "udp_dst": CLIENT_TO_SERVER[IPV4]}
    return {"eth_type": IPV4, "ip_proto": UDP, "ipv4_src": sender, **ports}


def _allow(e: EndpointView, priority: int, mac: str, **fields: Value) -> Flow:
    onward = (Goto(after(Table.SPOOF_GUARD)),)
    return Flow(Table.SPOOF_GUARD, priority, _from(e, mac, **fields), onward, Origin("endpoint", e.id))


def _refuse(e: EndpointView, priority: int, mac: str, **fields: Value) -> Flow:
    return Flow(Table.SPOOF_GUARD, priority, _from(e, mac, **fields), (), Origin("endpoint", e.id))


def _from(e: EndpointView, mac: str, **fields: Value) -> Match:
    assert e.ofport is not None
    return match(reg0=e.vni, in_port=e.ofport, eth_src=mac, **fields)


def _nd(mac: str, sender: Value, targets: Iterable[Value]) -> Iterator[dict[str, Value]]:
    """Neighbour discovery (RFC 4861): the link-layer option, where there is one, must name the MAC that has sent it."""
    nd: dict[str, Value] = {"eth_type": IPV6, "ip_proto": ICMPV6}
    for option in (mac, ABSENT):
        yield {**nd, "ipv6_src": sender, "icmpv6_type": SOLICITATION, "ipv6_nd_sll": option}
        for target in targets:
            yield _advertises(sender, target, option)
    yield {**nd, "ipv6_src": "::", "icmpv6_type": SOLICITATION, "ipv6_nd_target": sender, "ipv6_nd_sll": ABSENT}


def _advertises(sender: Value, target: Value, option: str) -> dict[str, Value]:
    about: dict[str, Value] = {"ipv6_nd_target": target, "ipv6_nd_tll": option}
    return {"eth_type": IPV6, "ip_proto": ICMPV6, "ipv6_src": sender, "icmpv6_type": ADVERTISEMENT, **about}
