"""Parses and builds frames with UDP or ICMPv6 inside. A received frame may be anything: it is parsed with care, or ignored with
a reason."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from controller.dhcp.lease import SERVER_MAC
from pipeline.protocols import ICMPV6, IPV4, IPV6, UDP, checksum, mac_bytes

LONGEST = 4096  # bytes of a frame; no client sends nearly as many
BROADCAST_MAC, BROADCAST = "ff:ff:ff:ff:ff:ff", IPv4Address("255.255.255.255")


class Ignored(Exception):
    """A packet that gets no answer. `reason` is one of a few words, for the counters; `question` is the kind of message, where
    that is known."""

    def __init__(self, reason: str, question: str = "") -> None:
        super().__init__(reason)
        self.reason, self.question = reason, question


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome for one packet: the kind of message (`question`), the kind of answer (`reply`) and its frame; or why it is
    `ignored`."""

    question: str = ""
    reply: str = ""
    frame: bytes | None = None
    ignored: str = ""


@dataclass(frozen=True, slots=True)
class Datagram:
    """The content of a frame; `port` is UDP's destination port, 0 for ICMPv6."""

    source: IPv4Address | IPv6Address
    target: IPv4Address | IPv6Address
    protocol: int
    hops: int
    port: int
    payload: bytes


def read(frame: bytes) -> Datagram:
    """Read a frame. Raises `Ignored`."""
    if len(frame) > LONGEST:
        raise Ignored("oversized")
    eth_type, rest = int.from_bytes(cut(frame, 12, 2), "big"), frame[14:]
    if eth_type == IPV4:
        return _ipv4(rest)
    if eth_type == IPV6:
        return _ipv6(rest)
    raise Ignored("malformed")


def cut(data: bytes, at: int, length: int) -> bytes:
    """`length` bytes from a position. Raises `Ignored` if there are fewer."""
    piece = data[at : at + length]
    if len(piece) < length:
        raise Ignored("truncated")
    return piece


def _ipv4(packet: bytes) -> Datagram:
    fixed = cut(packet, 0, 20)
    header, total = (fixed[0] & 15) * 4, int.from_bytes(fixed[2:4], "big")
    if fixed[0] >> 4 != 4 or header < 20 or total < header:
        raise Ignored("malformed")
    if int.from_bytes(fixed[6:8], "big") & 0x3FFF:  # more fragments, or an offset
        raise Ignored("fragment")
    source, target = IPv4Address(fixed[12:16]), IPv4Address(fixed[16:20])
    return _inside(source, target, fixed[9], fixed[8], cut(packet, header, total - header))


def _ipv6(packet: bytes) -> Datagram:
    """Extension headers are not parsed: clients send none."""
    fixed = cut(packet, 0, 40)
    if fixed[0] >> 4 != 6:
        raise Ignored("malformed")
    source, target = IPv6Address(fixed[8:24]), IPv6Address(fixed[24:40])
    return _inside(source, target, fixed[6], fixed[7], cut(packet, 40, int.from_bytes(fixed[4:6], "big")))


def _inside(
    source: IPv4Address | IPv6Address, target: IPv4Address | IPv6Address, protocol: int, hops: int, body: bytes
) -> Datagram:
    if protocol == ICMPV6 and source.version == 6:
        return Datagram(source, target, protocol, hops, 0, body)
    if protocol != UDP:
        raise Ignored("malformed")
    _, port, length, _ = struct.unpack("!HHHH", cut(body, 0, 8))
    if length < 8:
        raise Ignored("malformed")
    return Datagram(source, target, protocol, hops, port, cut(body, 8, length - 8))


def domains(names: Iterable[str]) -> bytes:
    """Domain names on the wire, one after the other without compression (RFC 1035, 3.1)."""
    return b"".join(_domain(name) for name in names if name)


def _domain(name: str) -> bytes:
    return b"".join(bytes((len(label),)) + label.encode() for label in name.split(".")) + b"\0"


# ---- out --------------------------------------------------------------------------------------------------------------


def udp4(mac: str, source: IPv4Address, target: IPv4Address, ports: tuple[int, int], payload: bytes) -> bytes:
    """A frame with a UDP datagram over IPv4."""
    datagram = _udp(source.packed + target.packed, ports, payload)
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(datagram), 0, 0, 64, UDP, 0, source.packed, target.packed)
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    return _ethernet(mac, IPV4) + header + datagram


def udp6(mac: str, source: IPv6Address, target: IPv6Address, ports: tuple[int, int], payload: bytes) -> bytes:
    """A frame with a UDP datagram over IPv6."""
    return _ethernet(mac, IPV6) + _header6(source, target, UDP, 64, _udp(source.packed + target.packed, ports, payload))


def icmp6(mac: str, source: IPv6Address, target: IPv6Address, message: bytes, sender_mac: str = SERVER_MAC) -> bytes:
    """A frame with an ICMPv6 message of neighbour discovery (hop limit 255); its checksum is filled in."""
    summed = checksum(pseudo6(source, target, ICMPV6, len(message)) + message)
    ethernet = _ethernet(mac, IPV6, sender_mac)
    return ethernet + _header6(source, target, ICMPV6, 255, message[:2] + struct.pack("!H", summed) + message[4:])


def pseudo6(source: IPv6Address, target: IPv6Address, protocol: int, length: int) -> bytes:
    """The pseudo-header of IPv6 that checksums cover (RFC 8200, 8.1)."""
    return source.packed + target.packed + struct.pack("!IHBB", length, 0, 0, protocol)


def tagged(frame: bytes, vlan: int) -> bytes:
    """The frame under the tag of an endpoint on a shared port; 0: untagged (IEEE 802.1Q)."""
    return frame[:12] + b"\x81\x00" + vlan.to_bytes(2, "big") + frame[12:] if vlan else frame


def _ethernet(target: str, eth_type: int, sender: str = SERVER_MAC) -> bytes:
    return mac_bytes(target) + mac_bytes(sender) + struct.pack("!H", eth_type)


def _header6(source: IPv6Address, target: IPv6Address, protocol: int, hops: int, body: bytes) -> bytes:
    return struct.pack("!IHBB", 6 << 28, len(body), protocol, hops) + source.packed + target.packed + body


def _udp(addresses: bytes, ports: tuple[int, int], payload: bytes) -> bytes:
    """A UDP datagram. Over both versions the pseudo-header has the same fields, only their widths differ."""
    length = 8 + len(payload)
    header = struct.pack("!HHH", *ports, length)
    summed = checksum(addresses + struct.pack("!HH", UDP, length) + header + bytes(2) + payload)
    return header + struct.pack("!H", summed or 0xFFFF) + payload
