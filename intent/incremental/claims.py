"""Who gets what only one endpoint can have (`specs.view.claims`), kept up change by change: first created first.

Whether one wins may hang on others that it shares nothing with, through a chain of claims; so all parties to a dispute are
heard again whenever one of them changes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from intent.views import claims
from specs.checks import order
from specs.model.records import Endpoint
from specs.snapshot import Snapshot

Claim = tuple[str, str]


@dataclass(slots=True)
class Contest:
    """Change the placed endpoints, then `decide`."""

    snapshot: Snapshot
    placed: dict[str, Endpoint] = field(default_factory=dict)  # fit endpoints as they stand in the claims
    winners: set[str] = field(default_factory=set)
    problems: dict[str, str] = field(default_factory=dict)
    _claimants: dict[Claim, set[str]] = field(default_factory=lambda: defaultdict(set))
    _disputed: set[Claim] = field(default_factory=set)

    def withdraw(self, endpoint_id: str) -> None:
        """An endpoint claims nothing any more."""
        old = self.placed.pop(endpoint_id, None)
        for claim in claims(old) if old is not None else ():
            self._claimants[claim].discard(endpoint_id)
            self._disputed.add(claim)
        self.winners.discard(endpoint_id)
        self.problems.pop(endpoint_id, None)

    def place(self, endpoint_id: str, endpoint: Endpoint) -> None:
        """An endpoint claims what it says."""
        self.placed[endpoint_id] = endpoint
        for claim in claims(endpoint):
            self._claimants[claim].add(endpoint_id)
            self._disputed.add(claim)

    def decide(self) -> set[str]:
        """Settle what is disputed; returns all that were party to it."""
        parties, self._disputed = self._parties(self._disputed), set()
        taken: dict[Claim, str] = {}
        for endpoint_id in sorted(parties, key=lambda e: order(self.snapshot, "endpoint", e)):
            wanted = claims(self.placed[endpoint_id])
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
                pending.extend(claims(self.placed[endpoint_id]))
        return parties
