"""Which networks routers join, updated change by change; part of intent/incremental/index.py. `specs.checks.joined` says
what is right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from specs.checks import Joined, joined, routers_in_order
from specs.model.network import Network
from specs.snapshot import Snapshot


@dataclass(slots=True)
class Routes:
    """`to`: the networks that each network is routed to; `problems` of routers, by name."""

    to: Joined = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    _facts: dict[str, tuple[bool, ...]] = field(default_factory=dict)

    def recompute(self, snapshot: Snapshot, networks: Mapping[str, Network]) -> set[str]:
        """Recompute all routers, which are few. Returns the networks whose routes differ, and those that they are or were
        routed to: whether a network tracks connections depends on the networks that it is routed to."""
        before = self.to
        self.to, misfits = joined(routers_in_order(snapshot), networks)
        self.problems = {name: misfit.reason for name, misfit in misfits.items()}
        changed = {n for n in {*before, *self.to} if before.get(n) != self.to.get(n)}
        return changed.union(*({*before.get(n, ()), *self.to.get(n, ())} for n in changed))

    def within_two_routers(self, network_id: str) -> set[str]:
        """Networks up to two routers away; their conntrack setting may change with this one's."""
        to = self.to.get(network_id, {})
        return set(to).union(*(self.to[n] for n in to))

    def set_facts(self, network_id: str, *facts: bool) -> set[str]:
        """Take the facts about a network that others depend on: whether it has endpoints here, ACLs that track connections,
        services. Returns the networks that a change of these facts touches."""
        if self._facts.get(network_id, (False,) * len(facts)) == facts:
            return set()
        self._facts[network_id] = facts
        return self.within_two_routers(network_id)
