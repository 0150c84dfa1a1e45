"""Creating and deleting specs: every change with all that it allocates and claims is one etcd transaction.

So two writers never get the same number, and one that dies half-way has written nothing. A transaction that lost a race
is planned again from what etcd holds now.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_interface
from typing import Any

from specs import keys, pools
from specs.errors import Conflict, Exhausted, Invalid, NotFound, Unavailable
from specs.pool import Pool
from specs.records import (
    OFPORT_FIRST,
    TUNNEL_OFPORT_REQUEST,
    VNI_FIRST,
    VNI_LAST,
    Endpoint,
    Host,
    Network,
    Record,
    decode,
    decode_json,
    default_mac,
    now,
)
from specs.store import Compare, Delete, Empty, Entry, Get, Operation, Put, Store, Unchanged

TRIES = 60
OFPORT_LAST_ENDPOINT = TUNNEL_OFPORT_REQUEST - 1

IpRange = IPv4Network | IPv6Network


class Specs:
    """Typed, allocating access to the specs of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._locks: dict[str, threading.Lock] = {}
        self._locks_lock = threading.Lock()

    def _one_at_a_time(self, what: str) -> threading.Lock:
        with self._locks_lock:
            return self._locks.setdefault(what, threading.Lock())

    def _retry(self, attempt: Callable[[], Any]) -> Any:
        """Until an attempt returns something; None means that somebody else was faster."""
        for tries in range(TRIES):
            result = attempt()
            if result is not None:
                return result
            time.sleep(random.uniform(0, min(0.05, 0.001 * 2**tries)))
        raise Unavailable("etcd", f"{TRIES} transactions in a row lost against other writers; nothing was changed")

    # ---- networks ---------------------------------------------------------------------------------------------------

    def network(self, network_id: str) -> Network:
        """One network. Raises `NotFound`."""
        entry = self.store.get(keys.network(network_id))
        if entry is None:
            raise NotFound("network", network_id)
        return decode_json(Network, entry.value, entry.key)

    def create_network(self, draft: dict[str, Any]) -> tuple[Network, int]:
        """A new network from its fields (`id`, `vxlan_vni`, gateways and `created_at` are filled in where they are missing).

        Returns it with the revision. Raises `Invalid`, `Conflict` (name, id or VNI taken), `Exhausted`.
        """
        data = {k: v for k, v in draft.items() if v is not None}
        data.setdefault("id", str(uuid.uuid4()))
        data.setdefault("name", f"net-sc-{data['id']}")
        data.setdefault("created_at", now())
        wanted = data.get("vxlan_vni")
        checked = decode(Network, {**data, "vxlan_vni": 1 if wanted is None else wanted}, "network")
        data = {**data, **_default_gateways(checked)}

        def attempt() -> tuple[Network, int] | None:
            key, claim = keys.network(checked.id), keys.claim_network_name(checked.name)
            read = self.store.txn((), (Get(key), Get(claim), Get(keys.pool_vni(), prefix=True)))
            if read.found[0]:
                raise Conflict(f"network {checked.id} exists already")
            if read.found[1]:
                raise Conflict(f"the name {checked.name} belongs to network {read.found[1][0].value}")
            pool = Pool.read(keys.pool_vni(), read.found[2])
            vni = wanted if wanted is not None else pools.lowest_free(pool.blocks, VNI_FIRST, VNI_LAST)
            if vni is None:
                raise Exhausted(f"no VNI is left in {VNI_FIRST}..{VNI_LAST}")
            if pools.taken(pool.blocks, vni):
                raise Conflict(f"VNI {vni} is taken by network {self._holder_of_vni(vni)}")
            pool.take(vni)
            network = decode(Network, {**data, "vxlan_vni": vni}, "network")
            compares = [Unchanged(key, 0), Unchanged(claim, 0), *pool.compares()]
            puts = [Put(key, network.encode()), Put(claim, network.id), *pool.puts()]
            outcome = self.store.txn(compares, puts)
            return (network, outcome.revision) if outcome.succeeded else None

        with self._one_at_a_time("vni"):
            return self._retry(attempt)  # type: ignore[no-any-return]

    def _holder_of_vni(self, vni: int) -> str:
        for entry in self.store.list(keys.NETWORKS)[1]:
            network = _decoded(Network, entry)
            if network is not None and network.vxlan_vni == vni:
                return network.name
        return "(deleted this moment)"

    def update_network(self, network: Network) -> int:
        """Change labels, MTU or gateways; returns the revision. What is allocated by (VNI, ranges, name) stays: `Conflict`."""

        def attempt() -> int | None:
            entry = self.store.get(keys.network(network.id))
            if entry is None:
                raise NotFound("network", network.id)
            old = decode_json(Network, entry.value, entry.key)
            for name in ("name", "vxlan_vni", "ip_range", "ipv6_range"):
                if getattr(old, name) != getattr(network, name):
                    raise Conflict(f"network {old.name}: {name} cannot change from {getattr(old, name)}; delete and create it")
            if old == network:
                return entry.mod_revision
            done = self.store.txn([Unchanged(entry.key, entry.mod_revision)], [Put(entry.key, network.encode())])
            return done.revision if done.succeeded else None

        return self._retry(attempt)  # type: ignore[no-any-return]

    def delete_network(self, network_id: str) -> int:
        """Raises `NotFound`, and `Conflict` while it has endpoints. Returns the revision."""

        def attempt() -> int | None:
            key = keys.network(network_id)
            read = self.store.txn((), (Get(key), Get(keys.pool_vni(), prefix=True)))
            if not read.found[0]:
                raise NotFound("network", network_id)
            entry = read.found[0][0]
            network = decode_json(Network, entry.value, entry.key)
            pool = Pool.read(keys.pool_vni(), read.found[1])
            pool.give_back(network.vxlan_vni)
            endpoints = keys.endpoints_of(network_id)
            compares = [Unchanged(key, entry.mod_revision), Empty(endpoints), *pool.compares()]
            deletes: list[Operation] = [
                Delete(key),
                Delete(keys.claim_network_name(network.name)),
                Delete(keys.pool_v4(network_id), prefix=True),
                Delete(keys.pool_v6(network_id), prefix=True),
            ]
            outcome = self.store.txn(compares, deletes + pool.puts(), [Get(endpoints, prefix=True)])
            if outcome.succeeded:
                return outcome.revision
            if outcome.found[0]:
                count = len(outcome.found[0])
                raise Conflict(f"network {network.name} has {count} endpoint{'s' if count > 1 else ''}")
            return None

        return self._retry(attempt)  # type: ignore[no-any-return]

    # ---- endpoints --------------------------------------------------------------------------------------------------

    def create_endpoint(self, draft: dict[str, Any]) -> tuple[Endpoint, Network, int]:
        """A new endpoint from its fields: `network_id` and `host` are needed, addresses, MAC, ofport and id are found where
        they are missing. Returns it with its network and the revision.

        Raises `NotFound`, `Invalid` (address outside the range), `Conflict` (taken), `Exhausted`.
        """
        data = {k: v for k, v in draft.items() if v is not None}
        data.setdefault("id", str(uuid.uuid4()))
        data.setdefault("created_at", now())
        probe = decode(Endpoint, {"mac_address": "02:59:00:00:00:01", "ofport": 1, **data}, "endpoint")
        if "mac_address" in data:
            self._check_mac(probe)

        def attempt() -> tuple[Endpoint, Network, int] | None:
            return self._try_create(probe, data)

        with self._one_at_a_time(probe.network_id):
            return self._retry(attempt)  # type: ignore[no-any-return]

    def _try_create(self, probe: Endpoint, data: dict[str, Any]) -> tuple[Endpoint, Network, int] | None:
        key = keys.endpoint(probe.network_id, probe.id)
        prefixes = (keys.pool_v4(probe.network_id), keys.pool_v6(probe.network_id), keys.pool_ofport(probe.host))
        claim = keys.claim_endpoint_name(probe.network_id, probe.name) if probe.name else None
        gets = [Get(keys.network(probe.network_id)), Get(key), *(Get(p, prefix=True) for p in prefixes)]
        read = self.store.txn((), gets + ([Get(claim)] if claim else []))
        if not read.found[0]:
            raise NotFound("network", probe.network_id)
        if read.found[1]:
            raise Conflict(f"endpoint {probe.id} exists already")
        if claim and read.found[5]:
            raise Conflict(f"the name {probe.name} belongs to endpoint {read.found[5][0].value}")
        network = decode_json(Network, read.found[0][0].value, read.found[0][0].key)
        v4_pool, v6_pool, port_pool = (Pool.read(p, read.found[2 + i]) for i, p in enumerate(prefixes))
        v4 = self._address(network, v4_pool, network.ip_range, network.gateway, probe.ipv4_address, "ipv4_address")
        v6 = self._address(network, v6_pool, network.ipv6_range, network.ipv6_gateway, probe.ipv6_address, "ipv6_address")
        ofport = data.get("ofport") or pools.lowest_free(port_pool.blocks, OFPORT_FIRST, OFPORT_LAST_ENDPOINT)
        if ofport is None:
            raise Exhausted(f"host {probe.host}: no OpenFlow port is left")
        if pools.taken(port_pool.blocks, ofport):
            raise Conflict(f"OpenFlow port {ofport} of host {probe.host} is taken")
        port_pool.take(ofport)
        mac = data.get("mac_address") or default_mac(probe.id, v4, v6)  # type: ignore[arg-type]
        filled = {**data, "ofport": ofport, "mac_address": mac, "ipv4_address": v4 and str(v4), "ipv6_address": v6 and str(v6)}
        endpoint = decode(Endpoint, filled, "endpoint")
        touched = (v4_pool, v6_pool, port_pool)
        compares: list[Compare] = [Unchanged(keys.network(network.id), read.found[0][0].mod_revision), Unchanged(key, 0)]
        puts: list[Operation] = [Put(key, endpoint.encode())]
        if claim:
            compares.append(Unchanged(claim, 0))
            puts.append(Put(claim, endpoint.id))
        for pool in touched:
            compares += pool.compares()
            puts += pool.puts()
        outcome = self.store.txn(compares, puts)
        return (endpoint, network, outcome.revision) if outcome.succeeded else None

    def _address(
        self, network: Network, pool: Pool, network_range: IpRange | None, gateway: Any, wanted: Any, field_name: str
    ) -> IPv4Address | IPv6Address | None:
        """The address asked for, or the lowest free one; marked in the pool. None without a range."""
        if network_range is None:
            if wanted is not None:
                raise Invalid(f"endpoint.{field_name}", str(wanted), f"none: network {network.name} has no such range")
            return None
        base = int(network_range.network_address)
        last = int(network_range.broadcast_address) - base - (1 if network_range.version == 4 else 0)
        reserved = {int(gateway.ip) - base} if gateway else set()
        if wanted is None:
            number = pools.lowest_free(pool.blocks, 1, last, reserved)
            if number is None:
                raise Exhausted(f"network {network.name}: no free address is left in {network_range}")
        else:
            number = int(wanted) - base
            if wanted not in network_range or not 1 <= number <= last:
                raise Invalid(f"endpoint.{field_name}", str(wanted), f"a host address of {network_range}")
            if number in reserved:
                raise Conflict(f"{wanted} is the gateway of network {network.name}")
            if pools.taken(pool.blocks, number):
                raise Conflict(f"{wanted} is taken by {self._holder_of(network.id, field_name, wanted)}")
        pool.take(number)
        return network_range[number]

    def _holder_of(self, network_id: str, field_name: str, value: object) -> str:
        for endpoint in self.endpoints(network_id):
            if getattr(endpoint, field_name) == value:
                return f"endpoint {endpoint.name or endpoint.id}"
        return "an endpoint deleted this moment"

    def _check_mac(self, probe: Endpoint) -> None:
        """Only for a MAC that was asked for: others are unique because their addresses are."""
        for endpoint in self.endpoints(probe.network_id):
            if endpoint.mac_address == probe.mac_address and endpoint.id != probe.id:
                raise Conflict(f"{probe.mac_address} is taken by endpoint {endpoint.name or endpoint.id}")

    def update_endpoint(self, endpoint: Endpoint) -> int:
        """Change what is not allocated: labels, activity, namespace, interface. Returns the revision."""

        def attempt() -> int | None:
            entry = self.store.get(keys.endpoint(endpoint.network_id, endpoint.id))
            if entry is None:
                raise NotFound("endpoint", endpoint.id)
            old = decode_json(Endpoint, entry.value, entry.key)
            for name in ("name", "host", "ofport", "mac_address", "ipv4_address", "ipv6_address"):
                if getattr(old, name) != getattr(endpoint, name):
                    raise Conflict(f"endpoint {old.name or old.id}: {name} cannot change; delete and create it")
            if old == endpoint:
                return entry.mod_revision
            done = self.store.txn([Unchanged(entry.key, entry.mod_revision)], [Put(entry.key, endpoint.encode())])
            return done.revision if done.succeeded else None

        return self._retry(attempt)  # type: ignore[no-any-return]

    def delete_endpoint(self, network_id: str, endpoint_id: str) -> int:
        """Delete an endpoint and give back all that it held. Raises `NotFound`. Returns the revision."""

        def attempt() -> int | None:
            entry = self.store.get(keys.endpoint(network_id, endpoint_id))
            if entry is None:
                raise NotFound("endpoint", endpoint_id)
            endpoint = decode_json(Endpoint, entry.value, entry.key)
            prefixes = (keys.pool_v4(network_id), keys.pool_v6(network_id), keys.pool_ofport(endpoint.host))
            gets = [Get(keys.network(network_id)), *(Get(p, prefix=True) for p in prefixes)]
            read = self.store.txn((), gets)
            v4_pool, v6_pool, port_pool = (Pool.read(p, read.found[1 + i]) for i, p in enumerate(prefixes))
            network = _decoded(Network, read.found[0][0]) if read.found[0] else None
            if network is not None:
                _give_back(v4_pool, network.ip_range, endpoint.ipv4_address)
                _give_back(v6_pool, network.ipv6_range, endpoint.ipv6_address)
            port_pool.give_back(endpoint.ofport)
            compares: list[Compare] = [Unchanged(entry.key, entry.mod_revision)]
            changes: list[Operation] = [Delete(entry.key)]
            if endpoint.name:
                changes.append(Delete(keys.claim_endpoint_name(network_id, endpoint.name)))
            for pool in (v4_pool, v6_pool, port_pool):
                compares += pool.compares()
                changes += pool.puts()
            outcome = self.store.txn(compares, changes)
            return outcome.revision if outcome.succeeded else None

        with self._one_at_a_time(network_id):
            return self._retry(attempt)  # type: ignore[no-any-return]

    def endpoints(self, network_id: str | None = None) -> list[Endpoint]:
        """All endpoints, or those of a network; malformed records are left out."""
        prefix = keys.ENDPOINTS if network_id is None else keys.endpoints_of(network_id)
        found = (_decoded(Endpoint, entry) for entry in self.store.list(prefix)[1])
        return [endpoint for endpoint in found if endpoint is not None]

    def networks(self) -> list[Network]:
        """All networks; malformed records are left out."""
        found = (_decoded(Network, entry) for entry in self.store.list(keys.NETWORKS)[1])
        return [network for network in found if network is not None]

    def hosts(self) -> list[Host]:
        """All hosts; malformed records are left out."""
        found = (_decoded(Host, entry) for entry in self.store.list(keys.HOSTS)[1])
        return [host for host in found if host is not None]

    # ---- hosts ------------------------------------------------------------------------------------------------------

    def put_host(self, host: Host) -> int:
        """Register or change a host; its VTEP address is its own. Raises `Conflict`. Returns the revision."""

        def attempt() -> int | None:
            key, claim = keys.host(host.name), keys.claim_host_vtep(str(host.vtep))
            read = self.store.txn((), (Get(key), Get(claim)))
            if read.found[1] and read.found[1][0].value != host.name:
                raise Conflict(f"VTEP {host.vtep} belongs to host {read.found[1][0].value}")
            entry = read.found[0][0] if read.found[0] else None
            old = _decoded(Host, entry) if entry else None
            new = host.model_copy(update={"created_at": (old and old.created_at) or host.created_at or now()})
            if entry is not None and old == new and read.found[1]:
                return entry.mod_revision
            compares = [
                Unchanged(key, entry.mod_revision if entry else 0),
                Unchanged(claim, read.found[1][0].mod_revision if read.found[1] else 0),
            ]
            changes: list[Operation] = [Put(key, new.encode()), Put(claim, host.name)]
            if old is not None and old.vtep != new.vtep:
                changes.append(Delete(keys.claim_host_vtep(str(old.vtep))))
            outcome = self.store.txn(compares, changes)
            return outcome.revision if outcome.succeeded else None

        return self._retry(attempt)  # type: ignore[no-any-return]

    def delete_host(self, name: str) -> int:
        """Forget a host and the reports about it. Raises `NotFound`, and `Conflict` while it has endpoints."""
        entry = self.store.get(keys.host(name))
        if entry is None:
            raise NotFound("host", name)
        count = sum(endpoint.host == name for endpoint in self.endpoints())
        if count:
            raise Conflict(f"host {name} has {count} endpoint{'s' if count > 1 else ''}")
        host = _decoded(Host, entry)
        changes: list[Operation] = [Delete(entry.key), Delete(keys.status_endpoints_of(name), prefix=True)]
        changes.append(Delete(keys.pool_ofport(name), prefix=True))
        if host is not None:
            changes.append(Delete(keys.claim_host_vtep(str(host.vtep))))
        return self.store.txn([], changes).revision


def _decoded(kind: type[Record], entry: Entry) -> Any:
    try:
        return decode_json(kind, entry.value, entry.key)
    except Invalid:
        return None


def _give_back(pool: Pool, network_range: IpRange | None, address: IPv4Address | IPv6Address | None) -> None:
    if network_range is not None and address is not None and address in network_range:
        pool.give_back(int(address) - int(network_range.network_address))


def _default_gateways(network: Network) -> dict[str, str]:
    """The first host address of a range is its gateway, unless the spec says otherwise."""
    found: dict[str, str] = {}
    ranges: tuple[tuple[str, Any, IpRange | None], ...] = (
        ("gateway", network.gateway, network.ip_range),
        ("ipv6_gateway", network.ipv6_gateway, network.ipv6_range),
    )
    for name, gateway, network_range in ranges:
        if gateway is None and network_range is not None:
            found[name] = str(ip_interface(f"{network_range.network_address + 1}/{network_range.prefixlen}"))
    return found
