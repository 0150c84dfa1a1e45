"""Writes the addresses that an external DHCP server leased: the agent of an endpoint's host puts them into its record.

Such an address comes from no pool, because the server assigns it. `leased_prefix` marks it.
"""

from __future__ import annotations

from ipaddress import IPv4Interface

from specs import keys
from specs.model.base import decode_json
from specs.model.endpoint import Endpoint
from specs.model.network import Network
from specs.store.values import Get, Put, Unchanged
from specs.store.writer import Writer
from warren.errors import Conflict, NotFound


class LeasedAddressWriter(Writer):
    """The leased addresses of a store."""

    def lease(self, network_id: str, endpoint_id: str, address: IPv4Interface | None) -> tuple[Endpoint, int]:
        """Records the address that an endpoint has leased (None: it has lost its lease). Returns its record with the revision.

        Raises `NotFound`, and `Conflict` if its network does not have dhcp: external."""

        def attempt() -> tuple[Endpoint, int] | None:
            key = keys.endpoint(network_id, endpoint_id)
            entries, networks = self.store.txn((), (Get(key), Get(keys.network(network_id)))).found
            if not entries:
                raise NotFound("endpoint", endpoint_id)
            old = decode_json(Endpoint, entries[0].value, key)
            network = decode_json(Network, networks[0].value, networks[0].key) if networks else None
            if address is not None and (network is None or not network.external):
                raise Conflict(f"endpoint {old.name or old.id}: its network has no dhcp: external (any more)")
            if address is None and old.leased_prefix is None:
                return old, entries[0].mod_revision
            fields = {"ipv4_address": address.ip, "leased_prefix": address.network.prefixlen} if address is not None else NONE
            endpoint = old.model_copy(update=fields)
            if endpoint == old:
                return old, entries[0].mod_revision
            compares = [Unchanged(key, entries[0].mod_revision)]
            compares += [Unchanged(entry.key, entry.mod_revision) for entry in networks]
            done = self.commit(compares, [Put(key, endpoint.encode())])
            return (endpoint, done.revision) if done.succeeded else None

        return self.retry(attempt)  # type: ignore[no-any-return]


NONE = {"ipv4_address": None, "leased_prefix": None}


def kept(old: Endpoint, new: Endpoint) -> Endpoint:
    """The new record with the lease of the old one. Only `lease` changes a lease; other writers may have read an older one."""
    if old.leased_prefix is None and new.leased_prefix is None:
        return new
    lease = {"ipv4_address": old.ipv4_address, "leased_prefix": old.leased_prefix} if old.leased_prefix is not None else NONE
    return new.model_copy(update=lease)
