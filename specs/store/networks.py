"""Writes networks: name, VNI and gateways are claimed in the same transaction."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from specs import keys
from specs.model.allowed import text
from specs.model.base import VNI_FIRST, VNI_LAST, decode, decode_json, now
from specs.model.endpoint import Endpoint
from specs.model.names import full, short
from specs.model.network import Network, default_gateways
from specs.model.profile import Profile
from specs.model.ranges import check_ranges
from specs.model.router import Router
from specs.model.service import Service
from specs.model.tenant import DEFAULT, Tenant, check_network, free_vnis
from specs.obstacles import check_admin_networks, check_hosts, check_transit_networks
from specs.snapshot import snapshot
from specs.store import bitmap
from specs.store.network_state import NetworkState, gets_of, network_state
from specs.store.pool import Pool
from specs.store.tenants import revision, tenants_of
from specs.store.values import Compare, Delete, Empty, Entry, Get, NoneNewer, Put, TxnOperation, Unchanged
from specs.store.writer import Writer, decoded
from warren.errors import Conflict, Exhausted, NotFound


class HasEndpoints(Conflict):
    """A network that has endpoints cannot be deleted."""


class NetworkWriter(Writer):
    """The networks of a store."""

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
        requested = data.get("vxlan_vni")
        checked = decode(Network, {**data, "vxlan_vni": 1 if requested is None else requested}, "network")
        check_ranges(checked, "network")
        data = {**data, **default_gateways(checked)}
        self._check_host_networks(checked)
        near = {name: keys.claim_network_name(name) for name in (short(checked.name), *checked.references[1:])}

        def attempt() -> tuple[Network, int] | None:
            key = keys.network(checked.id)
            limits = (Get(keys.TENANTS, prefix=True), Get(keys.claim_tenants()), Get(keys.claim_networks()))
            vnis = keys.pool_vni(checked.profile)
            profiles = (Get(keys.PROFILES, prefix=True), Get(keys.claim_profiles())) if checked.profile else ()
            read = self.store.txn((), (Get(key), Get(vnis, prefix=True), *limits, *map(Get, near.values()), *profiles))
            if read.found[0]:
                raise Conflict(f"network {checked.id} exists already", field="id")
            claims = dict(zip(near, read.found[5:], strict=False))
            data["name"] = self._name(checked, claims)
            data["profile_number"], of_profile = _profile(checked.profile, read.found[5 + len(near) :])
            pool = Pool.read(vnis, read.found[1])
            tenants = tenants_of(read.found[2])
            vni = requested if requested is not None else free_vni(pool, checked.tenant, tenants)
            check_network(checked, vni, tenants)
            if bitmap.taken(pool.blocks, vni):
                holder = self._holder_of_vni(vni, checked.profile)
                raise Conflict(f"VNI {vni} is taken by network {holder}", field="vxlan_vni", holder=holder)
            pool.take(vni)
            network = decode(Network, {**data, "vxlan_vni": vni}, "network")
            compares: list[Compare] = [
                Unchanged(key, 0),
                *(Unchanged(near[name], revision(entries)) for name, entries in claims.items()),
                Unchanged(keys.claim_tenants(), revision(read.found[3])),
                *of_profile,
            ]
            made = revision(read.found[4])
            compares += [
                *pool.compares(),
                *self._room_for_one_more(checked.tenant, tenants, made),
                *self._only_admin(checked, made),
            ]
            puts: list[TxnOperation] = [Put(key, network.encode()), *(Put(claim, network.id) for claim in _claims(network))]
            puts += [Put(keys.claim_networks(), network.id), *pool.puts()]
            outcome = self.commit(compares, puts)
            return (network, outcome.revision) if outcome.succeeded else None

        with self.one_at_a_time("vni"):
            return self.retry(attempt)  # type: ignore[no-any-return]

    def _name(self, network: Network, claims: Mapping[str, tuple[Entry, ...]]) -> str:
        """The name of a new network, from the claims of all names that are near. A short name that belongs to somebody else's network gets the
        tenant in front. Raises `Conflict` if the tenant has a network of that name."""
        name = network.name
        for near, entries in claims.items():
            holder = entries[0].value if entries else None
            if holder is None:
                continue
            entry = self.store.get(keys.network(holder))
            record = decoded(Network, entry) if entry is not None else None
            if record is None or network.tenant in (None, DEFAULT, record.tenant):
                raise Conflict(f"the name {near} belongs to network {holder}", field="name", holder=holder)
            name = full(name, network.tenant)
        return name

    def _room_for_one_more(self, name: str | None, tenants: Mapping[str, Tenant], made: int) -> list[Compare]:
        """The compares that hold while the tenant gets no further network. Raises `Conflict` if it has all that it may have, and `NotFound`."""
        if name is None or (tenant := tenants.get(name)) is None:
            if name not in (None, DEFAULT):
                raise NotFound("tenant", str(name))
            return []
        if tenant.max_networks is None:
            return []
        count = sum(network.tenant == name for network in self.networks())
        if count >= tenant.max_networks:
            raise Conflict(f"tenant {name} has {count} networks, and may have {tenant.max_networks}", field="tenant", holder=name)
        return [Unchanged(keys.claim_networks(), made)]

    def _only_admin(self, network: Network, made: int) -> list[Compare]:
        """The compares that hold while no network comes beside a new admin overlay. Raises `Conflict` if there is one, or a network in its way."""
        if network.admin is None:
            return []
        check_admin_networks(network, self.networks())
        return [Unchanged(keys.claim_networks(), made)]

    def _check_host_networks(self, network: Network) -> None:
        """Raises `Conflict` if a range of the network is a transit range, or in the way on a host, as far as the hosts have published it."""
        gets = (keys.CLUSTERS, keys.HOSTS, keys.HOSTNETS)
        read = self.store.txn((), [Get(prefix, prefix=True) for prefix in gets]).found
        state = snapshot((e.key, e.value, e.create_revision) for entries in read for e in entries)
        check_transit_networks(state.cluster, [network])
        check_hosts(network, state.hosts, state.hostnets)

    def _check_routing(self, network: Network) -> Compare:
        """Raises `Conflict` if a service or router needs another mode of the network. The compare makes sure that none comes meanwhile."""
        prefixes = (keys.ROUTERS, keys.SERVICES, keys.claim_routing())
        routers, services, claim = self.store.txn((), [Get(prefix, prefix=True) for prefix in prefixes]).found
        holder = _joined_by(network, routers) if network.mode == "flat" else None
        holder = holder or (_served_by(network, services) if network.mode != "nat" else None)
        if holder is not None:
            reason = f"mode cannot become {network.mode}: the network {holder}, which needs {'a gateway' if network.mode == 'flat' else 'mode nat'}"
            raise Conflict(f"network {network.name}: {reason}", field="mode")
        return Unchanged(keys.claim_routing(), claim[0].mod_revision if claim else 0)

    def _holder_of_vni(self, vni: int, profile: str | None) -> str:
        for entry in self.store.list(keys.NETWORKS)[1]:
            network = decoded(Network, entry)
            if network is not None and (network.vxlan_vni, network.profile) == (vni, profile):
                return network.name
        return "(deleted this moment)"

    def update_network(self, network: Network) -> int:
        """Changes labels, MTU, gateways and the like; returns the revision. Raises `Conflict` for a new name, VNI or range."""

        def attempt() -> int | None:
            outcome = self.store.txn((), gets_of(network.id))
            state = network_state(network.id, outcome.found)
            old, key = state.network, keys.network(network.id)
            for name in ("name", "tenant", "profile", "vxlan_vni", "ip_range", "ipv6_range"):
                if getattr(old, name) != getattr(network, name):
                    problem = f"{name} cannot change from {getattr(old, name)}; delete and create it"
                    raise Conflict(f"network {old.name}: {problem}", field=name)
            if old == network:
                return state.network_revision
            self._check_admin_change(old, network)
            compares = [
                Unchanged(key, state.network_revision),
                *_free_gateways(network, state),
                *self._free_reservations(network, state),
            ]
            if old.mode != network.mode:
                self._check_host_networks(network)
                compares.append(self._check_routing(network))
            puts: list[TxnOperation] = [Put(key, network.encode())]
            if old.vlan != network.vlan:
                entries, claim = self.store.txn((), (Get(keys.TENANTS, prefix=True), Get(keys.claim_tenants()))).found
                check_network(network, network.vxlan_vni, tenants_of(entries))
                compares.append(Unchanged(keys.claim_tenants(), revision(claim)))
                puts.append(Put(keys.claim_networks(), network.id))
            done = self.commit(compares, puts)
            return done.revision if done.succeeded else None

        return self.retry(attempt)  # type: ignore[no-any-return]

    def _check_admin_change(self, old: Network, new: Network) -> None:
        """Raises `Conflict` if a network becomes the admin overlay, or if a host is to have the address that another one keeps."""
        if new.admin is None or new.admin == old.admin:
            return
        if old.admin is None:
            reason = "it cannot become the admin overlay: create another one (warren admin-overlay init)"
            raise Conflict(f"network {old.name}: {reason}", field="admin")
        endpoints = self.store.list(keys.endpoints_of(new.id))[1]
        for endpoint in (decoded(Endpoint, entry) for entry in endpoints):
            moves = endpoint is None or new.admin.of_host(endpoint.host)
            taken = () if moves else (endpoint.ipv4_address, endpoint.ipv6_address)
            for host, addresses in new.admin.addresses.items():
                if common := set(addresses) & set(taken):
                    reason = f"{min(map(str, common))} for host {host} is host {endpoint.host}'s: name another one for it, too"
                    raise Conflict(f"network {new.name}: {reason}", field="admin", holder=endpoint.host)

    def _free_reservations(self, new: Network, state: NetworkState) -> list[Compare]:
        """The compares that hold while no endpoint gets an address that becomes reserved. Raises `Conflict` if one with another MAC has it."""
        added = [each for each in new.reservations if each not in state.network.reservations]
        if not added:
            return []
        prefix = keys.endpoints_of(new.id)
        entries = self.store.list(prefix)[1]
        endpoints = [endpoint for entry in entries if (endpoint := decoded(Endpoint, entry)) is not None]
        for reservation in added:
            for field, address in (("ipv4_address", reservation.ipv4_address), ("ipv6_address", reservation.ipv6_address)):
                holder = next((e for e in endpoints if address is not None and getattr(e, field) == address), None)
                if holder is not None and holder.mac_address != reservation.mac:
                    reason = f"{address} is reserved for {reservation.mac}, but belongs to endpoint {holder.name or holder.id} ({holder.mac_address})"
                    raise Conflict(f"network {new.name}: {reason}", field="reservations", holder=holder.id)
        return [NoneNewer(prefix, max((entry.mod_revision for entry in entries), default=0))]

    def rename_network(self, network_id: str, name: str) -> int:
        """Give a network that nothing refers to by its name another one. Raises `NotFound`, and `Conflict` if another network has the name, or a
        router or service names the network. Returns the revision."""

        def attempt() -> int | None:
            key, claim, routing = keys.network(network_id), keys.claim_network_name(name), keys.claim_routing()
            read = self.store.txn(
                (), [Get(key), Get(claim), *(Get(p, prefix=True) for p in (keys.ROUTERS, keys.SERVICES, routing))]
            )
            if not read.found[0]:
                raise NotFound("network", network_id)
            entry = read.found[0][0]
            network = decode_json(Network, entry.value, entry.key)
            if network.name == name:
                return entry.mod_revision
            if read.found[1]:
                holder = read.found[1][0].value
                raise Conflict(f"the name {name} belongs to network {holder}", field="name", holder=holder)
            _unnamed(network, read.found[2], read.found[3])
            renamed = network.model_copy(update={"name": name})
            compares = [Unchanged(key, entry.mod_revision), Unchanged(routing, revision(read.found[4]))]
            after, before = set(_claims(renamed)), set(_claims(network))
            compares += [Unchanged(each, 0) for each in sorted(after - before)]
            writes: list[TxnOperation] = [
                Put(key, renamed.encode()),
                *(Put(each, network.id) for each in sorted(after - before)),
                *map(Delete, sorted(before - after)),
            ]
            outcome = self.commit(compares, writes)
            return outcome.revision if outcome.succeeded else None

        return self.retry(attempt)  # type: ignore[no-any-return]

    def delete_network(self, network_id: str) -> int:
        """Raises `NotFound`, `HasEndpoints`, and `Conflict` while a router or service names it. Returns the revision."""

        def attempt() -> int | None:
            key = keys.network(network_id)
            entry = self.store.get(key)
            if entry is None:
                raise NotFound("network", network_id)
            network = decode_json(Network, entry.value, entry.key)
            vnis = keys.pool_vni(network.profile)
            prefixes = (key, vnis, keys.ROUTERS, keys.SERVICES, keys.claim_routing())
            read = self.store.txn((), [Get(prefix, prefix=prefix != key) for prefix in prefixes])
            pool = Pool.read(vnis, read.found[1])
            pool.give_back(network.vxlan_vni)
            _unnamed(network, read.found[2], read.found[3])
            endpoints, claim = keys.endpoints_of(network_id), read.found[4]
            compares = [Unchanged(key, entry.mod_revision), Empty(endpoints), *pool.compares()]
            compares.append(Unchanged(keys.claim_routing(), claim[0].mod_revision if claim else 0))
            deletes: list[TxnOperation] = [
                Delete(key),
                *map(Delete, _claims(network)),
                Delete(keys.pool_v4(network_id), prefix=True),
                Delete(keys.pool_v6(network_id), prefix=True),
                Delete(keys.claim_allowed(network_id)),
            ]
            outcome = self.commit(compares, deletes + pool.puts(), [Get(endpoints, prefix=True)])
            if outcome.succeeded:
                return outcome.revision
            if outcome.found[0]:
                count = len(outcome.found[0])
                raise HasEndpoints(f"network {network.name} has {count} endpoint{'s' if count > 1 else ''}")
            return None

        return self.retry(attempt)  # type: ignore[no-any-return]

    def networks(self) -> list[Network]:
        """All networks; malformed records are left out."""
        networks = (decoded(Network, entry) for entry in self.store.list(keys.NETWORKS)[1])
        return [network for network in networks if network is not None]


def _claims(network: Network) -> tuple[str, ...]:
    """The keys that hold a network's names."""
    return tuple(map(keys.claim_network_name, network.references[1:]))


def _profile(name: str | None, read: Sequence[tuple[Entry, ...]]) -> tuple[int, list[Compare]]:
    """The number of the profile of that name, from the profiles and their claim as read, and the compare that holds while it stays. Raises
    `NotFound`."""
    if name is None:
        return 0, []
    profiles = (decoded(Profile, entry) for entry in read[0])
    for profile in profiles:
        if profile is not None and profile.name == name:
            return profile.number, [Unchanged(keys.claim_profiles(), revision(read[1]))]
    raise NotFound("profile", name)


def free_vni(pool: Pool, name: str | None, tenants: Mapping[str, Tenant]) -> int:
    """The lowest free VNI of a tenant, or of those that are delegated to nobody. Raises `Exhausted`."""
    tenant = tenants.get(name or DEFAULT)
    for first, last in free_vnis(tenant, tenants.values()):
        vni = bitmap.lowest_free(pool.blocks, first, last)
        if vni is not None:
            return vni
    where = f"{tenant.vni} of tenant {tenant.name}" if tenant is not None and tenant.vni else f"{VNI_FIRST}..{VNI_LAST}"
    raise Exhausted(f"no VNI is left in {where}")


def _unnamed(network: Network, routers: Iterable[Entry], services: Iterable[Entry]) -> None:
    """Raises `Conflict` if a router or service names the network: a later network with the same name would be joined by accident."""
    holder = _joined_by(network, routers) or _served_by(network, services)
    if holder is not None:
        raise Conflict(f"network {network.name} {holder}")


def _joined_by(network: Network, routers: Iterable[Entry]) -> str | None:
    for router in (decoded(Router, entry) for entry in routers):
        if router is not None and set(network.references) & set(router.networks):
            return f"is joined by router {router.name}"
    return None


def _served_by(network: Network, services: Iterable[Entry]) -> str | None:
    for service in (decoded(Service, entry) for entry in services):
        if service is not None and service.network in network.references:
            return f"has service {service.name}"
    return None


def _free_gateways(new: Network, state: NetworkState) -> list[Compare]:
    """The compares that hold while no endpoint gets a changed gateway's address. Raises `Conflict` if one has it, or is allowed it."""
    compares: list[Compare] = []
    old, allowed = state.network, state.allowed
    for name, network_range, pool in (("gateway", new.ip_range, state.v4), ("ipv6_gateway", new.ipv6_range, state.v6)):
        gateway = getattr(new, name)
        if gateway is None or network_range is None or gateway == getattr(old, name):
            continue
        number = int(gateway.ip) - int(network_range.network_address)
        if bitmap.taken(pool.blocks, number):
            raise Conflict(f"network {old.name}: {name} {gateway.ip} belongs to an endpoint", field=name)
        if (prefix := allowed.covering(gateway.ip)) is not None:
            raise Conflict(f"network {old.name}: {name} {gateway.ip} is allowed to an endpoint ({text(prefix)})", field=name)
        pool.give_back(
            number
        )  # no bit changes, but the block is compared: if an endpoint takes the address meanwhile, the transaction fails
        compares += [*pool.compares(), *allowed.compares()]
    return compares
