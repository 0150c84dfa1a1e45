"""The host's configuration for networks that reach the outside, as a value, and its nftables table. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from agent.gateway.filters import Forwarding, chains
from agent.gateway.host_access import HostAccess, Machines, host_access
from agent.linux.host_ports import WILDCARDS, HostPort
from intent.gateway import Gateway, gateway_of
from intent.sites import endpoint_mtu, tunnel_udp_ports
from intent.views import Claim, host_claims
from ovsdb.rows import UPLINK_PORT
from pipeline.protocols import IpAddress, IpNetwork
from pipeline.tunnels import VXLAN_UDP_PORT
from specs.checks import ValidNetworks, order, served, services_in_order
from specs.model.cluster import Transit
from specs.model.cluster import transit as default_transit
from specs.model.endpoint import CNI_CONTAINER, Endpoint
from specs.model.network import Network
from specs.model.service import Service
from specs.snapshot import Snapshot

TABLE = "warren"
LOOPBACK = "127.0.0.0/8"


@dataclass(frozen=True, slots=True)
class Published:
    """A port of the host and what nftables translates it to: the transit address of a network in mode nat with the same port, or
    the address and `to_port` of an endpoint in mode routed. With `askers`, `host_ip` is the network's gateway, and the port answers there
    to the containers with these addresses and to the host itself."""

    proto: str
    port: int
    host_ip: IpAddress | None
    to: IpAddress
    to_port: int | None = None
    held: bool = True  # False: the container's runtime holds the port itself, as podman does after CNI's ADD
    askers: IpAddress | IpNetwork | None = None

    @property
    def host_port(self) -> HostPort:
        """The port as a socket of the host would have it."""
        return HostPort(self.proto, self.host_ip or WILDCARDS[self.to.version], self.port)

    @property
    def target(self) -> tuple[IpAddress, int]:
        """Address and port that packets have after the translation."""
        return self.to, self.to_port or self.port


@dataclass(frozen=True, slots=True)
class Outside:
    """What networks need of the host: the IP `versions` that leave it, the `routes` back to the networks (prefixes), those of them
    that lead to `routed` networks, the smallest `mtu` of a network in bytes, the ports that the host publishes, what containers
    reach of the cluster's machines, the `transit` ranges, the UDP ports of tunnels, and the `source` address of the host's own packets
    to `routed` networks, to which replies return from every host (controller/compiler/features/route.py)."""

    versions: tuple[int, ...] = ()
    routes: tuple[str, ...] = ()
    routed: tuple[str, ...] = ()
    mtu: int = 0
    published: tuple[Published, ...] = ()
    access: HostAccess = HostAccess()
    transit: Transit = field(default_factory=default_transit)
    tunnel_ports: frozenset[int] = frozenset({VXLAN_UDP_PORT})
    source: IpAddress | None = None

    @property
    def active(self) -> bool:
        """Return whether the host needs any of this."""
        return bool(self.versions)


def outside(
    snapshot: Snapshot, valid: ValidNetworks, host: str, local_endpoints: Iterable[Endpoint], machines: Machines
) -> Outside:
    """Return what the networks with an active endpoint on this host need. `valid` are the snapshot's networks, `local_endpoints` all
    endpoints of this host: searching the endpoints of all hosts would make each change cost more as the cluster grows."""
    networks, transit = valid.by_id, snapshot.cluster.transit
    active = [e for e in local_endpoints if e.active]
    publishers = sorted((e for e in active if e.publish), key=lambda e: order(snapshot, "endpoint", e.id))
    used = {
        e.network_id: networks[e.network_id] for e in active if e.network_id in networks and networks[e.network_id].mode != "flat"
    }
    zone = valid.zones
    gateways = {i: gateway for i, n in used.items() if (gateway := gateway_of(n, zone[i], None, 0, transit)) is not None}
    versions, routes = _reach(used.values(), transit)
    _, routed = _reach((network for network in used.values() if network.mode == "routed"), transit)
    claimed: set[Claim] = set()
    published = [*_published_by_endpoints(publishers, used, gateways, claimed)]
    published += _published_by_services(served(services_in_order(snapshot), valid.by_reference)[0], host, gateways, claimed)
    routes |= {str(p.host_ip) for p in published if p.askers is not None and p.to_port is None}
    return Outside(
        versions=tuple(sorted(versions)),
        routes=tuple(sorted(routes)),
        routed=tuple(sorted(routed)),
        mtu=min((endpoint_mtu(snapshot, network) for network in used.values()), default=0),
        published=tuple(sorted(published, key=repr)),
        transit=transit,
        tunnel_ports=tunnel_udp_ports(snapshot.profiles) | {VXLAN_UDP_PORT},
        source=snapshot.hosts[host].vtep if routed and host in snapshot.hosts else None,
        access=host_access(snapshot, used, gateways, machines, active) if used else HostAccess(),
    )


def _reach(networks: Iterable[Network], transit: Transit) -> tuple[set[int], set[str]]:
    """Return the IP versions that leave the host, and the prefixes of the routes back to the networks."""
    versions, routes = set[int](), set[str]()
    for network in networks:
        for version, network_range, of_transit in (
            (4, network.ip_range, (transit.zones4, transit.ports4)),
            (6, network.ipv6_range, (transit.zones6, transit.ports6)),
        ):
            if network_range is not None:
                versions.add(version)
                routes |= {*map(str, of_transit)} if network.mode == "nat" else {str(network_range)}
    return versions, routes


def _published_by_endpoints(
    endpoints: Iterable[Endpoint], used: Mapping[str, Network], gateways: Mapping[str, Gateway], claimed: set[Claim]
) -> Iterator[Published]:
    """Yield the ports that endpoints publish, and add the claims of these endpoints to `claimed`. When two endpoints claim
    the same port, the one created first gets it."""
    for endpoint in endpoints:
        ports = {claim for claim in host_claims(endpoint) if claim[0].startswith("published")}
        if endpoint.network_id not in used or claimed & ports:
            continue
        claimed |= ports
        if (gateway := gateways.get(endpoint.network_id)) is not None:
            yield from _published_by(endpoint, gateway)


def _published_by(endpoint: Endpoint, gateway: Gateway) -> Iterator[Published]:
    for publish in endpoint.publish:
        for address, transit in ((endpoint.ipv4_address, gateway.transit4), (endpoint.ipv6_address, gateway.transit6)):
            if address is None or publish.host_ip is not None and publish.host_ip.version != address.version:
                continue
            if transit is None and gateway.nat:
                continue
            held = CNI_CONTAINER not in endpoint.labels
            for port, inside in publish.pairs:
                to, to_port = (transit, None) if transit is not None else (address, inside)
                way = Published(publish.proto, port, publish.host_ip, to, to_port, held=held)
                yield way
                if publish.host_ip is None:
                    yield from _at_gateway(way, gateway)


def _at_gateway(way: Published, gateway: Gateway) -> Iterator[Published]:
    """Yield the same port at the network's gateway."""
    interface, ports = (gateway.ipv4, gateway.ports4) if way.to.version == 4 else (gateway.ipv6, gateway.ports6)
    if interface is not None:
        shares_transit = gateway.nat and way.proto in ("tcp", "udp")  # else each endpoint has a transit address of its own
        askers = way.to if shares_transit else ports if gateway.nat else interface.network
        yield replace(way, host_ip=interface.ip, askers=askers)


def _published_by_services(
    services: Mapping[str, Iterable[Service]], host: str, gateways: Mapping[str, Gateway], claimed: set[Claim]
) -> Iterator[Published]:
    """Yield the ports of services of the networks in use on this host, except ports that an endpoint publishes."""
    for network_id, of_network in services.items():
        if (gateway := gateways.get(network_id)) is None:
            continue
        for service in of_network:
            if (f"published on {host}", f"{service.proto} port {service.host_port}") not in claimed:
                for transit in (gateway.transit4, gateway.transit6):
                    if transit is not None:
                        way = Published(service.proto, service.host_port, None, transit)
                        yield way
                        yield from _at_gateway(way, gateway)


def _answered_by_the_host(prefix: str, source: IpAddress | None) -> Iterator[str]:
    """Rules for translated packets (to a port that is published here, or to a service of kube-proxy) that leave for a routed network, from an
    endpoint of such a network or from the host itself. Their replies must return by this host, so they get its address, which a container on
    another host can answer, too."""
    family = "ip6" if ":" in prefix else "ip"
    has_source = source is not None and (source.version == 6) == (family == "ip6")
    yield f'iifname "{UPLINK_PORT}" {family} saddr {prefix} ' + (f"snat {family} to {source}" if has_source else "masquerade")
    if has_source:
        yield f"fib saddr type local {family} daddr {prefix} snat {family} to {source}"


def ruleset(desired: Outside, forwarding: Forwarding, comment: str) -> str:
    """Return nft(8) commands that replace Warren's table in one transaction; they leave the host's own tables and policies
    alone."""
    lines = [f"add table inet {TABLE}", f"delete table inet {TABLE}", f"table inet {TABLE} {{"]
    lines.append('    comment "' + comment.replace('"', "'") + '"')
    for hook, priority in (("prerouting", "dstnat"), ("output", "-100")):
        lines += [
            f"    chain {hook} {{",
            f"        type nat hook {hook} priority {priority}; policy accept;",
            *(
                f"        {_askers(p, hook)}{_destination_nat(p)}"
                for p in desired.published
                if hook == "output" or not _on_loopback(p)
            ),
            "    }",
        ]
    # before others' masquerading, such as kube-proxy's, which would choose the transit address, the same on every host
    lines += ["    chain postrouting {", "        type nat hook postrouting priority srcnat - 5; policy accept;"]
    ranges = desired.transit
    for family, *prefixes in (("ip", ranges.zones4, ranges.ports4), ("ip6", ranges.zones6, ranges.ports6)):
        lines += [f'        {family} saddr {prefix} oifname != "{UPLINK_PORT}" masquerade' for prefix in prefixes]
    # a process of the host that asks its own loopback address for a published port: a container cannot answer there
    lines.append(f'        ip saddr {LOOPBACK} oifname "{UPLINK_PORT}" masquerade')
    for prefix in desired.routed:
        lines += [
            f'        oifname "{UPLINK_PORT}" ct status dnat {rule}' for rule in _answered_by_the_host(prefix, desired.source)
        ]
    gateways = sorted({str(p.host_ip) for p in desired.published if p.askers is not None})
    filters = chains(desired.routed, desired.access, forwarding, desired.transit, desired.tunnel_ports, gateways)
    return "\n".join([*lines, "    }", *filters, "}", ""])


def _on_loopback(published: Published) -> bool:
    """Return whether a port is for the host alone. The kernel refuses packets of others only after this hook."""
    return published.host_ip is not None and published.host_ip.is_loopback


def _askers(published: Published, hook: str) -> str:
    """Return the condition for a port at a gateway: packets of the network's own containers, or of the host by Warren's route. For other
    packets the address may be that of another machine."""
    if published.askers is None:
        return ""
    if hook == "output":
        return f'oifname "{UPLINK_PORT}" '
    return f'iifname "{UPLINK_PORT}" {"ip" if published.to.version == 4 else "ip6"} saddr {published.askers} '


def _destination_nat(published: Published) -> str:
    (address, port), version = published.target, published.to.version
    family, to = ("ip", f"{address}:{port}") if version == 4 else ("ip6", f"[{address}]:{port}")
    local = (
        f"meta nfproto ipv{version} fib daddr type local" if published.host_ip is None else f"{family} daddr {published.host_ip}"
    )
    return f"{local} {published.proto} dport {published.port} dnat {family} to {to}"


def kept_switches(table: str) -> dict[str, str]:
    """Return the values that the forwarding sysctls had before Warren changed them, by version of IP, from the comment of
    Warren's table as nft prints it. (nft 1.0.6 omits the comment from its JSON.)"""
    comment = re.search(r'^\s*comment "(.*)"$', table, re.MULTILINE)
    return json.loads(comment[1].replace("'", '"')) if comment else {}  # type: ignore[no-any-return]
