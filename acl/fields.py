"""The match fields of ACL rules: FAUCET's names and aliases, widths, masks and prerequisites (OpenFlow 1.4, section 7.2.2.7;
ovs-fields(7)). Pure.

A value is converted to integers once, here: (value, mask), with mask None for an exact match.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from pipeline.protocols import ARP, ICMP, ICMPV6, IPV4, IPV6, MPLS, MPLS_MULTICAST, SCTP, TCP, UDP, mac_text
from warren.errors import Invalid

VLAN_PRESENT = 0x1000

Masked = tuple[int, int | None]


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """A field. `kind` is the notation of its values. `needs` are pairs (field, values): the rule must match exactly one of
    the values."""

    name: str
    bits: int
    kind: str = "int"  # int, port, mac, ipv4, ipv6, vlan
    maskable: bool = False
    needs: tuple[tuple[str, tuple[int, ...]], ...] = ()


_IP = (("eth_type", (IPV4, IPV6)),)
_V4, _V6, _ARP = (("eth_type", (IPV4,)),), (("eth_type", (IPV6,)),), (("eth_type", (ARP,)),)
_MPLS = (("eth_type", (MPLS, MPLS_MULTICAST)),)
_ICMPV4, _ICMPV6 = (*_V4, ("ip_proto", (ICMP,))), (*_V6, ("ip_proto", (ICMPV6,)))
_SPECS = (
    FieldSpec("in_port", 32, "int"),
    FieldSpec("eth_dst", 48, "mac", True),
    FieldSpec("eth_src", 48, "mac", True),
    FieldSpec("eth_type", 16),
    FieldSpec("vlan_vid", 13, "vlan", True),
    FieldSpec("vlan_pcp", 3, needs=(("vlan_vid", ()),)),
    FieldSpec("ip_dscp", 6, needs=_IP),
    FieldSpec("ip_ecn", 2, needs=_IP),
    FieldSpec("ip_proto", 8, needs=_IP),
    FieldSpec("nw_ttl", 8, needs=_IP),
    FieldSpec("ipv4_src", 32, "ipv4", True, _V4),
    FieldSpec("ipv4_dst", 32, "ipv4", True, _V4),
    FieldSpec("ipv6_src", 128, "ipv6", True, _V6),
    FieldSpec("ipv6_dst", 128, "ipv6", True, _V6),
    FieldSpec("ipv6_flabel", 20, needs=_V6),
    FieldSpec("tcp_src", 16, "port", True, (("ip_proto", (TCP,)),)),
    FieldSpec("tcp_dst", 16, "port", True, (("ip_proto", (TCP,)),)),
    FieldSpec("udp_src", 16, "port", True, (("ip_proto", (UDP,)),)),
    FieldSpec("udp_dst", 16, "port", True, (("ip_proto", (UDP,)),)),
    FieldSpec("sctp_src", 16, "port", True, (("ip_proto", (SCTP,)),)),
    FieldSpec("sctp_dst", 16, "port", True, (("ip_proto", (SCTP,)),)),
    FieldSpec("icmpv4_type", 8, needs=_ICMPV4),
    FieldSpec("icmpv4_code", 8, needs=_ICMPV4),
    FieldSpec("icmpv6_type", 8, needs=_ICMPV6),
    FieldSpec("icmpv6_code", 8, needs=_ICMPV6),
    FieldSpec("arp_op", 16, needs=_ARP),
    FieldSpec("arp_spa", 32, "ipv4", True, _ARP),
    FieldSpec("arp_tpa", 32, "ipv4", True, _ARP),
    FieldSpec("arp_sha", 48, "mac", True, _ARP),
    FieldSpec("arp_tha", 48, "mac", True, _ARP),
    FieldSpec("ipv6_nd_target", 128, "ipv6", True, (*_ICMPV6, ("icmpv6_type", (135, 136)))),
    FieldSpec("ipv6_nd_sll", 48, "mac", True, (*_ICMPV6, ("icmpv6_type", (135,)))),
    FieldSpec("ipv6_nd_tll", 48, "mac", True, (*_ICMPV6, ("icmpv6_type", (136,)))),
    FieldSpec("mpls_label", 20, needs=_MPLS),
    FieldSpec("mpls_tc", 3, needs=_MPLS),
    FieldSpec("mpls_bos", 1, needs=_MPLS),
    FieldSpec("ct_state", 32, "int", True),
)
FIELDS: dict[str, FieldSpec] = {spec.name: spec for spec in _SPECS}
ORDER: dict[str, int] = {spec.name: position for position, spec in enumerate(_SPECS)}  # prerequisites first
ORDER["ip_frag"] = len(ORDER)  # not for rules: acl/fragments.py
ALIASES = {
    "dl_src": "eth_src", "dl_dst": "eth_dst", "dl_type": "eth_type", "dl_vlan": "vlan_vid", "nw_proto": "ip_proto",
    "nw_src": "ipv4_src", "nw_dst": "ipv4_dst", "eth_type_nxm": "eth_type", "ip_proto_nxm": "ip_proto",
}  # fmt: skip
REFUSED = {
    "in_phy_port": "no in_phy_port: Open vSwitch does not have it",
    "metadata": "no metadata: Warren keeps the policy's number in it",
    "tunnel_id": "no tunnel_id: rules see what a container sends, before any tunnel",
    "pbb_isid": "no pbb_isid: Open vSwitch does not have it",
    "ipv6_exthdr": "no ipv6_exthdr: Open vSwitch does not have it",
    "ct_zone": "no ct_zone: each network has its own; say state: [established]",
    "ct_mark": "no ct_mark: Warren keeps allow_related in it; say state: [established]",
    "ct_label": "no ct_label: Warren uses it itself; match state: [established] instead",
}
# numeric ct_state as FAUCET has it (ovs-fields(7)): new, est, rel, rpl, inv, trk
CT_BITS = {"new": 0x01, "established": 0x02, "related": 0x04, "reply": 0x08, "invalid": 0x10}
CT_TRACKED = 0x20
CT_ALL = 0x3F


def field(name: str, path: str) -> FieldSpec:
    """Return the field with a name or alias. Raises `Invalid`."""
    if name in REFUSED:
        raise Invalid(path, name, REFUSED[name])
    spec = FIELDS.get(ALIASES.get(name, name))
    if spec is None:
        raise Invalid(path, name, f"a match field or a word of a rule{_near(name)}")
    return spec


def _near(name: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, [*FIELDS, *ALIASES], 1)
    return f", such as {close[0]}" if close else ""


def parse(spec: FieldSpec, value: Any, path: str) -> tuple[Masked, ...]:
    """Return the alternatives that a rule's value stands for: more than one for lists and ranges of ports. Raises `Invalid`."""
    if spec.kind == "port":
        return _ports(spec, value, path)
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise Invalid(path, value, f"{EXPECTED[spec.kind]}")
    return (_one(spec, value, path),)


EXPECTED = {
    "int": "a number",
    "port": "a port, a list of ports, or a range such as 1000-2000",
    "mac": "a MAC address such as '02:57:0a:00:00:02', or MAC/mask (in quotes)",
    "ipv4": "an IPv4 address, or address/length or address/mask",
    "ipv6": "an IPv6 address, or address/length or address/mask",
    "vlan": "a VLAN id from 0 to 4095",
}


def _one(spec: FieldSpec, value: int | str, path: str) -> Masked:
    if spec.kind in ("mac", "ipv4", "ipv6") and not isinstance(value, str):
        raise Invalid(path, value, EXPECTED[spec.kind])
    text, slash, mask_text = (_short(value, path) if isinstance(value, str) else str(value)).strip().partition("/")
    if slash and not spec.maskable:
        raise Invalid(path, value, f"{spec.name} without a mask")
    number = _number(spec, value if isinstance(value, int) else text, path, value)
    if not slash:
        return number, None
    full = (1 << spec.bits) - 1
    if spec.kind in ("ipv4", "ipv6") and mask_text.isdigit():
        if int(mask_text) > spec.bits:
            raise Invalid(path, value, f"a prefix length of at most {spec.bits}")
        mask = full ^ ((1 << (spec.bits - int(mask_text))) - 1)
    elif spec.kind == "vlan":
        mask = _bounded(_integer(mask_text, path, value), spec, path, value)
    else:
        mask = _number(spec, mask_text, path, value)
    return (number & mask, None if mask == full else mask)


def _short(text: str, path: str) -> str:
    """Return a text that may be a number, an address or a MAC. Digits of other scripts are refused."""
    if len(text) > 100 or not text.isascii() or "%" in text:
        raise Invalid(path, text, "a number or an address in ASCII, without a scope")
    return text


def _number(spec: FieldSpec, value: int | str, path: str, shown: Any) -> int:
    if spec.kind == "mac":
        parts = str(value).split(":")
        if len(parts) != 6 or not all(len(p) in (1, 2) and all(c in "0123456789abcdefABCDEF" for c in p) for p in parts):
            raise Invalid(path, shown, EXPECTED["mac"])
        return int("".join(p.zfill(2) for p in parts), 16)
    if spec.kind in ("ipv4", "ipv6"):
        try:
            return int(IPv4Address(value) if spec.kind == "ipv4" else IPv6Address(value))
        except ValueError:
            raise Invalid(path, shown, EXPECTED[spec.kind]) from None
    number = _integer(value, path, shown)
    if spec.kind == "vlan" and (isinstance(value, int) or value.isdigit()):
        if not 0 <= number <= 4095:
            raise Invalid(path, shown, EXPECTED["vlan"])
        return number | VLAN_PRESENT
    return _bounded(number, spec, path, shown)


def _integer(value: int | str, path: str, shown: Any) -> int:
    if isinstance(value, int):
        return value
    try:
        return int(value, 0)
    except ValueError:
        raise Invalid(path, shown, "a number, such as 6 or '0x0800'") from None


def _bounded(number: int, spec: FieldSpec, path: str, shown: Any) -> int:
    if not 0 <= number < 1 << spec.bits:
        raise Invalid(path, shown, f"a number from 0 to {(1 << spec.bits) - 1}")
    return number


# ---- ports ----------------------------------------------------------------------------------------------------------


def _ports(spec: FieldSpec, value: Any, path: str) -> tuple[Masked, ...]:
    if isinstance(value, list):
        if not value or len(value) > 1024:
            raise Invalid(path, value, "a list of 1 to 1024 ports")
        covered: dict[Masked, None] = {}
        for number, item in enumerate(value):
            if isinstance(item, list):
                raise Invalid(f"{path}[{number}]", item, EXPECTED["port"])
            covered.update(dict.fromkeys(_ports(spec, item, f"{path}[{number}]")))
        return tuple(covered)
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise Invalid(path, value, EXPECTED["port"])
    first, dash, last = (_short(value, path) if isinstance(value, str) else str(value)).partition("-")
    if dash and first:
        low, high = (_bounded(_integer(part.strip(), path, value), spec, path, value) for part in (first, last))
        if low > high:
            raise Invalid(path, value, "a range from the lower port to the higher one")
        return tuple(prefixes(low, high, spec.bits))
    return (_one(spec, value, path),)


def prefixes(low: int, high: int, bits: int) -> list[Masked]:
    """Return the smallest set of masked values that covers low..high."""
    full = (1 << bits) - 1
    masked: list[Masked] = []
    while low <= high:
        size = (low & -low) or 1 << bits
        while size > high - low + 1:
            size >>= 1
        mask = full & ~(size - 1)
        masked.append((low, None if mask == full else mask))
        low += size
    return masked


def matches(alternatives: tuple[Masked, ...], value: int) -> bool:
    """Whether a value is one of the alternatives."""
    return any(value == want if mask is None else value & mask == want for want, mask in alternatives)


# ---- as flows have them ----------------------------------------------------------------------------------------------


def value_of(name: str, masked: Masked) -> int | str | tuple[int, int] | tuple[str, str]:
    """Return a field's integers in the notation of flows: text for MACs and addresses."""
    value, mask = masked
    kind = FIELDS[name].kind if name in FIELDS else "int"
    if kind not in ("mac", "ipv4", "ipv6"):
        return value if mask is None else (value, mask)
    return _text(kind, value) if mask is None else (_text(kind, value), _text(kind, mask))


def _text(kind: str, value: int) -> str:
    if kind == "mac":
        return mac_text(value.to_bytes(6, "big"))
    return str(IPv4Address(value) if kind == "ipv4" else IPv6Address(value))
