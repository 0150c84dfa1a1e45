"""A pool within a transaction: the blocks as read, and the changes to them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from pipeline.protocols import IpNetwork
from specs.store import bitmap
from specs.store.values import Compare, Entry, Put, TxnOperation, Unchanged


@dataclass(slots=True)
class Pool:
    """The blocks of one pool as read, and what the transaction changes."""

    prefix: str
    blocks: dict[int, int] = field(default_factory=dict)
    revisions: dict[int, int] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)

    @classmethod
    def read(cls, prefix: str, entries: Iterable[Entry]) -> Pool:
        """Decode the entries below the pool's prefix."""
        pool = cls(prefix)
        for entry in entries:
            block = int(entry.key.rpartition("/")[2])
            pool.blocks[block], pool.revisions[block] = bitmap.parse(entry.value), entry.mod_revision
        return pool

    @property
    def newest(self) -> int:
        """The revision of the last change of a block."""
        return max(self.revisions.values(), default=0)

    def take(self, number: int) -> None:
        """Mark a number as taken."""
        block, bits = bitmap.mark(self.blocks, number)
        self.blocks[block] = bits
        self.changed.add(block)

    def give_back(self, number: int) -> None:
        """Mark a number as free."""
        block, bits = bitmap.release(self.blocks, number)
        self.blocks[block] = bits
        self.changed.add(block)

    def compares(self) -> list[Compare]:
        """The compares: changed blocks must still be as read."""
        return [Unchanged(f"{self.prefix}{b}", self.revisions.get(b, 0)) for b in sorted(self.changed)]

    def puts(self) -> list[TxnOperation]:
        """The writes of the changed blocks."""
        return [Put(f"{self.prefix}{b}", bitmap.format_block(self.blocks[b])) for b in sorted(self.changed)]


def transaction(pools: Iterable[Pool]) -> tuple[list[Compare], list[TxnOperation]]:
    """The compares and the puts of several pools."""
    pools = list(pools)
    return [compare for pool in pools for compare in pool.compares()], [put for pool in pools for put in pool.puts()]


def give_back_address(pool: Pool, network_range: IpNetwork | None, address: IPv4Address | IPv6Address | None) -> None:
    """Mark an address of a network's range as free."""
    if network_range is not None and address is not None and address in network_range:
        pool.give_back(int(address) - int(network_range.network_address))
