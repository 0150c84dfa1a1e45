"""What a change of specs would newly allow or deny between endpoints, before it is made. Pure.

It tries packets and proves nothing: one packet for every protocol and port that a rule of either state names, and one of
each protocol that no rule names.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from acl.policy import PolicyKey
from agent.policy_check import between, judge
from intent.record_policies import RecordPolicies
from specs.checks import Joined, called, joined, routers_in_order, valid_networks
from specs.documents.difference import Change
from specs.model.acl import Acl
from specs.model.adoption import Adoption
from specs.model.base import Record, decode, restated
from specs.model.cluster import Cluster
from specs.model.endpoint import Endpoint
from specs.model.host import Host
from specs.model.meter import Meter
from specs.model.mirror import Mirror
from specs.model.network import Network
from specs.model.profile import Profile
from specs.model.router import Router
from specs.model.service import Service
from specs.model.site import Site
from specs.model.tenant import Tenant
from specs.snapshot import Snapshot
from warren.errors import Invalid

TRIES_LIMIT = 60_000  # some seconds
UNNAMED_PORT = 65_000
KINDS: dict[str, type[Record]] = {
    "cluster": Cluster,
    "site": Site,
    "acl": Acl,
    "meter": Meter,
    "mirror": Mirror,
    "tenant": Tenant,
    "host": Host,
    "profile": Profile,
    "network": Network,
    "endpoint": Endpoint,
    "router": Router,
    "service": Service,
    "adoption": Adoption,
}

ProtoPort = tuple[str, int | None]
PairPolicies = tuple[PolicyKey | None, PolicyKey | None]


@dataclass(frozen=True, slots=True)
class PairChange:
    """Two endpoints, and the packets (such as `tcp 443`) that the change newly lets pass, or no longer."""

    src: str
    dst: str
    allowed: tuple[str, ...]
    denied: tuple[str, ...]


def preview(current: Snapshot, changes: Iterable[Change]) -> Snapshot:
    """The snapshot after the change, without endpoints and networks whose addresses are still to be allocated."""
    after = copy.copy(current)
    for kind in KINDS:
        setattr(after, f"{kind}s", dict(getattr(current, f"{kind}s")))
    for change in changes:
        objects: dict[str, Any] = getattr(after, f"{change.kind}s")
        identity = str(change.id or change.name)
        old = objects.get(identity)
        if change.action == "delete":
            objects.pop(identity, None)
            continue
        stated = {k: v for k, v in change.stated.items() if k not in ("network", "network_id")}
        data = restated(old.data() if old is not None else {}, stated)
        try:
            missing = {"meter": {"meter_id": 1}, "mirror": {"vni": 1}}.get(change.kind, {})
            objects[identity] = decode(KINDS[change.kind], missing | data)
        except Invalid:
            continue  # a new endpoint or network: its addresses are not known yet
    return after


def differences(before: Snapshot, after: Snapshot) -> tuple[list[PairChange], int]:
    """The pairs that differ, within one network or between two that a router joins; and how many pairs were not compared
    because there are too many."""
    tries = probes(before, after)
    states = (RecordPolicies(before), RecordPolicies(after))
    differing: list[PairChange] = []
    left = TRIES_LIMIT // len(tries)
    skipped = 0
    for source, targets, open_ in _candidates(states, _touched(before, after)):
        skipped += max(0, len(targets) - left)
        for target in targets[:left]:
            keys = [_keys(state, source.id, target.id) for state in states]
            pair = _compare(states, open_, source.id, target.id, keys, tries)
            if pair.allowed or pair.denied:
                differing.append(pair)
        left = max(0, left - len(targets))
    return differing, skipped


def _candidates(
    states: tuple[RecordPolicies, RecordPolicies], touched: Callable[[PolicyKey], bool]
) -> Iterator[tuple[Endpoint, list[Endpoint], list[bool]]]:
    """Senders with the receivers, network by network, for which the decision may differ, and whether a router or the common network
    lets their packets pass before and after. Takes what may differ, not all pairs."""
    before, after = (state.snapshot for state in states)
    remaining = _remaining(before, after)
    routes = [_ways(state) for state in (before, after)]
    senders, receivers = _affected(states, touched, remaining)
    everybody, receiving = _by_network(remaining), _by_network(e for e in remaining if e.id in receivers)
    for source in remaining:
        joined_to = [to.get(source.network_id, {}) for to in routes]
        for network in dict.fromkeys((source.network_id, *joined_to[0], *joined_to[1])):
            open_ = [network == source.network_id or network in to for to in joined_to]
            candidates = everybody if source.id in senders or open_[0] != open_[1] else receiving
            if targets := [e for e in candidates.get(network, ()) if e.id != source.id]:
                yield source, targets, open_


def _remaining(before: Snapshot, after: Snapshot) -> list[Endpoint]:
    """The active endpoints that the change leaves, with their network."""
    return [e for e in before.endpoints.values() if e.active and e.id in after.endpoints and e.network_id in after.networks]


def _affected(
    states: tuple[RecordPolicies, RecordPolicies], touched: Callable[[PolicyKey], bool], endpoints: Iterable[Endpoint]
) -> tuple[set[str], set[str]]:
    """The endpoints whose policy for what they send may decide differently, and those whose policy for what they receive may."""
    policies = {e.id: [state.of(state.snapshot.endpoints[e.id]) for state in states] for e in endpoints}
    senders = {i for i, each in policies.items() if _differs([policy.sends for policy in each], touched)}
    receivers = {i for i, each in policies.items() if _differs([policy.receives for policy in each], touched)}
    return senders, receivers


def _differs(policies: list[PolicyKey | None], touched: Callable[[PolicyKey], bool]) -> bool:
    """Whether a policy is another one, or may decide differently."""
    return policies[0] != policies[1] or any(policy is not None and touched(policy) for policy in policies)


def _by_network(endpoints: Iterable[Endpoint]) -> dict[str, list[Endpoint]]:
    networks: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints:
        networks.setdefault(endpoint.network_id, []).append(endpoint)
    return networks


def _ways(state: Snapshot) -> Joined:
    return joined(routers_in_order(state), called(valid_networks(state)[0]))[0]


def _compare(
    states: tuple[RecordPolicies, RecordPolicies],
    open_: list[bool],
    source: str,
    target: str,
    keys: list[PairPolicies],
    tries: list[ProtoPort],
) -> PairChange:
    allowed: list[str] = []
    denied: list[str] = []
    for proto, port in tries:
        was, is_ = (
            joined and judge(state, *key, between(endpoints[source], endpoints[target], proto, port))["allow"]
            for joined, state, endpoints, key in zip(
                open_, states, (state.snapshot.endpoints for state in states), keys, strict=True
            )
        )
        if was != is_:
            (allowed if is_ else denied).append(_called(proto, port))
    names = [states[0].snapshot.endpoints[e].name or e for e in (source, target)]
    return PairChange(names[0], names[1], tuple(allowed), tuple(denied))


def _called(proto: str, port: int | None) -> str:
    return proto if port is None else f"{proto} {'(others)' if port == UNNAMED_PORT else port}"


def probes(*states: Snapshot) -> list[ProtoPort]:
    """The packets to try."""
    ports: set[tuple[str, int]] = {("tcp", UNNAMED_PORT), ("udp", UNNAMED_PORT)}
    for state in states:
        for acl in state.acls.values():
            for rule in acl.parsed:
                for match in rule.fields:
                    proto, _, end = match.name.partition("_")
                    if proto in ("tcp", "udp", "sctp") and end == "dst":
                        ports |= {(proto, value or 1) for value, _ in match.alternatives}
    return [("icmp", None), *sorted(ports)]


def _keys(state: RecordPolicies, source: str, target: str) -> PairPolicies:
    endpoints = state.snapshot.endpoints
    return state.of(endpoints[source]).sends, state.of(endpoints[target]).receives


def _touched(before: Snapshot, after: Snapshot) -> Any:
    """Whether a policy may decide differently: its rules, or the groups that they name, have changed."""
    acls = {n for n in {*before.acls, *after.acls} if _data(before.acls, n) != _data(after.acls, n)}
    groups = any(_meant(before.endpoints, e) != _meant(after.endpoints, e) for e in {*before.endpoints, *after.endpoints})

    def touched(key: PolicyKey) -> bool:
        grouped = groups and any(r.source or r.target for n in key.acls if n in after.acls for r in after.acls[n].parsed)
        return grouped or any(name in acls for name in key.acls)

    return touched


def _data(acls: Mapping[str, Acl], name: str) -> Any:
    return acls[name].rules if name in acls else None


def _meant(endpoints: Mapping[str, Endpoint], endpoint_id: str) -> Any:
    e = endpoints.get(endpoint_id)
    return None if e is None else (e.name, e.labels, e.network_id, e.ipv4_address, e.ipv6_address, e.allowed, e.active)
