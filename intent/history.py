"""What stands when a policy's record cannot be read: the last one that could, from etcd's history.

Warren's own doors refuse wrong policies; this is for what somebody puts into etcd by other means. A process that was there keeps
what it has (`snapshot.put`); one that reads anew finds the same here, so that all hosts agree and a restart changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from specs.snapshot import STANDING, decode_entry
from specs.store.etcd import Compacted, Entry, Store

STEPS = 64  # how many wrong values, one after the other, are looked behind

Before = Callable[[Entry], Entry | None]


def with_history(entries: Iterable[Entry], store: Store) -> Iterator[Entry]:
    """The entries; before one of a policy that cannot be read goes the last that could. Raises `Unavailable`."""

    def before(entry: Entry) -> Entry | None:
        try:
            return store.get(entry.key, entry.mod_revision - 1)
        except Compacted:
            return None

    return standing(entries, before)


def standing(entries: Iterable[Entry], before: Before) -> Iterator[Entry]:
    """The same; `before` gives a key's entry as it was before its last change, None where it was not there or is forgotten."""
    for entry in entries:
        if entry.key.startswith(STANDING) and not _sound(entry):
            past = before(entry)
            for _ in range(STEPS):
                if past is None or _sound(past):
                    break
                past = before(past)
            if past is not None and _sound(past):
                yield past
        yield entry


def _sound(entry: Entry) -> bool:
    decoded = decode_entry(entry.key, entry.value)
    return decoded is not None and decoded.record is not None
