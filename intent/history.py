"""Reads the last parsable version of a policy from etcd's history when the newest one cannot be parsed.

Warren itself refuses wrong policies; this is for values that somebody writes to etcd by other means. A process that saw the
earlier version keeps it (`snapshot.put`). A process that starts later finds the same one here, so all hosts agree and a
restart changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from specs.snapshot import STANDING, decode_entry
from specs.store.etcd import Store
from specs.store.values import Compacted, Entry

STEPS = 64  # how many wrong versions in a row are skipped

Before = Callable[[Entry], Entry | None]


def with_history(entries: Iterable[Entry], store: Store) -> Iterator[Entry]:
    """The entries, with the last parsable version before each policy that cannot be parsed. Raises `Unavailable`."""

    def before(entry: Entry) -> Entry | None:
        try:
            return store.get(entry.key, entry.mod_revision - 1)
        except Compacted:
            return None

    return standing(entries, before)


def standing(entries: Iterable[Entry], before: Before) -> Iterator[Entry]:
    """The same; `before` returns a key's entry as it was before its last change, None if it did not exist or etcd has
    compacted it."""
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
