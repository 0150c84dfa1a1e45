"""What one host must know: the snapshot, seen from that host, with every conflict settled by a rule that all hosts share.

`view` is the full recompute and the meaning of everything; specs/index.py gives the same incrementally.
Who was created first wins; the loser is closed, with a problem.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from specs.records import Endpoint, Host, Network
from specs.snapshot import Problem, Snapshot

VXLAN_OVER_IPV4 = 20 + 8 + 8 + 14  # IPv4, UDP, VXLAN (RFC 7348), inner Ethernet: bytes
VXLAN_OVER_IPV6 = 40 + 8 + 8 + 14
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


@dataclass(frozen=True, slots=True)
class NetworkView:
    """A network with endpoints on this host: local ports and the VTEPs of the other hosts with members, sorted."""

    id: str
    vni: int
    ports: tuple[int, ...]
    vteps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class View:
    """Everything that the compiler of one host needs."""

    host: str
    tunnel_ofport: int | None
    networks: frozenset[NetworkView]
    endpoints: frozenset[EndpointView]
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


def misfit(endpoint: Endpoint, network: Network | None, host: Host | None) -> str | None:
    """Why an endpoint cannot be, by itself; None when it can."""
    if network is None:
        return f"network {endpoint.network_id} does not exist"
    if host is None:
        return f"host {endpoint.host} does not exist"
    for address, network_range, gateway in (
        (endpoint.ipv4_address, network.ip_range, network.gateway),
        (endpoint.ipv6_address, network.ipv6_range, network.ipv6_gateway),
    ):
        if address is None:
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
    return tuple(found)


def order(snapshot: Snapshot, kind: str, identity: str) -> tuple[int, str]:
    """The order in which conflicts are settled: first created first, then by id."""
    return snapshot.born.get(f"{kind}/{identity}", 0), identity


def view(snapshot: Snapshot, host: str, ports: Mapping[str, int], tunnel_ofport: int | None) -> View:
    """The full recompute. `ports` maps endpoint ids to the ofports that the switch has given them."""
    problems: set[Problem] = {Problem(key, reason) for key, reason in snapshot.malformed.items()}
    networks: dict[str, Network] = {}
    vni_taken: dict[int, str] = {}
    for network_id in sorted(snapshot.networks, key=lambda n: order(snapshot, "network", n)):
        network = snapshot.networks[network_id]
        first = vni_taken.setdefault(network.vxlan_vni, network_id)
        if first == network_id:
            networks[network_id] = network
        else:
            problems.add(Problem(f"network/{network_id}", f"VNI {network.vxlan_vni} belongs to network {first}"))

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
    members: dict[str, list[Endpoint]] = defaultdict(list)
    for endpoint in valid:
        members[endpoint.network_id].append(endpoint)
    network_views: set[NetworkView] = set()
    endpoint_views: set[EndpointView] = set()
    for network_id, endpoints in members.items():
        local = [e for e in endpoints if e.host == host and e.id in ports]
        if not local:
            continue
        remote = [e for e in endpoints if e.host != host]
        vteps = {vtep(snapshot.hosts[e.host], here) for e in remote}
        network = networks[network_id]
        network_views.add(
            NetworkView(network_id, network.vxlan_vni, tuple(sorted(ports[e.id] for e in local)), tuple(sorted(vteps)))
        )
        for endpoint in local:
            endpoint_views.add(endpoint_view(endpoint, network, ports[endpoint.id], None))
        for endpoint in remote:
            endpoint_views.add(endpoint_view(endpoint, network, None, vtep(snapshot.hosts[endpoint.host], here)))
    return View(host, tunnel_ofport, frozenset(network_views), frozenset(endpoint_views), frozenset(problems))


def endpoint_view(endpoint: Endpoint, network: Network, ofport: int | None, vtep_address: str | None) -> EndpointView:
    """One endpoint as the compiler sees it."""
    return EndpointView(
        endpoint.id,
        network.vxlan_vni,
        endpoint.mac_address,
        endpoint.ipv4_address,
        endpoint.ipv6_address,
        network.ip_range is not None or network.ipv6_range is not None,
        ofport,
        vtep_address,
    )
