"""SPOOF_GUARD: a packet from an endpoint's port must carry the endpoint's own MAC and addresses, also inside ARP and
neighbour discovery."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

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
TAGGED = 105
NEVER = 110  # refused from any sender
OPEN = 115  # behind an interface there may be routers and any machine: its ACL decides
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
    """The senders that one endpoint may be. In a network without ranges only its MAC is checked."""
    if e.ofport is None:
        return
    if e.unknown_macs:
        # past the ARP table: machines change their cards, and the endpoint that they ask learns the new MAC from the request
        fields = match(reg0=e.vni, in_port=e.ofport)
        yield Flow(Table.SPOOF_GUARD, OPEN, fields, (Goto(Table.CONNTRACK),), Origin("endpoint", e.id))
        return
    yield _allow(e, OTHER)
    yield from _tags(e)
    if e.bound:
        for eth_type in (ARP, IPV4, IPV6):
            yield _refuse(e, REFUSE, eth_type=eth_type)
        yield from _senders4(e)
        yield from _senders6(e)


def _tags(e: EndpointView) -> Iterator[Flow]:
    """Packets inside a tag, or inside a second one under the tag that was removed."""
    if e.transparent:  # they have addresses of their own: the ARP table does not answer them
        fields = _from(e, vlan_vid=ANY_TAG)
        yield Flow(Table.SPOOF_GUARD, TAGGED, fields, (Goto(Table.CONNTRACK),), Origin("endpoint", e.id))
    elif e.tag:
        yield _refuse(e, TAGGED, vlan_vid=ANY_TAG)
        for tpid in TPIDS:  # beyond `vlan-limit` (1 by default, ovs-vswitchd.conf.db(5)) OVS reads a tag as a type
            yield _refuse(e, TAGGED, eth_type=tpid)


def _senders4(e: EndpointView) -> Iterator[Flow]:
    """The senders in IPv4 and ARP: the endpoint's address, and none while it asks a DHCP server for one."""
    if e.ipv4 is not None:
        yield from (_allow(e, OWN, **fields) for fields in _ipv4(e.mac, e.ipv4))
        if e.dhcp:  # it has no address yet
            yield _allow(e, OWN, eth_type=IPV4, ip_proto=UDP, ipv4_src="0.0.0.0", udp_dst=CLIENT_TO_SERVER[IPV4])
    if e.leases:  # it has no address, or is about to lose the one that it has
        yield _allow(e, OWN, **asks_outside("0.0.0.0"))
        if e.ipv4 is None:  # a probe of what it was offered (RFC 5227)
            yield _allow(e, OWN, eth_type=ARP, arp_spa="0.0.0.0", arp_sha=e.mac)


def _senders6(e: EndpointView) -> Iterator[Flow]:
    """The senders in IPv6: the endpoint's address and its link-local one, and none while it looks for routers and duplicates. Its neighbour
    discovery is measured on the way to ARP."""
    if e.ipv6 is None:
        return
    both = (e.ipv6, link_local(e.mac))
    for address in both:
        for fields in _ipv6(e.mac, address, both):
            yield Flow(Table.SPOOF_GUARD, OWN, _from(e, **fields), _MEASURED, Origin("endpoint", e.id))
        yield _allow(e, OWN - 4, eth_type=IPV6, ipv6_src=address_text(address))
    yield from _chosen_link_local(e, e.ipv6)
    for icmp_type in (SOLICITATION, ADVERTISEMENT):
        yield _refuse(e, OWN - 3, eth_type=IPV6, ip_proto=ICMPV6, icmpv6_type=icmp_type)
    for icmp_type in (ROUTER_SOLICITATION, MLD2_REPORT) if e.dhcp else (MLD2_REPORT,):
        yield _allow(e, OWN, eth_type=IPV6, ip_proto=ICMPV6, ipv6_src="::", icmpv6_type=icmp_type)


def _chosen_link_local(e: EndpointView, address: IPv6Address) -> Iterator[Flow]:
    """Link-local addresses that the endpoint has chosen itself (RFC 7217), except those derived from a MAC: that would be another endpoint's, or
    the gateway's."""
    nd: dict[str, Value] = {"eth_type": IPV6, "ip_proto": ICMPV6}
    for icmp_type in (SOLICITATION, ADVERTISEMENT):
        yield _refuse(e, OWN - 1, **nd, ipv6_src=FROM_A_MAC, icmpv6_type=icmp_type)
    yield _refuse(e, OWN - 1, **nd, icmpv6_type=ADVERTISEMENT, ipv6_nd_target=FROM_A_MAC)
    detects: dict[str, Value] = {**nd, "ipv6_src": "::", "icmpv6_type": SOLICITATION}
    yield _refuse(e, OWN - 1, **detects, ipv6_nd_target=FROM_A_MAC)
    accepted: list[dict[str, Value]] = [{**detects, "ipv6_nd_target": LINK_LOCAL, "ipv6_nd_sll": ABSENT}]
    global_address = address_text(address)
    for option in (e.mac, ABSENT):
        accepted.append({**nd, "ipv6_src": LINK_LOCAL, "icmpv6_type": SOLICITATION, "ipv6_nd_sll": option})
        for sender, target in ((LINK_LOCAL, LINK_LOCAL), (global_address, LINK_LOCAL), (LINK_LOCAL, global_address)):
            about: dict[str, Value] = {"ipv6_nd_target": target, "ipv6_nd_tll": option}
            accepted.append({**nd, "ipv6_src": sender, "icmpv6_type": ADVERTISEMENT, **about})
    for fields in accepted:
        yield Flow(Table.SPOOF_GUARD, OWN - 2, _from(e, **fields), _MEASURED, Origin("endpoint", e.id))
    yield _refuse(e, OWN - 5, eth_type=IPV6, ipv6_src=FROM_A_MAC)
    yield _allow(e, OWN - 6, eth_type=IPV6, ipv6_src=LINK_LOCAL)


def asks_outside(sender: str) -> dict[str, Value]:
    """The questions of an endpoint to a DHCP server outside."""
    ports = {"udp_src": SERVER_TO_CLIENT[IPV4], "udp_dst": CLIENT_TO_SERVER[IPV4]}
    return {"eth_type": IPV4, "ip_proto": UDP, "ipv4_src": sender, **ports}


def _allow(e: EndpointView, priority: int, **fields: Value) -> Flow:
    return Flow(Table.SPOOF_GUARD, priority, _from(e, **fields), (Goto(after(Table.SPOOF_GUARD)),), Origin("endpoint", e.id))


def _refuse(e: EndpointView, priority: int, **fields: Value) -> Flow:
    return Flow(Table.SPOOF_GUARD, priority, _from(e, **fields), (), Origin("endpoint", e.id))


def _from(e: EndpointView, **fields: Value) -> Match:
    assert e.ofport is not None
    return match(reg0=e.vni, in_port=e.ofport, eth_src=e.mac, **fields)


def _ipv4(mac: str, address: IPv4Address) -> Iterator[dict[str, Value]]:
    yield {"eth_type": IPV4, "ipv4_src": str(address)}
    for sender in (str(address), "0.0.0.0"):  # the latter is an address probe (RFC 5227)
        yield {"eth_type": ARP, "arp_spa": sender, "arp_sha": mac}


def _ipv6(mac: str, address: IPv6Address, targets: tuple[IPv6Address, ...]) -> Iterator[dict[str, Value]]:
    """Neighbour discovery (RFC 4861): the link-layer option, where there is one, must name the sender's own MAC."""
    nd: dict[str, Value] = {"eth_type": IPV6, "ip_proto": ICMPV6}
    sender, target_texts = address_text(address), [address_text(target) for target in targets]
    for option in (mac, ABSENT):
        yield {**nd, "ipv6_src": sender, "icmpv6_type": SOLICITATION, "ipv6_nd_sll": option}
        for target in target_texts:
            yield {**nd, "ipv6_src": sender, "icmpv6_type": ADVERTISEMENT, "ipv6_nd_target": target, "ipv6_nd_tll": option}
    yield {**nd, "ipv6_src": "::", "icmpv6_type": SOLICITATION, "ipv6_nd_target": sender, "ipv6_nd_sll": ABSENT}
