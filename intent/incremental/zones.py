"""The conntrack zones of networks, updated change by change; part of intent/incremental/networks.py. `specs.checks.zones` says what is right:
a network has the first zone from its home on that no older network has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from specs.checks import ZONES, home_zone, next_zone, zones
from specs.snapshot import Snapshot

Age = tuple[int, str]  # as from `specs.checks.order`: the older network has the lower


class _Claim(NamedTuple):
    age: Age
    home: int


@dataclass(slots=True)
class Zones:
    """`of` are the zones by network. A network whose home no other wants costs one step. Otherwise a change costs the occupied zones
    from the home on, or the networks that are not at home. Only where networks outnumber zones all zones are assigned anew."""

    snapshot: Snapshot
    count: int = ZONES
    of: dict[str, int] = field(default_factory=dict)
    steps: int = 0  # zones that were looked at
    _at: dict[int, str] = field(default_factory=dict)
    _claims: dict[str, _Claim] = field(default_factory=dict)
    _displaced: set[str] = field(default_factory=set)  # networks that are not at home

    def update(self, leaving: Iterable[str], coming: Iterable[tuple[str, Age, int]]) -> set[str]:
        """Give up the zones of networks, and assign zones to networks, with their ages and VNIs. Returns the networks whose zone differs."""
        before: dict[str, int | None] = {}
        crowded = len(self._claims) > self.count
        for network_id in leaving:
            if (claim := self._claims.pop(network_id, None)) is not None and not crowded:
                self._vacate(network_id, before)
            elif claim is not None:
                before[network_id] = self.of.pop(network_id)
        for network_id, age, vni in coming:
            self._claims[network_id] = _Claim(age, home_zone(vni, self.count))
            crowded = crowded or len(self._claims) > self.count
            if not crowded:
                self._place(network_id, self._claims[network_id].home, before)
        if crowded:
            self._assign_all(before)
        return {n for n, zone in before.items() if n in self.of and self.of[n] != zone}

    def _set(self, network_id: str, zone: int, before: dict[str, int | None]) -> None:
        before.setdefault(network_id, self.of.get(network_id))
        self.of[network_id], self._at[zone] = zone, network_id
        if zone == self._claims[network_id].home:
            self._displaced.discard(network_id)
        else:
            self._displaced.add(network_id)

    def _place(self, network_id: str, zone: int, before: dict[str, int | None]) -> None:
        """Give a network the first zone that no older one has; a younger one that had it moves on."""
        while True:
            self.steps += 1
            holder = self._at.get(zone)
            if holder is None or self._claims[holder].age > self._claims[network_id].age:
                self._set(network_id, zone, before)
                if holder is None:
                    return
                network_id = holder
            zone = next_zone(zone, self.count)

    def _vacate(self, network_id: str, before: dict[str, int | None]) -> None:
        """Take a network's zone away. The oldest of the displaced networks that passed by the zone gets it, which frees another zone."""
        free = self.of.pop(network_id)
        before.setdefault(network_id, free)
        self._displaced.discard(network_id)
        while True:
            del self._at[free]
            self.steps += 1 + len(self._displaced)
            heirs = [n for n in self._displaced if self._passed(n, free)]
            if not heirs:
                return
            heir = min(heirs, key=lambda n: self._claims[n].age)
            zone, free = free, self.of[heir]
            self._set(heir, zone, before)

    def _passed(self, network_id: str, zone: int) -> bool:
        """Whether a displaced network was kept from this zone by an older one on its way from its home to the zone that it has."""
        home = self._claims[network_id].home
        return (zone - home) % self.count < (self.of[network_id] - home) % self.count

    def _assign_all(self, before: dict[str, int | None]) -> None:
        ids = sorted(self._claims, key=lambda n: self._claims[n].age)
        self.steps += len(ids)
        old, self.of = self.of, zones(self.snapshot, ids, self.count)
        for network_id in ids:
            before.setdefault(network_id, old.get(network_id))
        self._at = {zone: network_id for network_id, zone in self.of.items()}
        self._displaced = {n for n, zone in self.of.items() if zone != self._claims[n].home}
