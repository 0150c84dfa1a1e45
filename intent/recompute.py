"""The full recompute: the view of one host from the snapshot, with every conflict resolved by a rule that all hosts share.

This is the meaning of the specs. intent/incremental/ gives the same view change by change, and tests compare the two after every step. The object
created first wins a conflict; the loser is closed, with a problem.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from acl.language import Who
from acl.policy import PolicyKey, PolicyView, keys_of, resolve
from intent.host_paths import HostPath
from intent.services import ServiceView, service_members, service_view
from intent.shares import Shares, crossing, shared
from intent.sites import addresses, tunnel_ofports, tunnel_udp_ports, vtep
from intent.views import (
    NO_RELATED,
    UNMARKED,
    Claim,
    EndpointView,
    NetworkView,
    View,
    Vteps,
    claims,
    endpoint_view,
    mirrors_in_order,
    misfit,
    network_view,
    related_vni,
    routed_remote_view,
    selects,
)
from intent.virtual import virtual_views
from mirror.sessions import Surroundings, sessions
from pipeline.tables import RESOLVER_PORT
from specs.checks import called, joined, order, routers_in_order, routes, served, services_in_order, valid_networks, zones
from specs.model.acl import Acl
from specs.model.endpoint import Endpoint
from specs.model.meter import Meter
from specs.model.network import Network
from specs.model.profile import Profile, all_profiles, profile_in, profile_of
from specs.model.tenant import governing
from specs.ports import has_unknown_macs, ofports
from specs.snapshot import Problem, Snapshot

NO_INTERFACES: Mapping[str, int] = {}


def view(
    snapshot: Snapshot,
    host: str,
    ports: Mapping[str, int],
    tunnel_ofport: int | None,
    uplink: int | None = None,
    interfaces: Mapping[str, int] = NO_INTERFACES,
    encrypted: frozenset[str] = frozenset(),
) -> View:
    """The view of `host`. `ports` maps endpoint ids to the OpenFlow ports that the switch has given them, `interfaces` the names of interfaces
    that specs name, and of the resolver, to theirs; `tunnel_ofport` is the tunnel's port, `uplink` the port to the host; `encrypted` are the hosts of other sites to which
    the tunnel's encryption is up."""
    recompute = _Recompute(snapshot, host, ofports(snapshot.endpoints, host, ports, interfaces), uplink, interfaces, encrypted)
    return recompute.view(tunnel_ofport)


@dataclass(frozen=True, slots=True)
class _Names:
    """Looks the names in rules up in the snapshot."""

    snapshot: Snapshot
    valid: Mapping[str, Endpoint]
    ports: Mapping[str, int]

    @property
    def acls(self) -> Mapping[str, Acl]:
        return self.snapshot.acls

    @property
    def meters(self) -> Mapping[str, Meter]:
        return self.snapshot.meters

    def members(self, network_id: str, who: Who) -> list[Endpoint]:
        return [e for e in self.valid.values() if selects(who, e, network_id, self.snapshot.networks)]

    def ofport(self, network_id: str, port: str | int) -> int | None:
        for e in self.valid.values():
            if e.network_id == network_id and e.id in self.ports and port in (e.name, e.id, self.ports[e.id]):
                return self.ports[e.id]
        return None


class _Recompute:
    """One recompute: each step derives something from the snapshot and the steps before it, and adds its problems."""

    def __init__(
        self,
        snapshot: Snapshot,
        host: str,
        ports: Mapping[str, int],
        uplink: int | None,
        interfaces: Mapping[str, int],
        encrypted: frozenset[str],
    ) -> None:
        self.encrypted = encrypted
        self.snapshot, self.host, self.ports, self.uplink, self.interfaces = snapshot, host, ports, uplink, interfaces
        self.problems: set[Problem] = {Problem(key, reason) for key, reason in snapshot.malformed.items()}
        self.host_record = snapshot.hosts.get(host)

        self.networks, contradictions = valid_networks(snapshot)
        self._report("network", contradictions)
        self.vnis = {network.number for network in self.networks.values()}
        self.zone = zones(snapshot, self.networks)

        self.endpoints = self._winners()
        self.names = _Names(snapshot, {e.id: e for e in self.endpoints}, ports)
        tenant_acls = {network.id: governing(network, snapshot.tenants) for network in self.networks.values()}
        self.keys = {
            e.id: keys_of(e, self.networks[e.network_id], snapshot.hosts[e.host], tenant_acls[e.network_id])
            for e in self.endpoints
        }
        self.policies = self._policies()
        self.local = self._local()

        by_reference = called(self.networks)
        self.routed_to, misfits = joined(routers_in_order(snapshot), by_reference)
        self._report("router", {name: misfit.reason for name, misfit in misfits.items()})
        self.services, not_served = served(services_in_order(snapshot), by_reference)
        self._report("service", not_served)
        self.stateful = self._stateful()
        self.present = {e.network_id for e in self.endpoints if e.id in self.local}  # networks with a local endpoint
        surroundings = Surroundings(
            by_reference=by_reference,
            of_vni={network.number: network.id for network in self.networks.values()},
            hosts=snapshot.hosts,
            host=host,
            local=self.local,
            ports=ports,
            interfaces=interfaces,
            members=self.names.members,
            vtep=lambda other: self._vtep(other.name, profile_of(None, snapshot.profiles)),
        )
        self.sessions, self.marks, idle = sessions(mirrors_in_order(snapshot), surroundings)
        self._report("mirror", idle)

    def _report(self, kind: str, reasons: Mapping[str, str]) -> None:
        self.problems |= {Problem(f"{kind}/{name}", reason) for name, reason in reasons.items()}

    def _winners(self) -> list[Endpoint]:
        """The active endpoints that can be, the first created first. A value belongs to the first that claims it, even if that one is
        closed over another value; an endpoint wins if all its values are its own."""
        holders: dict[Claim, str] = {}
        shares = Shares()
        winners: list[Endpoint] = []
        for endpoint_id in sorted(self.snapshot.endpoints, key=lambda e: order(self.snapshot, "endpoint", e)):
            endpoint = self.snapshot.endpoints[endpoint_id]
            reason = misfit(endpoint, self.networks.get(endpoint.network_id), self.snapshot)
            if reason is None and endpoint.active:
                claimed = claims(endpoint, self.host)
                for claim in claimed:
                    holders.setdefault(claim, endpoint_id)
                shares.add(endpoint_id, shared(endpoint))
                taken = next((claim for claim in claimed if holders[claim] != endpoint_id), None)
                if taken is not None:
                    reason = f"{taken[1]} belongs to endpoint {holders[taken]}"
                else:
                    reason = crossing(endpoint, claimed, holders, shares, lambda e: order(self.snapshot, "endpoint", e))
                winners += [endpoint] if reason is None else []
            if reason is not None:
                self.problems.add(Problem(f"endpoint/{endpoint_id}", reason))
        return winners

    def _is_local(self, endpoint: Endpoint) -> bool:
        return endpoint.host == self.host and endpoint.id in self.ports

    def _policies(self) -> dict[PolicyKey, PolicyView]:
        """The policies of the endpoints here, with every name in them resolved."""
        used = {key for e in self.endpoints if self._is_local(e) for key in self.keys[e.id] if key is not None}
        return {key: resolve(key, self.names) for key in used}

    def _local(self) -> set[str]:
        """The ids of the endpoints here that no policy closes."""
        local: set[str] = set()
        for endpoint in self.endpoints:
            if not self._is_local(endpoint):
                continue
            policies = (self.policies[key] for key in self.keys[endpoint.id] if key is not None)
            closed = next((policy.closed for policy in policies if policy.closed), None)
            if closed is None:
                local.add(endpoint.id)
            else:
                self.problems.add(Problem(f"endpoint/{endpoint.id}", closed))
        return local

    def _stateful(self) -> set[str]:
        """The networks that track connections: an ACL in use asks for it there or in a network that they are routed to, or they have a service."""
        used: dict[str, set[str]] = defaultdict(set)
        for endpoint in self.endpoints:
            used[endpoint.network_id] |= {name for key in self.keys[endpoint.id] if key is not None for name in key.acls}
        acls = self.snapshot.acls
        asking = {n for n in self.networks if any(name in acls and acls[name].stateful for name in used[n])}
        return {n for n in self.networks if n in self.services or not asking.isdisjoint((n, *self.routed_to.get(n, ())))}

    def view(self, tunnel_ofport: int | None) -> View:
        """The whole view as one value."""
        networks: set[NetworkView] = set()
        endpoints: set[EndpointView] = set()
        services: set[ServiceView] = set()
        members: dict[str, list[Endpoint]] = defaultdict(list)
        for endpoint in self.endpoints:
            members[endpoint.network_id].append(endpoint)
        for network in self.networks.values():
            network_view = self._network(network, members)
            if network_view is None:
                continue
            served_ids = self._services(network, network_view, services)
            networks.add(network_view)
            endpoints |= {
                view
                for e in members[network.id]
                if (view := self._endpoint(e, network, network_view, e.id in served_ids)) is not None
            }
        return View(
            host=self.host,
            tunnels=tunnel_ofports(tunnel_ofport, self.snapshot.profiles, self.interfaces),
            tunnel_ports=tunnel_udp_ports(self.snapshot.profiles),
            peers=frozenset(self._peers()),
            networks=frozenset(networks),
            endpoints=frozenset(endpoints),
            policies=frozenset(policy for policy in self.policies.values() if policy.closed is None),
            sessions=frozenset(self.sessions.values()),
            services=frozenset(services),
            virtuals=virtual_views(endpoints),
            problems=frozenset(self.problems),
        )

    def _network(self, network: Network, members: Mapping[str, list[Endpoint]]) -> NetworkView | None:
        """The view of a network; None for one that nothing here leads to. `members` are the endpoints of each network."""
        routed_to, stateful = self.routed_to.get(network.id, {}), network.id in self.stateful
        routed = not self.present.isdisjoint(routed_to)
        local = [(e, self.ports[e.id], self.keys[e.id]) for e in members[network.id] if e.id in self.local]
        if not local:
            return routed_remote_view(network, stateful=stateful, vnis=self.vnis) if routed else None
        if stateful and not related_vni(network, self.vnis):
            self.problems.add(Problem(f"network/{network.id}", NO_RELATED))
        remote = [e for e in members[network.id] if e.host != self.host]
        profile = profile_in(network, self.snapshot.profiles)
        tracked_here = self.stateful & self.present
        return network_view(
            network,
            local,
            vteps=Vteps(
                members=self._vteps((e.host for e in remote), profile),
                interfaces=self._vteps((e.host for e in remote if e.port is not None), profile),
                behind=self._vteps((e.host for e in remote if has_unknown_macs(e)), profile),
                routing=self._vteps((e.host for n in routed_to for e in members[n] if e.host != self.host), profile),
                paths={
                    HostPath(str(self.snapshot.hosts[e.host].vtep), path)
                    for e in remote
                    if (path := self._vtep(e.host, profile)) is not None
                },
                local=self.host_record,
            ),
            zone=self.zone[network.id],
            stateful=stateful,
            vnis=self.vnis,
            uplink=self.uplink,
            resolver=self.interfaces.get(RESOLVER_PORT),
            routes=routes(network, routed_to, self.networks, lambda n: self.zone[n] if n in tracked_here else 0),
            routed=routed,
            served=network.id in self.services,
            transit=self.snapshot.cluster.transit,
        )

    def _services(self, network: Network, network_view: NetworkView, views: set[ServiceView]) -> set[str]:
        """Adds the views of a network's services; returns the ids of their members."""
        ids: set[str] = set()
        for service in self.services.get(network.id, ()):
            members = service_members(service, network.id, self.names.members)
            ids |= {member.id for member in members}
            if network_view.serves and network_view.gateway is not None:
                reachable = (member for member in members if self._reachable(member))
                views.add(service_view(service, network.number, network_view.gateway, reachable))
        return ids

    def _endpoint(self, endpoint: Endpoint, network: Network, network_view: NetworkView, is_served: bool) -> EndpointView | None:
        if endpoint.host != self.host:
            address = self._vtep(endpoint.host, profile_in(network, self.snapshot.profiles))
            return endpoint_view(endpoint, network, network_view, vtep=address, served=is_served) if address is not None else None
        if endpoint.id not in self.local:
            return None
        return endpoint_view(
            endpoint,
            network,
            network_view,
            ofport=self.ports[endpoint.id],
            served=is_served,
            keys=self.keys[endpoint.id],
            marks=self.marks.get(endpoint.id, UNMARKED),
        )

    def _reachable(self, endpoint: Endpoint) -> bool:
        profile = profile_in(self.networks[endpoint.network_id], self.snapshot.profiles)
        return endpoint.id in self.local if endpoint.host == self.host else self._vtep(endpoint.host, profile) is not None

    def _peers(self) -> set[str]:
        others = [host for host in self.snapshot.hosts.values() if host.name != self.host]
        profiles = all_profiles(self.snapshot.profiles)
        return {address for host in others for address in addresses(host, self.host_record, self.encrypted, profiles)}

    def _vtep(self, host: str, profile: Profile | None) -> str | None:
        return vtep(self.snapshot.hosts[host], self.host_record, self.encrypted, profile)

    def _vteps(self, hosts: Iterable[str], profile: Profile | None) -> set[str]:
        return {address for host in hosts if (address := self._vtep(host, profile)) is not None}
