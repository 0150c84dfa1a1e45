"""Which networks routers join, updated change by change; part of intent/incremental/index.py. `specs.checks.joined` says
what is right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from specs.checks import joined, routers_in_order
from specs.model.network import Network
from specs.snapshot import Snapshot


@dataclass(slots=True)
class Routes:
    """`to`: the networks that each network is routed to; `problems` of routers, by name. A change costs the routers that share networks with
    it, directly or through others."""

    snapshot: Snapshot
    by_reference: Mapping[str, Network]
    to: dict[str, dict[str, str]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    steps: int = 0  # routers that were looked at
    _naming: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # reference -> routers
    _leading: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # network -> routers
    _named: dict[str, tuple[str, ...]] = field(default_factory=dict)  # router -> references
    _members: dict[str, set[str]] = field(default_factory=dict)  # router -> networks
    _facts: dict[str, tuple[bool, ...]] = field(default_factory=dict)

    def take_references(self, references: Iterable[str]) -> set[str]:
        """Take references that stand for other networks than before, or for networks that have changed. Returns as `take_routers`."""
        return self.take_routers(set().union(*(self._naming.get(reference, ()) for reference in references)))

    def take_routers(self, names: set[str]) -> set[str]:
        """Take routers that were written or deleted, or whose networks changed. Returns the networks whose routes differ, and those that they are
        or were routed to: whether a network tracks connections depends on the networks that it is routed to."""
        if not names:
            return set()
        routers, networks = self._connected(names)
        for name in names:
            self._index(name)
        for connected, more in zip((routers, networks), self._connected(names), strict=True):
            connected |= more
        after, misfits = joined(routers_in_order(self.snapshot, routers), self.by_reference)
        before = {network_id: self.to.pop(network_id) for network_id in networks if network_id in self.to}
        self.to |= after
        for name in routers:
            self.problems.pop(name, None)
        self.problems |= {name: misfit.reason for name, misfit in misfits.items()}
        changed = {n for n in {*before, *after} if before.get(n) != after.get(n)}
        return changed.union(*({*before.get(n, ()), *after.get(n, ())} for n in changed))

    def _index(self, name: str) -> None:
        for reference in self._named.pop(name, ()):
            self._naming[reference].discard(name)
        for network_id in self._members.pop(name, ()):
            self._leading[network_id].discard(name)
        router = self.snapshot.routers.get(name)
        if router is not None:
            self._named[name] = router.networks
            self._members[name] = {self.by_reference[r].id for r in router.networks if r in self.by_reference}
            for reference in router.networks:
                self._naming[reference].add(name)
            for network_id in self._members[name]:
                self._leading[network_id].add(name)

    def _connected(self, names: Iterable[str]) -> tuple[set[str], set[str]]:
        """The routers that share networks with some, directly or through others, and all their networks."""
        routers: set[str] = set()
        networks: set[str] = set()
        waiting = list(names)
        while waiting:
            if (name := waiting.pop()) in routers:
                continue
            routers.add(name)
            self.steps += 1
            new = self._members.get(name, set()) - networks
            networks |= new
            waiting.extend(router for network_id in new for router in self._leading[network_id])
        return routers, networks

    def within_two_routers(self, network_id: str) -> set[str]:
        """Networks up to two routers away; their conntrack setting may change with this one's."""
        to = self.to.get(network_id, {})
        return set(to).union(*(self.to[n] for n in to))

    def with_routed(self, networks: set[str]) -> set[str]:
        """Networks, and those that they are routed to."""
        return networks.union(*(self.to.get(n, ()) for n in networks))

    def set_facts(self, network_id: str, *facts: bool) -> set[str]:
        """Take the facts about a network that others depend on: whether it has endpoints here, ACLs that track connections,
        services. Returns the networks that a change of these facts touches."""
        if self._facts.get(network_id, (False,) * len(facts)) == facts:
            return set()
        self._facts[network_id] = facts
        return self.within_two_routers(network_id)
