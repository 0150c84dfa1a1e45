"""Evaluates a list of rules for one packet, straight from the rules, without flows, tables or priorities. Pure.

Property tests and every `warren acl check` compare the compiler (acl/compile.py) with it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

from acl.actions import PopTag, PushTag, SetField, ToPort
from acl.fields import CT_BITS, CT_TRACKED, FIELDS, VLAN_PRESENT
from acl.language import FieldMatch, Rule, Who
from pipeline.protocols import DOT1Q, FRAGMENT, IPV6, NEIGHBOUR_DISCOVERY, TCP, mac_bytes

MemberAddresses = Callable[[Who], Collection[IPv4Network | IPv6Network]]
PORTS = frozenset({"tcp_src", "tcp_dst", "udp_src", "udp_dst", "sctp_src", "sctp_dst"})
LAYER4 = PORTS | {"icmpv4_type", "icmpv4_code", "icmpv6_type", "icmpv6_code", "ipv6_nd_target", "ipv6_nd_sll", "ipv6_nd_tll"}


@dataclass(frozen=True, slots=True)
class PacketFields:
    """A packet: its fields as integers; its VLAN tags (tpid, vid, pcp), outermost first; whether it is a fragment (`no`,
    `first`, `later`); and its state in connection tracking, or None when it was not tracked."""

    fields: Mapping[str, int] = field(default_factory=dict)
    tags: tuple[tuple[int, int, int], ...] = ()
    frag: str = "no"
    states: frozenset[str] | None = None

    def get(self, name: str) -> int | None:
        """Return the value of a field, or None when the packet does not have it."""
        if name == "vlan_vid":
            return VLAN_PRESENT | self.tags[0][1] if self.tags else 0
        if name == "vlan_pcp":
            return self.tags[0][2] if self.tags else None
        if name == "ct_state":
            return 0 if self.states is None else CT_TRACKED | sum(CT_BITS[state] for state in self.states)
        if self.frag == "later" and name in LAYER4:
            return None  # only the first fragment carries what comes after the IP header
        if self.frag == "later" and name == "ip_proto" and self.fields.get("eth_type") == IPV6:
            return FRAGMENT  # only the first fragment has the protocol (ovs-fields(7))
        return self.fields.get(name)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision about a packet. `rule` is None when no rule matched. `packet` is the packet that goes on when it is
    allowed."""

    allow: bool
    acl: str | None
    rule: int | None
    related: bool
    meter: str | None
    outputs: tuple[tuple[str | int, PacketFields], ...]
    packet: PacketFields


def evaluate(rules: Sequence[tuple[str, int, Rule]], sent: PacketFields, members: MemberAddresses) -> Verdict:
    """Apply the first rule that matches. Without one the packet is denied."""
    for acl, number, rule in rules:
        if matches(rule, sent, members):
            outputs, left = _carried_out(rule, sent)
            return Verdict(rule.allow, acl, number, rule.allow and rule.related, rule.meter, outputs, left)
    return Verdict(False, None, None, False, None, (), sent)


def possible(
    rules: Sequence[tuple[str, int, Rule]], sent: PacketFields, members: MemberAddresses, unknown: Collection[str]
) -> Verdict:
    """Apply the rules to a packet of which some fields are unknown, in favour of the packet: a rule that names an unknown field
    and matches otherwise decides if it allows, and is passed over if it denies."""
    for acl, number, rule in rules:
        known_fields = tuple(match for match in rule.fields if match.name not in unknown)
        uncertain = len(known_fields) < len(rule.fields)
        if (rule.allow or not uncertain) and matches(replace(rule, fields=known_fields), sent, members):
            return Verdict(rule.allow, acl, number, rule.allow and rule.related, rule.meter, (), _carried_out(rule, sent)[1])
    return Verdict(False, None, None, False, None, (), sent)


def matches(rule: Rule, sent: PacketFields, members: MemberAddresses) -> bool:
    """Whether a rule matches a packet."""
    if not any(_fields(rule, dict(variant), sent) for variant in rule.variants):
        return False
    if rule.states and (sent.states is None or not sent.states & set(rule.states)):
        return False
    ends = ((rule.source, "src"), (rule.target, "dst"))
    return all(who is None or _among(sent, end, members(who)) for who, end in ends)


def _fields(rule: Rule, variant: dict[str, int], sent: PacketFields) -> bool:
    exact = variant | {match.name: match.alternatives[0][0] for match in rule.fields if len(match.alternatives) == 1}
    ignored = _ignored(rule.allow, exact) if sent.frag == "later" else frozenset()
    return all(sent.get(name) == value for name, value in variant.items() if name not in ignored) and all(
        _field(match, sent) for match in rule.fields if match.name not in ignored
    )


def _ignored(allow: bool, exact: Mapping[str, int]) -> frozenset[str]:
    """Return the fields that a rule does not ask of a later fragment: a rule that allows some packets of a protocol lets their later
    fragments pass, which are worth nothing without the first one. Not for TCP and neighbour discovery, which make no fragments."""
    if not allow or exact.get("ip_proto") in (None, TCP, FRAGMENT) or exact.get("icmpv6_type") in NEIGHBOUR_DISCOVERY:
        return frozenset()
    return LAYER4 | {"ip_proto"} if exact.get("eth_type") == IPV6 else LAYER4


def _field(match: FieldMatch, sent: PacketFields) -> bool:
    value = sent.get(match.name)
    if value is None:
        return False
    return any(value == want if mask is None else value & mask == want for want, mask in match.alternatives)


def _among(sent: PacketFields, end: str, prefixes: Collection[IPv4Network | IPv6Network]) -> bool:
    v4, v6 = sent.get(f"ipv4_{end}"), sent.get(f"ipv6_{end}")
    if v4 is not None:
        return any(IPv4Address(v4) in prefix for prefix in prefixes if prefix.version == 4)
    return v6 is not None and any(IPv6Address(v6) in prefix for prefix in prefixes if prefix.version == 6)


def _carried_out(rule: Rule, sent: PacketFields) -> tuple[tuple[tuple[str | int, PacketFields], ...], PacketFields]:
    outputs: list[tuple[str | int, PacketFields]] = [] if rule.mirror is None else [(rule.mirror, sent)]
    now = sent
    for step in rule.steps:
        match step:
            case ToPort(port):
                outputs.append((port, now))
            case PopTag():
                now = replace(now, tags=now.tags[1:])
            case PushTag(tpid):
                now = replace(now, tags=((tpid, 0, 0), *now.tags))  # not a copy, as OpenFlow has it: ovs-actions(7)
            case SetField(name, value):
                now = _set(now, name, value)
    return tuple(outputs), now


def _set(now: PacketFields, name: str, value: int) -> PacketFields:
    if name in ("vlan_vid", "vlan_pcp"):
        if not now.tags:
            return now if name == "vlan_pcp" else replace(now, tags=((DOT1Q, value & 0xFFF, 0),))
        tpid, vid, pcp = now.tags[0]
        outer = (tpid, value & 0xFFF, pcp) if name == "vlan_vid" else (tpid, vid, value)
        return replace(now, tags=(outer, *now.tags[1:]))
    if name not in now.fields or (now.frag == "later" and name in LAYER4):
        return now  # a packet without the field stays as it is
    return replace(now, fields={**now.fields, name: value})


def packet(
    *, tags: tuple[tuple[int, int, int], ...] = (), frag: str = "no", states: Collection[str] | None = None, **values: Any
) -> PacketFields:
    """Build a packet from values as people write them: MACs and addresses as text."""
    numbers = {}
    for name, value in values.items():
        kind = FIELDS[name].kind
        if isinstance(value, str):
            value = int.from_bytes(mac_bytes(value)) if kind == "mac" else int(ip_address(value))
        numbers[name] = value
    return PacketFields(numbers, tags, frag, None if states is None else frozenset(states))
