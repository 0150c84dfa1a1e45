"""Ends connections in the host's netfilter that contradict its published ports. A connection that began before its port was
published goes to another process of the host, or to nothing, for as long as its client keeps sending; a connection whose port
is no longer published still reaches the network."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
from ipaddress import ip_network

from agent.gateway.rules import Published
from agent.linux import conntrack
from agent.linux.conntrack import HostConnection
from agent.linux.host_routes import own_addresses
from pipeline.protocols import WITH_PORTS, IpAddress, IpNetwork
from specs.model.cluster import Transit

log = logging.getLogger("warren.gateway")


def contradicts(
    entry: HostConnection, published: Iterable[Published], host_addresses: Collection[IpAddress], networks: Iterable[IpNetwork]
) -> bool:
    """Return whether a connection to one of the `host_addresses` goes elsewhere than its published port leads, or to one of the
    `networks` by a port that is not published. Pure."""
    leads = [p for p in published if _matches(p, entry, host_addresses)]
    translated = any(entry.replier in network for network in networks)
    if not leads:
        return translated and entry.target != entry.replier
    return not any(p.target == (entry.replier, entry.replier_port) for p in leads)


def _matches(published: Published, entry: HostConnection, host_addresses: Collection[IpAddress]) -> bool:
    same_address = entry.target in host_addresses if published.host_ip is None else entry.target == published.host_ip
    port = (WITH_PORTS[published.proto], published.port) == (entry.proto, entry.target_port)
    return same_address and port and published.to.version == entry.target.version


class PublishedConnections:
    """Ends the connections that contradict the published ports."""

    def __init__(self) -> None:
        self._followed: frozenset[Published] | None = None  # None: an earlier process may have published others

    def follow(self, published: Iterable[Published], transit: Transit, routed: Iterable[str] = ()) -> None:
        """End the connections that contradict these ports, once they are in force. Reads only connections of ports that differ from
        the last call's. `routed` are the prefixes of networks in mode routed. Raises `Unavailable`."""
        after = frozenset(published)
        if after == self._followed:
            return
        host_addresses = own_addresses()
        networks = [transit.zones4, transit.zones6, *map(ip_network, routed)]
        refused = [entry for entry in _concerned(self._followed, after) if contradicts(entry, after, host_addresses, networks)]
        for entry in refused:
            conntrack.end(entry)
        self._followed = after
        if refused:
            log.info("connections.ended count=%d reason=published ports have changed", len(refused))


def _concerned(before: frozenset[Published] | None, after: frozenset[Published]) -> Iterator[HostConnection]:
    if before is None:
        yield from (entry for version in (4, 6) for entry in conntrack.read(version) if entry.target_port)
        return
    for version, proto, port in sorted({(p.to.version, p.proto, p.port) for p in before ^ after}):
        yield from conntrack.read(version, WITH_PORTS[proto], port)
