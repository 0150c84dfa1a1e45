"""A pool as a transaction sees it: the blocks as they were read, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from specs.store import bitmap as pools
from specs.store.etcd import Compare, Entry, Operation, Put, Unchanged


@dataclass(slots=True)
class Pool:
    """The blocks of one pool as read, and what a transaction does with them."""

    prefix: str
    blocks: dict[int, int] = field(default_factory=dict)
    revisions: dict[int, int] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)

    @classmethod
    def read(cls, prefix: str, entries: Iterable[Entry]) -> Pool:
        """From the entries below the prefix."""
        pool = cls(prefix)
        for entry in entries:
            block = int(entry.key.rpartition("/")[2])
            pool.blocks[block], pool.revisions[block] = pools.parse(entry.value), entry.mod_revision
        return pool

    def take(self, number: int) -> None:
        """Mark a number as given out."""
        block, bits = pools.mark(self.blocks, number)
        self.blocks[block] = bits
        self.changed.add(block)

    def give_back(self, number: int) -> None:
        """Mark a number as free."""
        block, bits = pools.release(self.blocks, number)
        self.blocks[block] = bits
        self.changed.add(block)

    def compares(self) -> list[Compare]:
        """The changed blocks must be as they were read."""
        return [Unchanged(f"{self.prefix}{b}", self.revisions.get(b, 0)) for b in sorted(self.changed)]

    def puts(self) -> list[Operation]:
        """The changed blocks."""
        return [Put(f"{self.prefix}{b}", pools.format_block(self.blocks[b])) for b in sorted(self.changed)]
