"""How rules decide over IP fragments. Pure.

Only the first fragment of a packet has what a rule about ports or ICMP types asks for (docs/acl.md, "Fragments"). A first fragment
without it is dropped: see `headless`. A later fragment is worth nothing without the first one, so it passes where a rule would let
some packet of its protocol pass between its addresses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from acl.actions import SetField
from acl.language import FieldMatch, Rule
from pipeline.flow import FRAG_FIRST, FRAG_LATER, FRAG_NOT_LATER, Match, match
from pipeline.protocols import FRAGMENT, ICMPV6, IPV4, IPV6, NEIGHBOUR_DISCOVERY, NO_NEXT_HEADER, TCP, WITH_PORTS

PORTS = frozenset(f"{name}_{end}" for name in WITH_PORTS for end in ("src", "dst"))
LAYER4 = PORTS | {"icmpv4_type", "icmpv4_code", "icmpv6_type", "icmpv6_code", "ipv6_nd_target", "ipv6_nd_sll", "ipv6_nd_tll"}
UNPARSED = 0  # the protocol that Open vSwitch shows for IPv6 whose extension headers are cut off


def headless() -> Iterator[Match]:
    """Return matches for first fragments that are too short for their ports or their ICMP type, which Open vSwitch then shows as
    0, and for IPv6 packets whose extension headers do not reach a protocol. Whole packets never match."""
    for eth_type in (IPV4, IPV6):
        for name, protocol in WITH_PORTS.items():
            ports = match(**{f"{name}_src": 0, f"{name}_dst": 0})
            yield match(eth_type=eth_type, ip_proto=protocol, ip_frag=FRAG_FIRST) + ports
    yield match(eth_type=IPV6, ip_proto=ICMPV6, ip_frag=FRAG_FIRST, icmpv6_type=0, icmpv6_code=0)
    yield match(eth_type=IPV6, ip_proto=UNPARSED)
    yield match(eth_type=IPV6, ip_proto=NO_NEXT_HEADER, ip_frag=FRAG_FIRST)  # as the kernel shows them


def whole(rule: Rule, exact: Mapping[str, int]) -> Rule:
    """Return a rule for whole packets and first fragments. In a later IPv4 fragment Open vSwitch shows ports and types as 0; a
    rule that 0 satisfies must not match it."""
    zero = any(field.name in LAYER4 and any(not value for value, _ in field.alternatives) for field in rule.fields)
    return replace(rule, fields=(*rule.fields, NOT_LATER)) if zero and exact.get("eth_type") == IPV4 else rule


NOT_LATER = FieldMatch("ip_frag", (FRAG_NOT_LATER,))
LATER = FieldMatch("ip_frag", ((FRAG_LATER, None),))
LATER_OF_IPV6 = (FieldMatch("ip_proto", ((FRAGMENT, None),)), LATER)  # nothing but the fragment header is known of it


def later(rule: Rule, exact: Mapping[str, int]) -> Rule | None:
    """Return what a rule means for later fragments, or None when it means nothing for them or matches them as it is. `exact` are the
    fields that the rule fixes. TCP makes no fragments, and nor does neighbour discovery (RFC 6980), so rules about them mean nothing."""
    eth_type, protocol = exact.get("eth_type"), exact.get("ip_proto")
    if not rule.allow or protocol in (None, TCP, FRAGMENT) or exact.get("icmpv6_type") in NEIGHBOUR_DISCOVERY:
        return None
    rest = tuple(field for field in rule.fields if field.name not in LAYER4)
    if eth_type == IPV4 and rest == rule.fields:
        return None
    rest = (*rest, LATER) if eth_type == IPV4 else (*(field for field in rest if field.name != "ip_proto"), *LATER_OF_IPV6)
    steps = tuple(step for step in rule.steps if not (isinstance(step, SetField) and step.name in LAYER4))
    return replace(rule, fields=rest, steps=steps)
