"""Computes the prefixes that Warren must leave alone on this host, from its addresses and routes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_network

from agent.linux.host_routes import HostAddress, HostRoute
from pipeline.protocols import IpAddress, IpNetwork
from specs.model.hostnet import HostPrefix


def prefixes(
    addresses: Iterable[HostAddress], routes: Iterable[HostRoute], *, etcd: Iterable[IpAddress], dns: Iterable[IpAddress]
) -> tuple[HostPrefix, ...]:
    """Return the prefixes that the host has, reaches and needs: first those that collide with any network, then routes through gateways,
    in each part the widest first. Of more than PREFIXES_LIMIT, only the first are published."""
    candidates = {*_of_addresses(addresses), *_of_routes(routes)}
    candidates |= {HostPrefix(prefix=ip_network(address), kind="etcd") for address in etcd}
    candidates |= {HostPrefix(prefix=ip_network(address), kind="dns") for address in dns}
    usable = (each for each in candidates if _matters(each.prefix))
    return tuple(sorted(usable, key=lambda p: (p.kind == "route", p.prefix.prefixlen, str(p.prefix), p.kind, p.via)))


def _of_addresses(addresses: Iterable[HostAddress]) -> Iterator[HostPrefix]:
    for each in addresses:
        yield HostPrefix(prefix=each.peer.network, kind="interface", via=each.device)
        if each.address.ip not in each.peer.network:
            yield HostPrefix(prefix=ip_network(each.address.ip), kind="interface", via=each.device)


def _of_routes(routes: Iterable[HostRoute]) -> Iterator[HostPrefix]:
    for route in routes:
        if route.device and not route.gateway:
            yield HostPrefix(prefix=route.prefix, kind="interface", via=route.device)
        else:
            via = f"a route via {route.gateway}" if route.gateway else "a route that drops packets"
            yield HostPrefix(prefix=route.prefix, kind="route", via=via)


def _matters(prefix: IpNetwork) -> bool:
    """Return whether a network could have addresses of this prefix (specs/model/ranges.py), and the prefix is not half of a default route."""
    address = prefix.network_address
    return prefix.prefixlen > 1 and not (address.is_loopback or address.is_link_local or address.is_multicast)
