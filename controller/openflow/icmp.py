"""ICMP errors of a gateway, about packets whose TTL has expired or that are too large for the next network: bytes in, bytes
out. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from intent.gateway import Gateway
from pipeline.protocols import ICMP, ICMPV6, TIME_EXCEEDED, TIME_EXCEEDED6, TOO_BIG6, UNREACHABLE
from specs.model.router import Route

FRAGMENTATION_NEEDED = 4  # code of UNREACHABLE (RFC 1191, section 4)
ERRORS = {3, 4, 5, 11, 12}  # ICMP types to which no error is sent (RFC 1812, 4.3.2.7)
INFORMATION6 = 128  # ICMPv6 types below are errors (RFC 4443, 2.1)
SHOWN, SHOWN6 = 548, 1232  # bytes of the quoted packet: an IPv4 error has at most 576 (RFC 1812), an IPv6 one 1280 (RFC 4443)
ETHERNET, TTL = 14, 64


def complaint(frame: bytes, gateway: Gateway, routes: Iterable[Route], large: bool) -> bytes | None:
    """The ICMP error for a frame that is too `large` for the next network, or whose TTL has expired; None if none may be
    sent."""
    teller = gateway.ipv4 if frame[12:14] == b"\x08\x00" else gateway.ipv6
    if teller is None:
        return None
    return too_big(frame, teller.ip, routes) if large else time_exceeded(frame, teller.ip)


def time_exceeded(frame: bytes, gateway: IPv4Address | IPv6Address) -> bytes | None:
    """The ICMP time exceeded for an untagged frame; None if none may be sent: the packet is an error itself, a later
    fragment, or cut short."""
    kind = TIME_EXCEEDED if gateway.version == 4 else TIME_EXCEEDED6
    return _error(frame, gateway, struct.pack("!BBHI", kind, 0, 0, 0))


def too_big(frame: bytes, gateway: IPv4Address | IPv6Address, routes: Iterable[Route]) -> bytes | None:
    """The ICMP error for a packet that is too large for the network that a route leads it to. Over IPv4 it is sent whether
    or not the packet may be fragmented: a switch makes no fragments, and a sender that knows the path's MTU makes them
    itself."""
    mtu = _mtu_towards(frame, routes)
    if not mtu:
        return None
    if gateway.version == 4:
        return _error(frame, gateway, struct.pack("!BBHHH", UNREACHABLE, FRAGMENTATION_NEEDED, 0, 0, mtu))
    return _error(frame, gateway, struct.pack("!BBHI", TOO_BIG6, 0, 0, mtu))


def _mtu_towards(frame: bytes, routes: Iterable[Route]) -> int:
    """The MTU towards an address; 0: no route leads there any more, or none limits it."""
    start, size = (ETHERNET + 16, 4) if frame[12:14] == b"\x08\x00" else (ETHERNET + 24, 16)
    if len(frame) < start + size:
        return 0
    target = ip_address(frame[start : start + size])
    return next((route.mtu for route in routes if any(target in ip_network(r) for r in route.ranges)), 0)


def _error(frame: bytes, gateway: IPv4Address | IPv6Address, head: bytes) -> bytes | None:
    packet = frame[ETHERNET:]
    try:
        inside = _inside4(packet) if gateway.version == 4 else _inside6(packet)
    except (struct.error, IndexError):
        return None
    if inside is None:
        return None
    back = frame[6:12] + frame[:6] + frame[12:14]
    if gateway.version == 4:
        message = _summed(head + inside, b"")
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(message), 0, 0, TTL, ICMP, 0) + gateway.packed + packet[12:16]
        return back + _summed(header, b"", 10) + message
    ends = gateway.packed + packet[8:24]
    raw = head + inside
    message = _summed(raw, ends + struct.pack("!II", len(raw), ICMPV6))
    return back + struct.pack("!IHBB", 6 << 28, len(message), ICMPV6, TTL) + ends + message


def _inside4(packet: bytes) -> bytes | None:
    length, fragment = struct.unpack_from("!2xH2xH", packet)
    header = (packet[0] & 15) * 4
    if packet[0] >> 4 != 4 or header < 20 or len(packet) < header + 8 or fragment & 0x1FFF:
        return None
    if packet[9] == ICMP and packet[header] in ERRORS:
        return None
    return packet[: min(length, SHOWN)]


def _inside6(packet: bytes) -> bytes | None:
    (length,) = struct.unpack_from("!4xH", packet)
    if packet[0] >> 4 != 6 or len(packet) < 48:
        return None
    if packet[6] == ICMPV6 and packet[40] < INFORMATION6:
        return None
    return packet[: min(40 + length, SHOWN6)]


def _summed(data: bytes, pseudo: bytes, at: int = 2) -> bytes:
    """The bytes with the Internet checksum (RFC 1071) in its place."""
    whole = pseudo + data + bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(whole) // 2}H", whole))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return data[:at] + struct.pack("!H", total ^ 0xFFFF) + data[at + 2 :]
