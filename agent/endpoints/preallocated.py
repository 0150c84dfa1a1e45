"""Preallocated endpoints: for each network with `preallocate: N` this host keeps N endpoints ready, with record, veth pair,
OVS port and flows.

An attach that requests no address, MAC, OpenFlow port or id takes one of them: one transaction writes the container's names
into the record, and the interface moves into the namespace. That needs neither OVSDB nor the switch. PreallocatedFiller
creates a replacement in the background.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Collection, Iterator
from ipaddress import IPv4Network, IPv6Network

from agent.cache import Cache
from agent.endpoints.request import EndpointCreate
from agent.listeners import Listeners
from specs.model.endpoint import Endpoint

CALM_S = 0.5  # pause after an attach, so that filling slows down neither that attach nor the next of a series
OWN = ("ipv4_address", "ipv6_address", "mac_address", "ofport", "id")  # a request that sets one of these needs a new endpoint


class PreallocatedPool:
    """The preallocated endpoints of one host, and which of them are taken. `changed` is called after each release, when the
    pool may need filling. Thread-safe."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._lock, self._filling = threading.Lock(), threading.RLock()
        self._taken: set[str] = set()
        self._calm_at = 0.0
        self.changed: Listeners[[]] = Listeners()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """A context in which no preallocated endpoint is created, so that an address that is released stays free."""
        with self._filling:
            yield

    def calm_s(self) -> float:
        """Return the seconds until the pool may be filled; infinite while an attach is under way."""
        return self._calm_at - time.monotonic()

    def ready(self, network_id: str) -> list[Endpoint]:
        """Return the endpoints of a network that are not taken, the oldest first."""
        return [endpoint for endpoint in self._of(network_id) if endpoint.id not in self._taken]

    def take(
        self, request: EndpointCreate, addresses: Collection[str] = (), within: IPv4Network | IPv6Network | None = None
    ) -> Endpoint | None:
        """Return an endpoint for a request and reserve it until `release`; None if none is ready or fits. With `addresses`
        (which another party has assigned) only the endpoint that has all of them fits, and it need not be up yet. With
        `within` only an endpoint that has an address in that range fits."""
        network = self._cache.view.snapshot.networks.get(request.network_id)
        if network is None or not network.preallocate or any(getattr(request, name) is not None for name in OWN):
            return None
        with self._lock:
            for endpoint in self._of(network.id):
                if endpoint.id not in self._taken and self._fits(endpoint, addresses, within):
                    self._taken.add(endpoint.id)
                    self._calm_at = math.inf
                    return endpoint
        return None

    def _fits(self, endpoint: Endpoint, addresses: Collection[str], within: IPv4Network | IPv6Network | None) -> bool:
        endpoint_addresses = {endpoint.ipv4_address, endpoint.ipv6_address} - {None}
        if within is not None and not any(address in within for address in endpoint_addresses):
            return False
        if addresses:
            return {str(address) for address in endpoint_addresses}.issuperset(addresses)
        state = self._cache.states.get(endpoint.id)
        return state is not None and state.state == "up"

    def hold(self, endpoint_id: str) -> bool:
        """Reserve an endpoint in order to remove it; return False if it is already reserved."""
        with self._lock:
            if endpoint_id in self._taken:
                return False
            self._taken.add(endpoint_id)
            return True

    def release(self, endpoint_id: str) -> None:
        """End a reservation: the endpoint is an ordinary one now, or is preallocated again."""
        with self._lock:
            self._taken.discard(endpoint_id)
            self._calm_at = math.inf if self._taken else time.monotonic() + CALM_S
        self.changed()

    def _of(self, network_id: str) -> list[Endpoint]:
        local = self._cache.view.local_endpoints.values()
        return sorted((e for e in local if e.spare and e.network_id == network_id), key=lambda e: (e.created_at or "", e.id))
