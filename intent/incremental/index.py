"""Index: the view of one host, updated change by change. The cost follows what a change touches, not what exists.
intent/recompute.py says what is right; a property test compares the two after any sequence of changes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from acl.policy import keys_of
from intent.incremental.claims import Claims
from intent.incremental.delta import Delta
from intent.incremental.hosts import Hosts
from intent.incremental.networks import Networks
from intent.incremental.policies import NONE, Policies
from intent.incremental.routes import Routes
from intent.incremental.services import Services
from intent.incremental.tunnels import TunnelPorts
from intent.incremental.virtual import Virtuals
from intent.views import (
    NO_RELATED,
    UNMARKED,
    EndpointView,
    NetworkView,
    View,
    endpoint_view,
    mirrors_in_order,
    misfit,
    network_view,
    routed_remote_view,
)
from mirror.sessions import Marks, MirrorSession, Surroundings, sessions
from pipeline.tables import RESOLVER_PORT
from specs.checks import routes
from specs.model.endpoint import Endpoint
from specs.model.tenant import governing
from specs.ports import Bindings
from specs.snapshot import Decoded, Problem, Snapshot, put


@dataclass(slots=True)
class Index:
    """The snapshot, and what is derived from it for `host`. Feed it changes, then call `flush` for the delta."""

    host: str
    snapshot: Snapshot = field(default_factory=Snapshot)
    followed: frozenset[str] | None = None  # networks whose endpoints are known; None: all
    ports: dict[str, int] = field(default_factory=dict)
    uplink_ofport: int | None = None
    endpoints: dict[str, EndpointView] = field(default_factory=dict)
    networks: dict[str, NetworkView] = field(default_factory=dict)
    policies: Policies = field(init=False)
    bindings: Bindings = field(init=False)
    hosts: Hosts = field(init=False)
    _claims: Claims = field(init=False)
    _networks: Networks = field(init=False)
    _members: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # network -> winners
    _of_network: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # network -> all records
    _of_host: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _local: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # network -> winners with a port here
    _counted: dict[str, tuple[str, str]] = field(default_factory=dict)  # winner -> (network, host) as counted
    _records: dict[str, Endpoint] = field(default_factory=dict)
    _dirty: set[str] = field(default_factory=set)
    _dirty_networks: set[str] = field(default_factory=set)
    routes: Routes = field(init=False)
    services: Services = field(init=False)
    tunnels: TunnelPorts = field(init=False)
    virtuals: Virtuals = field(default_factory=Virtuals)
    sessions: dict[str, MirrorSession] = field(default_factory=dict)
    _marks: dict[str, Marks] = field(default_factory=dict)
    _idle: dict[str, str] = field(default_factory=dict)  # mirror sessions without effect, and why

    def __post_init__(self) -> None:
        self.policies = Policies(self.snapshot, self.ports)
        self.bindings = Bindings(self.host, self.snapshot.endpoints)
        self._claims = Claims(self.host, self.snapshot)
        self.hosts = Hosts(self.host, self.snapshot)
        self._networks = Networks(self.snapshot)
        self.routes = Routes(self.snapshot, self._networks.by_reference)
        self.services = Services(self.snapshot, self._networks.by_reference)
        self.tunnels = TunnelPorts(self.snapshot)

    def put(self, key: str, value: str | None, born: int) -> None:
        """Take one entry of the store (value None: deleted)."""
        decoded = put(self.snapshot, key, value, born)
        if decoded is not None:
            self._apply(decoded)

    def set_endpoint_ports(self, ofports: Mapping[str, int]) -> None:
        """Take the OpenFlow ports of endpoints that have a port of their own."""
        for moved in self.bindings.set_own_ports(ofports):
            self._update_port(moved)

    def _update_port(self, endpoint_id: str) -> None:
        """Update the OpenFlow port of one endpoint."""
        ofport = self.bindings.ofport(endpoint_id)
        if self.ports.get(endpoint_id) == ofport:
            return
        if ofport is None:
            self.ports.pop(endpoint_id, None)
        else:
            self.ports[endpoint_id] = ofport
        self._dirty.add(endpoint_id)
        member = self._claims.endpoints.get(endpoint_id)
        if member is not None:
            self.policies.touch(("member", member.network_id))

    def set_uplink(self, ofport: int | None) -> None:
        """Take the OpenFlow port to the host (None: there is none)."""
        if ofport != self.uplink_ofport:
            self.uplink_ofport = ofport
            self._dirty_networks |= {n.id for n in self._networks.valid.values() if n.mode != "flat"}

    def set_encrypted(self, hosts: frozenset[str]) -> None:
        """Take the hosts of other sites to which the tunnel's encryption is up."""
        for name in self.hosts.set_encrypted(hosts):
            self._host_changed(name)

    def set_interfaces(self, ofports: Mapping[str, int]) -> None:
        """Take the OpenFlow ports of interfaces that specs name, of the tunnels of profiles, and of the resolver."""
        self.tunnels.set_interfaces(ofports)
        if ofports.get(RESOLVER_PORT) != self.bindings.interfaces.get(RESOLVER_PORT):
            self._dirty_networks |= {n.id for n in self._networks.valid.values() if n.dns_server}
        for moved in self.bindings.set_interfaces(ofports):
            self._update_port(moved)

    def _apply(self, decoded: Decoded) -> None:
        if decoded.kind == "endpoint":
            self._dirty.add(decoded.id)
        elif decoded.kind in ("host", "hostnet"):
            self._host_changed(decoded.id, whole=(decoded.kind, decoded.id) == ("host", self.host))
        elif decoded.kind == "network":
            self._update_network(decoded.id)
        elif decoded.kind == "router":
            self._dirty_networks |= self.routes.take_routers({decoded.id})
        elif decoded.kind == "service":
            self._dirty_networks |= self.services.take_services({decoded.id})
        elif decoded.kind == "profile":
            self._profile_changed(decoded.id)
        elif decoded.kind in ("mirror", "capture", "site", "firewall"):
            pass  # a site is a matter of MTUs, the firewall of nftables; sessions are looked at whenever there are any
        elif decoded.kind in ("tenant", "cluster"):
            self._dirty |= set(self.snapshot.endpoints)
            self._dirty_networks |= set(self._networks.valid)
        else:
            self.policies.touch((decoded.kind, decoded.id))
            if decoded.kind == "acl":
                self._dirty_networks |= self.policies.networks_using(decoded.id)

    def _profile_changed(self, name: str) -> None:
        """Update the tunnels, and what depends on a profile: its networks, those routed to them, and their endpoints."""
        self.hosts.change()
        self.tunnels.update()
        networks = self._networks.of_profile(name)
        self._dirty |= {endpoint_id for network_id in networks for endpoint_id in self._of_network.get(network_id, ())}
        self._dirty_networks |= self.routes.with_routed(networks)

    def _host_changed(self, name: str, *, whole: bool = False) -> None:
        """Update what depends on a host: its endpoints and their networks; with `whole`, all endpoints, whose paths begin here."""
        self.hosts.change()
        changed = set(self.snapshot.endpoints) if whole else self._of_host.get(name, set())
        self._dirty |= changed
        self._dirty_networks |= self.routes.with_routed({self._records[e].network_id for e in changed if e in self._records})

    def _update_network(self, changed: str) -> None:
        """Update which networks are valid, their zones, routes and services. What it costs is said in networks.py, routes.py, services.py."""
        delta = self._networks.update(changed)
        for network_id in delta.networks:
            self._dirty |= self._of_network.get(network_id, set())
            self.policies.touch(("member", network_id))
        for reference in delta.references:
            self.policies.touch(("network", reference))
        touched = delta.networks | delta.moved
        self._dirty_networks |= touched | delta.related
        self._dirty_networks |= self.routes.take_references(delta.references) | self.services.take_references(delta.references)
        self._dirty_networks |= self.routes.with_routed(touched)

    def flush(self) -> Delta:
        """Update everything that depends on the changes since the last flush. Returns what was touched."""
        touched = self._resolve_claims()
        for endpoint_id in touched:
            self._update_policies(endpoint_id)
        policies, flipped = self.policies.resolve()
        touched |= flipped
        networks = self._dirty_networks
        for endpoint_id in sorted(touched):
            networks |= self._update_membership(endpoint_id)
        for network_id in list(networks):
            facts = bool(self._local.get(network_id)), self.policies.stateful(network_id), network_id in self.services.of
            networks |= self.routes.set_facts(network_id, *facts)
        sessions, marked = self._recompute_sessions()
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
        services, moved = self.services.update(networks, self.networks, self.policies.members, self._reachable)
        touched |= moved
        endpoints = {endpoint_id: self._endpoint_view(endpoint_id) for endpoint_id in touched | whole}
        virtuals = self.virtuals.update((self.endpoints.get(e), after) for e, after in endpoints.items())
        for endpoint_id, view in endpoints.items():
            if view is None:
                self.endpoints.pop(endpoint_id, None)
            else:
                self.endpoints[endpoint_id] = view
        moved_tunnels, tunnel_ports = self.tunnels.flush()
        delta = Delta(
            peers=self.hosts.recompute(), endpoints=endpoints, networks=changed, policies=policies, sessions=sessions, services=services,
            virtuals=virtuals, tunnels=moved_tunnels, tunnel_ports=tunnel_ports,
        )  # fmt: skip
        self._dirty, self._dirty_networks = set(), set()
        return delta

    def _recompute_sessions(self) -> tuple[dict[str, MirrorSession | None], set[str]]:
        """Recompute the mirror sessions: those that differ, and the endpoints whose sessions differ. Costs what sessions name."""
        if not self.snapshot.copied and not self.sessions and not self._idle:
            return {}, set()
        local = {endpoint_id for ids in self._local.values() for endpoint_id in ids}
        surroundings = Surroundings(
            by_reference=self._networks.by_reference, of_vni=self._networks.of_vni, hosts=self.snapshot.hosts, host=self.host, local=local,
            ports=self.ports, interfaces=self.bindings.interfaces, members=self.policies.members, vtep=lambda other: self.hosts.vtep(other.name),
            followed=self.followed,
        )  # fmt: skip
        active, marks, self._idle = sessions(mirrors_in_order(self.snapshot), surroundings)
        names = {name for name in {*active, *self.sessions} if active.get(name) != self.sessions.get(name)}
        marked = {e for e in {*marks, *self._marks} if marks.get(e) != self._marks.get(e)}
        self.sessions, self._marks = active, marks
        return {name: active.get(name) for name in names}, marked

    def _update_policies(self, endpoint_id: str) -> None:
        if endpoint_id not in self._claims.winners:
            self.policies.set_member(endpoint_id, None, NONE, local=False)
            return
        endpoint = self._claims.endpoints[endpoint_id]
        network, host = self._networks.valid[endpoint.network_id], self.snapshot.hosts[endpoint.host]
        keys = keys_of(endpoint, network, host, governing(network, self.snapshot.tenants))
        self.policies.set_member(endpoint_id, endpoint, keys, endpoint.host == self.host and endpoint_id in self.ports)

    def _resolve_claims(self) -> set[str]:
        """Resolve the claims of changed endpoints. Returns these, and those for which it makes a difference."""
        for endpoint_id in self._dirty:
            self._claims.remove(endpoint_id)
            new = self.snapshot.endpoints.get(endpoint_id)
            self._index_record(endpoint_id, new)
            if new is None:
                continue
            reason = misfit(new, self._networks.valid.get(new.network_id), self.snapshot)
            if reason is not None:
                self._claims.reject(endpoint_id, reason)
            elif new.active:
                self._claims.add(endpoint_id, new)
        return self._dirty | self._claims.resolve()

    def _index_record(self, endpoint_id: str, new: Endpoint | None) -> None:
        old = self._records.pop(endpoint_id, None)
        if old is not None:
            self._of_network[old.network_id].discard(endpoint_id)
            self._of_host[old.host].discard(endpoint_id)
        if new is not None:
            self._records[endpoint_id] = new
            self._of_network[new.network_id].add(endpoint_id)
            self._of_host[new.host].add(endpoint_id)
        self.bindings.change_record(endpoint_id, old, new)
        self._update_port(endpoint_id)

    def _update_membership(self, endpoint_id: str) -> set[str]:
        """Update an endpoint's membership in its network. Returns the networks whose view may have changed."""
        networks: set[str] = set()
        before = self._counted.pop(endpoint_id, None)
        if before is not None:
            network_id, host = before
            networks.add(network_id)
            self._members[network_id].discard(endpoint_id)
            self._local[network_id].discard(endpoint_id)
            if self.hosts.remove(endpoint_id, network_id, host):
                networks |= self.routes.with_routed({network_id})
        if endpoint_id in self._claims.winners:
            endpoint = self._claims.endpoints[endpoint_id]
            network_id = endpoint.network_id
            networks.add(network_id)
            self._counted[endpoint_id] = (network_id, endpoint.host)
            self._members[network_id].add(endpoint_id)
            if self.hosts.add(endpoint):
                networks |= self.routes.with_routed({network_id})
            if endpoint.host == self.host and endpoint_id in self.ports and self.policies.closed(endpoint_id) is None:
                self._local[network_id].add(endpoint_id)
        return networks

    def _network_view(self, network_id: str) -> NetworkView | None:
        local, to = self._local.get(network_id), self.routes.to.get(network_id, {})
        routed, stateful = any(self._local.get(n) for n in to), self._tracked(network_id)
        if not local and not routed:
            return None
        network = self._networks.valid[network_id]
        if not local:
            return routed_remote_view(network, stateful=stateful, vnis=self._networks.of_vni)
        return network_view(
            network,
            [(self._claims.endpoints[e], self.ports[e], self.policies.keys[e]) for e in local],
            vteps=self.hosts.vteps(network, to),
            zone=self._networks.zones.of[network_id],
            stateful=stateful,
            vnis=self._networks.of_vni,
            uplink=self.uplink_ofport,
            resolver=self.bindings.interfaces.get(RESOLVER_PORT),
            routes=routes(
                network,
                to,
                self._networks.valid,
                lambda n: self._networks.zones.of[n] if self._local.get(n) and self._tracked(n) else 0,
            ),
            routed=routed,
            served=network_id in self.services.of,
            transit=self.snapshot.cluster.transit,
        )

    def _tracked(self, network_id: str) -> bool:
        to = self.routes.to.get(network_id, ())
        return network_id in self.services.of or any(self.policies.stateful(n) for n in (network_id, *to))

    def _reachable(self, endpoint: Endpoint) -> bool:
        """Whether a packet can be sent to a member of a service: it is on another host, or has a port here that no policy
        closes."""
        if endpoint.host == self.host:
            return endpoint.id in self._local[endpoint.network_id]
        return self.hosts.vtep(endpoint.host, self._networks.valid[endpoint.network_id]) is not None

    def _endpoint_view(self, endpoint_id: str) -> EndpointView | None:
        if endpoint_id not in self._claims.winners:
            return None
        endpoint = self._claims.endpoints[endpoint_id]
        if endpoint.network_id not in self.networks:
            return None
        network, network_view = self._networks.valid[endpoint.network_id], self.networks[endpoint.network_id]
        served = endpoint_id in self.services.members.get(endpoint.network_id, ())
        if endpoint.host == self.host:
            ofport = self.ports.get(endpoint_id)
            if ofport is None or self.policies.closed(endpoint_id) is not None:
                return None
            keys, marks = self.policies.keys[endpoint_id], self._marks.get(endpoint_id, UNMARKED)
            return endpoint_view(endpoint, network, network_view, ofport=ofport, served=served, keys=keys, marks=marks)
        address = self.hosts.vtep(endpoint.host, network)
        return endpoint_view(endpoint, network, network_view, vtep=address, served=served) if address is not None else None

    # ---- what is known --------------------------------------------------------------------------------------------

    def problem_of(self, endpoint_id: str) -> str | None:
        """Why an endpoint is closed; None when it is not."""
        return self._claims.problem_of(endpoint_id) or self._closed_here(endpoint_id)

    def _closed_here(self, endpoint_id: str) -> str | None:
        return self.policies.closed(endpoint_id) if endpoint_id in self.ports else None

    def local_ids(self) -> Collection[str]:
        """All endpoints that the specs put on this host."""
        return self._of_host.get(self.host, set())

    def neighbours(self, network_id: str) -> list[EndpointView]:
        """The local endpoints of a network."""
        return [self.endpoints[e] for e in sorted(self._local.get(network_id, ())) if e in self.endpoints]

    def problems(self) -> frozenset[Problem]:
        """All problems of the specs."""
        problems = {Problem(key, reason) for key, reason in self.snapshot.malformed.items()}
        by_kind = {"network": self._networks.problems, "mirror": self._idle, "endpoint": dict(self._claims.problems())}
        by_kind |= {"router": self.routes.problems, "service": self.services.problems}
        problems |= {Problem(f"{kind}/{name}", why) for kind, reasons in by_kind.items() for name, why in reasons.items()}
        problems |= {Problem(f"network/{n.id}", NO_RELATED) for n in self.networks.values() if n.zone and not n.related_vni}
        closed = {e: why for e in self.local_ids() if (why := self._closed_here(e)) is not None}
        problems |= {Problem(f"endpoint/{e}", why) for e, why in closed.items()}
        return frozenset(problems)

    def view(self) -> View:
        """The same value that the full recompute gives."""
        return View(
            host=self.host,
            tunnels=self.tunnels.ofports,
            tunnel_ports=self.tunnels.udp_ports,
            peers=frozenset(self.hosts.peers),
            networks=frozenset(self.networks.values()),
            endpoints=frozenset(self.endpoints.values()),
            policies=frozenset(self.policies.in_force()),
            sessions=frozenset(self.sessions.values()),
            services=frozenset(self.services.views.values()),
            virtuals=frozenset(self.virtuals.views.values()),
            problems=self.problems(),
        )
