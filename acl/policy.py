"""Policies: the ACLs that decide over a port, in order, with every name in them resolved. Values; intent/views.py makes them.

A policy belongs to a network, since names and addresses mean something there only, and to a direction: what a port may send
(`in`, as FAUCET says it) or receive (`out`). Ports with the same ACLs share one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import NamedTuple, Protocol

from acl.actions import ToPort
from acl.language import Rule, Who
from specs.model.host import Host
from specs.model.records import Acl, Endpoint, Meter, Network, Tenant

Prefix = IPv4Network | IPv6Network
RULES_LIMIT = 20_000  # a priority each (acl/compile.py)


class PolicyKey(NamedTuple):
    """Which policy: the network, the direction and the ACLs in their order."""

    network_id: str
    direction: str  # "in" or "out"
    acls: tuple[str, ...]

    @property
    def number(self) -> int:
        """The 64 bits by which packets are told to which policy they belong; never 0."""
        return int.from_bytes(blake2b(repr(tuple(self)).encode(), digest_size=8).digest(), "big") or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedRule:
    """A rule with its place (`acl`, `number` from 1) and what its names mean now. None for from and to: anybody."""

    acl: str
    number: int
    rule: Rule
    sources: tuple[Prefix, ...] | None
    targets: tuple[Prefix, ...] | None
    meter_id: int | None
    ports: tuple[tuple[str | int, int], ...]  # a port as the rule says it -> ofport on this host


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyView:
    """A policy as this host must enforce it; with `closed` nothing passes, and that says why."""

    key: PolicyKey
    rules: tuple[ResolvedRule, ...]
    closed: str | None
    meters: tuple[Meter, ...] = ()  # that the rules use


class Names(Protocol):
    """What the names in rules mean on one host."""

    @property
    def acls(self) -> Mapping[str, Acl]:
        """All ACLs."""

    @property
    def meters(self) -> Mapping[str, Meter]:
        """All meters."""

    def members(self, network_id: str, who: Who) -> Iterable[Endpoint]:
        """The endpoints that a `from` or `to` means, seen from a network."""

    def ofport(self, network_id: str, port: str | int) -> int | None:
        """The port of this host that a rule of a network names."""


def network_of(reference: str, networks: Mapping[str, Network]) -> str | None:
    """The network that a rule names: by its id, else by its name."""
    if reference in networks:
        return reference
    return min((n.id for n in networks.values() if n.name == reference), default=None)


def acls_of(endpoint: Endpoint, network: Network, host: Host | None, tenant: Tenant | None) -> tuple[str, ...]:
    """The ACLs over what an endpoint sends, first match wins: its own, else its network's default; then its host's; then its
    tenant's. NETWORK:ACL counts on that network only, and a list of others only leaves the default in force."""
    own: list[str] = []
    for reference in endpoint.acls or ():
        scope, _, name = reference.rpartition(":")
        if scope in ("", network.name, network.id):
            own.append(name)
    return (*(own or network.default_acl), *(host.acls if host else ()), *(tenant.acls if tenant else ()))


class Keys(NamedTuple):
    """The policies of an endpoint: over what it sends, what it receives, and what comes to its network by the gateway. None:
    everything passes."""

    sends: PolicyKey | None
    receives: PolicyKey | None
    enters: PolicyKey | None


def keys_of(endpoint: Endpoint, network: Network, host: Host | None, tenant: Tenant | None) -> Keys:
    """The policies of an endpoint."""
    sends = acls_of(endpoint, network, host, tenant)
    return Keys(PolicyKey(network.id, "in", sends) if sends else None, receives(network), enters(network))


def receives(network: Network) -> PolicyKey | None:
    """The policy over what the ports of a network receive."""
    return PolicyKey(network.id, "out", network.vlan_out_acl) if network.vlan_out_acl else None


def enters(network: Network) -> PolicyKey | None:
    """The policy over what comes in by the gateway of a network."""
    return PolicyKey(network.id, "in", network.nat_acl) if network.nat_acl and network.mode != "flat" else None


def resolve(key: PolicyKey, names: Names) -> PolicyView:
    """A policy with all its names looked up; closed when one of them means nothing."""
    rules: list[ResolvedRule] = []
    meters: dict[str, Meter] = {}
    for name in key.acls:
        acl = names.acls.get(name)
        if acl is None:
            return _closed(key, f"ACL {name} does not exist")
        for number, rule in enumerate(acl.parsed, 1):
            meter = names.meters.get(rule.meter) if rule.meter else None
            if rule.meter and meter is None:
                return _closed(key, f"ACL {name} rule {number}: meter {rule.meter} does not exist")
            if meter is not None:
                meters[meter.name] = meter
            ports: list[tuple[str | int, int]] = []
            for port in _ports(rule):
                ofport = names.ofport(key.network_id, port)
                if ofport is None:
                    return _closed(key, f"ACL {name} rule {number}: port {port} is not on this host")
                ports.append((port, ofport))
            sources, targets = (_prefixes(key.network_id, who, names) for who in (rule.source, rule.target))
            meter_id = meter.meter_id if meter else None
            resolved = ResolvedRule(
                acl=name,
                number=number,
                rule=rule,
                sources=sources,
                targets=targets,
                meter_id=meter_id,
                ports=tuple(ports),
            )
            rules.append(resolved)
    if len(rules) > RULES_LIMIT:
        return _closed(key, f"{len(rules)} rules in one list; at most {RULES_LIMIT} fit")
    return PolicyView(key=key, rules=tuple(rules), closed=None, meters=tuple(meters[name] for name in sorted(meters)))


def _closed(key: PolicyKey, reason: str) -> PolicyView:
    return PolicyView(key=key, rules=(), closed=reason)


def _ports(rule: Rule) -> list[str | int]:
    found = [step.port for step in rule.steps if isinstance(step, ToPort)]
    return found if rule.mirror is None else [rule.mirror, *found]


def _prefixes(network_id: str, who: Who | None, names: Names) -> tuple[Prefix, ...] | None:
    if who is None:
        return None
    if who.cidr is not None:
        return (who.cidr,)
    found = {
        address for e in names.members(network_id, who) for address in (e.ipv4_address, e.ipv6_address) if address is not None
    }
    return tuple(ip_network(address) for address in sorted(found, key=lambda a: (a.version, int(a))))
