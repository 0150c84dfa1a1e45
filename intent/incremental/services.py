"""Services kept up to date change by change. Part of intent/incremental/index.py; `specs.settle.served` says which may be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from acl.language import Who
from intent.views import NetworkView
from specs.checks import served
from specs.model.records import Endpoint, Network
from specs.model.service import Service, ServiceView, meant, service_view
from specs.snapshot import Snapshot

Members = Callable[[str, Who], Iterable[Endpoint]]


@dataclass(slots=True)
class Serving:
    """`of` are the services that may be, by network; `views` those of this host; `members` who is meant, by network; `problems`
    of services, by name."""

    of: Mapping[str, tuple[Service, ...]] = field(default_factory=dict)
    views: dict[str, ServiceView] = field(default_factory=dict)
    members: dict[str, frozenset[str]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    _named: dict[str, tuple[str, ...]] = field(default_factory=dict)  # network -> its services in `views`

    def settle(self, snapshot: Snapshot, networks: Mapping[str, Network]) -> set[str]:
        """Look at all services, which are few; returns the networks whose services differ."""
        before = self.of
        self.of, self.problems = served(snapshot, networks)
        return {n for n in {*before, *self.of} if before.get(n) != self.of.get(n)}

    def look(
        self, touched: Iterable[str], networks: Mapping[str, NetworkView], members: Members, able: Callable[[Endpoint], bool]
    ) -> tuple[dict[str, ServiceView | None], set[str]]:
        """The services of touched networks that differ (None: not here any more), and the endpoints that are members now and were
        not, or the other way round. Costs what their members are."""
        before: dict[str, ServiceView | None] = {}
        after: dict[str, ServiceView | None] = {}
        moved: set[str] = set()
        for network_id in touched:
            before.update((name, self.views.pop(name)) for name in self._named.pop(network_id, ()))
            who = {s: meant(s, network_id, members) for s in self.of.get(network_id, ())}
            ids = frozenset(e.id for found in who.values() for e in found)
            moved |= ids ^ self.members.pop(network_id, frozenset())
            if ids:
                self.members[network_id] = ids
            there = networks.get(network_id)
            if there is not None and there.serves:
                assert there.gateway is not None
                views = {s.name: service_view(s, there.vni, there.gateway, filter(able, found)) for s, found in who.items()}
                after |= views
                self._named[network_id] = tuple(views)
        self.views.update((name, found) for name, found in after.items() if found is not None)
        changed = {name: after.get(name) for name in {*before, *after} if before.get(name) != after.get(name)}
        return changed, moved
