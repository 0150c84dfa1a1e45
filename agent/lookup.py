"""Finds records by id or by name, and reads them from etcd rather than from the cache. While etcd is away, the cache must do: what the
switches of this host do can then still be asked."""

from __future__ import annotations

from collections.abc import Sequence

from agent.cache import Cache
from specs import keys
from specs.model.base import decode_json
from specs.model.endpoint import Endpoint
from specs.model.host import Host
from specs.model.names import near
from specs.model.network import Network
from specs.snapshot import Snapshot
from specs.store.network_state import network_called
from specs.store.repository import Repository
from warren.errors import Conflict, NotFound, Unavailable


class Lookup:
    """Finds networks, endpoints and hosts by the ids or names that users write."""

    def __init__(self, repository: Repository, cache: Cache) -> None:
        self._repository, self._cache = repository, cache

    def network(self, reference: str) -> Network:
        """Return a network by id or name. Raises `NotFound`."""
        network = network_called(self._repository.store, reference)
        if network is None:
            raise NotFound("network", reference, near(reference, (n.name for n in self._cache.view.snapshot.networks.values())))
        return network

    def endpoint(self, reference: str) -> Endpoint:
        """Return an endpoint by id, name or NETWORK/NAME. Raises `NotFound`, and `Conflict` if several endpoints have the
        name."""
        if (away := self._cache.snapshot_without_etcd()) is not None:
            return _cached_endpoint(away, reference)
        cached = self._cache.view.snapshot
        try:
            if (by_id := cached.endpoints.get(reference)) is not None:
                entry = self._repository.store.get(keys.endpoint(by_id.network_id, by_id.id))
                if entry is not None:
                    return decode_json(Endpoint, entry.value, entry.key)
            network_reference, _, name = reference.rpartition("/")
            network = self.network(network_reference) if network_reference else None
            return _one(self._repository.endpoints(network.id if network else None), reference, name)
        except Unavailable:
            return _cached_endpoint(cached, reference)

    def has_acl(self, name: str) -> bool:
        """Return whether an ACL exists, also if the cache has not heard of it yet."""
        return name in self._cache.view.snapshot.acls or self._repository.store.get(keys.acl(name)) is not None

    def host(self, name: str) -> Host:
        """Return a host by name. Raises `NotFound`."""
        away = self._cache.snapshot_without_etcd()
        if away is not None and name in away.hosts:
            return away.hosts[name]
        try:
            entry = self._repository.store.get(keys.host(name))
        except Unavailable:
            if (cached := self._cache.view.snapshot.hosts.get(name)) is None:
                raise
            return cached
        if entry is None:
            raise NotFound("host", name)
        return decode_json(Host, entry.value, entry.key)


def _cached_endpoint(cached: Snapshot, reference: str) -> Endpoint:
    if reference in cached.endpoints:
        return cached.endpoints[reference]
    network, _, name = reference.rpartition("/")
    networks = {n.id for n in cached.networks.values() if not network or network in n.references}
    return _one([e for e in cached.endpoints.values() if e.network_id in networks], reference, name)


def _one(endpoints: Sequence[Endpoint], reference: str, name: str) -> Endpoint:
    for matches in ([e for e in endpoints if e.id == name], [e for e in endpoints if e.name == name]):
        if len(matches) > 1:
            raise Conflict(f"{len(matches)} endpoints are called {reference!r}: use NETWORK/{reference} or an id")
        if matches:
            return matches[0]
    raise NotFound("endpoint", reference)
