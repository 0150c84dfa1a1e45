"""Stores in etcd what one engine has: the Warren network of each Docker network (`docker/HOST/networks/ID`), the network of
each pool of addresses (`docker/HOST/pools/ID`), and endpoints, which carry Docker's id as a label."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from agent.core import Core
from agent.endpoints.request import EndpointCreate
from pipeline.protocols import IpNetwork
from specs import keys
from specs.model.base import now
from specs.model.endpoint import Endpoint
from specs.model.network import Network
from specs.store.values import Delete, Entry, Get, Put, TxnOperation
from warren.errors import NotFound

UNNAMED = "unnamed"  # of a network's record: it does not bear its user's name yet
LABEL = "docker.endpoint"  # of an endpoint: Docker's id of it, "" while it only holds an address


class Ledger:
    """The records of the engine on one host. Thread-safe."""

    def __init__(self, core: Core) -> None:
        self._core, self._store = core, core.store
        self._host = core.host.name
        self._entries: dict[str, dict[str, Any]] = {}  # of networks and of pools that have one: they never change
        self.of_this_run: set[str] = set()  # ids of endpoints that the engine has asked for since it started

    # ---- networks and pools -------------------------------------------------------------------------------------------

    def network(self, docker_id: str) -> Network | None:
        """Return the Warren network of a Docker network. Raises `NotFound` when it is gone."""
        return self._remembered(docker_id, keys.docker_network(self._host, docker_id))

    def settings(self, docker_id: str) -> dict[str, Any]:
        """Return what `keep_network` has stored of a Docker network; empty if nothing is stored."""
        return self._entries[docker_id] if self.network(docker_id) is not None else {}

    def network_of_pool(self, pool_id: str) -> Network | None:
        """Return the network of a pool, or None while it has none."""
        for prefix in ("network-", "network6-"):
            if pool_id.startswith(prefix):
                return self._read(pool_id.removeprefix(prefix))
        return self._remembered(pool_id, keys.docker_pools(self._host) + pool_id)

    def networks(self) -> dict[str, dict[str, Any]]:
        """Return all Docker networks of this engine by id: their `network`, whether Docker `made` it, and further settings."""
        return self._below(keys.docker_network(self._host, ""))

    def pools(self) -> dict[str, dict[str, Any]]:
        """Return all pools of this engine by id: their `pool` (a range), and their `network` once they have one."""
        return self._below(keys.docker_pools(self._host))

    def range_of(self, pool_id: str) -> IPv4Network | IPv6Network:
        """Return the range of a pool that has no network yet. Raises `NotFound`."""
        pool = self._get(keys.docker_pools(self._host) + pool_id)
        if pool is None:
            raise NotFound("pool", pool_id)
        return ip_network(pool["pool"])

    def keep_pool(self, pool_id: str, pool: str, chosen: bool = False, named: str | None = None) -> None:
        """Store a pool that has no Docker network yet; `chosen` by Warren and not by a user, or the range of the network `named`."""
        entry = {"pool": pool} | ({"chosen": True} if chosen else {}) | ({"named": named} if named is not None else {})
        self._put({keys.docker_pools(self._host) + pool_id: entry})

    def open_pool(self, pool: str) -> dict[str, Any]:
        """Return the newest pool of this range that waits for its Docker network; empty if none does."""
        newest = self._open_pools(pool)[:1]
        return json.loads(newest[0].value) | {"id": newest[0].key.removeprefix(keys.docker_pools(self._host))} if newest else {}

    def _open_pools(self, pool: str) -> list[Entry]:
        entries = self._store.list(keys.docker_pools(self._host))[1]
        waiting = [entry for entry in entries if (data := json.loads(entry.value))["pool"] == pool and "network" not in data]
        return sorted(waiting, key=lambda entry: -entry.mod_revision)

    def keep_network(self, docker_id: str, network_id: str, made: bool, pools: list[str], **settings: Any) -> None:
        """Store a Docker network together with the pools that it takes and with settings that are not the Warren network's. Of several
        open pools with one range it takes the newest."""
        entry = {"network": network_id, "made": made, **settings}
        puts: dict[str, Mapping[str, Any]] = {keys.docker_network(self._host, docker_id): entry}
        for pool in pools:
            for newest in self._open_pools(pool)[:1]:
                puts[newest.key] = {"pool": pool, "network": network_id}
        self._put(puts)
        self._entries.pop(docker_id, None)

    def keep_named(self, docker_id: str) -> None:
        """Store that a Docker network bears its user's name now."""
        entry = self._get(keys.docker_network(self._host, docker_id))
        if entry is not None:
            self._put(
                {keys.docker_network(self._host, docker_id): {name: value for name, value in entry.items() if name != UNNAMED}}
            )
            self._entries.pop(docker_id, None)

    def forget(self, docker_id: str) -> None:
        """Delete the record of a network or a pool."""
        both: list[TxnOperation] = [
            Delete(keys.docker_network(self._host, docker_id)),
            Delete(keys.docker_pools(self._host) + docker_id),
        ]
        self._store.txn((), both)
        self._entries.pop(docker_id, None)

    # ---- endpoints ----------------------------------------------------------------------------------------------------

    def endpoints(self) -> list[Endpoint]:
        """Return all endpoints of this engine, including those that only hold an address."""
        return [e for e in self._core.cache.view.local_endpoints.values() if LABEL in e.labels]

    def endpoint(self, docker_id: str) -> Endpoint | None:
        """Return the endpoint with Docker's id."""
        return next((e for e in self.endpoints() if e.labels[LABEL] == docker_id), None)

    def held(self, network_id: str, address: str) -> Endpoint | None:
        """Return the endpoint that holds an address (of either family) for Docker."""
        waiting = (e for e in self.endpoints() if e.labels[LABEL] == "" and e.network_id == network_id)
        return next((e for e in waiting if address in (str(e.ipv4_address), str(e.ipv6_address))), None)

    @contextmanager
    def cleared(self, network: Network, addresses: Collection[str]) -> Iterator[None]:
        """Free addresses that another IPAM driver gave out: no preallocated endpoint of this host has one of them inside the
        block."""
        if not network.preallocate:
            yield
            return
        with self._core.endpoints.preallocated.paused():
            for address in addresses:
                if (spare := self.take_preallocated(network, (address,))) is not None:
                    self._core.endpoints.detach(spare)
            yield

    def take_preallocated(
        self, network: Network, addresses: Collection[str] = (), within: IpNetwork | None = None
    ) -> Endpoint | None:
        """Take a preallocated endpoint, if there is one, to hold its addresses for Docker. It is plugged in already.

        `addresses` asks for one with all these addresses, `within` for one in a range.
        """
        spares = self._core.endpoints.preallocated
        spare = spares.take(EndpointCreate(network_id=network.id), addresses, within)
        if spare is None:
            return None
        try:
            return self.update(spare.model_copy(update={"spare": False, "labels": {LABEL: ""}, "created_at": now()}))
        finally:
            spares.release(spare.id)

    def recreate(self, ready: Endpoint) -> Endpoint:
        """Create a taken preallocated endpoint again, with its addresses and labels but not plugged in yet, so that its
        record may still change."""
        addresses = {name: str(a) for name in ("ipv4_address", "ipv6_address") if (a := getattr(ready, name)) is not None}
        with self._core.endpoints.preallocated.paused():
            self._core.endpoints.detach(ready)
            return self.create({"network_id": ready.network_id, "labels": ready.labels, **addresses})[0]

    def create(self, draft: dict[str, Any], versions: Collection[int] = (4, 6)) -> tuple[Endpoint, Network]:
        """Return a new inactive endpoint of this host, with one address for each of these IP versions."""
        draft = {"host": self._host, "active": False, **draft}
        endpoint, network, _ = self._core.repository.create_endpoint(draft, versions)
        self.of_this_run.add(endpoint.id)
        return endpoint, network

    def update(self, endpoint: Endpoint) -> Endpoint:
        """Write an endpoint."""
        self._core.repository.update_endpoint(endpoint)
        self.of_this_run.add(endpoint.id)
        return endpoint

    # ---- etcd ---------------------------------------------------------------------------------------------------------

    def _remembered(self, docker_id: str, key: str) -> Network | None:
        if docker_id not in self._entries:
            entry = self._get(key) or {}
            if "network" not in entry:
                return None
            self._entries[docker_id] = entry
        return self._read(self._entries[docker_id]["network"])

    def _read(self, network_id: str) -> Network:
        return self._core.cache.view.snapshot.networks.get(network_id) or self._core.lookup.network(network_id)

    def _get(self, key: str) -> dict[str, Any] | None:
        entries = self._store.txn((), [Get(key)]).found[0]
        return json.loads(entries[0].value) if entries else None

    def _below(self, prefix: str) -> dict[str, dict[str, Any]]:
        return {entry.key.removeprefix(prefix): json.loads(entry.value) for entry in self._store.list(prefix)[1]}

    def _put(self, entries: Mapping[str, Mapping[str, Any]]) -> None:
        self._store.txn((), [Put(key, json.dumps(value)) for key, value in entries.items()])
