"""The view of one host, kept up to date change by change: the cost follows what a change touches, not what exists.

`specs.view.view` says what is right; a property test holds that this arrives at the same after any sequence of changes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from acl.policy import keys_of
from intent.incremental.claims import Contest
from intent.incremental.delta import Delta
from intent.incremental.policies import NONE, Policies
from intent.incremental.routes import Routing
from intent.incremental.services import Serving
from intent.views import (
    NO_RELATED,
    TENANT,
    UNMARKED,
    EndpointView,
    NetworkView,
    View,
    endpoint_view,
    mirrors_in_order,
    misfit,
    network_view,
    routed_remote_view,
    vtep,
)
from specs.checks import routes, valid_networks, zones
from specs.model.mirror import RELATED_BIT, Marks, Session, sessions
from specs.model.records import Endpoint, Network
from specs.ports import Seats, leads_on
from specs.snapshot import Decoded, Problem, Snapshot, put


@dataclass(slots=True)
class Index:
    """The snapshot with what is derived from it for `host`. Feed it changes, then `flush` for the delta."""

    host: str
    snapshot: Snapshot = field(default_factory=Snapshot)
    ports: dict[str, int] = field(default_factory=dict)
    tunnel_ofport: int | None = None
    uplink_ofport: int | None = None
    endpoints: dict[str, EndpointView] = field(default_factory=dict)
    networks: dict[str, NetworkView] = field(default_factory=dict)
    policies: Policies = field(init=False)
    seats: Seats = field(init=False)
    _contest: Contest = field(init=False)
    _valid_networks: dict[str, Network] = field(default_factory=dict)
    _zones: dict[str, int] = field(default_factory=dict)
    _vnis: set[int] = field(default_factory=set)
    _network_problems: dict[str, str] = field(default_factory=dict)
    _members: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # network -> winners
    _of_network: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # network -> all records
    _of_host: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _local: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # network -> winners with a port here
    _remote: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))  # network -> host -> winners
    _counted: dict[str, tuple[str, str]] = field(default_factory=dict)  # winner -> (network, host) as counted
    _open: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # network -> winners behind interfaces
    _known: dict[str, Endpoint] = field(default_factory=dict)
    _dirty: set[str] = field(default_factory=set)
    _dirty_networks: set[str] = field(default_factory=set)
    _tunnel_moved: bool = False
    routing: Routing = field(default_factory=Routing)
    serving: Serving = field(default_factory=Serving)
    sessions: dict[str, Session] = field(default_factory=dict)
    _marks: dict[str, Marks] = field(default_factory=dict)
    _idle: dict[str, str] = field(default_factory=dict)  # mirror sessions that can do nothing, and why

    def __post_init__(self) -> None:
        self.policies = Policies(self.snapshot, self.ports)
        self.seats = Seats(self.host, self.snapshot.endpoints)
        self._contest = Contest(self.snapshot)

    # ---- changes --------------------------------------------------------------------------------------------------

    def put(self, key: str, value: str | None, born: int) -> None:
        """One store entry was written (value None: deleted)."""
        decoded = put(self.snapshot, key, value, born)
        if decoded is not None:
            self._note(decoded)

    def cables(self, ofports: Mapping[str, int]) -> None:
        """The ports that the switch has given to endpoints; of those that have one of their own."""
        for moved in self.seats.plug(ofports):
            self._seat(moved)

    def _seat(self, endpoint_id: str) -> None:
        """Bring `ports` up to date for one endpoint."""
        ofport = self.seats.ofport(endpoint_id)
        if self.ports.get(endpoint_id) == ofport:
            return
        if ofport is None:
            self.ports.pop(endpoint_id, None)
        else:
            self.ports[endpoint_id] = ofport
        self._dirty.add(endpoint_id)
        member = self._contest.placed.get(endpoint_id)
        if member is not None:
            self.policies.touch(("member", member.network_id))

    def tunnel(self, ofport: int | None) -> None:
        """The tunnel port has this number (None: there is none)."""
        if ofport != self.tunnel_ofport:
            self.tunnel_ofport, self._tunnel_moved = ofport, True

    def uplink(self, ofport: int | None) -> None:
        """The port to the host has this number (None: there is none)."""
        if ofport != self.uplink_ofport:
            self.uplink_ofport = ofport
            self._dirty_networks |= {n.id for n in self._valid_networks.values() if n.mode != "flat"}

    def interfaces(self, ofports: Mapping[str, int]) -> None:
        """The ports of interfaces that specs name."""
        for moved in self.seats.move_interfaces(ofports):
            self._seat(moved)

    def _note(self, decoded: Decoded) -> None:
        if decoded.kind == "endpoint":
            self._dirty.add(decoded.id)
        elif decoded.kind == "host":
            self._dirty |= self._of_host.get(decoded.id, set())
            self._dirty_networks |= {self._known[e].network_id for e in self._of_host.get(decoded.id, ())}
            if decoded.id == self.host:
                self._dirty |= set(self.snapshot.endpoints)
        elif decoded.kind == "network":
            self._settle_networks(decoded.id)
        elif decoded.kind == "router":
            self._dirty_networks |= self.routing.settle(self.snapshot, self._valid_networks)
        elif decoded.kind == "service":
            self._dirty_networks |= self.serving.settle(self.snapshot, self._valid_networks)
        elif decoded.kind in ("mirror", "capture"):
            pass  # sessions are looked at whenever there are any
        elif decoded.kind == "tenant":
            self._dirty |= set(self.snapshot.endpoints)
        else:
            self.policies.touch((decoded.kind, decoded.id))
            if decoded.kind == "acl":
                self._dirty_networks |= self.policies.networks_using(decoded.id)

    def _settle_networks(self, changed: str) -> None:
        """Networks are few and change rarely, so all are looked at."""
        valid, self._network_problems = valid_networks(self.snapshot)
        other: set[str] = set()
        for network_id in {changed, *valid, *self._valid_networks}:
            if valid.get(network_id) != self._valid_networks.get(network_id):
                self._dirty |= self._of_network.get(network_id, set())
                other.add(network_id)
                for reference in {
                    network_id,
                    *(n.name for n in (valid.get(network_id), self._valid_networks.get(network_id)) if n),
                }:
                    self.policies.touch(("network", reference))
                self.policies.touch(("member", network_id))
        found, vnis = zones(self.snapshot, valid), {n.vxlan_vni for n in valid.values()}
        moved = vnis ^ self._vnis
        self._dirty_networks |= {n.id for n in valid.values() if n.vxlan_vni ^ RELATED_BIT in moved}
        self._vnis = vnis
        other |= {n for n in found if found[n] != self._zones.get(n)}
        self._valid_networks, self._zones = valid, found
        self._dirty_networks |= self.routing.settle(self.snapshot, valid) | self.serving.settle(self.snapshot, valid) | other
        self._dirty_networks |= {n for each in other for n in self.routing.to.get(each, ())}

    # ---- the delta ------------------------------------------------------------------------------------------------

    def flush(self) -> Delta:
        """Bring everything derived up to date; returns what was touched."""
        touched = self._settle_endpoints()
        for endpoint_id in touched:
            self._place(endpoint_id)
        policies, flipped = self.policies.settle()
        touched |= flipped
        networks = self._dirty_networks
        for endpoint_id in sorted(touched):
            networks |= self._count(endpoint_id)
        for network_id in list(networks):
            facts = bool(self._local.get(network_id)), self.policies.stateful(network_id), network_id in self.serving.of
            networks |= self.routing.show(network_id, *facts)
        sessions, marked = self._mirrored()
        touched |= marked
        whole: set[str] = set()
        changed: dict[str, NetworkView | None] = {}
        for network_id in networks:
            before, after = self.networks.get(network_id), self._network_view(network_id)
            if before == after:
                continue
            changed[network_id] = after
            if before is None or after is None or before.shape != after.shape:
                whole |= self._members.get(network_id, set())
            if after is None:
                self.networks.pop(network_id, None)
            else:
                self.networks[network_id] = after
        services, moved = self.serving.look(networks, self.networks, self.policies.members, self._able)
        touched |= moved
        endpoints: dict[str, EndpointView | None] = {}
        for endpoint_id in touched | whole:
            found = self._endpoint_view(endpoint_id)
            endpoints[endpoint_id] = found
            if found is None:
                self.endpoints.pop(endpoint_id, None)
            else:
                self.endpoints[endpoint_id] = found
        delta = Delta(
            endpoints=endpoints,
            networks=changed,
            policies=policies,
            sessions=sessions,
            services=services,
            tunnel=self._tunnel_moved,
        )
        self._dirty, self._dirty_networks, self._tunnel_moved = set(), set(), False
        return delta

    def _mirrored(self) -> tuple[dict[str, Session | None], set[str]]:
        """The sessions that differ, and the endpoints that are copied in others than before. Costs what sessions name."""
        if not self.snapshot.copied and not self.sessions and not self._idle:
            return {}, set()
        here = self.snapshot.hosts.get(self.host)
        local = {endpoint_id for there in self._local.values() for endpoint_id in there}
        found, marks, self._idle = sessions(
            mirrors_in_order(self.snapshot), self._valid_networks, self.snapshot.hosts, self.host, local, self.policies.members,
            self.ports, self.seats.interfaces, lambda there: vtep(there, here),
        )  # fmt: skip
        names = {name for name in {*found, *self.sessions} if found.get(name) != self.sessions.get(name)}
        marked = {e for e in {*marks, *self._marks} if marks.get(e) != self._marks.get(e)}
        self.sessions, self._marks = found, marks
        return {name: found.get(name) for name in names}, marked

    def _place(self, endpoint_id: str) -> None:
        if endpoint_id not in self._contest.winners:
            self.policies.place(endpoint_id, None, NONE, local=False)
            return
        endpoint = self._contest.placed[endpoint_id]
        network, host = self._valid_networks[endpoint.network_id], self.snapshot.hosts[endpoint.host]
        keys = keys_of(endpoint, network, host, self.snapshot.tenants.get(TENANT))
        self.policies.place(endpoint_id, endpoint, keys, endpoint.host == self.host and endpoint_id in self.ports)

    def _settle_endpoints(self) -> set[str]:
        """Claims of the changed endpoints, and of all that share one with them, directly or through others."""
        for endpoint_id in self._dirty:
            self._contest.withdraw(endpoint_id)
            new = self.snapshot.endpoints.get(endpoint_id)
            self._keep_whereabouts(endpoint_id, new)
            if new is None:
                continue
            reason = misfit(new, self._valid_networks.get(new.network_id), self.snapshot.hosts.get(new.host))
            if reason is not None:
                self._contest.problems[endpoint_id] = reason
            elif new.active:
                self._contest.place(endpoint_id, new)
        return self._dirty | self._contest.decide()

    def _keep_whereabouts(self, endpoint_id: str, new: Endpoint | None) -> None:
        old = self._known.pop(endpoint_id, None)
        if old is not None:
            self._of_network[old.network_id].discard(endpoint_id)
            self._of_host[old.host].discard(endpoint_id)
        if new is not None:
            self._known[endpoint_id] = new
            self._of_network[new.network_id].add(endpoint_id)
            self._of_host[new.host].add(endpoint_id)
        self.seats.note(endpoint_id, old, new)
        self._seat(endpoint_id)

    def _count(self, endpoint_id: str) -> set[str]:
        """Membership of one endpoint in its network; returns the networks whose view may have changed."""
        networks: set[str] = set()
        before = self._counted.pop(endpoint_id, None)
        if before is not None:
            network_id, host = before
            networks.add(network_id)
            self._members[network_id].discard(endpoint_id)
            self._open[network_id].discard(endpoint_id)
            self._local[network_id].discard(endpoint_id)
            if host != self.host:
                self._remote[network_id][host] -= 1
                if not self._remote[network_id][host]:
                    del self._remote[network_id][host]
        if endpoint_id in self._contest.winners:
            endpoint = self._contest.placed[endpoint_id]
            network_id = endpoint.network_id
            networks.add(network_id)
            self._counted[endpoint_id] = (network_id, endpoint.host)
            self._members[network_id].add(endpoint_id)
            if leads_on(endpoint):
                self._open[network_id].add(endpoint_id)
            if endpoint.host != self.host:
                hosts = self._remote[network_id]
                hosts[endpoint.host] = hosts.get(endpoint.host, 0) + 1
            elif endpoint_id in self.ports and self.policies.closed(endpoint_id) is None:
                self._local[network_id].add(endpoint_id)
        return networks

    def _network_view(self, network_id: str) -> NetworkView | None:
        local, to = self._local.get(network_id), self.routing.to.get(network_id, {})
        routed, stateful = any(self._local.get(n) for n in to), self._tracked(network_id)
        if not local:
            return routed_remote_view(self._valid_networks[network_id], stateful=stateful, vnis=self._vnis) if routed else None
        here = self.snapshot.hosts.get(self.host)
        vteps = {vtep(self.snapshot.hosts[host], here) for host in self._remote.get(network_id, ())}
        network = self._valid_networks[network_id]
        away = {self._contest.placed[e].host for e in self._open[network_id] - local} - {self.host}
        open_there = {vtep(self.snapshot.hosts[host], here) for host in away}
        return network_view(
            network,
            [(self._contest.placed[e], self.ports[e], self.policies.keys[e]) for e in local],
            vteps=vteps,
            unknown_macs_vteps=open_there,
            zone=self._zones[network_id],
            stateful=stateful,
            vnis=self._vnis,
            uplink=self.uplink_ofport,
            routes=routes(
                network, to, self._valid_networks, lambda n: self._zones[n] if self._local.get(n) and self._tracked(n) else 0
            ),
            routed=routed,
            served=network_id in self.serving.of,
        )

    def _tracked(self, network_id: str) -> bool:
        to = self.routing.to.get(network_id, ())
        return network_id in self.serving.of or any(self.policies.stateful(n) for n in (network_id, *to))

    def _able(self, endpoint: Endpoint) -> bool:
        """Whether an endpoint, where it is here, has a port and may use it."""
        return endpoint.host != self.host or endpoint.id in self._local[endpoint.network_id]

    def _endpoint_view(self, endpoint_id: str) -> EndpointView | None:
        if endpoint_id not in self._contest.winners:
            return None
        endpoint = self._contest.placed[endpoint_id]
        if endpoint.network_id not in self.networks:
            return None
        network, there = self._valid_networks[endpoint.network_id], self.networks[endpoint.network_id]
        served = endpoint_id in self.serving.members.get(endpoint.network_id, ())
        if endpoint.host == self.host:
            ofport = self.ports.get(endpoint_id)
            if ofport is None or self.policies.closed(endpoint_id) is not None:
                return None
            keys, marks = self.policies.keys[endpoint_id], self._marks.get(endpoint_id, UNMARKED)
            return endpoint_view(endpoint, network, there, ofport=ofport, served=served, keys=keys, marks=marks)
        address = vtep(self.snapshot.hosts[endpoint.host], self.snapshot.hosts.get(self.host))
        return endpoint_view(endpoint, network, there, vtep=address, served=served)

    # ---- what is known --------------------------------------------------------------------------------------------

    def problem_of(self, endpoint_id: str) -> str | None:
        """Why an endpoint is closed, None when it is not."""
        return self._contest.problems.get(endpoint_id) or self._closed_here(endpoint_id)

    def _closed_here(self, endpoint_id: str) -> str | None:
        return self.policies.closed(endpoint_id) if endpoint_id in self.ports else None

    def local_ids(self) -> Collection[str]:
        """All endpoints that the specs put on this host."""
        return self._of_host.get(self.host, set())

    def problems(self) -> frozenset[Problem]:
        """All problems of the specs."""
        found = {Problem(key, reason) for key, reason in self.snapshot.malformed.items()}
        found |= {Problem(f"network/{n}", reason) for n, reason in self._network_problems.items()}
        found |= {Problem(f"mirror/{name}", reason) for name, reason in self._idle.items()}
        for kind, reasons in (("router", self.routing.problems), ("service", self.serving.problems)):
            found |= {Problem(f"{kind}/{name}", reason) for name, reason in reasons.items()}
        found |= {Problem(f"endpoint/{e}", reason) for e, reason in self._contest.problems.items()}
        found |= {Problem(f"network/{n.id}", NO_RELATED) for n in self.networks.values() if n.zone and not n.related_vni}
        for endpoint_id in self.local_ids():
            if (reason := self._closed_here(endpoint_id)) is not None:
                found.add(Problem(f"endpoint/{endpoint_id}", reason))
        return frozenset(found)

    def view(self) -> View:
        """The same value that the full recompute gives."""
        return View(
            host=self.host,
            tunnel_ofport=self.tunnel_ofport,
            networks=frozenset(self.networks.values()),
            endpoints=frozenset(self.endpoints.values()),
            policies=frozenset(self.policies.in_force()),
            sessions=frozenset(self.sessions.values()),
            services=frozenset(self.serving.views.values()),
            problems=self.problems(),
        )
