"""What one host must know: the snapshot, seen from that host, with every conflict settled by a rule that all hosts share.

`view` is the full recompute and the meaning of everything; intent/incremental/index.py gives the same incrementally.
Who was created first wins; the loser is closed, with a problem.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from acl.language import Who
from acl.policy import Keys, PolicyKey, PolicyView, enters, keys_of, network_of, receives, resolve
from intent.gateway import GATEWAY_MAC, Gateway, gateway_of
from specs.checks import joined, order, routers_in_order, routes, served, valid_networks, zones
from specs.model.host import Host
from specs.model.mirror import RELATED_BIT, Marks, Mirror, Session, sessions
from specs.model.records import Acl, Endpoint, Meter, Network
from specs.model.router import Route
from specs.model.service import ServiceView, service_view
from specs.model.service import meant as meant_by_service
from specs.ports import leads_on, ofports, seats
from specs.snapshot import Problem, Snapshot

VXLAN_OVER_IPV4 = 20 + 8 + 8 + 14  # IPv4, UDP, VXLAN (RFC 7348), inner Ethernet: bytes
VXLAN_OVER_IPV6 = 40 + 8 + 8 + 14
TENANT = "default"
NO_RELATED = "its VNI with the highest bit turned is another network's: allow_related does not reach other hosts"
INNER_TAG = 4  # room for one VLAN tag inside


@dataclass(frozen=True, slots=True)
class EndpointView:
    """An endpoint that gets flows. Local: `ofport` is set. Remote: `vtep` is set."""

    id: str
    vni: int
    mac: str
    ipv4: IPv4Address | None
    ipv6: IPv6Address | None
    bound: bool  # its network has ranges, so that only its own addresses may be its senders
    ofport: int | None
    vtep: str | None
    policy_in: int = 0  # PolicyKey.number of what decides over what it sends and receives; 0: everything passes
    policy_out: int = 0
    transparent: bool = False  # tagged frames pass too, held to the MAC alone
    gateway: Gateway | None = None
    routed: bool = False  # a network with endpoints here is routed to its own
    distant: bool = False  # its network has no endpoint here: only a router leads to it
    served: bool = False  # a service leads to it
    copies_in: tuple[int, ...] = ()  # mirror sessions that copy what it sends, and what it receives (specs/model/mirror.py)
    copies_out: tuple[int, ...] = ()
    published: tuple[tuple[str, int, int], ...] = ()  # (tcp, udp or sctp; port of the host; port of the endpoint)
    tag: int = 0  # VLAN by which its frames are known on a port that it shares; 0: untagged
    open: bool = False  # who is behind its port is not known (specs/ports.py)
    dhcp: bool = False  # what it asks of DHCP is answered by the controller; local endpoints only
    leases: bool = False  # it asks a server outside for its address; local endpoints only


@dataclass(frozen=True, slots=True)
class NetworkView:
    """A network with endpoints on this host: local ports and the VTEPs of the other hosts with members, sorted. One without
    `ports` is distant: another network that has some is routed to it."""

    id: str
    vni: int
    ports: tuple[int, ...]  # without those of coprocessors
    vteps: tuple[str, ...]
    zone: int = 0  # of connection tracking; 0: nothing here asks for it
    related_vni: int = 0  # by which other hosts know packets of `allow_related` rules
    policy_out: int = 0
    transparent: bool = False
    gateway: Gateway | None = None
    ranges: tuple[str, ...] = ()  # of its addresses; only where there is a gateway
    routes: tuple[Route, ...] = ()  # to other networks
    routed: bool = False  # a network with endpoints here is routed to it
    served: bool = False  # there are services in it
    open_ports: tuple[int, ...] = ()  # of `ports`: where unknown destinations may be
    open_vteps: tuple[str, ...] = ()  # of `vteps`: hosts with such ports
    dhcp: bool = False
    closed6: bool = False  # it has an IPv6 range, and all neighbours in it are known: there are no open ports anywhere
    coprocessors: tuple[tuple[int, int, int], ...] = ()  # (port, VLAN id that means port 0, policy of what it sends)

    @property
    def serves(self) -> bool:
        """Whether this host leads ports to its services."""
        return self.served and self.gateway is not None and self.gateway.uplink is not None

    @property
    def shape(self) -> tuple[object, ...]:
        """What the views of its endpoints hang on."""
        return self.gateway, self.routed, bool(self.ports)


@dataclass(frozen=True, slots=True)
class View:
    """Everything that the compiler of one host needs."""

    host: str
    tunnel_ofport: int | None
    networks: frozenset[NetworkView]
    endpoints: frozenset[EndpointView]
    policies: frozenset[PolicyView]
    sessions: frozenset[Session]
    services: frozenset[ServiceView]
    problems: frozenset[Problem]


def vtep(there: Host, here: Host | None) -> str:
    """The address by which `here` reaches `there`. The only place that reads it: later it depends on the pair."""
    return str(there.vtep)


def endpoint_mtu(hosts: Iterable[Host], network: Network) -> int:
    """The largest MTU (bytes) of an endpoint that fits every host's underlay; a network may ask for less."""
    fits = min((_inner_mtu(host) for host in hosts), default=1500 - VXLAN_OVER_IPV4 - INNER_TAG)
    return min(fits, network.mtu) if network.mtu else fits


def _inner_mtu(host: Host) -> int:
    return host.underlay_mtu - (VXLAN_OVER_IPV4 if host.vtep.version == 4 else VXLAN_OVER_IPV6) - INNER_TAG


def network_view(
    network: Network,
    local: Collection[tuple[Endpoint, int, Keys]],
    vteps: Iterable[str],
    zone: int,
    stateful: bool,
    taken: Container[int],
    uplink: int | None,
    routes: tuple[Route, ...],
    routed: bool,
    served: bool,
    open_vteps: Iterable[str],
) -> NetworkView:
    """One network as the compiler sees it. `local` are its endpoints here, with their ports and policies. `zone` is its conntrack zone, `stateful` whether an ACL in use asks for one, there or
    in a network that it is routed to, or a service; `taken` are the VNIs of networks, `uplink` the port to the host."""
    gateway = gateway_of(network, zone, uplink, number(enters(network)))
    open_vteps = tuple(sorted(open_vteps))
    ranges = [str(r) for r in (network.ip_range, network.ipv6_range) if r is not None]
    ports = sorted(port for e, port, _ in local if e.coprocessor is None)
    open_ports = sorted(port for e, port, _ in local if leads_on(e))
    sending = sorted((port, e.coprocessor.vlan_vid_base, number(keys.sends)) for e, port, keys in local if e.coprocessor)
    return NetworkView(
        network.id, network.vxlan_vni, tuple(ports), tuple(sorted(vteps)), zone if stateful else 0,
        related_vni(network, taken) if stateful else 0, number(receives(network)), network.vlan_transparent, gateway,
        tuple(ranges) if gateway else (), routes, routed, served, tuple(open_ports), open_vteps,
        network.answers, network.ipv6_range is not None and not (open_ports or open_vteps), tuple(sending),
    )  # fmt: skip


def distant_view(network: Network, stateful: bool, taken: Container[int]) -> NetworkView:
    """A network without endpoints here that another is routed to."""
    return NetworkView(network.id, network.vxlan_vni, (), (), 0, related_vni(network, taken) if stateful else 0, routed=True)


def misfit(endpoint: Endpoint, network: Network | None, host: Host | None) -> str | None:
    """Why an endpoint cannot be, by itself; None when it can."""
    if network is None:
        return f"network {endpoint.network_id} does not exist"
    if host is None:
        return f"host {endpoint.host} does not exist"
    if network.labels_required and not endpoint.labelled:
        return "its labels are not known yet"
    if (network.mode != "flat" or network.answers) and endpoint.mac_address == GATEWAY_MAC:
        return f"MAC {GATEWAY_MAC} is the gateway's"
    for address, network_range, gateway in (
        (endpoint.ipv4_address, network.ip_range, network.gateway),
        (endpoint.ipv6_address, network.ipv6_range, network.ipv6_gateway),
    ):
        if address is None or (address is endpoint.ipv4_address and endpoint.leased_prefix and network.external):
            continue
        if network_range is None or address not in network_range:
            return f"address {address} is outside the range of network {network.name}"
        if gateway is not None and address == gateway.ip:
            return f"address {address} is the gateway of network {network.name}"
    return None


def claims(endpoint: Endpoint) -> tuple[tuple[str, str], ...]:
    """What only one endpoint can have: (scope, value)."""
    scope = endpoint.network_id
    found = [(scope, endpoint.mac_address), (f"ofport on {endpoint.host}", str(endpoint.ofport))]
    found += [(scope, str(a)) for a in (endpoint.ipv4_address, endpoint.ipv6_address) if a is not None]
    found += [(f"published on {endpoint.host}", f"{p.proto} port {port}") for p in endpoint.publish for port, _ in p.pairs]
    return (*found, *seats(endpoint))


def mirrors_in_order(snapshot: Snapshot) -> list[Mirror]:
    """First created first; temporary sessions after all others."""
    return [snapshot.mirrors[name] for name in sorted(snapshot.mirrors, key=lambda n: order(snapshot, "mirror", n))] + [
        snapshot.captures[name]
        for name in sorted(snapshot.captures, key=lambda n: order(snapshot, "capture", n))
        if name not in snapshot.mirrors
    ]


@dataclass(frozen=True, slots=True)
class _Names:
    """What the names in rules mean, looked up in the snapshot."""

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
        return [e for e in self.valid.values() if meant(who, e, network_id, self.snapshot.networks)]

    def ofport(self, network_id: str, port: str | int) -> int | None:
        for e in self.valid.values():
            if e.network_id == network_id and e.id in self.ports and port in (e.name, e.id, self.ports[e.id]):
                return self.ports[e.id]
        return None


def meant(who: Who, endpoint: Endpoint, network_id: str, networks: Mapping[str, Network]) -> bool:
    """Whether a `from` or `to` of a rule, seen from a network, means an endpoint."""
    if who.network is not None:
        return endpoint.network_id == network_of(who.network, networks)
    if endpoint.network_id != network_id:
        return False
    if who.endpoint is not None:
        return who.endpoint in (endpoint.id, endpoint.name)
    return who.label is not None and who.label in words(endpoint)


def words(endpoint: Endpoint) -> set[str]:
    """The labels of an endpoint as rules write them: KEY and KEY=VALUE."""
    return {word for key, value in endpoint.labels.items() for word in (key, f"{key}={value}")}


NO_INTERFACES: Mapping[str, int] = {}
UNMARKED: Marks = ((), ())


def view(
    snapshot: Snapshot,
    host: str,
    ports: Mapping[str, int],
    tunnel_ofport: int | None,
    uplink: int | None = None,
    interfaces: Mapping[str, int] = NO_INTERFACES,
) -> View:
    """The full recompute. `ports` maps endpoint ids to the ofports that the switch has given them; `uplink` is the port to the
    host, `interfaces` are those of interfaces that specs name."""
    ports = ofports(snapshot.endpoints, host, ports, interfaces)
    problems: set[Problem] = {Problem(key, reason) for key, reason in snapshot.malformed.items()}
    networks, contradictions = valid_networks(snapshot)
    problems |= {Problem(f"network/{network_id}", reason) for network_id, reason in contradictions.items()}
    vni_taken = {network.vxlan_vni for network in networks.values()}

    taken: dict[tuple[str, str], str] = {}
    valid: list[Endpoint] = []
    for endpoint_id in sorted(snapshot.endpoints, key=lambda e: order(snapshot, "endpoint", e)):
        endpoint = snapshot.endpoints[endpoint_id]
        reason = misfit(endpoint, networks.get(endpoint.network_id), snapshot.hosts.get(endpoint.host))
        if reason is None and endpoint.active:
            holders = [(value, taken[scope, value]) for scope, value in claims(endpoint) if (scope, value) in taken]
            if holders:
                reason = f"{holders[0][0]} belongs to endpoint {holders[0][1]}"
            else:
                taken.update((claim, endpoint_id) for claim in claims(endpoint))
                valid.append(endpoint)
        if reason is not None:
            problems.add(Problem(f"endpoint/{endpoint_id}", reason))

    here = snapshot.hosts.get(host)
    tenant = snapshot.tenants.get(TENANT)
    names = _Names(snapshot, {e.id: e for e in valid}, ports)
    zone = zones(snapshot, networks)
    keys = {e.id: keys_of(e, networks[e.network_id], snapshot.hosts[e.host], tenant) for e in valid}
    local_ids = {e.id for e in valid if e.host == host and e.id in ports}
    policies = {key: resolve(key, names) for e in local_ids for key in keys[e] if key is not None}
    for endpoint_id in local_ids:
        closed = next((policies[key].closed for key in keys[endpoint_id] if key is not None and policies[key].closed), None)
        if closed is not None:
            problems.add(Problem(f"endpoint/{endpoint_id}", closed))
            local_ids = local_ids - {endpoint_id}
    mirrored, marks, idle = sessions(
        mirrors_in_order(snapshot), networks, snapshot.hosts, host, local_ids, names.members, ports, interfaces,
        lambda there: vtep(there, here),
    )  # fmt: skip
    problems |= {Problem(f"mirror/{name}", reason) for name, reason in idle.items()}
    members: dict[str, list[Endpoint]] = defaultdict(list)
    used: dict[str, set[str]] = defaultdict(set)
    for endpoint in valid:
        members[endpoint.network_id].append(endpoint)
        used[endpoint.network_id] |= {name for key in keys[endpoint.id] if key is not None for name in key.acls}
    to, misfits = joined(routers_in_order(snapshot), networks)
    problems |= {Problem(f"router/{name}", found.reason) for name, found in misfits.items()}
    services, unserved = served(snapshot, networks)
    problems |= {Problem(f"service/{name}", reason) for name, reason in unserved.items()}
    asks = {n for n in networks if any(name in snapshot.acls and snapshot.acls[name].stateful for name in used[n])}
    tracked = {n for n in networks if n in services or not asks.isdisjoint((n, *to.get(n, ())))}
    present = {e.network_id for e in valid if e.id in local_ids}
    service_views: set[ServiceView] = set()
    network_views: set[NetworkView] = set()
    endpoint_views: set[EndpointView] = set()
    for network_id, network in networks.items():
        there, routed = to.get(network_id, {}), not present.isdisjoint(to.get(network_id, ()))
        remote = [e for e in members[network_id] if e.host != host]
        local = [e for e in members[network_id] if e.id in local_ids]
        stateful = network_id in tracked
        if local:
            if stateful and not related_vni(network, vni_taken):
                problems.add(Problem(f"network/{network_id}", NO_RELATED))
            vteps = {vtep(snapshot.hosts[e.host], here) for e in remote}
            found = network_view(
                network, [(e, ports[e.id], keys[e.id]) for e in local], vteps, zone[network_id], stateful, vni_taken, uplink,
                routes(network, there, networks, lambda n: zone[n] if n in tracked & present else 0), routed,
                network_id in services,
                {vtep(snapshot.hosts[e.host], here) for e in remote if leads_on(e)},
            )  # fmt: skip
        elif routed:
            found = distant_view(network, stateful, vni_taken)
        else:
            continue
        network_views.add(found)
        members_of: set[str] = set()
        for service in services.get(network_id, ()):
            who = meant_by_service(service, network_id, names.members)
            members_of |= {e.id for e in who}
            if found.serves and found.gateway is not None:
                able = (e for e in who if e.host != host or e.id in local_ids)
                service_views.add(service_view(service, network.vxlan_vni, found.gateway, able))
        for endpoint in local:
            own = endpoint.id in members_of, keys[endpoint.id], marks.get(endpoint.id, UNMARKED)
            endpoint_views.add(endpoint_view(endpoint, network, found, ports[endpoint.id], None, *own))
        for endpoint in remote:
            where = vtep(snapshot.hosts[endpoint.host], here), endpoint.id in members_of
            endpoint_views.add(endpoint_view(endpoint, network, found, None, *where))
    return View(
        host, tunnel_ofport, frozenset(network_views), frozenset(endpoint_views),
        frozenset(policy for policy in policies.values() if policy.closed is None), frozenset(mirrored.values()),
        frozenset(service_views), frozenset(problems),
    )  # fmt: skip


def related_vni(network: Network, taken: Container[int]) -> int:
    """The second VNI of a network that tracks connections: its own with the highest bit turned. 0 when that is another's."""
    found = network.vxlan_vni ^ RELATED_BIT
    return 0 if found in taken or not found else found


def number(key: PolicyKey | None) -> int:
    """What packets carry for a policy; 0 for none."""
    return key.number if key is not None else 0


NOBODY = Keys(None, None, None)


def endpoint_view(
    endpoint: Endpoint,
    network: Network,
    there: NetworkView,
    ofport: int | None,
    vtep_address: str | None,
    served: bool,
    keys: Keys = NOBODY,
    marks: Marks = UNMARKED,
) -> EndpointView:
    """One endpoint as the compiler sees it."""
    return EndpointView(
        endpoint.id,
        network.vxlan_vni,
        endpoint.mac_address,
        endpoint.ipv4_address,
        endpoint.ipv6_address,
        network.ip_range is not None or network.ipv6_range is not None or network.external,
        ofport,
        vtep_address,
        number(keys.sends),
        number(keys.receives),
        network.vlan_transparent,
        there.gateway,
        there.routed,
        not there.ports,
        served,
        *marks,
        tuple((p.proto, host_port, port) for p in endpoint.publish for host_port, port in p.pairs)
        if there.gateway and ofport
        else (),
        (endpoint.vlan or 0) if ofport is not None else 0,
        endpoint.port is not None,
        network.answers and ofport is not None and endpoint.port is None,
        network.external and ofport is not None and endpoint.port is None,
    )
