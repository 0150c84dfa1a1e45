"""The policies of endpoints and what they decide about a packet, straight from the records by acl/evaluate.py. Shares nothing with
the compiler. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from acl.language import Rule, Who
from acl.policy import PolicyKey, PolicyKeys, keys_of
from intent.views import selects
from pipeline.protocols import IpNetwork
from specs.model.endpoint import Endpoint
from specs.model.tenant import governing
from specs.snapshot import Snapshot
from warren.errors import NotFound

Rules = list[tuple[str, int, Rule]]


@dataclass(frozen=True, slots=True)
class RecordPolicies:
    """The policies of one snapshot. Holds what it has derived, so make a new one for another snapshot."""

    snapshot: Snapshot
    _rules: dict[PolicyKey, Rules | None] = field(default_factory=dict)
    _members: dict[tuple[str, Who], list[IpNetwork]] = field(default_factory=dict)

    def of(self, endpoint: Endpoint) -> PolicyKeys:
        """The policies of an endpoint. Raises `NotFound` if its network does not exist."""
        state = self.snapshot
        network = state.networks.get(endpoint.network_id)
        if network is None:
            raise NotFound("network", endpoint.network_id)
        return keys_of(endpoint, network, state.hosts.get(endpoint.host), governing(network, state.tenants))

    def rules(self, key: PolicyKey) -> Rules | None:
        """The rules of a policy in order, each with its ACL and its number; None if one of its ACLs does not exist."""
        if key not in self._rules:
            acls = self.snapshot.acls
            exist = all(name in acls for name in key.acls)
            self._rules[key] = [(n, i, r) for n in key.acls for i, r in enumerate(acls[n].parsed, 1)] if exist else None
        return self._rules[key]

    def members(self, network_id: str, who: Who) -> list[IpNetwork]:
        """Return the addresses that `from` or `to` of a rule means in a network."""
        if who.cidr is not None:
            return [who.cidr]
        if (network_id, who) not in self._members:
            self._members[network_id, who] = [prefix for e in self.selected(network_id, who) for prefix in e.prefixes]
        return self._members[network_id, who]

    def selected(self, network_id: str, who: Who) -> list[Endpoint]:
        """The active endpoints that `from` or `to` selects, seen from a network."""
        state = self.snapshot
        return [e for e in state.endpoints.values() if e.active and selects(who, e, network_id, state.networks)]
