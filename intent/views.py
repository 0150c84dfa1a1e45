"""Views: what one host needs to know of networks and endpoints, as values, and the functions that derive one from records.

intent/recompute.py derives the whole view; intent/incremental/ keeps it up to date change by change. Both use these functions.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from acl.language import Who
from acl.policy import PolicyKey, PolicyKeys, PolicyView, enters, network_of, receives
from intent.gateway import GATEWAY_MAC, Gateway, gateway_of
from intent.host_paths import HostPath, hosts_that_ask
from intent.identity import identity
from intent.names import NameServer, name_server
from intent.services import ServiceView
from mirror.sessions import Marks, MirrorSession
from pipeline.protocols import address_text
from pipeline.tunnels import vni_of
from specs.checks import order
from specs.model.allowed import misplaced, text
from specs.model.cluster import Transit
from specs.model.endpoint import Endpoint
from specs.model.host import Host
from specs.model.mirror import Mirror
from specs.model.network import RELATED_BIT, Network
from specs.model.profile import profile_in
from specs.model.router import Route
from specs.obstacles import obstacle
from specs.ports import has_unknown_macs, port_claims
from specs.snapshot import Problem, Snapshot

Claim = tuple[str, str]
NO_RELATED = "its VNI with the highest bit turned is another network's: allow_related does not reach other hosts"


class PublishedView(NamedTuple):
    """A port of the host that leads to a port of an endpoint; `everywhere`: at each address of the host, and at the network's gateway."""

    proto: str  # tcp, udp or sctp
    host_port: int
    port: int
    everywhere: bool


class AllowedView(NamedTuple):
    """An address or a range that an endpoint may have besides its own, and the MAC that it has there."""

    address: str
    mac: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointView:
    """An endpoint that gets flows. Local: `ofport` is set. Remote: `vtep` is set."""

    id: str
    identity: int  # intent/identity.py
    vni: int
    mac: str
    ipv4: IPv4Address | None
    ipv6: IPv6Address | None
    bound: bool  # its network has ranges: anti-spoofing holds it to its own addresses
    ofport: int | None
    vtep: str | None
    policy_in: int = 0  # PolicyKey.number of the policies over what it sends and receives; 0: everything passes
    policy_out: int = 0
    transparent: bool = False  # tagged frames pass, too; anti-spoofing then checks the MAC alone
    gateway: Gateway | None = None
    routed: bool = False  # a network with endpoints here is routed to its network
    routed_remote: bool = False  # its network has no endpoint here: only a router leads to it
    served: bool = False  # a service leads to it
    copies_in: tuple[int, ...] = ()  # mirror sessions that copy what it sends, and what it receives (mirror/sessions.py)
    copies_out: tuple[int, ...] = ()
    published: tuple[PublishedView, ...] = ()
    tag: int = 0  # the VLAN tag of its frames on a shared port; 0: untagged
    unknown_macs: bool = False  # it is an interface: MACs behind it are not known (specs/ports.py)
    dhcp: bool = False  # the controller answers its DHCP questions; local endpoints only
    leases: bool = False  # a DHCP server outside leases its address; local endpoints only
    guarded: bool = False  # an interface behind which no DHCP server may be, because the controller serves the network
    server: NameServer | None = None  # of its network; local endpoints only
    allowed: tuple[AllowedView, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkView:
    """A network with endpoints on this host: local ports, and the VTEPs of other hosts with members, sorted. A network without
    `ports` is here only because one with ports is routed to it."""

    id: str
    vni: int
    ports: tuple[int, ...]  # without those of coprocessors
    vteps: tuple[str, ...]
    zone: int = 0  # conntrack zone; 0: connections are not tracked
    related_vni: int = 0  # the VNI that tells other hosts that an `allow_related` rule let the packet pass
    policy_out: int = 0
    transparent: bool = False
    gateway: Gateway | None = None
    ranges: tuple[str, ...] = ()  # of its addresses; only where there is a gateway
    routes: tuple[Route, ...] = ()  # to other networks
    routed: bool = False  # a network with endpoints here is routed to it
    served: bool = False  # there are services in it
    unknown_macs_ports: tuple[int, ...] = ()  # those of `ports` behind which unknown destinations may be
    unknown_macs_vteps: tuple[str, ...] = ()  # those of `vteps` whose hosts have such ports
    interface_vteps: tuple[str, ...] = ()  # of hosts with interfaces on it, coprocessors too: any MAC may come from them
    gateway_vteps: tuple[str, ...] = ()  # of hosts whose switches send into it as the gateway, and as the host
    host_vteps: tuple[str, ...] = ()
    host_paths: tuple[HostPath, ...] = ()  # of other hosts with members, in mode routed; and this host's own address
    host_address: str = ""
    dhcp: bool = False
    server: NameServer | None = None
    closed6: bool = False  # it has an IPv6 range, and all neighbours in it are known: no host has an interface on it
    coprocessors: tuple[tuple[int, int, int], ...] = ()  # (port, VLAN id that means port 0, policy of what it sends)

    @property
    def serves(self) -> bool:
        """Whether published service ports of this host lead into the network."""
        return self.served and self.gateway is not None and self.gateway.uplink is not None

    @property
    def shape(self) -> tuple[object, ...]:
        """Fields that endpoint views are derived from. When they change, all endpoint views of the network are rebuilt."""
        return self.gateway, self.routed, bool(self.ports), self.server


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualView:
    """An address, a range or a MAC that several endpoints of a network may have. Of an address: the `macs` at which it may be. Of a MAC:
    the local `ports` and the `vteps` of other hosts behind which it may be."""

    vni: int
    value: str
    macs: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    vteps: tuple[str, ...] = ()
    policy_out: int = 0
    gateway: Gateway | None = None
    routed: bool = False  # as EndpointView has them
    routed_remote: bool = False
    led_to: bool = False  # an address that the gateway or a router leads to


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Everything that the compiler of one host needs."""

    host: str
    tunnels: Mapping[int, int] = field(hash=False)  # OpenFlow ports to other hosts, by the number of their profile
    tunnel_ports: frozenset[int]  # UDP ports of profiles
    peers: frozenset[str]  # VTEPs of all other hosts
    networks: frozenset[NetworkView]
    endpoints: frozenset[EndpointView]
    policies: frozenset[PolicyView]
    sessions: frozenset[MirrorSession]
    services: frozenset[ServiceView]
    virtuals: frozenset[VirtualView]
    problems: frozenset[Problem]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vteps:
    """The VTEPs of other hosts that send into a network: those with members of it, those of them with interfaces on it (`behind`:
    machines behind these), and those with endpoints in networks that are routed to it, which route at the sender's host. `paths` lead to
    the hosts with members, and `local` is this host."""

    members: Collection[str]
    interfaces: Collection[str]
    behind: Collection[str]
    routing: Collection[str]
    paths: Collection[HostPath]
    local: Host | None


def network_view(
    network: Network,
    local: Collection[tuple[Endpoint, int, PolicyKeys]],
    *,
    vteps: Vteps,
    zone: int,
    stateful: bool,
    vnis: Container[int],
    uplink: int | None,
    resolver: int | None,
    routes: tuple[Route, ...],
    routed: bool,
    served: bool,
    transit: Transit,
) -> NetworkView:
    """One network as the compiler sees it. `local` are its endpoints here, with their ports and policies. `zone` is its conntrack zone; `stateful`
    says whether it tracks connections: because of an ACL in use, there or in a network that it is routed to, or of a service. `vnis` are those
    of all networks, `uplink` is the port to the host, `resolver` that to its resolver."""
    gateway = gateway_of(network, zone, uplink, number(enters(network)), transit)
    members, interfaces, unknown_macs_vteps = (tuple(sorted(group)) for group in (vteps.members, vteps.interfaces, vteps.behind))
    entered = gateway is not None and (served or not gateway.nat)  # what comes in by any of its hosts goes on from the gateway
    host_paths, host_address = hosts_that_ask(gateway, vteps.paths, vteps.local)
    unknown_macs_ports = tuple(sorted(port for endpoint, port, _ in local if has_unknown_macs(endpoint)))
    ranges = tuple(str(r) for r in (network.ip_range, network.ipv6_range) if r is not None)
    coprocessors = sorted((port, e.coprocessor.vlan_vid_base, number(keys.sends)) for e, port, keys in local if e.coprocessor)
    return NetworkView(
        id=network.id,
        vni=network.number,
        ports=tuple(sorted(port for endpoint, port, _ in local if endpoint.coprocessor is None)),
        vteps=members,
        zone=zone if stateful else 0,
        related_vni=related_vni(network, vnis) if stateful else 0,
        policy_out=number(receives(network)),
        transparent=network.vlan_transparent,
        gateway=gateway,
        ranges=ranges if gateway else (),
        routes=routes,
        routed=routed,
        served=served,
        unknown_macs_ports=unknown_macs_ports,
        unknown_macs_vteps=unknown_macs_vteps,
        interface_vteps=interfaces,
        gateway_vteps=tuple(sorted({*vteps.routing, *(members if entered else ())})),
        host_vteps=members if gateway is not None and served else (),
        host_paths=host_paths,
        host_address=host_address,
        dhcp=network.answers,
        server=name_server(network, resolver, zone),
        closed6=network.ipv6_range is not None and not (unknown_macs_ports or unknown_macs_vteps),
        coprocessors=tuple(coprocessors),
    )


def routed_remote_view(network: Network, *, stateful: bool, vnis: Container[int]) -> NetworkView:
    """A network without endpoints here that another one is routed to."""
    related = related_vni(network, vnis) if stateful else 0
    return NetworkView(id=network.id, vni=network.number, ports=(), vteps=(), related_vni=related, routed=True)


def misfit(endpoint: Endpoint, network: Network | None, snapshot: Snapshot) -> str | None:
    """Why an endpoint's record cannot be carried out on its host; None when it can."""
    host = snapshot.hosts.get(endpoint.host)
    if network is None:
        return f"network {endpoint.network_id} does not exist"
    if host is None:
        return f"host {endpoint.host} does not exist"
    if (reason := _unreached(network, host, snapshot)) is not None:
        return reason
    if network.labels_required and not endpoint.labelled:
        return "its labels are not known yet"
    if network.has_gateway_mac and endpoint.mac_address == GATEWAY_MAC:
        return f"MAC {GATEWAY_MAC} is the gateway's"
    if (reason := _outside_range(endpoint, network)) is not None:
        return reason
    wrong = misplaced(endpoint.allowed, network)
    return None if wrong is None else f"allowed: {wrong[1]}"


def _unreached(network: Network, host: Host, snapshot: Snapshot) -> str | None:
    """Why a host cannot have endpoints of a network."""
    if (profile := profile_in(network, snapshot.profiles)) is None:
        return f"tunnel profile {network.profile} does not exist"
    if not profile.has(host):
        return f"host {host.name} is not in tunnel profile {profile.name}, by which network {network.name} travels"
    if network.mode == "routed" and (collision := obstacle(network, host, snapshot.hostnets.get(host.name))) is not None:
        return f"network {network.name} has no way out of this host: its {collision}"
    return None


def _outside_range(endpoint: Endpoint, network: Network) -> str | None:
    """Why a network cannot have an endpoint's addresses."""
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


def claims(endpoint: Endpoint, host: str) -> tuple[Claim, ...]:
    """The values that only one endpoint can have, as (scope, value), as far as `host` looks at them: in the network on all hosts
    alike, those of a host (OpenFlow ports, published ports) on that host alone. So no other network matters to a conflict between
    endpoints of other hosts."""
    scope = endpoint.network_id
    in_network = [(scope, endpoint.mac_address)]
    in_network += [
        (scope, address_text(address)) for address in (endpoint.ipv4_address, endpoint.ipv6_address) if address is not None
    ]
    return (*in_network, *host_claims(endpoint)) if endpoint.host == host else tuple(in_network)


def host_claims(endpoint: Endpoint) -> tuple[Claim, ...]:
    """The values of its host that only one endpoint can have."""
    published = ((p.proto, port) for p in endpoint.publish for port, _ in p.pairs)
    return (
        (f"ofport on {endpoint.host}", str(endpoint.ofport)),
        *((f"published on {endpoint.host}", f"{proto} port {port}") for proto, port in published),
        *port_claims(endpoint),
    )


def mirrors_in_order(snapshot: Snapshot) -> list[Mirror]:
    """All mirror sessions, the first created first; temporary ones after all others."""
    return [snapshot.mirrors[name] for name in sorted(snapshot.mirrors, key=lambda n: order(snapshot, "mirror", n))] + [
        snapshot.captures[name]
        for name in sorted(snapshot.captures, key=lambda n: order(snapshot, "capture", n))
        if name not in snapshot.mirrors
    ]


def selects(who: Who, endpoint: Endpoint, network_id: str, networks: Mapping[str, Network]) -> bool:
    """Whether a `from` or `to` of a rule, seen from a network, selects an endpoint."""
    if who.network is not None:
        return endpoint.network_id == network_of(who.network, networks)
    if endpoint.network_id != network_id:
        return False
    if who.endpoint is not None:
        return who.endpoint in (endpoint.id, endpoint.name)
    return who.label is not None and who.label in words(endpoint)


def words(endpoint: Endpoint) -> set[str]:
    """The labels of an endpoint in the form that rules use: KEY and KEY=VALUE."""
    return {word for key, value in endpoint.labels.items() for word in (key, f"{key}={value}")}


UNMARKED: Marks = ((), ())


def related_vni(network: Network, taken: Container[int]) -> int:
    """The second VNI of a network that tracks connections: its own with the highest bit flipped. 0 when another network has
    that VNI."""
    flipped = network.number ^ RELATED_BIT
    return 0 if flipped in taken or not vni_of(flipped) else flipped


def number(key: PolicyKey | None) -> int:
    """The number of a policy that packets carry; 0 for none."""
    return key.number if key is not None else 0


NO_POLICIES = PolicyKeys(None, None, None)


def endpoint_view(
    endpoint: Endpoint,
    network: Network,
    network_view: NetworkView,
    *,
    served: bool,
    ofport: int | None = None,
    vtep: str | None = None,
    keys: PolicyKeys = NO_POLICIES,
    marks: Marks = UNMARKED,
) -> EndpointView:
    """One endpoint as the compiler sees it: a local one with its `ofport`, policies and mirror sessions, a remote one with its `vtep`."""
    local, behind_interface = ofport is not None, endpoint.port is not None
    published = tuple(
        PublishedView(p.proto, host_port, port, p.host_ip is None) for p in endpoint.publish for host_port, port in p.pairs
    )
    return EndpointView(
        id=endpoint.id,
        identity=identity(endpoint),
        vni=network.number,
        mac=endpoint.mac_address,
        ipv4=endpoint.ipv4_address,
        ipv6=endpoint.ipv6_address,
        bound=network.ip_range is not None or network.ipv6_range is not None or network.external,
        ofport=ofport,
        vtep=vtep,
        policy_in=number(keys.sends),
        policy_out=number(keys.receives),
        transparent=network.vlan_transparent,
        gateway=network_view.gateway,
        routed=network_view.routed,
        routed_remote=not network_view.ports,
        served=served,
        copies_in=marks[0],
        copies_out=marks[1],
        published=published if network_view.gateway and ofport else (),
        tag=(endpoint.vlan or 0) if local else 0,
        unknown_macs=behind_interface,
        dhcp=network.answers and local and not behind_interface,
        leases=network.external and local and not behind_interface,
        guarded=network.answers and local and has_unknown_macs(endpoint),
        server=network_view.server if local and not behind_interface else None,
        allowed=tuple(AllowedView(text(a.address), a.mac or endpoint.mac_address) for a in endpoint.allowed),
    )
