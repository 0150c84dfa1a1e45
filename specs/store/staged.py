"""A store in memory, on top of etcd: writers stage their transactions in it, and many of them are committed as one.

All checks of the writers take in what is staged, so a whole document can be tried before anything is written. A commit compares
what the staged transactions were planned from, as each of them would have done alone.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Sequence

from specs.store.values import Compare, Delete, Empty, Entry, Get, NoneNewer, Outcome, Put, Transactions, TxnOperation, Unchanged

OPERATIONS_LIMIT = 120  # of one commit, and of its compares; etcd allows 128 (--max-txn-ops)
ROOM = 24  # operations that one more change may need: with less room left, a commit is full
BYTES_LIMIT = 512 * 1024  # of the values of one commit; etcd allows 1.5 MiB a request (--max-request-bytes)
_STAGED = 1 << 62  # revisions of staged entries begin here; etcd's never get there

Keys = list[str]  # inside the class, `list` is the method
EntryList = list[Entry]
Operations = list[TxnOperation]
CommitFunction = Callable[[Sequence[Compare], Sequence[TxnOperation]], Outcome]


class Outrun(Exception):
    """Another writer has changed what the staged transactions were planned from. They are dropped."""


class StagedStore:
    """What is known of a store, with staged transactions on it. Keys that are not known yet are read from `store`. Nothing
    is written before `commit_by`; after it, a transaction that cannot stand in one commit with those before it commits them first. Not
    for several threads."""

    def __init__(self, store: Transactions, entries: Iterable[Entry], whole: str, but: str | None = None) -> None:
        """`entries` are all keys below the prefix `whole`, without those below `but`."""
        self._store = store
        self._commit: CommitFunction | None = None
        self._entries = {entry.key: entry for entry in entries}
        self._keys = sorted(self._entries)
        self._absent: set[str] = set()
        self._whole = [whole] if but is None else []  # prefixes below which every key is known
        self._whole_but = (whole, but) if but is not None else None  # the same, but for the second prefix
        self._base: dict[str, Entry | None] = {}  # the staged keys as etcd has them
        self._compares: dict[Compare, None] = {}
        self._outdated: Sequence[Compare] = ()
        self._cleared: list[str] = []  # prefixes below which the next commit deletes all keys
        self._bytes = 0
        self._clock = _STAGED
        self.commits = 0  # transactions written so far

    def read(self, *prefixes: str) -> None:
        """Read all keys below these prefixes in one round trip, if they are not known."""
        unknown = [prefix for prefix in prefixes if not self._is_whole(prefix)]
        if not unknown:
            return
        for prefix, entries in zip(unknown, self._store.txn((), [Get(p, prefix=True) for p in unknown]).found, strict=True):
            self._whole.append(prefix)
            for entry in entries:
                if entry.key not in self._base:
                    self._set(entry.key, entry)

    # ---- what a writer needs of a store -----------------------------------------------------------------------------

    def get(self, key: str, revision: int = 0) -> Entry | None:
        """Return one key, or None; with a revision, as etcd had it then."""
        if revision:
            return self._store.get(key, revision)
        self._know([key])
        return self._entries.get(key)

    def list(self, prefix: str) -> tuple[int, EntryList]:
        """Return all keys below a prefix, sorted, after a revision that means nothing."""
        return 0, [self._entries[key] for key in self._below(prefix)]

    def txn(self, compares: Sequence[Compare], success: Sequence[TxnOperation], failure: Sequence[TxnOperation] = ()) -> Outcome:
        """Stage the writes of `success` if every compare holds. The revision of the outcome means nothing."""
        writes = [operation for operation in success if not isinstance(operation, Get)]
        self._know(
            [
                each.key
                for each in (*compares, *success, *failure)
                if not isinstance(each, Empty | NoneNewer) and not _ranges(each)
            ]
        )
        if not all(map(self._holds, compares)):
            return Outcome(False, self._read(failure), 0)
        if writes and self._commit is not None and not self._fits(compares, writes):
            self.commit()
        for compare in compares if writes else ():
            self._rely_on(compare)
        for write in writes:
            self._write(write)
        return Outcome(True, self._read(success), 0)

    def written(self, prefix: str) -> Sequence[tuple[str, str | None, int]]:
        """What is staged below a prefix: keys, values (None: deleted), create revisions."""
        staged = ((key, self._entries.get(key)) for key in self._base if key.startswith(prefix))
        return [(key, e.value, e.create_revision) if e is not None else (key, None, 0) for key, e in staged]

    # ---- commits ----------------------------------------------------------------------------------------------------

    def commit_by(self, commit: CommitFunction) -> None:
        """Let this transaction function of a store write from now on."""
        self._commit = commit

    @property
    def pending(self) -> bool:
        """Whether anything is staged."""
        return bool(self._base)

    @property
    def full(self) -> bool:
        """Whether the next commit may have no room for one more change."""
        return max(len(self._base), len(self._compares)) > OPERATIONS_LIMIT - ROOM or self._bytes > BYTES_LIMIT

    def commit(self) -> None:
        """Write what is staged, in one transaction. Raises `Outrun`, after which nothing is staged; `refresh` comes next."""
        assert self._commit is not None
        operations, compares = self._operations(), tuple(self._compares)
        if not operations:
            self.roll_back()
            self.commits += 1
            return
        outcome = self._commit(compares, operations)
        if not outcome.succeeded:
            self.roll_back()
            self._outdated = compares
            raise Outrun
        for key, before in self._base.items():
            if (entry := self._entries.get(key)) is not None:
                created = before.create_revision if before is not None else outcome.revision
                self._entries[key] = Entry(key, entry.value, created, outcome.revision)
        self.commits += 1
        self._forget()

    def roll_back(self) -> None:
        """Drop what is staged."""
        for key, entry in self._base.items():
            self._set(key, entry)
        self._forget()

    def _forget(self) -> None:
        self._base.clear()
        self._compares.clear()
        self._cleared.clear()
        self._bytes = 0

    def _operations(self) -> Sequence[TxnOperation]:
        """The writes of a commit, each key once, which etcd demands."""
        operations: Operations = [Delete(prefix, prefix=True) for prefix in self._cleared]
        for key, before in self._base.items():
            entry = self._entries.get(key)
            if entry is not None and (before is None or before.value != entry.value):
                operations.append(Put(key, entry.value))
            elif entry is None and before is not None and not key.startswith(tuple(self._cleared)):
                operations.append(Delete(key))
        return operations

    def refresh(self) -> None:
        """Read what the commit that was outrun had relied on."""
        reads = [Get(c.prefix, prefix=True) if isinstance(c, Empty | NoneNewer) else Get(c.key) for c in self._outdated]
        for read, entries in zip(reads, self._store.txn((), reads).found, strict=True):
            for key in self._below(read.key) if read.prefix else [read.key]:
                self._set(key, None)
            for entry in entries:
                self._set(entry.key, entry)

    # ---- staging ----------------------------------------------------------------------------------------------------

    def _fits(self, compares: Sequence[Compare], writes: Sequence[TxnOperation]) -> bool:
        """Whether a transaction can be part of the next commit: it is small enough; etcd evaluates compares before any write, and
        refuses a write below a prefix that the same transaction deletes."""
        keys = {write.key for write in writes}
        if any(key.startswith(tuple(self._cleared)) for key in keys):
            return False
        emptied = [compare.prefix for compare in compares if isinstance(compare, Empty)]
        if any(before is not None and key.startswith(tuple(emptied)) for key, before in self._base.items()):
            return False
        size = max(len(self._base.keys() | keys), len(self._compares.keys() | set(compares)))
        return not self._base or (size <= OPERATIONS_LIMIT and self._bytes <= BYTES_LIMIT)

    def _holds(self, compare: Compare) -> bool:
        if isinstance(compare, Empty):
            return not self._below(compare.prefix)
        if isinstance(compare, NoneNewer):
            return all(self._revision(key) <= compare.revision for key in self._below(compare.prefix))
        return self._revision(compare.key) == compare.mod_revision

    def _rely_on(self, compare: Compare) -> None:
        """Let the next commit compare what is not staged itself."""
        if isinstance(compare, Empty):
            self._compares[compare] = None
        elif isinstance(compare, NoneNewer):
            keys = {*self._below(compare.prefix), *(key for key in self._base if key.startswith(compare.prefix))}
            entries = (self._base.get(key, self._entries.get(key)) for key in keys)  # as etcd has them
            newest = max((entry.mod_revision for entry in entries if entry is not None), default=0)
            self._compares[NoneNewer(compare.prefix, newest)] = None
        elif compare.key not in self._base:
            self._compares[Unchanged(compare.key, self._revision(compare.key))] = None

    def _write(self, write: TxnOperation) -> None:
        if isinstance(write, Put):
            self._clock += 1
            self._bytes += len(write.value)
            before = self._entries.get(write.key)
            self._stage(write.key, Entry(write.key, write.value, before.create_revision if before else self._clock, self._clock))
        elif _ranges(write):
            for key in self._below(write.key):
                self._stage(key, None)
            self._cleared.append(write.key)
        else:
            self._stage(write.key, None)

    def _stage(self, key: str, entry: Entry | None) -> None:
        self._base.setdefault(key, self._entries.get(key))
        self._set(key, entry)

    # ---- what is known ----------------------------------------------------------------------------------------------

    def _is_whole(self, prefix: str) -> bool:
        """Whether every key below a prefix is known."""
        if prefix.startswith(tuple(self._whole)):
            return True
        if self._whole_but is None:
            return False
        whole, but = self._whole_but
        return prefix.startswith(whole) and not prefix.startswith(but) and not but.startswith(prefix)

    def _know(self, keys: Iterable[str]) -> None:
        """Read the keys that are not known, in one round trip."""
        unknown = [k for k in dict.fromkeys(keys) if k not in self._entries and k not in self._absent and not self._is_whole(k)]
        for first in range(0, len(unknown), OPERATIONS_LIMIT):
            some = unknown[first : first + OPERATIONS_LIMIT]
            for key, entries in zip(some, self._store.txn((), [Get(key) for key in some]).found, strict=True):
                self._set(key, entries[0] if entries else None)

    def _read(self, operations: Sequence[TxnOperation]) -> tuple[tuple[Entry, ...], ...]:
        """The entries of each Get. Their keys are known."""
        results = []
        for get in operations:
            if isinstance(get, Get):
                keys = self._below(get.key) if get.prefix else [get.key]
                results.append(tuple(entry for key in keys if (entry := self._entries.get(key)) is not None))
        return tuple(results)

    def _below(self, prefix: str) -> Keys:
        """The keys below a prefix."""
        self.read(prefix)
        first = bisect_left(self._keys, prefix)
        return self._keys[first : bisect_left(self._keys, prefix + "\U0010ffff", first)]

    def _revision(self, key: str) -> int:
        entry = self._entries.get(key)
        return entry.mod_revision if entry is not None else 0

    def _set(self, key: str, entry: Entry | None) -> None:
        if entry is None:
            if self._entries.pop(key, None) is not None:
                del self._keys[bisect_left(self._keys, key)]
            self._absent.add(key)
            return
        if key not in self._entries:
            insort(self._keys, key)
        self._entries[key] = entry


def _ranges(operation: Compare | TxnOperation) -> bool:
    return isinstance(operation, Get | Delete) and operation.prefix
