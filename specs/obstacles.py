"""Compares the ranges of networks with the networks of hosts: what is not Warren's must stay reachable. Pure.

A host has a route to each routed network, so an endpoint of such a network is closed on a host where the range is in the way. Networks
in mode `nat` have no route of their own on the host, but their containers take the range for their own link and do not reach the host's addresses in it.
Such a network is refused when it is created. Flat networks have nothing to do with the host's routes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple
from urllib.parse import urlsplit

from pipeline.protocols import IpNetwork
from specs.model.admin import ADMIN_INTERFACE
from specs.model.cluster import Cluster
from specs.model.host import Host
from specs.model.hostnet import HostNetwork, HostPrefix
from specs.model.network import Network
from warren.errors import Conflict, Invalid

# the loopback interface, Open vSwitch's, and those that Warren makes on a host
_NO_PORT = re.compile(r"lo|ovs-(system|netdev)|br-(warren|crypto)|warren-.*|w[a-z][0-9a-f]{12}")


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
    """The first obstacle to a network on one host; None for a flat network, with which the host has nothing to do. On the admin overlay the host
    itself has an address, so routes count as for a routed network; the overlay's own interface is no obstacle to it."""
    if network.mode == "flat" and network.admin is None:
        return None
    prefixes = (prefix for prefix in of_host(host, hostnet) if network.admin is None or prefix.via != ADMIN_INTERFACE)
    candidates = tuple(prefixes)
    for field, network_range in ranges(network):
        prefix = in_the_way(network_range, candidates, routes=network.mode == "routed" or network.admin is not None)
        if prefix is not None:
            return Obstacle(field, network_range, prefix, host.name if host is not None else "")
    return None


def check_hosts(network: Network, hosts: Mapping[str, Host], hostnets: Mapping[str, HostNetwork]) -> None:
    """Raises `Conflict` if a range of a network is in the way on any host."""
    for name in sorted(hosts):
        collision = obstacle(network, hosts[name], hostnets.get(name))
        if collision is not None:
            remedy = "choose a range that no host uses" + (", or mode flat" if network.admin is None else "")
            raise Conflict(f"network {network.name}: {collision}: {remedy}", field=collision.field, holder=name)


def check_admin_networks(new: Network, networks: Iterable[Network]) -> None:
    """Raises `Conflict` for a second admin overlay, and for one whose range overlaps that of a network which hosts have routes to."""
    for other in networks:
        if other.admin is not None:
            raise Conflict(
                f"network {other.name} is the admin overlay already (warren admin-overlay info)", field="admin", holder=other.name
            )
        for field, value in ranges(new):
            for _, taken in ranges(other):
                if other.mode != "flat" and taken.version == value.version and taken.overlaps(value):
                    reason = f"{field} {value} overlaps {taken} of network {other.name}, which hosts reach (mode {other.mode})"
                    raise Conflict(f"network {new.name}: {reason}: choose another range", field=field, holder=other.name)


def check_interface(interface: str, host: str, hostnet: HostNetwork | None) -> None:
    """Raises `Invalid` if an interface of a host cannot be put on a network without harm to the host."""
    expected = "an interface that leads to other machines, such as eno1"
    if _NO_PORT.fullmatch(interface):
        raise Invalid("endpoint.port", interface, f"{expected}, not one of the host's own machinery")
    if (prefix := addressed(interface, hostnet)) is not None:
        raise Invalid("endpoint.port", interface, f"{expected}, without addresses of its host: {cut_off(prefix, host)}")


def addressed(interface: str, hostnet: HostNetwork | None) -> HostPrefix | None:
    """The first prefix that a host reaches by an interface directly."""
    prefixes = hostnet.prefixes if hostnet is not None else ()
    return next((prefix for prefix in prefixes if prefix.kind == "interface" and prefix.via == interface), None)


def cut_off(prefix: HostPrefix, host: str) -> str:
    """What becomes of a prefix whose interface is on a network."""
    return f"{prefix.on(host)}, which would no longer be reached"


def lacks(address: IPv4Address | IPv6Address, hostnet: HostNetwork | None) -> bool:
    """Whether a host has no interface in whose range an address is, as far as its agent has published them."""
    prefixes = [prefix.prefix for prefix in hostnet.prefixes if prefix.kind == "interface"] if hostnet is not None else []
    return bool(prefixes) and not address.is_loopback and not any(address in prefix for prefix in prefixes)


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
