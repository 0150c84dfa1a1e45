"""The packet log: one line for each packet that a `log: true` rule sends to the controller, at a rate that no flood can
raise. Pure.

Open vSwitch itself sends at most 1 000 packets a second to the controller, shared by the ports (ovs-vswitchd.conf.db(5),
controller_rate_limit, which ovsdb/rows.py sets).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from pipeline.protocols import ARP, IPV4, IPV6, NAMES, TPIDS, mac_text

RATE = 10.0  # lines per second and rule
BURST = 20.0


@dataclass(slots=True)
class Limiter:
    """A token bucket per rule; `now` is in seconds, of any clock that only goes forward."""

    _buckets: dict[str, tuple[float, float]] = field(default_factory=dict)
    _dropped: dict[str, int] = field(default_factory=dict)

    def allow(self, rule: str, now: float) -> int | None:
        """How many lines of this rule were left out before this one; None: leave this one out, too."""
        tokens, since = self._buckets.get(rule, (BURST, now))
        tokens = min(BURST, tokens + (now - since) * RATE)
        if tokens < 1:
            self._buckets[rule] = (tokens, now)
            self._dropped[rule] = self._dropped.get(rule, 0) + 1
            return None
        self._buckets[rule] = (tokens - 1, now)
        return self._dropped.pop(rule, 0)


def describe(frame: bytes) -> str:
    """A frame in a few words: `tcp 10.0.0.2:1234 > 10.0.0.3:443`; less for a frame that cannot be parsed."""
    if len(frame) < 14:
        return f"{len(frame)} bytes"
    eth_type, at = int.from_bytes(frame[12:14], "big"), 14
    tags = ""
    while eth_type in TPIDS and len(frame) >= at + 4:
        tags += f"vlan {int.from_bytes(frame[at : at + 2], 'big') & 0xFFF} "
        eth_type, at = int.from_bytes(frame[at + 2 : at + 4], "big"), at + 4
    try:
        return tags + _layer3(eth_type, frame[at:], frame)
    except (struct.error, ValueError, IndexError):
        return f"{tags}a truncated packet of type {eth_type:#06x}"


def _layer3(eth_type: int, packet: bytes, frame: bytes) -> str:
    if eth_type == IPV4:
        source, target = (str(IPv4Address(packet[i : i + 4])) for i in (12, 16))
        fragment = int.from_bytes(packet[6:8], "big") & 0x1FFF
        return _layer4(packet[9], source, target, b"" if fragment else packet[(packet[0] & 15) * 4 :])
    if eth_type == IPV6:
        source, target = (f"[{IPv6Address(packet[i : i + 16])}]" for i in (8, 24))
        return _layer4(packet[6], source, target, packet[40:])
    if eth_type == ARP:
        sender, target_address = (IPv4Address(packet[i : i + 4]) for i in (14, 24))
        return f"arp {sender} > {target_address}"
    macs = [mac_text(frame[i : i + 6]) for i in (6, 0)]
    return f"{eth_type:#06x} {macs[0]} > {macs[1]}"


def _layer4(protocol: int, source: str, target: str, rest: bytes) -> str:
    name = NAMES.get(protocol, f"protocol {protocol}")
    if name in ("tcp", "udp", "sctp") and len(rest) >= 4:
        ports = struct.unpack("!HH", rest[:4])
        return f"{name} {source}:{ports[0]} > {target}:{ports[1]}"
    if name in ("icmp", "icmp6") and len(rest) >= 2:
        return f"{name} type {rest[0]} code {rest[1]} {source} > {target}"
    return f"{name} {source} > {target}"
