"""The policies of one host, updated change by change; part of intent/incremental/index.py.

A policy is resolved again when something that it names has changed: an ACL, a meter, a port, or the members that a label, a
name or a network stands for. `acl.policy.resolve` says what is right.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from acl.language import Who
from acl.policy import PolicyKey, PolicyKeys, PolicyView, network_of, resolve
from intent.views import words
from specs.model.acl import Acl
from specs.model.endpoint import Endpoint
from specs.model.meter import Meter
from specs.snapshot import Snapshot

Reference = tuple[str, ...]  # what a policy depends on: ("acl", name), ("label", network, word), ("network", reference) ...
NONE = PolicyKeys(None, None, None)


@dataclass(slots=True)
class Policies:
    """Feed it changes, then call `settle`. `ports` are the index's: endpoint id to OpenFlow port."""

    snapshot: Snapshot
    ports: Mapping[str, int]
    views: dict[PolicyKey, PolicyView] = field(default_factory=dict)
    keys: dict[str, PolicyKeys] = field(default_factory=dict)  # of all members, wherever they are
    _members: dict[str, Endpoint] = field(default_factory=dict)
    _users: dict[PolicyKey, set[str]] = field(default_factory=lambda: defaultdict(set))  # local endpoints with a port
    _endpoints_by_reference: dict[Reference, set[str]] = field(default_factory=lambda: defaultdict(set))  # reference -> members
    _references_of: dict[PolicyKey, set[Reference]] = field(default_factory=dict)
    _policies_by_reference: dict[Reference, set[PolicyKey]] = field(default_factory=lambda: defaultdict(set))
    _used: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))  # network -> ACLs of its members
    _networks_of: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # ACL -> networks that use it
    _dirty: set[PolicyKey] = field(default_factory=set)

    # ---- changes --------------------------------------------------------------------------------------------------

    def touch(self, reference: Reference) -> None:
        """Something that policies may name has changed."""
        self._dirty |= self._policies_by_reference.get(reference, set())

    def networks_using(self, acl: str) -> set[str]:
        """The networks in which an ACL is in use, on any host."""
        return self._networks_of.get(acl, set())

    def set_member(self, endpoint_id: str, member: Endpoint | None, keys: PolicyKeys, local: bool) -> None:
        """Set the policies of a member; no endpoint: it is a member no more. `local`: it has a port here."""
        old, old_keys = self._members.pop(endpoint_id, None), self.keys.pop(endpoint_id, NONE)
        if old is not None:
            for reference in self._references_to(old):
                self._endpoints_by_reference[reference].discard(endpoint_id)
                self.touch(reference)
            self._update_membership(old.network_id, old_keys, -1)
            for key in old_keys:
                if key is not None:
                    self._users[key].discard(endpoint_id)
                    self._dirty.add(key)
        if member is not None:
            self._members[endpoint_id], self.keys[endpoint_id] = member, keys
            for reference in self._references_to(member):
                self._endpoints_by_reference[reference].add(endpoint_id)
                self.touch(reference)
            self._update_membership(member.network_id, keys, 1)
            for key in keys if local else ():
                if key is not None:
                    self._users[key].add(endpoint_id)
                    self._dirty.add(key)

    def _references_to(self, endpoint: Endpoint) -> Iterable[Reference]:
        network = endpoint.network_id
        yield "member", network
        yield "endpoint", network, endpoint.id
        if endpoint.name is not None:
            yield "endpoint", network, endpoint.name
        for word in words(endpoint):
            yield "label", network, word

    def _update_membership(self, network_id: str, keys: PolicyKeys, by: int) -> None:
        used = self._used[network_id]
        for name in {name for key in keys if key is not None for name in key.acls}:
            used[name] += by
            if used[name]:
                self._networks_of[name].add(network_id)
            else:
                del used[name]
                self._networks_of[name].discard(network_id)

    # ---- what follows ---------------------------------------------------------------------------------------------

    def resolve(self) -> tuple[dict[PolicyKey, PolicyView | None], set[str]]:
        """Resolve the policies that depend on what was touched. Returns the policies that differ (None: no longer in use),
        and the local endpoints that are newly closed or open."""
        changed: dict[PolicyKey, PolicyView | None] = {}
        flipped: set[str] = set()
        for key in self._dirty:
            before = self.views.get(key)
            self._forget(key)
            users = self._users.get(key)
            if not users:
                self._users.pop(key, None)
                if before is not None:
                    changed[key] = None
                continue
            after = resolve(key, self)
            self.views[key] = after
            self._remember(key)
            if after != before:
                changed[key] = after if after.closed is None else None
            if (after.closed is None) != (before is not None and before.closed is None):
                flipped |= users
        self._dirty = set()
        return changed, flipped

    def _forget(self, key: PolicyKey) -> None:
        self.views.pop(key, None)
        for reference in self._references_of.pop(key, ()):
            self._policies_by_reference[reference].discard(key)

    def _remember(self, key: PolicyKey) -> None:
        references: set[Reference] = set()
        for name in key.acls:
            references.add(("acl", name))
            acl = self.snapshot.acls.get(name)
            for rule in acl.parsed if acl else ():
                references |= {("meter", rule.meter)} if rule.meter else set()
                references |= {
                    self._reference(key.network_id, who) for who in (rule.source, rule.target) if who and who.cidr is None
                }
                if rule.steps or rule.mirror is not None:
                    references.add(("member", key.network_id))  # a rule may name the port by any of these
        self._references_of[key] = references
        for reference in references:
            self._policies_by_reference[reference].add(key)

    def _reference(self, network_id: str, who: Who) -> Reference:
        if who.network is not None:
            network = network_of(who.network, self.snapshot.networks)
            return ("member", network) if network else ("network", who.network)
        if who.endpoint is not None:
            return "endpoint", network_id, who.endpoint
        return "label", network_id, str(who.label)

    def closed(self, endpoint_id: str) -> str | None:
        """Why a policy of a local endpoint closes it."""
        views = (self.views.get(key) for key in self.keys.get(endpoint_id, NONE) if key is not None)
        return next((view.closed for view in views if view is not None and view.closed), None)

    def enforced(self, key: PolicyKey) -> PolicyView | None:
        """The policy with that key, if local endpoints have it and it does not close them."""
        view = self.views.get(key)
        return view if view is not None and view.closed is None else None

    def in_force(self) -> Iterable[PolicyView]:
        """The policies of local endpoints, without those that close them."""
        return (view for view in self.views.values() if view.closed is None)

    def stateful(self, network_id: str) -> bool:
        """Whether an ACL in use in the network asks for connection tracking."""
        acls = self.snapshot.acls
        return any(name in acls and acls[name].stateful for name in self._used.get(network_id, ()))

    # ---- what names in rules mean ---------------------------------------------------------------------------------

    @property
    def acls(self) -> Mapping[str, Acl]:
        """All ACLs."""
        return self.snapshot.acls

    @property
    def meters(self) -> Mapping[str, Meter]:
        """All meters."""
        return self.snapshot.meters

    def members(self, network_id: str, who: Who) -> Iterable[Endpoint]:
        """The endpoints that a `from` or `to` selects."""
        return [self._members[e] for e in self._endpoints_by_reference.get(self._reference(network_id, who), ())]

    def ofport(self, network_id: str, port: str | int) -> int | None:
        """The port of this host that a rule names."""
        if isinstance(port, str):
            for endpoint_id in self._endpoints_by_reference.get(("endpoint", network_id, port), ()):
                if endpoint_id in self.ports:
                    return self.ports[endpoint_id]
            return None
        member_ports = (self.ports.get(e) for e in self._endpoints_by_reference.get(("member", network_id), ()))
        return port if port in member_ports else None
