"""Ethernet frames byte by byte, for tests that send what no honest stack would: fragments of any size, extension headers, tags."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from ipaddress import ip_address

from pipeline.protocols import ICMPV6, IPV4, IPV6, TCP, UDP, checksum, mac_bytes

HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION = 0, 43, 44, 60  # IPv6 extension headers (RFC 8200, 4)
MORE = 1


def ethernet(source: str, target: str, kind: int, body: bytes, tags: Iterable[int] = ()) -> bytes:
    """A frame; `tags` are the TCIs of 802.1Q tags, the outer one first."""
    return (
        mac_bytes(target)
        + mac_bytes(source)
        + b"".join(struct.pack("!HH", 0x8100, tci) for tci in tags)
        + struct.pack("!H", kind)
        + body
    )


def pieces(payload: bytes, size: int) -> list[tuple[int, bytes, bool]]:
    """A payload cut into fragments of `size` bytes: offset, bytes, whether more follow."""
    return [(at, payload[at : at + size], at + size < len(payload)) for at in range(0, len(payload), size)]


def ipv4(source: str, target: str, protocol: int, body: bytes, *, ident: int = 1, offset: int = 0, more: bool = False) -> bytes:
    """An IPv4 packet (RFC 791), or a fragment of one."""
    flags = offset >> 3 | (0x2000 if more else 0)
    addresses = ip_address(source).packed + ip_address(target).packed
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), ident, flags, 64, protocol, 0) + addresses
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body


def ipv6(source: str, target: str, following: int, body: bytes, hops: int = 255) -> bytes:
    """An IPv6 packet (RFC 8200)."""
    return (
        struct.pack("!IHBB", 6 << 28, len(body), following, hops) + ip_address(source).packed + ip_address(target).packed + body
    )


def fragment6(following: int, body: bytes, *, ident: int = 1, offset: int = 0, more: bool = False) -> bytes:
    """A fragment header and what follows it (RFC 8200, 4.5)."""
    return struct.pack("!BBHI", following, 0, offset | (MORE if more else 0), ident) + body


def padding6(following: int, units: int = 1) -> bytes:
    """A hop-by-hop or destination options header of `units` times 8 bytes, with nothing but padding (PadN)."""
    return struct.pack("!BBBB", following, units - 1, 1, 8 * units - 4) + bytes(8 * units - 4)


def tcp_syn(source: str, target: str, ports: tuple[int, int], sequence: int) -> bytes:
    """A SYN with 20 bytes of options (RFC 9293)."""
    segment = struct.pack("!HHIIBBHHH", *ports, sequence, 0, 0xA0, 2, 8192, 0, 0) + b"\2\4\5\x6e" + b"\1" * 16
    return _summed(source, target, TCP, segment, 16)


def udp(source: str, target: str, ports: tuple[int, int], data: bytes) -> bytes:
    """A UDP datagram (RFC 768)."""
    return _summed(source, target, UDP, struct.pack("!HHHH", *ports, 8 + len(data), 0) + data, 6)


def icmp6(source: str, target: str, kind: int, body: bytes) -> bytes:
    """An ICMPv6 message of code 0 (RFC 4443)."""
    return _summed(source, target, ICMPV6, struct.pack("!BBH", kind, 0, 0) + body, 2)


def _summed(source: str, target: str, protocol: int, segment: bytes, at: int) -> bytes:
    """A segment with its checksum at byte `at`, over the pseudo-header (RFC 768, RFC 8200, 8.1)."""
    addresses = ip_address(source).packed + ip_address(target).packed
    form = "!HH" if len(addresses) == 8 else "!II"
    pseudo = addresses + (
        struct.pack(form, protocol, len(segment)) if form == "!HH" else struct.pack(form, len(segment), protocol)
    )
    return segment[:at] + struct.pack("!H", checksum(pseudo + segment) or 0xFFFF) + segment[at + 2 :]


def frames(source: tuple[str, str], target: tuple[str, str], kind: int, packets: Iterable[bytes]) -> list[bytes]:
    """Packets between two (MAC, address) as frames."""
    return [ethernet(source[0], target[0], kind, packet) for packet in packets]


def cut4(source: str, target: str, protocol: int, parts: Iterable[tuple[int, bytes, bool]], ident: int) -> list[bytes]:
    """The fragments of one IPv4 datagram."""
    return [ipv4(source, target, protocol, body, ident=ident, offset=offset, more=more) for offset, body, more in parts]


def cut6(
    source: str, target: str, following: int, parts: Iterable[tuple[int, bytes, bool]], ident: int, hop_by_hop: bool = False
) -> list[bytes]:
    """The fragments of one IPv6 datagram; with `hop_by_hop`, options stand before each fragment header."""
    made = []
    for offset, body, more in parts:
        piece = fragment6(following, body, ident=ident, offset=offset, more=more)
        made.append(
            ipv6(source, target, HOP_BY_HOP, padding6(FRAGMENT) + piece) if hop_by_hop else ipv6(source, target, FRAGMENT, piece)
        )
    return made


ETHERTYPE = {4: IPV4, 6: IPV6}
