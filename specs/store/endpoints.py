"""Writes endpoints: addresses, MAC, OpenFlow port and name are claimed in the same transaction."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address
from typing import Any, NamedTuple

from pipeline.protocols import IpNetwork
from pipeline.tables import ENDPOINT_OFPORT_LAST, OFPORT_FIRST
from specs import keys
from specs.model.base import decode, decode_json, now
from specs.model.derived import default_mac
from specs.model.endpoint import Endpoint
from specs.model.network import Network
from specs.model.publish import Publish
from specs.ports import is_subport, port_claims
from specs.store import bitmap
from specs.store.leased_addresses import kept
from specs.store.pool import Pool, transaction
from specs.store.values import Compare, Delete, Get, Put, TxnOperation, Unchanged
from specs.store.writer import Writer, decoded
from warren.errors import Conflict, Exhausted, Invalid, NotFound

DEFAULT_VLAN = 100  # of subports on a network without `vlan`; the default of FAUCET and dovesnap


class _Read(NamedTuple):
    """What a creation reads: the network, and the pools of its addresses and of the host's OpenFlow ports."""

    network: Network
    network_revision: int
    v4: Pool
    v6: Pool
    ofports: Pool


class EndpointWriter(Writer):
    """The endpoints of a store."""

    def create_endpoint(self, draft: dict[str, Any], versions: Collection[int] = (4, 6)) -> tuple[Endpoint, Network, int]:
        """Creates an endpoint from its fields: `network_id` and `host` are required; id, addresses (of these `versions` of IP), MAC and
        ofport are allocated unless given. Returns it with its network and the revision.

        Raises `NotFound`, `Invalid` (address outside the range), `Conflict` (taken), `Exhausted`.
        """
        data = {k: v for k, v in draft.items() if v is not None}
        data.setdefault("id", str(uuid.uuid4()))
        data.setdefault("created_at", now())
        if data.get("parent") is not None or data.get("port") is not None:
            self._bind(data)
        probe = decode(Endpoint, {"mac_address": "02:59:00:00:00:01", "ofport": 1, **data}, "endpoint")
        if probe.publish:
            self.check_ports(probe.host, probe.network_id, probe.publish)

        def attempt() -> tuple[Endpoint, Network, int] | None:
            return self._try_create(probe, data, versions)

        with self.one_at_a_time(probe.network_id):
            return self.retry(attempt)  # type: ignore[no-any-return]

    def _try_create(
        self, probe: Endpoint, data: dict[str, Any], versions: Collection[int]
    ) -> tuple[Endpoint, Network, int] | None:
        """One attempt; None if another writer was faster."""
        read = self._read_for_creation(probe)
        network = read.network
        if network.external and probe.parent is not None:
            raise Invalid("endpoint.parent", probe.parent, "nothing on a network with dhcp: external: no client can ask for it")
        v4 = v6 = None
        if probe.port is None and 4 in versions:
            v4 = self._address(network, read.v4, network.ip_range, network.gateway, probe.ipv4_address, "ipv4_address")
        if probe.port is None and 6 in versions:
            v6 = self._address(network, read.v6, network.ipv6_range, network.ipv6_gateway, probe.ipv6_address, "ipv6_address")
        ofport = _take_ofport(read.ofports, probe.host, data.get("ofport"))
        mac = data.get("mac_address") or default_mac(probe.id, v4, v6)  # type: ignore[arg-type]
        filled = {**data, "ofport": ofport, "mac_address": mac, "ipv4_address": v4 and str(v4), "ipv6_address": v6 and str(v6)}
        endpoint = decode(Endpoint, filled, "endpoint")
        key, held = keys.endpoint(network.id, endpoint.id), _claims(endpoint)
        compares, puts = transaction((read.v4, read.v6, read.ofports, *self._published(endpoint.host, (), endpoint)))
        compares += [Unchanged(keys.network(network.id), read.network_revision), *(Unchanged(k, 0) for k in (key, *held))]
        puts += [Put(key, endpoint.encode()), *(Put(claim, endpoint.id) for claim in held)]
        outcome = self.commit(compares, puts, [Get(keys.claim_endpoint_mac(network.id, mac))])
        if outcome.succeeded:
            return endpoint, network, outcome.revision
        if outcome.found[0]:
            self._mac_taken(endpoint, data, outcome.found[0][0].value)
        return None

    def _read_for_creation(self, probe: Endpoint) -> _Read:
        """The network and the pools of a new endpoint. Raises `NotFound`, and `Conflict` if its id or name is taken."""
        prefixes = (keys.pool_v4(probe.network_id), keys.pool_v6(probe.network_id), keys.pool_ofport(probe.host))
        gets = [Get(keys.network(probe.network_id)), Get(keys.endpoint(probe.network_id, probe.id))]
        gets += [Get(prefix, prefix=True) for prefix in prefixes]
        gets += [Get(keys.claim_endpoint_name(probe.network_id, probe.name))] if probe.name else []
        networks, same_id, v4, v6, ofports, *same_name = self.store.txn((), gets).found
        if not networks:
            raise NotFound("network", probe.network_id)
        if same_id:
            raise Conflict(f"endpoint {probe.id} exists already", field="id")
        if same_name and same_name[0]:
            holder = same_name[0][0].value
            raise Conflict(f"the name {probe.name} belongs to endpoint {holder}", field="name", holder=holder)
        pools = map(Pool.read, prefixes, (v4, v6, ofports))
        return _Read(decode_json(Network, networks[0].value, networks[0].key), networks[0].mod_revision, *pools)

    def _bind(self, data: dict[str, Any]) -> None:
        """Completes the draft of a subport: the parent's id, the VLAN tag. Raises `NotFound`, and `Conflict` if the tag or the network
        is on the port already."""
        others = [e for e in self.endpoints() if e.host == data.get("host")]
        if data.get("parent") is not None:
            self._bind_to_parent(data, others)
        probe = decode(Endpoint, {"mac_address": "02:59:00:00:00:01", "ofport": 1, **data}, "endpoint")
        holders = {claim: e for e in others if e.id != probe.id for claim in port_claims(e)}
        for claim in port_claims(probe):
            if claim in holders:
                raise Conflict(f"{claim[1]} belongs to endpoint {holders[claim].name or holders[claim].id}")

    def _bind_to_parent(self, data: dict[str, Any], others: list[Endpoint]) -> None:
        reference = data["parent"]
        parents = [e for e in others if e.id == reference] or [e for e in others if e.name == reference]
        if not parents:
            raise NotFound(f"endpoint of host {data.get('host')}", str(reference))
        parent = parents[0]
        if len(parents) > 1 or is_subport(parent) or parent.network_id == data.get("network_id"):
            expected = "one endpoint of another network, with a container of its own (an id is exact)"
            raise Invalid("endpoint.parent", reference, expected)
        data["parent"] = parent.id
        data.setdefault("mac_address", parent.mac_address)  # a VLAN interface has the MAC of the interface below it by default
        if data.get("vlan") is None:
            entry = self.store.get(keys.network(str(data.get("network_id"))))
            network = decoded(Network, entry) if entry else None
            data["vlan"] = (network and network.vlan) or DEFAULT_VLAN

    def _mac_taken(self, endpoint: Endpoint, data: dict[str, Any], holder_id: str) -> None:
        """Raises `Conflict` if the user chose the MAC. Otherwise the MAC follows from the address. Either a faster writer took both, and
        the next attempt gets another address; or the holder chose this MAC, and the next attempt derives one from the id."""
        holder = self.store.get(keys.endpoint(endpoint.network_id, holder_id))
        other = decoded(Endpoint, holder) if holder else None
        if "mac_address" in data:
            holder_name = str((other and other.name) or holder_id)
            raise Conflict(f"{endpoint.mac_address} is taken by endpoint {holder_name}", field="mac_address", holder=holder_name)
        if other is not None and default_mac(other.id, other.ipv4_address, other.ipv6_address) != other.mac_address:
            data["mac_address"] = default_mac(endpoint.id, None, None)

    def _address(
        self, network: Network, pool: Pool, network_range: IpNetwork | None, gateway: Any, requested: Any, field_name: str
    ) -> IPv4Address | IPv6Address | None:
        """The requested address, or the lowest free one; marked in the pool. None if the network has no range of that version."""
        if network_range is None:
            if requested is not None:
                raise Invalid(f"endpoint.{field_name}", str(requested), f"none: network {network.name} has no such range")
            return None
        base = int(network_range.network_address)
        last = int(network_range.broadcast_address) - base - (1 if network_range.version == 4 else 0)
        reserved = {int(gateway.ip) - base} if gateway else set()
        if requested is None:
            number = bitmap.lowest_free(pool.blocks, 1, last, reserved)
            if number is None:
                raise Exhausted(f"network {network.name}: no free address is left in {network_range}")
        else:
            number = int(requested) - base
            if requested not in network_range or not 1 <= number <= last:
                raise Invalid(f"endpoint.{field_name}", str(requested), f"a host address of {network_range}")
            if number in reserved:
                raise Conflict(f"{requested} is the gateway of network {network.name}", field=field_name)
            if bitmap.taken(pool.blocks, number):
                holder = self._holder_of(network.id, field_name, requested)
                raise Conflict(f"{requested} is taken by {holder}", field=field_name, holder=holder)
        pool.take(number)
        return network_range[number]

    def _published(self, host: str, removed: tuple[Publish, ...], endpoint: Endpoint | None) -> list[Pool]:
        """The pools of a host's published ports after `removed` are given back and those of `endpoint` taken. Raises `Conflict`."""
        pools: list[Pool] = []
        added = endpoint.publish if endpoint is not None else ()
        for proto in sorted({p.proto for p in (*removed, *added)}):
            pool = Pool.read(keys.pool_published(host, proto), self.store.list(keys.pool_published(host, proto))[1])
            for port in (port for p in removed if p.proto == proto for port, _ in p.pairs):
                pool.give_back(port)
            services = Pool.read(keys.pool_services(proto), self.store.list(keys.pool_services(proto))[1]) if added else Pool("")
            for port in (port for p in added if p.proto == proto for port, _ in p.pairs):
                if bitmap.taken(services.blocks, port):
                    raise Conflict(f"{proto} port {port} of all hosts is a service's (warren service list)", field="publish")
                if bitmap.taken(pool.blocks, port):
                    holder = self._publisher(host, proto, port)
                    raise Conflict(f"{proto} port {port} of host {host} is published by {holder}", field="publish", holder=holder)
                pool.take(port)
            pools.append(pool)
        return pools

    def _publisher(self, host: str, proto: str, port: int) -> str:
        for other in self.endpoints():
            if other.host == host and any(p.proto == proto and port in dict(p.pairs) for p in other.publish):
                return f"endpoint {other.name or other.id}"
        return "an endpoint deleted this moment"

    def _holder_of(self, network_id: str, field_name: str, value: object) -> str:
        for endpoint in self.endpoints(network_id):
            if getattr(endpoint, field_name) == value:
                return f"endpoint {endpoint.name or endpoint.id}"
        return "an endpoint deleted this moment"

    def update_endpoint(self, endpoint: Endpoint) -> int:
        """Changes labels, activity, namespace, interface and published ports; the name of an endpoint without one; the name, MAC and
        addresses of an inactive endpoint. Returns the revision. Raises `Conflict` for other changes and for values that are taken."""
        self._check_added_ports(endpoint)

        def attempt() -> int | None:
            entry = self.store.get(keys.endpoint(endpoint.network_id, endpoint.id))
            if entry is None:
                raise NotFound("endpoint", endpoint.id)
            old = decode_json(Endpoint, entry.value, entry.key)
            new = kept(old, endpoint)
            fixed = ("host", "ofport", "port", "parent", "vlan")
            for name in (*fixed, *(("name", "mac_address", "ipv4_address", "ipv6_address") if old.active else ())):
                if getattr(old, name) != getattr(new, name) and not (name == "name" and old.name is None):
                    raise Conflict(f"endpoint {old.name or old.id}: {name} cannot change; delete and create it", field=name)
            if old == new:
                return entry.mod_revision
            compares: list[Compare] = [Unchanged(entry.key, entry.mod_revision)]
            puts: list[TxnOperation] = [Put(entry.key, new.encode())]
            for held in set(_claims(endpoint)) - set(_claims(old)):
                if (holder := self.store.get(held)) is not None:
                    named = held.startswith(keys.CLAIM_ENDPOINT_NAME)
                    what, contested = (f"the name {endpoint.name}", "name") if named else (endpoint.mac_address, "mac_address")
                    raise Conflict(f"{what} is taken by endpoint {holder.value}", field=contested, holder=holder.value)
                compares.append(Unchanged(held, 0))
                puts.append(Put(held, endpoint.id))
            puts += [Delete(held) for held in set(_claims(old)) - set(_claims(endpoint))]
            pools = self._moved(old, new)
            if old.publish != endpoint.publish:
                pools += self._published(endpoint.host, old.publish, endpoint)
            pool_compares, pool_puts = transaction(pools)
            done = self.commit(compares + pool_compares, puts + pool_puts)
            return done.revision if done.succeeded else None

        return self.retry(attempt)  # type: ignore[no-any-return]

    def _check_added_ports(self, endpoint: Endpoint) -> None:
        entry = self.store.get(keys.endpoint(endpoint.network_id, endpoint.id)) if endpoint.publish else None
        before = decoded(Endpoint, entry) if entry else None
        added = tuple(p for p in endpoint.publish if before is None or p not in before.publish)
        if added:
            self.check_ports(endpoint.host, endpoint.network_id, added)

    def _moved(self, old: Endpoint, new: Endpoint) -> list[Pool]:
        """The pools of the addresses that change, with the change. Raises `Conflict`, `Invalid`."""
        pools: list[Pool] = []
        families = (
            ("ipv4_address", "ip_range", "gateway", keys.pool_v4),
            ("ipv6_address", "ipv6_range", "ipv6_gateway", keys.pool_v6),
        )
        for field_name, range_name, gateway_name, key in families:
            before, after = getattr(old, field_name), getattr(new, field_name)
            if before == after:
                continue
            read = self.store.txn((), (Get(keys.network(new.network_id)), Get(key(new.network_id), prefix=True))).found
            if not read[0]:
                raise NotFound("network", new.network_id)
            network, pool = decode_json(Network, read[0][0].value, read[0][0].key), Pool.read(key(new.network_id), read[1])
            network_range = getattr(network, range_name)
            _give_back(pool, network_range, before)
            if after is not None:
                self._address(network, pool, network_range, getattr(network, gateway_name), after, field_name)
            pools.append(pool)
        return pools

    def relabel_endpoint(self, network_id: str, endpoint_id: str, label: str, value: str | None) -> bool:
        """Set a label of an endpoint, or remove it (None); others may change it at the same moment. False: the endpoint does not exist."""
        key = keys.endpoint(network_id, endpoint_id)

        def attempt() -> bool | None:
            entry = self.store.get(key)
            if entry is None:
                return False
            endpoint = decode_json(Endpoint, entry.value, key)
            labels = {name: text for name, text in endpoint.labels.items() if name != label} | ({label: value} if value else {})
            changed = endpoint.model_copy(update={"labels": labels})
            outcome = self.commit([Unchanged(key, entry.mod_revision)], [Put(key, changed.encode())])
            return True if outcome.succeeded else None

        return bool(self.retry(attempt))

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
            network = decoded(Network, read.found[0][0]) if read.found[0] else None
            if network is not None:
                _give_back(v4_pool, network.ip_range, endpoint.ipv4_address)
                _give_back(v6_pool, network.ipv6_range, endpoint.ipv6_address)
            port_pool.give_back(endpoint.ofport)
            published = self._published(endpoint.host, endpoint.publish, None)
            compares, changes = transaction((v4_pool, v6_pool, port_pool, *published))
            compares.append(Unchanged(entry.key, entry.mod_revision))
            changes += [Delete(key) for key in (entry.key, *_claims(endpoint))]
            outcome = self.commit(compares, changes)
            return outcome.revision if outcome.succeeded else None

        with self.one_at_a_time(network_id):
            return self.retry(attempt)  # type: ignore[no-any-return]

    def endpoints(self, network_id: str | None = None) -> list[Endpoint]:
        """All endpoints, or those of a network; malformed records are left out."""
        prefix = keys.ENDPOINTS if network_id is None else keys.endpoints_of(network_id)
        endpoints = (decoded(Endpoint, entry) for entry in self.store.list(prefix)[1])
        return [endpoint for endpoint in endpoints if endpoint is not None]


def _claims(endpoint: Endpoint) -> list[str]:
    """The keys that hold the endpoint's id: of the values that only one endpoint of the network can have."""
    claims = [keys.claim_endpoint_mac(endpoint.network_id, endpoint.mac_address)]
    return claims + ([keys.claim_endpoint_name(endpoint.network_id, endpoint.name)] if endpoint.name else [])


def _take_ofport(pool: Pool, host: str, requested: int | None) -> int:
    """The requested OpenFlow port, or the lowest free one; marked in the pool."""
    ofport = requested or bitmap.lowest_free(pool.blocks, OFPORT_FIRST, ENDPOINT_OFPORT_LAST)
    if ofport is None:
        raise Exhausted(f"host {host}: no OpenFlow port is left")
    if bitmap.taken(pool.blocks, ofport):
        raise Conflict(f"OpenFlow port {ofport} of host {host} is taken", field="ofport")
    pool.take(ofport)
    return ofport


def _give_back(pool: Pool, network_range: IpNetwork | None, address: IPv4Address | IPv6Address | None) -> None:
    if network_range is not None and address is not None and address in network_range:
        pool.give_back(int(address) - int(network_range.network_address))
