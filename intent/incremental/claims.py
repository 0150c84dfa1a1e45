"""Incrementally resolves conflicts over unique values (MAC, IP, ofport, published port): the endpoint created first wins.

Whether an endpoint wins may depend on others that it shares no value with, through a chain of claims. So whenever one
endpoint of such a chain changes, all of them are resolved again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from intent.views import Claim, claims
from specs.checks import order
from specs.model.endpoint import Endpoint
from specs.snapshot import Snapshot


@dataclass(slots=True)
class Claims:
    """The claims of endpoints. Add and remove endpoints, then `resolve`."""

    snapshot: Snapshot
    endpoints: dict[str, Endpoint] = field(default_factory=dict)  # the endpoints that claim values
    winners: set[str] = field(default_factory=set)
    problems: dict[str, str] = field(default_factory=dict)
    _claimants: dict[Claim, set[str]] = field(default_factory=lambda: defaultdict(set))
    _disputed: set[Claim] = field(default_factory=set)

    def remove(self, endpoint_id: str) -> None:
        """Remove the claims of an endpoint."""
        old = self.endpoints.pop(endpoint_id, None)
        for claim in claims(old) if old is not None else ():
            self._claimants[claim].discard(endpoint_id)
            self._disputed.add(claim)
        self.winners.discard(endpoint_id)
        self.problems.pop(endpoint_id, None)

    def add(self, endpoint_id: str, endpoint: Endpoint) -> None:
        """Add the claims of an endpoint."""
        self.endpoints[endpoint_id] = endpoint
        for claim in claims(endpoint):
            self._claimants[claim].add(endpoint_id)
            self._disputed.add(claim)

    def resolve(self) -> set[str]:
        """Resolve the claims that have changed. Returns all endpoints that share them, directly or through others."""
        parties, self._disputed = self._parties(self._disputed), set()
        taken: dict[Claim, str] = {}
        for endpoint_id in sorted(parties, key=lambda e: order(self.snapshot, "endpoint", e)):
            wanted = claims(self.endpoints[endpoint_id])
            holders = [(claim[1], taken[claim]) for claim in wanted if claim in taken]
            if holders:
                self.winners.discard(endpoint_id)
                self.problems[endpoint_id] = f"{holders[0][0]} belongs to endpoint {holders[0][1]}"
            else:
                taken.update((claim, endpoint_id) for claim in wanted)
                self.winners.add(endpoint_id)
                self.problems.pop(endpoint_id, None)
        return parties

    def _parties(self, disputed: Iterable[Claim]) -> set[str]:
        parties: set[str] = set()
        pending = list(disputed)
        while pending:
            claim = pending.pop()
            claimants = self._claimants.get(claim)
            if not claimants:
                self._claimants.pop(claim, None)
                continue
            for endpoint_id in claimants - parties:
                parties.add(endpoint_id)
                pending.extend(claims(self.endpoints[endpoint_id]))
        return parties
