"""Router advertisements (RFC 4861). They say that addresses come by DHCPv6 (managed), that the range is on-link, and whether the
network has a way out."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address

from controller.dhcp.frames import Answer, Datagram, Ignored, cut, icmp6, pseudo6
from controller.dhcp.lease import SERVER6, SERVER_MAC, DhcpLease
from pipeline.protocols import ICMPV6, ROUTER_ADVERTISEMENT, ROUTER_SOLICITATION, checksum, mac_bytes

SOLICITATION, ADVERTISEMENT = "router-solicitation", "router-advertisement"
ALL_NODES, ALL_NODES_MAC = IPv6Address("ff02::1"), "33:33:00:00:00:01"
LIFETIME_S = 9000  # the longest of RFC 4861, 6.2.1: how long a controller may be down
SOURCE_MAC, PREFIX, MTU, DNS = 1, 3, 5, 25
MANAGED_AND_OTHER, ON_LINK = 0xC0, 0x80
FOREVER = 0xFFFF_FFFF
LEAST_MTU = 1280  # of IPv6; a smaller MTU cannot be advertised


def answer(packet: Datagram, lease: DhcpLease) -> Answer:
    """The answer to a router solicitation, to its sender alone. Raises `Ignored`."""
    source, target = packet.source, packet.target
    assert isinstance(source, IPv6Address)
    assert isinstance(target, IPv6Address)
    _check(source, target, packet.hops, packet.payload)
    if source.is_unspecified:
        return Answer(SOLICITATION, ADVERTISEMENT, advertisement(lease))
    return Answer(SOLICITATION, ADVERTISEMENT, icmp6(lease.mac, SERVER6, source, _message(lease)))


def advertisement(lease: DhcpLease) -> bytes:
    """The unsolicited advertisement, which renews an earlier one. Raises `Ignored` for a lease without IPv6."""
    return icmp6(ALL_NODES_MAC, SERVER6, ALL_NODES, _message(lease))


def _check(source: IPv6Address, target: IPv6Address, hops: int, message: bytes) -> None:
    """The checks of RFC 4861, 6.1.1."""
    kind, code = cut(message, 0, 8)[:2]
    whole = checksum(pseudo6(source, target, ICMPV6, len(message)) + message) == 0
    if (kind, code, hops) != (ROUTER_SOLICITATION, 0, 255) or not whole:
        raise Ignored("malformed")
    at = 8
    while at < len(message):
        option, length = cut(message, at, 2)
        if not length or option == SOURCE_MAC and source.is_unspecified:
            raise Ignored("malformed", SOLICITATION)
        cut(message, at, 8 * length)
        at += 8 * length


def _message(lease: DhcpLease) -> bytes:
    if lease.ipv6 is None:
        raise Ignored("no-address", SOLICITATION)
    lifetime_s = LIFETIME_S if lease.router6 else 0
    message = struct.pack("!BBHBBHII", ROUTER_ADVERTISEMENT, 0, 0, 64, MANAGED_AND_OTHER, lifetime_s, 0, 0)
    message += struct.pack("!BB6s", SOURCE_MAC, 1, mac_bytes(SERVER_MAC))
    if lease.mtu >= LEAST_MTU:
        message += struct.pack("!BBHI", MTU, 1, 0, lease.mtu)
    prefix = lease.ipv6.network
    message += struct.pack("!BBBBIII", PREFIX, 4, prefix.prefixlen, ON_LINK, FOREVER, FOREVER, 0) + prefix.network_address.packed
    if lease.dns6:  # RFC 8106
        message += struct.pack("!BBHI", DNS, 1 + 2 * len(lease.dns6), 0, LIFETIME_S)
        message += b"".join(server.packed for server in lease.dns6)
    return message
