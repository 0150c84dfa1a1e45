"""Watches the network of this host: publishes the prefixes that Warren must leave alone, so that every agent refuses networks with such
ranges, and reports the networks with endpoints here that collide with them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence

from agent.cache import Cache, CacheView
from agent.feature import Feature
from agent.gateway.host_prefixes import prefixes
from agent.gateway.names import Resolver, hostname, literal
from agent.linux import host_routes
from pipeline.protocols import IpAddress
from specs.model.hostnet import PREFIXES_LIMIT, HostNetwork, HostPrefix
from specs.obstacles import obstacle, transit_obstacle
from specs.store.repository import Repository
from warren.errors import WarrenError
from warren.worker import Worker

log = logging.getLogger("warren.host_network")

INTERVAL_S = 2.0
FRESH_S = 1.0  # the gateways' reconciler reads as often as this feature


class HostNetworkWatcher(Feature):
    """Reads the host's network every two seconds. `on_change` is called when `problems` have changed."""

    def __init__(self, cache: Cache, repository: Repository, etcd: Iterable[str], on_change: Callable[[], None]) -> None:
        self._cache, self._repository, self._on_change = cache, repository, on_change
        self._names, self._etcd = Resolver("etcd"), [name for url in etcd if (name := hostname(url)) is not None]
        self._newest: tuple[float, tuple[HostPrefix, ...]] = (-FRESH_S, ())  # when the host was read, and what it has
        self._problems: list[str] = []
        self._worker = Worker("host network", self._step, interval_s=INTERVAL_S, on_change=on_change)

    def workers(self) -> Sequence[Worker]:
        """Return the watching worker, and the one that resolves names."""
        return (self._worker, self._names.worker)

    def problems(self) -> list[str]:
        """Return failures, and the networks with endpoints here that collide with the host's own network."""
        return list(self._problems)

    def read(self) -> tuple[HostPrefix, ...]:
        """Return what Warren must leave alone on this host, as it was at most a second ago. Raises `Unavailable`."""
        read_at, value = self._newest
        if time.monotonic() - read_at > FRESH_S:
            addresses, routes = host_routes.read()
            value = prefixes(addresses, routes, etcd=self._etcd_addresses(), dns=host_routes.resolvers())
            self._newest = time.monotonic(), value
        return value

    def _etcd_addresses(self) -> set[IpAddress]:
        self._names.want(self._etcd)
        addresses = [(literal(name),) if literal(name) else self._names.addresses.get(name, ()) for name in self._etcd]
        return {address for each in addresses for address in each if address is not None}

    def _step(self, items: frozenset[str]) -> None:
        if not self._cache.synced.is_set():
            return
        view = self._cache.view
        try:
            prefixes_here = self.read()
            hostnet = HostNetwork(name=self._cache.host, prefixes=prefixes_here[:PREFIXES_LIMIT])
            if view.snapshot.hostnets.get(hostnet.name) != hostnet:
                self._repository.put_hostnet(hostnet)
                log.info("host_network.published prefixes=%d", len(hostnet.prefixes))
            lines = [*unpublished(len(prefixes_here)), *collisions(view, hostnet.model_copy(update={"prefixes": prefixes_here}))]
        except WarrenError as error:
            lines = [str(error)]
        if lines != self._problems:
            self._problems = lines
            self._on_change()


def unpublished(prefixes_here: int) -> list[str]:
    """Return a line if the host uses more prefixes than are published."""
    if prefixes_here <= PREFIXES_LIMIT:
        return []
    return [
        f"host network: {prefixes_here - PREFIXES_LIMIT} of {prefixes_here} routes and addresses are not published, the narrowest routes: "
        "a routed network with their addresses is not refused but works badly on this host; look at `ip route` before you create one"
    ]


def collisions(view: CacheView, hostnet: HostNetwork) -> list[str]:
    """Return a line for each transit range and for each network with an active endpoint here that collides with the host's
    network."""
    used = {endpoint.network_id for endpoint in view.local_endpoints.values() if endpoint.active}
    networks = sorted((view.snapshot.networks[i] for i in used & view.snapshot.networks.keys()), key=lambda n: n.name)
    host = view.snapshot.hosts.get(hostnet.name)
    lines = [
        f"cluster: {collision}: networks in mode nat reach the outside badly or not at all; choose a free range: warren cluster set --{field} RANGE"
        for field, value in view.snapshot.cluster.ranges
        if any(network.mode == "nat" for network in view.snapshot.networks.values())
        and (collision := transit_obstacle(field, value, host, hostnet)) is not None
    ]
    return lines + [
        f"network {network.name}: {collision}: "
        + ("its endpoints here are closed" if network.mode == "routed" else "its containers here do not reach these addresses")
        + "; create it anew with a range that no host uses"
        for network in networks
        if (collision := obstacle(network, host, hostnet)) is not None
    ]
