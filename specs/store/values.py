"""Values that a store reads and writes: entries, events, the parts of a transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from warren.errors import Unavailable


class KeyRange(NamedTuple):
    """The keys from `first` to `end`, without `end`."""

    first: str
    end: str


def below(prefix: str) -> KeyRange:
    """All keys that begin with a prefix."""
    return KeyRange(prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1))


@dataclass(frozen=True, slots=True)
class Entry:
    """A key with its value and etcd's revisions."""

    key: str
    value: str
    create_revision: int
    mod_revision: int


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """A change of a key; value None means deleted."""

    key: str
    value: str | None
    create_revision: int
    mod_revision: int


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Compare: the key's last change was at this revision; 0 means the key does not exist."""

    key: str
    mod_revision: int


@dataclass(frozen=True, slots=True)
class Empty:
    """Compare: no key begins with the prefix."""

    prefix: str


@dataclass(frozen=True, slots=True)
class NoneNewer:
    """Compare: no key that begins with the prefix has changed after this revision, that of the last change among those that were read."""

    prefix: str
    revision: int


@dataclass(frozen=True, slots=True)
class Put:
    """Write a key."""

    key: str
    value: str
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a key, or all keys below a prefix."""

    key: str
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class Get:
    """Read a key, or all keys below a prefix, now or as of a revision."""

    key: str
    prefix: bool = False
    revision: int = 0


Compare = Unchanged | Empty | NoneNewer
TxnOperation = Put | Delete | Get


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a transaction: whether the compares held, what each Get read (in order), and etcd's revision."""

    succeeded: bool
    found: tuple[tuple[Entry, ...], ...]
    revision: int


class Transactions(Protocol):
    """Reads and transactions: all that a writer needs of a store."""

    def get(self, key: str, revision: int = 0) -> Entry | None:
        """Return one key, or None."""
        ...

    def list(self, prefix: str) -> tuple[int, list[Entry]]:
        """Return the revision and all keys below a prefix, sorted."""
        ...

    def txn(self, compares: Sequence[Compare], success: Sequence[TxnOperation], failure: Sequence[TxnOperation] = ()) -> Outcome:
        """Perform all of `success` if every compare holds, otherwise all of `failure`, atomically."""
        ...


class Compacted(Unavailable):
    """etcd has compacted the requested revision away."""


class Reread(Exception):
    """Raised by a callback of `Store.feed` to make it read everything again."""
