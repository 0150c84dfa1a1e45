"""This host's own endpoint on the admin overlay: an interface `warren-admin` in the host's namespace, by which hosts of all sites reach each other's
services.

This feature creates and removes the endpoint's record as the specs require. Interface and port are reconciled as those of any endpoint.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from agent.cache import Cache, CacheView
from agent.endpoints.endpoints import Endpoints
from agent.endpoints.request import EndpointCreate
from agent.feature import Feature
from ovsdb.client import Ovsdb
from specs.model.admin import ADMIN_INTERFACE, HOST_NAMESPACE, host_endpoint_id
from specs.model.endpoint import Endpoint
from specs.model.network import Network
from specs.obstacles import obstacle
from specs.snapshot import Decoded, Snapshot
from warren.errors import WarrenError
from warren.worker import Worker

log = logging.getLogger("warren.admin_overlay")

RETRY_S = 5.0
INTERVAL_S = 30.0


class Needed(NamedTuple):
    """The endpoints to remove, the networks on which the host gets one, and the reasons why it gets none on others."""

    stale: tuple[Endpoint, ...]
    missing: tuple[Network, ...]
    refused: tuple[str, ...]


def needed(host: str, snapshot: Snapshot, local: Iterable[Endpoint]) -> Needed:
    """Compare the specs with the endpoints of a host. Pure."""
    overlays = {
        host_endpoint_id(network.id, host): network for network in snapshot.networks.values() if network.admin is not None
    }
    existing = {endpoint.id: endpoint for endpoint in local if endpoint.is_hosts_own}
    stale = {i: endpoint for i, endpoint in existing.items() if i not in overlays or not _fits(endpoint, overlays[i])}
    missing: list[Network] = []
    refused: list[str] = []
    for endpoint_id, network in sorted(overlays.items()):
        if endpoint_id in existing and endpoint_id not in stale:
            continue
        collision = obstacle(network, snapshot.hosts.get(host), snapshot.hostnets.get(host))
        if collision is None:
            missing.append(network)
        else:
            refused.append(
                f"network {network.name}: this host is not on it: {collision}; create it anew with a range that no host uses"
            )
    return Needed(tuple(stale.values()), tuple(missing), tuple(refused))


def _fits(endpoint: Endpoint, network: Network) -> bool:
    """Whether an endpoint has the addresses that its host must have."""
    assert network.admin is not None
    given = network.admin.of_host(endpoint.host)
    return endpoint.active and all(getattr(endpoint, field) == address for field, address in given.items())


class AdminEndpoint(Feature):
    """Keeps this host on the admin overlay. `on_change` is called when `problems` have changed."""

    def __init__(self, cache: Cache, ovsdb: Ovsdb, endpoints: Endpoints, on_change: Callable[[], None]) -> None:
        self._cache, self._ovsdb, self._endpoints, self._on_change = cache, ovsdb, endpoints, on_change
        self._problems: tuple[str, ...] = ()
        self._ids: frozenset[str] = frozenset()  # of the host's own endpoints at the last step
        self._worker = Worker("admin overlay", self._step, interval_s=INTERVAL_S, on_change=on_change)
        cache.updated.add(self._look)
        cache.changed.add(lambda ids: self._worker.wake() if ids & self._ids else None)
        cache.reread.add(self._worker.wake)

    def workers(self) -> Sequence[Worker]:
        """Return the reconciling worker."""
        return (self._worker,)

    def problems(self) -> list[str]:
        """Return why this host is not on the admin overlay."""
        return list(self._problems)

    def differences(self) -> list[str]:
        """Return a line for each record of this host's endpoint that is missing or stale. Interfaces are compared elsewhere, like all others."""
        if not self._cache.synced.is_set():
            return []
        stale, missing, refused = self._needed(self._cache.view)
        lines = [
            f"admin overlay: the record of endpoint {endpoint.id} is not the one that its network requires" for endpoint in stale
        ]
        return [*lines, *(f"admin overlay: this host has no endpoint on network {network.name}" for network in missing), *refused]

    def _look(self, before: Snapshot, after: Snapshot, changes: Sequence[Decoded]) -> None:
        if any(change.kind in ("network", "host", "hostnet") for change in changes):
            self._worker.wake()

    def _needed(self, view: CacheView) -> Needed:
        return needed(self._cache.host, view.snapshot, view.local_endpoints.values())

    def _step(self, items: frozenset[str]) -> float | None:
        if not self._cache.synced.is_set() or not self._ovsdb.connected:
            return RETRY_S
        view = self._cache.view
        stale, missing, refused = self._needed(view)
        overlays = (network.id for network in view.snapshot.networks.values() if network.admin is not None)
        self._ids = frozenset(host_endpoint_id(network_id, self._cache.host) for network_id in overlays)
        problems = list(refused)
        for work in (*(lambda e=e: self._endpoints.detach(e) for e in stale), *(lambda n=n: self._attach(n) for n in missing)):
            try:
                work()
            except WarrenError as error:
                problems.append(f"admin overlay: this host is not on it: {error}")
        if tuple(problems) != self._problems:
            self._problems = tuple(problems)
            self._on_change()
        return RETRY_S if problems else None

    def _attach(self, network: Network) -> None:
        host = self._cache.host
        assert network.admin is not None
        addresses = {field: str(address) for field, address in network.admin.of_host(host).items()}
        body = {"id": host_endpoint_id(network.id, host), "name": host, "network_id": network.id, "interface": ADMIN_INTERFACE}
        endpoint, _ = self._endpoints.attach(
            EndpointCreate.model_validate({**body, **addresses, "ns_handle_path": HOST_NAMESPACE})
        )
        log.info("admin_overlay.joined network=%s endpoint=%s", network.name, endpoint.id)
