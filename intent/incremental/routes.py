"""What routers join, kept up to date change by change. Part of intent/incremental/index.py; `specs.settle.joined` says what is right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from specs.checks import Joined, joined, routers_in_order
from specs.model.records import Network
from specs.snapshot import Snapshot


@dataclass(slots=True)
class Routing:
    """`to`: which networks each is routed to; `problems` of routers, by name."""

    to: Joined = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    _shown: dict[str, tuple[bool, ...]] = field(default_factory=dict)

    def settle(self, snapshot: Snapshot, networks: Mapping[str, Network]) -> set[str]:
        """Look at all routers, which are few; returns the networks that are routed to others than before, and those that are
        routed to them: whether a network tracks connections hangs on where it is routed to."""
        before = self.to
        self.to, misfits = joined(routers_in_order(snapshot), networks)
        self.problems = {name: misfit.reason for name, misfit in misfits.items()}
        changed = {n for n in {*before, *self.to} if before.get(n) != self.to.get(n)}
        return changed.union(*({*before.get(n, ()), *self.to.get(n, ())} for n in changed))

    def beyond(self, network_id: str) -> set[str]:
        """The networks that one is routed to, and those that they are routed to: who tracks connections hangs on both."""
        to = self.to.get(network_id, {})
        return set(to).union(*(self.to[n] for n in to))

    def show(self, network_id: str, *facts: bool) -> set[str]:
        """What others hang on: whether a network has endpoints here, ACLs that track connections, services. Returns the networks
        that this changes."""
        if self._shown.get(network_id, (False,) * len(facts)) == facts:
            return set()
        self._shown[network_id] = facts
        return self.beyond(network_id)
