"""Which networks are valid, what they are called, and their conntrack zones, updated change by change; part of intent/incremental/index.py.
`valid_networks`, `called` and `zones` in specs/checks.py say what is right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from intent.incremental.ranges import Ranges
from intent.incremental.zones import Age, Zones
from specs.checks import network_problem, order
from specs.model.network import RELATED_BIT, Network
from specs.model.profile import DEFAULT
from specs.snapshot import Snapshot


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworksDelta:
    """What a change has touched: `networks` that became valid or invalid or changed, `references` (ids and names) that may stand for something else,
    `moved` networks whose zone differs, and networks that are `related` to a VNI that came or went."""

    networks: set[str]
    references: set[str]
    moved: set[str]
    related: set[str]


@dataclass(slots=True)
class Networks:
    """A change costs the networks with the same VNI, the routed networks whose ranges overlap (and, where one of these becomes valid or invalid,
    those that overlap with that), and what zones.py says; never all networks."""

    snapshot: Snapshot
    valid: dict[str, Network] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)  # why the others are not valid
    by_reference: dict[str, Network] = field(default_factory=dict)  # as from `specs.checks.called`
    of_vni: dict[int, str] = field(default_factory=dict)  # of valid networks
    zones: Zones = field(init=False)
    steps: int = 0  # networks that were checked
    _records: dict[str, Network] = field(default_factory=dict)
    _ages: dict[str, Age] = field(default_factory=dict)
    _claiming: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))  # VNI -> networks, valid or not
    _named: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # name -> valid networks
    _routed: Ranges = field(default_factory=Ranges)  # of all networks in mode routed, valid or not

    def __post_init__(self) -> None:
        self.zones = Zones(self.snapshot)

    def update(self, changed: str) -> NetworksDelta:
        """Take a network that was written or deleted."""
        concerned = self._rivals(changed)
        old_age = self._ages.get(changed)
        self._index(changed)
        concerned |= self._rivals(changed)
        before = self._check(concerned)
        if changed not in self._records:
            before[changed] = self.valid.pop(changed, None)
            self.problems.pop(changed, None)
        differing = {n: old for n, old in before.items() if old != self.valid.get(n)}
        return NetworksDelta(
            networks=set(differing),
            references=self._rename(differing),
            moved=self._move(differing, reordered={changed} if old_age != self._ages.get(changed) else set()),
            related=self._change_vnis(differing),
        )

    def of_profile(self, name: str) -> set[str]:
        """The valid networks that travel by a profile. Costs what all networks are; profiles seldom change."""
        return {network.id for network in self.valid.values() if (network.profile or DEFAULT) == name}

    def _index(self, network_id: str) -> None:
        old = self._records.pop(network_id, None)
        if old is not None:
            del self._ages[network_id]
            self._claiming[old.number].discard(network_id)
            if not self._claiming[old.number]:
                del self._claiming[old.number]
            if old.mode == "routed":
                self._routed.remove(old)
        new = self.snapshot.networks.get(network_id)
        if new is not None:
            self._records[network_id], self._ages[network_id] = new, order(self.snapshot, "network", network_id)
            self._claiming[new.number].add(network_id)
            if new.mode == "routed":
                self._routed.add(new)

    def _rivals(self, network_id: str) -> set[str]:
        """The networks that want what a network has, and itself."""
        record = self._records.get(network_id)
        if record is None:
            return set()
        return self._claiming[record.number] | (self._routed.overlapping(record) if record.mode == "routed" else set())

    def _check(self, concerned: Iterable[str]) -> dict[str, Network | None]:
        """Say of networks whether they are valid, the oldest first, and of all that depend on those that changed. Returns them as they were."""
        before: dict[str, Network | None] = {}
        queue = [self._ages[n] for n in concerned if n in self._records]
        heapify(queue)
        while queue:
            age = heappop(queue)
            network_id, self.steps = age[1], self.steps + 1
            old, record = self.valid.pop(network_id, None), self._records[network_id]
            before.setdefault(network_id, old)
            reason = self._problem(record)
            if reason is None:
                self.valid[network_id] = record
                self.problems.pop(network_id, None)
            else:
                self.problems[network_id] = reason
            if self.valid.get(network_id) != old and record.mode == "routed":
                for younger in self._routed.overlapping(record):
                    if self._ages[younger] > age:
                        heappush(queue, self._ages[younger])
        return before

    def _problem(self, network: Network) -> str | None:
        holder = min(self._claiming[network.number], key=self._ages.__getitem__)
        crossed: list[str] = []
        if network.mode == "routed":
            age = self._ages[network.id]
            crossed = [n for n in self._routed.overlapping(network) if n in self.valid and self._ages[n] < age]
        first = self.valid[min(crossed, key=self._ages.__getitem__)] if crossed else None
        return network_problem(network, holder, first)

    def _rename(self, differing: dict[str, Network | None]) -> set[str]:
        """Update what references stand for. Returns those of the networks that differ."""
        references = set(differing)
        for network_id, old in differing.items():
            new = self.valid.get(network_id)
            for name in old.references if old is not None else ():
                self._named[name].discard(network_id)
            for name in new.references if new is not None else ():
                self._named[name].add(network_id)
            references |= {name for network in (old, new) if network is not None for name in network.references}
        for reference in references:
            holders = {reference} & self.valid.keys() or self._named[reference]
            if holders:
                self.by_reference[reference] = self.valid[min(holders)]
            else:
                self.by_reference.pop(reference, None)
            if not self._named[reference]:
                del self._named[reference]
        return references

    def _move(self, differing: dict[str, Network | None], reordered: set[str]) -> set[str]:
        """Update the zones of networks that came or went, have another VNI or another age. Returns the networks whose zone differs."""
        vnis = {
            n: (old.number if old else None, self.valid[n].number if n in self.valid else None) for n, old in differing.items()
        }
        moving = {n for n, (old, new) in vnis.items() if old != new} | reordered
        coming = [(n, self._ages[n], self.valid[n].number) for n in sorted(moving) if n in self.valid]
        return self.zones.update(moving, coming)

    def _change_vnis(self, differing: dict[str, Network | None]) -> set[str]:
        """Update the VNIs in use. Returns the networks whose second VNI came into use or is free now."""
        before = {old.number for old in differing.values() if old is not None}
        after = {self.valid[n].number: n for n in differing if n in self.valid}
        for vni in before:
            del self.of_vni[vni]
        self.of_vni |= after
        return {self.of_vni[vni ^ RELATED_BIT] for vni in before ^ after.keys() if vni ^ RELATED_BIT in self.of_vni}
