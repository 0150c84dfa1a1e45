"""Compares the ranges of networks with the networks of hosts: what is not Warren's must stay reachable. Pure.

A host has a route to each routed network, so an endpoint of such a network is closed on a host where the range is in the way. Networks
in mode `nat` have no route of their own on the host, but their containers take the range for their own link and do not reach the host's addresses in it.
Such a network is refused when it is created. Flat networks have nothing to do with the host's routes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address, ip_network
from typing import NamedTuple
from urllib.parse import urlsplit

from pipeline.protocols import IpNetwork
from specs.model.cluster import Cluster
from specs.model.host import Host
from specs.model.hostnet import HostNetwork, HostPrefix
from specs.model.network import Network
from warren.errors import Conflict


class Obstacle(NamedTuple):
    """A range of a network (`field` of its record), and what it overlaps on a host."""

    field: str
    range: IpNetwork
    prefix: HostPrefix
    host: str

    def __str__(self) -> str:
        return f"{self.field} {self.range} overlaps {self.prefix.on(self.host)}"


def ranges(network: Network) -> Iterator[tuple[str, IpNetwork]]:
    """The ranges of a network, by field."""
    if network.ip_range is not None:
        yield "ip_range", network.ip_range
    if network.ipv6_range is not None:
        yield "ipv6_range", network.ipv6_range


def in_the_way(network_range: IpNetwork, prefixes: Iterable[HostPrefix], *, routes: bool) -> HostPrefix | None:
    """The first prefix that a network with this range would take from its host. With `routes`, also routes through a gateway that lie within
    the range. A wider route is no obstacle: the range is an exception to it, as with any longer prefix."""
    for candidate in prefixes:
        if candidate.prefix.version != network_range.version or not candidate.prefix.overlaps(network_range):
            continue
        if candidate.kind != "route" or (routes and candidate.prefix.prefixlen >= network_range.prefixlen):
            return candidate
    return None


def of_host(host: Host | None, hostnet: HostNetwork | None) -> Iterator[HostPrefix]:
    """All that is known of a host: what its agent has published, and the addresses in its record."""
    yield from hostnet.prefixes if hostnet is not None else ()
    if host is None:
        return
    yield HostPrefix(prefix=ip_network(str(host.vtep)), kind="vtep")
    try:
        yield HostPrefix(prefix=ip_network(str(ip_address(urlsplit(host.api or "").hostname or ""))), kind="api")
    except ValueError:
        return  # no URL, or a name


def obstacle(network: Network, host: Host | None, hostnet: HostNetwork | None) -> Obstacle | None:
    """The first obstacle to a network on one host; None for a flat network."""
    if network.mode == "flat":
        return None
    for field, network_range in ranges(network):
        prefix = in_the_way(network_range, of_host(host, hostnet), routes=network.mode == "routed")
        if prefix is not None:
            return Obstacle(field, network_range, prefix, host.name if host is not None else "")
    return None


def check_hosts(network: Network, hosts: Mapping[str, Host], hostnets: Mapping[str, HostNetwork]) -> None:
    """Raises `Conflict` if a range of a network is in the way on any host."""
    for name in sorted(hosts):
        collision = obstacle(network, hosts[name], hostnets.get(name))
        if collision is not None:
            remedy = "choose a range that no host uses, or mode flat"
            raise Conflict(f"network {network.name}: {collision}: {remedy}", field=collision.field, holder=name)


def check_transit(new: Cluster, old: Cluster, hosts: Mapping[str, Host], hostnets: Mapping[str, HostNetwork]) -> None:
    """Raises `Conflict` if a transit range that changes overlaps anything that a host has, reaches or needs, also by a wider route: packets with
    these addresses would go both ways."""
    for field, value in set(new.ranges) - set(old.ranges):
        for name in sorted(hosts):
            collision = transit_obstacle(field, value, hosts[name], hostnets.get(name))
            if collision is not None:
                raise Conflict(f"cluster: {collision}: choose a range that no host uses", field=field, holder=name)


def transit_obstacle(field: str, value: IpNetwork, host: Host | None, hostnet: HostNetwork | None) -> Obstacle | None:
    """The first thing of a host that overlaps a transit range."""
    for candidate in of_host(host, hostnet):
        if candidate.prefix.version == value.version and candidate.prefix.overlaps(value):
            return Obstacle(field, value, candidate, host.name if host is not None else "")
    return None


def check_transit_networks(cluster: Cluster, networks: Iterable[Network]) -> None:
    """Raises `Conflict` if a range of a network overlaps a transit range. A flat network may get another mode later, so this holds for
    every mode."""
    for network in networks:
        for field, value in ranges(network):
            for name, transit_range in cluster.ranges:
                if transit_range.version == value.version and transit_range.overlaps(value):
                    reason = f"{field} {value} overlaps {name} {transit_range}, by which hosts reach networks in mode nat (warren cluster show)"
                    raise Conflict(f"network {network.name}: {reason}", field=field, holder=name)
