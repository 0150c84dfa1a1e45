"""Evaluates other filters of the host: rules as values, and the verdict of a chain about a packet. Pure.

Rules may have matches that Warren does not know. Such a rule counts as matching if it accepts and as not matching if it drops:
a warning without a cause would be worse than none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

MAYBE = None  # the answer of an unknown match
Verdict = str  # accept, drop, return, or "jump CHAIN" and "goto CHAIN"
DEPTH = 16  # of jumps, as in the kernel (NFT_JUMP_STACK_SIZE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """A packet in the forward hook: its interfaces and addresses, and the state of its connection."""

    iif: str
    oif: str
    saddr: str
    daddr: str
    state: str  # new or established

    def field(self, name: str) -> str:
        """Return one of the fields by its name."""
        return str(getattr(self, name))


def reverse(packet: Packet) -> Packet:
    """Return a packet in the other direction."""
    return Packet(iif=packet.oif, oif=packet.iif, saddr=packet.daddr, daddr=packet.saddr, state=packet.state)


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition: a field has one of the values, or none of them. The field `other` is unknown."""

    field: str
    values: tuple[str, ...] = ()
    negated: bool = False

    def holds(self, packet: Packet) -> bool | None:
        """Return whether the condition holds for a packet; None if that is unknown."""
        if self.field == "other":
            return MAYBE
        value = packet.field(self.field)
        return self.negated != any(_same(self.field, value, each) for each in self.values)


@dataclass(frozen=True, slots=True)
class FilterRule:
    """A rule: its verdict, if all its matches hold."""

    matches: tuple[Condition, ...]
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain; only base chains have a `policy`."""

    rules: tuple[FilterRule, ...] = ()
    policy: Verdict | None = None


Chains = Mapping[str, Chain]  # the chains of one table, by name


def verdict(chains: Chains, name: str, packet: Packet) -> Verdict:
    """Return what a base chain does with a packet: accept or drop."""
    return _walk(chains, name, packet, DEPTH) or chains[name].policy or "accept"


def _walk(chains: Chains, name: str, packet: Packet, depth: int) -> Verdict | None:
    """Return the verdict of a chain; None if the packet reaches the end of the chain, or returns."""
    for rule in chains[name].rules if name in chains and depth else ():
        held = {match.holds(packet) for match in rule.matches}
        if False in held:
            continue
        kind, _, target = rule.verdict.partition(" ")
        result = _walk(chains, target, packet, depth - 1) if target else kind
        if MAYBE in held and result != "accept":
            continue
        if result in ("accept", "drop"):
            return result
        if kind in ("goto", "return"):
            return None
    return None


def _same(field: str, value: str, expected: str) -> bool:
    if field in ("saddr", "daddr"):
        return _contains(expected, value)
    if field in ("iif", "oif") and expected.endswith(("*", "+")):
        return value.startswith(expected[:-1])
    return value == expected


def _contains(prefix: str, address: str) -> bool:
    low, dash, high = prefix.partition("-")
    try:
        if dash:
            first, last, parsed = ip_address(low), ip_address(high), ip_address(address)
            return first.version == parsed.version and int(first) <= int(parsed) <= int(last)
        return ip_address(address) in ip_network(prefix, strict=False)
    except ValueError:
        return False


def dropped(chains: Chains, name: str, packets: Iterable[Packet]) -> bool:
    """Return whether a base chain drops all these packets, and there are some."""
    verdicts = {verdict(chains, name, packet) for packet in packets}
    return verdicts == {"drop"}
