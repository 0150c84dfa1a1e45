"""Writes endpoints: addresses, MAC, OpenFlow port and name are claimed in the same transaction."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from pipeline.protocols import IpNetwork
from pipeline.tables import ENDPOINT_OFPORT_LAST, OFPORT_FIRST
from specs import keys
from specs.model.allowed import text
from specs.model.base import decode, decode_json, now
from specs.model.derived import default_mac
from specs.model.endpoint import ADOPTED, Endpoint
from specs.model.hostnet import HostNetwork
from specs.model.network import Network
from specs.model.publish import Publish
from specs.obstacles import check_interface
from specs.ports import is_subport, port_claims
from specs.store import bitmap
from specs.store.allowed_values import AllowedValues, check_placed, contradiction, lowest_free
from specs.store.leased_addresses import kept
from specs.store.network_state import NetworkState, gets_of, network_state
from specs.store.placements import index_changes
from specs.store.pool import Pool, give_back_address, transaction
from specs.store.reserved import bounds, check_reserved, require_address, set_aside, with_reserved
from specs.store.values import Compare, Delete, Get, NoneNewer, Put, TxnOperation, Unchanged
from specs.store.writer import Writer, decoded
from warren.errors import Conflict, Exhausted, Invalid, NotFound

Planned = Callable[[Endpoint, Network], None]
DEFAULT_VLAN = 100  # of subports on a network without `vlan`; the default of FAUCET and dovesnap


class EndpointWriter(Writer):
    """The endpoints of a store."""

    def create_endpoint(
        self, draft: dict[str, Any], versions: Collection[int] = (4, 6), planned: Planned = lambda endpoint, network: None
    ) -> tuple[Endpoint, Network, int]:
        """Creates an endpoint from its fields: `network_id` and `host` are required; id, addresses (of these `versions` of IP), MAC and
        ofport are allocated unless given. Returns it with its network and the revision. Before each attempt to write, calls `planned` with
        what the attempt would write; when another writer is faster, the next attempt may write something else.

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
            return self._try_create(probe, data, versions, planned)

        with self.one_at_a_time(probe.network_id):
            return self.retry(attempt)  # type: ignore[no-any-return]

    def _try_create(
        self, probe: Endpoint, data: dict[str, Any], versions: Collection[int], planned: Planned
    ) -> tuple[Endpoint, Network, int] | None:
        """One attempt; None if another writer was faster."""
        read, ofports = self._read_for_creation(probe)
        network = read.network
        if network.external and probe.parent is not None:
            raise Invalid("endpoint.parent", probe.parent, "nothing on a network with dhcp: external: no client can ask for it")
        check_placed(probe, network)
        data, probe = with_reserved(network, data, probe)
        v4 = v6 = None
        if probe.port is None and 4 in versions:
            v4 = self._address(network, read.v4, read.allowed, probe, "ipv4_address")
        if probe.port is None and 6 in versions:
            v6 = self._address(network, read.v6, read.allowed, probe, "ipv6_address")
        ofport = _take_ofport(ofports, probe.host, data.get("ofport"))
        mac = data.get("mac_address") or default_mac(probe.id, v4, v6)  # type: ignore[arg-type]
        if "mac_address" not in data and (mac in read.allowed.counts or network.reservation(mac) is not None):
            mac = default_mac(probe.id, None, None)
        filled = {**data, "ofport": ofport, "mac_address": mac, "ipv4_address": v4 and str(v4), "ipv6_address": v6 and str(v6)}
        endpoint = decode(Endpoint, filled, "endpoint")
        key, held = keys.endpoint(network.id, endpoint.id), _claims(endpoint)
        compares, puts = transaction((read.v4, read.v6, ofports, *self._published(endpoint.host, (), endpoint)))
        allowed_compares, allowed_puts = self._allow(endpoint, read)
        compares, puts = compares + allowed_compares, puts + allowed_puts
        compares += [Unchanged(keys.network(network.id), read.network_revision), *(Unchanged(k, 0) for k in (key, *held))]
        puts += _written(endpoint)
        planned(endpoint, network)
        outcome = self.commit(compares, puts, [Get(keys.claim_endpoint_mac(network.id, mac))])
        if outcome.succeeded:
            return endpoint, network, outcome.revision
        if outcome.found[0]:
            self._mac_taken(endpoint, data, outcome.found[0][0].value)
        return None

    def _read_for_creation(self, probe: Endpoint) -> tuple[NetworkState, Pool]:
        """The network of a new endpoint, and its host's OpenFlow ports. Raises `NotFound`, and `Conflict` if its id or name is taken."""
        ofports = keys.pool_ofport(probe.host)
        gets = [*gets_of(probe.network_id), Get(keys.endpoint(probe.network_id, probe.id)), Get(ofports, prefix=True)]
        gets += [Get(keys.claim_endpoint_name(probe.network_id, probe.name))] if probe.name else []
        outcome = self.store.txn((), gets)
        same_id, taken_ofports, *same_name = outcome.found[4:]
        read = network_state(probe.network_id, outcome.found[:4])
        if same_id:
            raise Conflict(f"endpoint {probe.id} exists already", field="id")
        if same_name and same_name[0]:
            holder = same_name[0][0].value
            raise Conflict(f"the name {probe.name} belongs to endpoint {holder}", field="name", holder=holder)
        return read, Pool.read(ofports, taken_ofports)

    def _allow(self, endpoint: Endpoint, read: NetworkState) -> tuple[list[Compare], list[TxnOperation]]:
        """The part of a transaction that keeps an endpoint's own values and allowed ones apart from those of others. Raises `Conflict`,
        `Invalid`, `Exhausted`."""
        allowed, network = read.allowed, read.network
        if endpoint.mac_address in allowed.counts:
            raise Conflict(
                f"{endpoint.mac_address} is allowed to {self._allowed_to(network.id, endpoint.mac_address)}", field="mac_address"
            )
        if (taken := contradiction(endpoint, ((network.ip_range, read.v4), (network.ipv6_range, read.v6)))) is not None:
            holder = self._holder_of(network.id, f"ipv{taken.version}_address", taken)
            raise Conflict(f"allowed: {taken} belongs to {holder}", field="allowed", holder=holder)
        compares = allowed.compares()
        for claim in (keys.claim_endpoint_mac(network.id, mac) for mac in endpoint.macs[1:]):
            if (entry := self.store.get(claim)) is not None:
                raise Conflict(
                    f"allowed: {claim.rpartition('/')[2]} belongs to endpoint {entry.value}", field="allowed", holder=entry.value
                )
            compares.append(Unchanged(claim, 0))
        if endpoint.allowed:
            compares += [
                NoneNewer(pool.prefix, pool.newest) for pool in (read.v4, read.v6)
            ]  # nobody has got one of them meanwhile
        allowed.add(endpoint)
        return compares, allowed.operations()

    def _allowed_to(self, network_id: str, value: str) -> str:
        """The first endpoint that is allowed an address, a range or a MAC."""
        for endpoint in self.endpoints(network_id):
            if value in (*endpoint.macs[1:], *(text(entry.address) for entry in endpoint.allowed)):
                return f"endpoint {endpoint.name or endpoint.id}"
        return "an endpoint deleted this moment"

    def _bind(self, data: dict[str, Any]) -> None:
        """Completes the draft of a subport: the parent's id, the VLAN tag. Raises `NotFound`, and `Conflict` if the tag or the network
        is on the port already."""
        others = [e for e in self.endpoints() if e.host == data.get("host")]
        if data.get("port") is not None and ADOPTED not in data.get("labels", {}):
            self._check_interface(str(data["port"]), str(data.get("host")))
        if data.get("parent") is not None:
            self._bind_to_parent(data, others)
        probe = decode(Endpoint, {"mac_address": "02:59:00:00:00:01", "ofport": 1, **data}, "endpoint")
        holders = {claim: e for e in others if e.id != probe.id for claim in port_claims(e)}
        for claim in port_claims(probe):
            if claim in holders:
                raise Conflict(f"{claim[1]} belongs to endpoint {holders[claim].name or holders[claim].id}")

    def _check_interface(self, interface: str, host: str) -> None:
        entry = self.store.get(keys.hostnet(host))
        check_interface(interface, host, decoded(HostNetwork, entry) if entry is not None else None)

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
        self, network: Network, pool: Pool, allowed: AllowedValues, endpoint: Endpoint, field_name: str
    ) -> IPv4Address | IPv6Address | None:
        """The address that an endpoint requests, or the lowest free one; marked in the pool. None if the network has no range of that version.
        `allowed` are the values that other endpoints are allowed."""
        version4, requested = field_name == "ipv4_address", getattr(endpoint, field_name)
        network_range: IpNetwork | None = network.ip_range if version4 else network.ipv6_range
        if network_range is None:
            if requested is not None:
                raise Invalid(f"endpoint.{field_name}", str(requested), f"none: network {network.name} has no such range")
            return None
        base = int(network_range.network_address)
        last = int(network_range.broadcast_address) - base - (1 if network_range.version == 4 else 0)
        if requested is None:
            require_address(network, network_range.version)
            prefixes, choice = (*allowed.prefixes, *(entry.address for entry in endpoint.allowed)), bounds(network, network_range)
            number = lowest_free(pool, network_range, choice, set_aside(network, network_range), prefixes)
            if number is None:
                span = f"{network_range[choice[0]]} to {network_range[choice[1]]}" if choice != (1, last) else network_range
                raise Exhausted(f"network {network.name}: no free address is left in {span}")
        else:
            number = int(requested) - base
            if requested not in network_range or not 1 <= number <= last:
                raise Invalid(f"endpoint.{field_name}", str(requested), f"a host address of {network_range}")
            if requested in (gateway.ip for gateway in network.gateways):
                raise Conflict(f"{requested} is the gateway of network {network.name}", field=field_name)
            if bitmap.taken(pool.blocks, number):
                holder = self._holder_of(network.id, field_name, requested)
                raise Conflict(f"{requested} is taken by {holder}", field=field_name, holder=holder)
            if (prefix := allowed.covering(requested)) is not None:
                holder = self._allowed_to(network.id, text(prefix))
                raise Conflict(f"{requested} is allowed to {holder}", field=field_name, holder=holder)
        pool.take(number)
        return network_range[number]

    def _published(self, host: str, removed: tuple[Publish, ...], endpoint: Endpoint | None) -> list[Pool]:
        """The pools of a host's published ports after `removed` are given back and those of `endpoint` taken. Raises `Conflict`."""
        pools: list[Pool] = []
        added = endpoint.publish if endpoint is not None else ()
        for proto in sorted({p.proto for p in (*removed, *added)}):
            prefixes = (keys.pool_published(host, proto), keys.pool_services(proto))
            pool, services = map(Pool.read, prefixes, self.store.txn((), [Get(p, prefix=True) for p in prefixes]).found)
            for port in (port for p in removed if p.proto == proto for port, _ in p.pairs):
                pool.give_back(port)
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

    def update_endpoint(self, endpoint: Endpoint, *, renames: bool = False) -> int:
        """Changes labels, activity, namespace, interface, published ports and allowed addresses; the name of an endpoint without one; the name, MAC and
        addresses of one that is not in use; with `renames` the name of any. Returns the revision. Raises `Conflict` for other changes and for values that are taken."""
        self._check_added_ports(endpoint)
        key, claims = keys.endpoint(endpoint.network_id, endpoint.id), _claims(endpoint)

        def attempt() -> int | None:
            record, *holders = self.store.txn((), [Get(each) for each in (key, *claims)]).found
            if not record:
                raise NotFound("endpoint", endpoint.id)
            entry, old = record[0], decode_json(Endpoint, record[0].value, key)
            new = kept(old, endpoint)
            fixed = ("host", "ofport", "port", "parent", "vlan")
            for name in (*fixed, *(("name", "mac_address", "ipv4_address", "ipv6_address") if old.used else ())):
                if getattr(old, name) != getattr(new, name) and not (name == "name" and (renames or old.name is None)):
                    raise Conflict(f"endpoint {old.name or old.id}: {name} cannot change; delete and create it", field=name)
            if old == new:
                return entry.mod_revision
            compares: list[Compare] = [Unchanged(key, entry.mod_revision)]
            puts: list[TxnOperation] = [Put(key, new.encode()), *index_changes(old, new)]
            for held, holder in ((c, h) for c, h in zip(claims, holders, strict=True) if c not in _claims(old)):
                if holder:
                    named = held.startswith(keys.CLAIM_ENDPOINT_NAME)
                    what, contested = (f"the name {endpoint.name}", "name") if named else (endpoint.mac_address, "mac_address")
                    raise Conflict(f"{what} is taken by endpoint {holder[0].value}", field=contested, holder=holder[0].value)
                compares.append(Unchanged(held, 0))
                puts.append(Put(held, endpoint.id))
            puts += [Delete(held) for held in set(_claims(old)) - set(claims)]
            published = self._published(endpoint.host, old.publish, endpoint) if old.publish != endpoint.publish else []
            for more_compares, more_puts in (self._moved(old, new), transaction(published)):
                compares, puts = compares + more_compares, puts + more_puts
            outcome = self.commit(compares, puts)
            return outcome.revision if outcome.succeeded else None

        return self.retry(attempt)  # type: ignore[no-any-return]

    def _check_added_ports(self, endpoint: Endpoint) -> None:
        entry = self.store.get(keys.endpoint(endpoint.network_id, endpoint.id)) if endpoint.publish else None
        before = decoded(Endpoint, entry) if entry else None
        added = tuple(p for p in endpoint.publish if before is None or p not in before.publish)
        if added:
            self.check_ports(endpoint.host, endpoint.network_id, added)

    def _moved(self, old: Endpoint, new: Endpoint) -> tuple[list[Compare], list[TxnOperation]]:
        """The part of a transaction for a MAC, addresses and allowed values that change. Raises `Conflict`, `Invalid`, `Exhausted`."""
        fields = ("mac_address", "ipv4_address", "ipv6_address", "allowed")
        if all(getattr(old, name) == getattr(new, name) for name in fields):
            return [], []
        outcome = self.store.txn((), gets_of(new.network_id))
        read = network_state(new.network_id, outcome.found)
        check_placed(new, read.network)
        check_reserved(read.network, new, new.mac_address)
        read.allowed.remove(old)
        for name, pool, network_range in (
            ("ipv4_address", read.v4, read.network.ip_range),
            ("ipv6_address", read.v6, read.network.ipv6_range),
        ):
            if getattr(old, name) != getattr(new, name):
                give_back_address(pool, network_range, getattr(old, name))
                if getattr(new, name) is not None:
                    self._address(read.network, pool, read.allowed, new, name)
        compares, puts = transaction((read.v4, read.v6))
        allowed_compares, allowed_puts = self._allow(new, read)
        return compares + allowed_compares, puts + allowed_puts

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
            return self.commit([Unchanged(key, entry.mod_revision)], [Put(key, changed.encode())]).succeeded or None

        return bool(self.retry(attempt))

    def delete_endpoint(self, network_id: str, endpoint_id: str) -> int:
        """Delete an endpoint and give back all that it held. Raises `NotFound`. Returns the revision."""

        def attempt() -> int | None:
            entry = self.store.get(keys.endpoint(network_id, endpoint_id))
            if entry is None:
                raise NotFound("endpoint", endpoint_id)
            endpoint = decode_json(Endpoint, entry.value, entry.key)
            prefixes = (keys.pool_v4(network_id), keys.pool_v6(network_id), keys.pool_ofport(endpoint.host))
            gets = [Get(keys.network(network_id)), *(Get(p, prefix=True) for p in prefixes), Get(keys.claim_allowed(network_id))]
            read = self.store.txn((), gets)
            v4_pool, v6_pool, port_pool = (Pool.read(p, read.found[1 + i]) for i, p in enumerate(prefixes))
            network = decoded(Network, read.found[0][0]) if read.found[0] else None
            if network is not None:
                give_back_address(v4_pool, network.ip_range, endpoint.ipv4_address)
                give_back_address(v6_pool, network.ipv6_range, endpoint.ipv6_address)
            port_pool.give_back(endpoint.ofport)
            published = self._published(endpoint.host, endpoint.publish, None)
            compares, changes = transaction((v4_pool, v6_pool, port_pool, *published))
            compares.append(Unchanged(entry.key, entry.mod_revision))
            changes += _deleted(endpoint)
            if endpoint.allowed:
                values = AllowedValues.read(network_id, read.found[4])
                values.remove(endpoint)
                compares, changes = compares + values.compares(), changes + values.operations()
            outcome = self.commit(compares, changes)
            return outcome.revision if outcome.succeeded else None

        with self.one_at_a_time(network_id):
            return self.retry(attempt)  # type: ignore[no-any-return]

    def endpoints(self, network_id: str | None = None) -> list[Endpoint]:
        """All endpoints, or those of a network; malformed records are left out."""
        prefix = keys.ENDPOINTS if network_id is None else keys.endpoints_of(network_id)
        endpoints = (decoded(Endpoint, entry) for entry in self.store.list(prefix)[1])
        return [endpoint for endpoint in endpoints if endpoint is not None]


def _written(endpoint: Endpoint) -> list[TxnOperation]:
    """The writes of a new endpoint, beside those of pools."""
    claims = [Put(claim, endpoint.id) for claim in _claims(endpoint)]
    return [Put(keys.endpoint(endpoint.network_id, endpoint.id), endpoint.encode()), *claims, *index_changes(None, endpoint)]


def _deleted(endpoint: Endpoint) -> list[TxnOperation]:
    """What `_written` has written, deleted."""
    return [Delete(write.key) for write in _written(endpoint)]


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
