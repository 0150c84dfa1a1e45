"""Counts the addresses, ranges and MACs that endpoints of a network are allowed, under one key: every creation compares it, so that nobody gets
one of them as its own. Several endpoints may share a value, so it has a count and no holder."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network

from pipeline.protocols import IpAddress, IpNetwork
from specs import keys
from specs.model.admin import host_endpoint_id
from specs.model.allowed import misplaced, text
from specs.model.endpoint import Endpoint
from specs.model.network import Network
from specs.store import bitmap
from specs.store.pool import Pool
from specs.store.values import Compare, Delete, Entry, Put, TxnOperation, Unchanged
from warren.errors import Exhausted, Invalid

VALUES_LIMIT = 4096  # of one network


@dataclass(slots=True)
class AllowedValues:
    """The values of one network as read, and what the transaction changes."""

    key: str
    revision: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    changed: bool = False

    @classmethod
    def read(cls, network_id: str, entries: Sequence[Entry]) -> AllowedValues:
        """Decode what etcd has under the network's key. A text that is no count counts nothing."""
        found = cls(keys.claim_allowed(network_id))
        for entry in entries:
            found.revision = entry.mod_revision
            try:
                found.counts.update({str(value): int(count) for value, count in json.loads(entry.value).items()})
            except (ValueError, TypeError, AttributeError):
                continue
        return found

    def add(self, endpoint: Endpoint) -> None:
        """Count the values of an endpoint. Raises `Exhausted`."""
        self._count(endpoint, 1)
        if endpoint.allowed and len(self.counts) > VALUES_LIMIT:
            raise Exhausted(f"at most {VALUES_LIMIT} allowed addresses, ranges and MACs of one network")

    def remove(self, endpoint: Endpoint) -> None:
        """No longer count the values of an endpoint."""
        self._count(endpoint, -1)

    def _count(self, endpoint: Endpoint, by: int) -> None:
        for value in (*(text(entry.address) for entry in endpoint.allowed), *endpoint.macs[1:]):
            self.counts[value] += by
            self.changed = True
        self.counts = +self.counts

    @property
    def prefixes(self) -> list[IpNetwork]:
        """The addresses and ranges."""
        return [ip_network(value) for value in self.counts if not _is_mac(value)]

    def covering(self, address: IpAddress) -> IpNetwork | None:
        """The allowed address or range that an address is in."""
        return next((p for p in self.prefixes if p.version == address.version and address in p), None)

    def compares(self) -> list[Compare]:
        """The compare: the values must still be as read."""
        return [Unchanged(self.key, self.revision)]

    def operations(self) -> list[TxnOperation]:
        """The write of changed values."""
        if not self.changed:
            return []
        return [
            Put(self.key, json.dumps(self.counts, sort_keys=True, separators=(",", ":"))) if self.counts else Delete(self.key)
        ]


def _is_mac(value: str) -> bool:
    return len(value) == 17 and value.count(":") == 5


def lowest_free(
    pool: Pool, network_range: IpNetwork, bounds: tuple[int, int], reserved: set[int], allowed: Iterable[IpNetwork]
) -> int | None:
    """The lowest free number of a network's range, within the bounds, that is in no allowed range; None if there is none."""
    first, last = bounds
    base = int(network_range.network_address)
    spans = sorted(
        (int(p.network_address) - base, int(p.broadcast_address) - base) for p in allowed if p.version == network_range.version
    )
    number = bitmap.lowest_free(pool.blocks, first, last, reserved)
    for low, high in spans:
        if number is not None and low <= number <= high:
            number = bitmap.lowest_free(pool.blocks, high + 1, last, reserved)
    return number


def check_placed(endpoint: Endpoint, network: Network) -> None:
    """Raises `Invalid` if an endpoint is allowed an address of the network itself, or is a host's own on any network but the admin overlay, or is
    another one there."""
    if network.admin is not None and not (endpoint.is_hosts_own and endpoint.id == host_endpoint_id(network.id, endpoint.host)):
        raise Invalid("endpoint.network", network.name, "another network: on the admin overlay are hosts alone")
    if network.admin is None and endpoint.is_hosts_own:
        raise Invalid("endpoint.netns", endpoint.netns, "the namespace of a container: only the admin overlay is in a host's own")
    wrong = misplaced(endpoint.allowed, network)
    if wrong is not None:
        position, reason = wrong
        value = text(endpoint.allowed[position].address)
        raise Invalid(f"endpoint.allowed[{position}].address", value, f"no address of the network itself: {reason}")


def contradiction(endpoint: Endpoint, pools: Iterable[tuple[IpNetwork | None, Pool]]) -> IpAddress | None:
    """The first address that an endpoint is allowed and that another one has as its own. `pools` are those of the network's ranges."""
    own = (endpoint.ipv4_address, endpoint.ipv6_address)
    for entry in endpoint.allowed:
        for network_range, pool in pools:
            if network_range is not None and network_range.version == entry.address.version:
                for number in _taken(pool, network_range, entry.address):
                    if (address := network_range[number]) not in own:
                        return address
    return None


def _taken(pool: Pool, network_range: IpNetwork, prefix: IpNetwork) -> Iterator[int]:
    """The taken numbers of a pool whose addresses are in a prefix."""
    base = int(network_range.network_address)
    low, high = max(0, int(prefix.network_address) - base), int(prefix.broadcast_address) - base
    for block in sorted(pool.blocks):
        first = max(low, block * bitmap.BLOCK_BITS)
        length = min(high + 1, (block + 1) * bitmap.BLOCK_BITS) - first
        bits = pool.blocks[block] >> (first - block * bitmap.BLOCK_BITS) & ((1 << length) - 1) if length > 0 else 0
        while bits:
            yield first + (bits & -bits).bit_length() - 1
            bits &= bits - 1
