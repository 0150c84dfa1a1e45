"""Services, updated change by change; part of intent/incremental/index.py. `specs.checks.served` says which services are
valid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from acl.language import Who
from intent.services import ServiceView, service_members, service_view
from intent.views import NetworkView
from specs.checks import served
from specs.model.endpoint import Endpoint
from specs.model.network import Network
from specs.model.service import Service
from specs.snapshot import Snapshot

ServiceMembers = Callable[[str, Who], Iterable[Endpoint]]


@dataclass(slots=True)
class Services:
    """`of` are the valid services by network, `views` those of this host, `members` the ids of the members by network,
    `problems` the reasons why services are not valid, by name."""

    of: Mapping[str, tuple[Service, ...]] = field(default_factory=dict)
    views: dict[str, ServiceView] = field(default_factory=dict)
    members: dict[str, frozenset[str]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    _named: dict[str, tuple[str, ...]] = field(default_factory=dict)  # network -> its services in `views`

    def recompute(self, snapshot: Snapshot, networks: Mapping[str, Network]) -> set[str]:
        """Recompute which services are valid; there are few. Returns the networks whose services differ."""
        before = self.of
        self.of, self.problems = served(snapshot, networks)
        return {n for n in {*before, *self.of} if before.get(n) != self.of.get(n)}

    def update(
        self,
        touched: Iterable[str],
        networks: Mapping[str, NetworkView],
        members: ServiceMembers,
        reachable: Callable[[Endpoint], bool],
    ) -> tuple[dict[str, ServiceView | None], set[str]]:
        """Update the services of touched networks. Returns the views that differ (None: no longer here), and the endpoints
        that became members or ceased to be. Costs what the members are."""
        before: dict[str, ServiceView | None] = {}
        after: dict[str, ServiceView | None] = {}
        moved: set[str] = set()
        for network_id in touched:
            before.update((name, self.views.pop(name)) for name in self._named.pop(network_id, ()))
            who = {s: service_members(s, network_id, members) for s in self.of.get(network_id, ())}
            ids = frozenset(e.id for served in who.values() for e in served)
            moved |= ids ^ self.members.pop(network_id, frozenset())
            if ids:
                self.members[network_id] = ids
            network_view = networks.get(network_id)
            if network_view is not None and network_view.serves:
                assert network_view.gateway is not None
                views = {
                    s.name: service_view(s, network_view.vni, network_view.gateway, filter(reachable, served))
                    for s, served in who.items()
                }
                after |= views
                self._named[network_id] = tuple(views)
        self.views.update((name, view) for name, view in after.items() if view is not None)
        changed = {name: after.get(name) for name in {*before, *after} if before.get(name) != after.get(name)}
        return changed, moved
