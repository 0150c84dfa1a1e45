"""Services, updated change by change; part of intent/incremental/index.py. `specs.checks.served` says which services are
valid."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from acl.language import Who
from intent.services import ServiceView, service_members, service_view
from intent.views import NetworkView
from specs.checks import served, services_in_order
from specs.model.endpoint import Endpoint
from specs.model.network import Network
from specs.model.service import Service
from specs.snapshot import Snapshot

ServiceMembers = Callable[[str, Who], Iterable[Endpoint]]


@dataclass(slots=True)
class Services:
    """`of` are the valid services by network, `views` those of this host, `members` the ids of the members by network,
    `problems` the reasons why services are not valid, by name. A change costs the services with the same port, and those of their networks."""

    snapshot: Snapshot
    by_reference: Mapping[str, Network]
    of: dict[str, tuple[Service, ...]] = field(default_factory=dict)
    views: dict[str, ServiceView] = field(default_factory=dict)
    members: dict[str, frozenset[str]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    steps: int = 0  # services that were looked at
    _named: dict[str, tuple[str, ...]] = field(default_factory=dict)  # network -> its services in `views`
    _records: dict[str, Service] = field(default_factory=dict)
    _network: dict[str, str] = field(default_factory=dict)  # valid service -> its network
    _naming: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # reference -> services
    _wanting: dict[tuple[str, int], set[str]] = field(
        default_factory=lambda: defaultdict(set)
    )  # (protocol, port of the hosts) -> services

    def take_references(self, references: Iterable[str]) -> set[str]:
        """Take references that stand for other networks than before, or for networks that have changed. Returns as `take_services`."""
        return self.take_services(set().union(*(self._naming.get(reference, ()) for reference in references)))

    def take_services(self, names: Iterable[str]) -> set[str]:
        """Take services that were written or deleted, or whose network changed. Returns the networks whose services differ."""
        rivals: set[str] = set()
        for name in names:
            rivals |= self._rivals(name) | {name}
            self._index(name)
            rivals |= self._rivals(name)
        networks = {self._network.pop(name) for name in rivals if name in self._network}
        valid, problems = served(services_in_order(self.snapshot, rivals), self.by_reference)
        for name in rivals:
            self.problems.pop(name, None)
        self.problems |= problems
        self._network |= {service.name: network_id for network_id, services in valid.items() for service in services}
        return {network_id for network_id in networks | valid.keys() if self._collect(network_id, rivals)}

    def _rivals(self, name: str) -> set[str]:
        record = self._records.get(name)
        return self._wanting[record.proto, record.host_port] if record is not None else set()

    def _index(self, name: str) -> None:
        old, new = self._records.pop(name, None), self.snapshot.services.get(name)
        if old is not None:
            self._naming[old.network].discard(name)
            self._wanting[old.proto, old.host_port].discard(name)
        if new is not None:
            self._records[name] = new
            self._naming[new.network].add(name)
            self._wanting[new.proto, new.host_port].add(name)

    def _collect(self, network_id: str, concerned: set[str]) -> bool:
        """Set the services of a network anew: those of them that it had or has. Returns whether they differ."""
        before = self.of.pop(network_id, ())
        names = {service.name for service in before} | concerned
        after = services_in_order(self.snapshot, (name for name in names if self._network.get(name) == network_id))
        self.steps += len(names)
        if after:
            self.of[network_id] = tuple(after)
        return before != tuple(after)

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
