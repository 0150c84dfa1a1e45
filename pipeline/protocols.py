"""The numbers of protocols, the type of IP addresses, and MAC addresses as text and as bytes. Pure.

Sources: IEEE 802.1Q and 802.1ad (TPIDs), and IANA's registries of EtherTypes, IP protocols and ICMP types.
"""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network

_MAY_END_IN_IPV4 = bytes(10)  # the C library writes the end of ::ffff:10.0.0.1 as IPv4, `str` does not

# EtherTypes
IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
MPLS, MPLS_MULTICAST = 0x8847, 0x8848

# TPIDs of VLAN tags
DOT1Q, DOT1AD = 0x8100, 0x88A8
TPIDS = (DOT1Q, DOT1AD)

# IP protocols
ICMP, TCP, UDP, ICMPV6, SCTP = 1, 6, 17, 58, 132
WITH_PORTS = {"tcp": TCP, "udp": UDP, "sctp": SCTP}
FRAGMENT, NO_NEXT_HEADER = 44, 59  # IPv6's fragment header, and what stands where no header follows (RFC 8200)
NAMES = {ICMP: "icmp", TCP: "tcp", UDP: "udp", ICMPV6: "icmp6", SCTP: "sctp"}

# ICMP types (RFC 792)
ECHO_REPLY, UNREACHABLE, ECHO, TIME_EXCEEDED = 0, 3, 8, 11
# ICMPv6 types (RFC 4443, RFC 4861, RFC 3810)
TOO_BIG6, TIME_EXCEEDED6, ECHO6, ECHO6_REPLY = 2, 3, 128, 129
ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT, SOLICITATION, ADVERTISEMENT, REDIRECT, MLD2_REPORT = 133, 134, 135, 136, 137, 143
NEIGHBOUR_DISCOVERY = range(133, 138)  # RFC 4861


def mac_bytes(mac: str) -> bytes:
    """Return the six bytes of a MAC."""
    return bytes.fromhex(mac.replace(":", ""))


def mac_text(mac: bytes) -> str:
    """Return a MAC as text, such as 02:57:0a:00:00:02."""
    return ":".join(f"{byte:02x}" for byte in mac)


def address_text(address: IpAddress) -> str:
    """Return what `str` returns, for IPv6 in a tenth of its time: a host has several flows for each endpoint of its networks."""
    if isinstance(address, IPv4Address) or address.scope_id or address.packed.startswith(_MAY_END_IN_IPV4):
        return str(address)
    return socket.inet_ntop(socket.AF_INET6, address.packed)


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF
