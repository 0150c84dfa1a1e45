"""Computes which of the cluster's machines (hosts and etcd) the containers of each network may reach. Pure.

A network's `host_access` is none, dns or all. Published ports and ports of services are reached in any case.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from agent.gateway.names import hostname, literal
from intent.gateway import Gateway
from pipeline.protocols import IpAddress
from specs.model.endpoint import Endpoint
from specs.model.host import Host
from specs.model.network import Network
from specs.obstacles import ranges
from specs.snapshot import Snapshot
from specs.store.placements import Publisher

ServicePort = tuple[str, int]  # protocol, number


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """What the specs do not say of the cluster's machines: the names or addresses of `etcd`, the `addresses` of names, and
    the endpoints of all hosts that publish ports (`publishers`)."""

    etcd: tuple[str, ...] = ()
    addresses: Mapping[str, Collection[IpAddress]]
    publishers: Collection[Endpoint | Publisher] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostAccess:
    """Prefixes from which containers reach everything (`unlimited`) or name servers (`dns`) of the cluster's machines, the
    addresses of its `hosts` and of all its `machines` with the ranges of the admin overlay, and the ports that every network reaches: those that hosts have
    `published`, and those of `services` on all hosts."""

    unlimited: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()
    published: tuple[tuple[str, str, int], ...] = ()
    services: tuple[ServicePort, ...] = ()


def host_access(
    snapshot: Snapshot,
    networks: Mapping[str, Network],
    gateways: Mapping[str, Gateway],
    machines: Machines,
    local_endpoints: Iterable[Endpoint],
) -> HostAccess:
    """Return the access of these networks, which have a gateway on this host, and of their active endpoints here."""
    unlimited = {str(source) for source in _endpoint_sources(networks, gateways, local_endpoints)}
    sources = [(network.host_access, prefix) for i, network in networks.items() for prefix in _sources(network, gateways.get(i))]
    by_host = {host.name: set(_addresses(host, machines)) for host in snapshot.hosts.values()}
    hosts = {address for addresses in by_host.values() for address in addresses}
    overlays = set(_admin_ranges(snapshot))
    etcd = {address for name in machines.etcd for address in _resolved(name, machines)}
    return HostAccess(
        unlimited=tuple(sorted(unlimited.union(prefix for level, prefix in sources if level == "all"))),
        dns=tuple(sorted(prefix for level, prefix in sources if level == "dns")),
        hosts=tuple(sorted({*map(str, hosts), *overlays})),
        machines=tuple(sorted({*map(str, hosts | etcd), *overlays})),
        published=tuple(sorted(set(_published(machines.publishers, by_host)))),
        services=tuple(sorted({(service.proto, service.host_port) for service in snapshot.services.values()})),
    )


def _published(
    publishers: Iterable[Endpoint | Publisher], by_host: Mapping[str, Collection[IpAddress]]
) -> Iterator[tuple[str, str, int]]:
    """Yield address, protocol and number of each port that hosts publish."""
    for endpoint in publishers:
        for publish in endpoint.publish:
            addresses = (publish.host_ip,) if publish.host_ip is not None else by_host.get(endpoint.host, ())
            yield from ((str(address), publish.proto, port) for address in addresses for port, _ in publish.pairs)


def _admin_ranges(snapshot: Snapshot) -> Iterator[str]:
    """Yield the ranges of the admin overlay, whose addresses belong to hosts."""
    for network in snapshot.networks.values():
        if network.admin is not None:
            yield from (str(prefix) for _, prefix in ranges(network))


def _sources(network: Network, gateway: Gateway | None) -> Iterator[str]:
    """Yield the source addresses that a network's packets have at the host."""
    if gateway is None:
        return
    addresses = (gateway.transit4, gateway.transit6) if gateway.nat else (network.ip_range, network.ipv6_range)
    yield from (str(address) for address in addresses if address is not None)


def _endpoint_sources(
    networks: Mapping[str, Network], gateways: Mapping[str, Gateway], endpoints: Iterable[Endpoint]
) -> Iterator[IpAddress]:
    """Yield the transit addresses of endpoints that reach everything. Those with less access reach nothing by ICMP."""
    for endpoint in endpoints:
        network, gateway = networks.get(endpoint.network_id), gateways.get(endpoint.network_id)
        if network is not None and gateway is not None and network.host_access == "all" and endpoint.ofport is not None:
            yield from (address for address in gateway.port_transits(endpoint.ofport) if address is not None)


def _addresses(host: Host, machines: Machines) -> Iterator[IpAddress]:
    yield host.vtep
    if host.api is not None and (name := hostname(host.api)) is not None:
        yield from _resolved(name, machines)


def _resolved(name: str, machines: Machines) -> Iterable[IpAddress]:
    """Return the addresses of a machine, without loopback addresses, which mean this host."""
    address = literal(name)
    addresses = machines.addresses.get(name, ()) if address is None else (address,)
    return (address for address in addresses if not address.is_loopback)
