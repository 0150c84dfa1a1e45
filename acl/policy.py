"""Policies: the ACLs of a port in order, with every name in them resolved. Pure.

A policy belongs to a network, because names and addresses have a meaning only inside a network, and to a direction: `in`
applies to what a port sends (FAUCET's word: into the switch), `out` to what it receives. Ports with the same ACLs share a
policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from acl.actions import ToPort
from acl.language import Rule, Who
from acl.members import HasAcls, Named, Names, PolicyEndpoint, PolicyMeter, PolicyNetwork
from pipeline.protocols import IpNetwork

RULES_LIMIT = 20_000  # of one policy: each rule has its own priority (acl/compile.py)


class PolicyKey(NamedTuple):
    """The identity of a policy: the network, the direction, and the ACLs in order."""

    network_id: str
    direction: str  # "in" or "out"
    acls: tuple[str, ...]

    @property
    def number(self) -> int:
        """The policy's 64 bits in a register; never 0, which means no policy."""
        return int.from_bytes(blake2b(repr(tuple(self)).encode(), digest_size=8).digest(), "big") or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedRule:
    """A rule with its position (`acl`, `number` from 1) and its names resolved. `sources` and `targets` are the prefixes of
    `from` and `to`; None matches every address."""

    acl: str
    number: int
    rule: Rule
    sources: tuple[IpNetwork, ...] | None
    targets: tuple[IpNetwork, ...] | None
    meter_id: int | None
    ports: tuple[tuple[str | int, int], ...]  # (the port as the rule names it, its OpenFlow port on this host)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyView:
    """A policy as this host enforces it. `closed` is None, or the reason why every packet is dropped."""

    key: PolicyKey
    rules: tuple[ResolvedRule, ...]
    closed: str | None
    meters: tuple[PolicyMeter, ...] = ()  # those that the rules use


def network_of(reference: str, networks: Mapping[str, Named]) -> str | None:
    """Return the network that a rule names, by id first and then by name."""
    if reference in networks:
        return reference
    return min((n.id for n in networks.values() if reference in n.references), default=None)


def acls_of(endpoint: PolicyEndpoint, network: PolicyNetwork, host: HasAcls | None, tenant: HasAcls | None) -> tuple[str, ...]:
    """Return the ACLs for what an endpoint sends, in order: its own, or its network's default if it has none; then its
    host's; then its tenant's. The first rule that matches decides.

    A reference NETWORK:ACL counts on that network only. If none of the references counts, the default applies.
    """
    of_endpoint: list[str] = []
    for reference in endpoint.acls or ():
        scope, _, name = reference.rpartition(":")
        if scope in ("", *network.references):
            of_endpoint.append(name)
    return (*(of_endpoint or network.default_acl), *(host.acls if host else ()), *(tenant.acls if tenant else ()))


class PolicyKeys(NamedTuple):
    """The policies of an endpoint: for what it sends, what it receives, and what enters its network through the gateway.
    None means that everything passes."""

    sends: PolicyKey | None
    receives: PolicyKey | None
    enters: PolicyKey | None


def keys_of(endpoint: PolicyEndpoint, network: PolicyNetwork, host: HasAcls | None, tenant: HasAcls | None) -> PolicyKeys:
    """Return the policies of an endpoint."""
    sends = acls_of(endpoint, network, host, tenant)
    return PolicyKeys(PolicyKey(network.id, "in", sends) if sends else None, receives(network), enters(network))


def receives(network: PolicyNetwork) -> PolicyKey | None:
    """Return the policy for what the ports of a network receive."""
    return PolicyKey(network.id, "out", network.vlan_out_acl) if network.vlan_out_acl else None


def enters(network: PolicyNetwork) -> PolicyKey | None:
    """Return the policy for what enters a network through its gateway."""
    return PolicyKey(network.id, "in", network.nat_acl) if network.nat_acl and network.mode != "flat" else None


class _DanglingError(Exception):
    """A name in a rule does not exist, which closes the policy. The message is the reason."""


def resolve(key: PolicyKey, names: Names) -> PolicyView:
    """Resolve all names in a policy. It is closed when one of them does not exist."""
    rules: list[ResolvedRule] = []
    meters: dict[str, PolicyMeter] = {}
    try:
        for name in key.acls:
            acl = names.acls.get(name)
            if acl is None:
                raise _DanglingError(f"ACL {name} does not exist")
            for number, rule in enumerate(acl.parsed, 1):
                try:
                    rules.append(_resolved(key.network_id, name, number, rule, names, meters))
                except _DanglingError as error:
                    raise _DanglingError(f"ACL {name} rule {number}: {error}") from None
    except _DanglingError as error:
        return _closed(key, str(error))
    if len(rules) > RULES_LIMIT:
        return _closed(key, f"{len(rules)} rules in one list; at most {RULES_LIMIT} fit")
    return PolicyView(key=key, rules=tuple(rules), closed=None, meters=tuple(meters[name] for name in sorted(meters)))


def _closed(key: PolicyKey, reason: str) -> PolicyView:
    return PolicyView(key=key, rules=(), closed=reason)


def _resolved(network_id: str, acl: str, number: int, rule: Rule, names: Names, meters: dict[str, PolicyMeter]) -> ResolvedRule:
    """Resolve the names in one rule. Adds the meter that it uses to `meters`."""
    meter_id = None
    if rule.meter:
        meter = names.meters.get(rule.meter)
        if meter is None:
            raise _DanglingError(f"meter {rule.meter} does not exist")
        meters[meter.name], meter_id = meter, meter.meter_id
    return ResolvedRule(
        acl=acl,
        number=number,
        rule=rule,
        sources=_prefixes(network_id, rule.source, names),
        targets=_prefixes(network_id, rule.target, names),
        meter_id=meter_id,
        ports=tuple((port, _ofport(network_id, port, names)) for port in _ports(rule)),
    )


def _ofport(network_id: str, port: str | int, names: Names) -> int:
    ofport = names.ofport(network_id, port)
    if ofport is None:
        raise _DanglingError(f"port {port} is not on this host")
    return ofport


def _ports(rule: Rule) -> list[str | int]:
    """Return the ports that a rule names: its mirror port and its output ports."""
    outputs = [step.port for step in rule.steps if isinstance(step, ToPort)]
    return outputs if rule.mirror is None else [rule.mirror, *outputs]


def _prefixes(network_id: str, who: Who | None, names: Names) -> tuple[IpNetwork, ...] | None:
    """Return the addresses that `from` or `to` selects."""
    if who is None:
        return None
    if who.cidr is not None:
        return (who.cidr,)
    prefixes = {prefix for member in names.members(network_id, who) for prefix in member.prefixes}
    return tuple(sorted(prefixes, key=lambda prefix: (prefix.version, int(prefix.network_address), prefix.prefixlen)))
