"""What all writers of specs share: one transaction per change, planned again when it lost a race.

Two writers never get the same number, and one that dies half-way has written nothing.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

from specs.model.records import Record, decode_json
from specs.store.etcd import Entry, Store
from warren.errors import Invalid, Unavailable

TRIES = 60


class Writer:
    """A store, and how to write to it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._locks: dict[str, threading.Lock] = {}
        self._locks_lock = threading.Lock()

    def one_at_a_time(self, what: str) -> threading.Lock:
        """Held while this process writes to one thing: threads that wait here need not lose a race in etcd."""
        with self._locks_lock:
            return self._locks.setdefault(what, threading.Lock())

    def retry(self, attempt: Callable[[], Any]) -> Any:
        """Until an attempt returns something; None means that somebody else was faster."""
        for tries in range(TRIES):
            result = attempt()
            if result is not None:
                return result
            time.sleep(random.uniform(0, min(0.05, 0.001 * 2**tries)))
        raise Unavailable("etcd", f"{TRIES} transactions in a row lost against other writers; nothing was changed")


def decoded(kind: type[Record], entry: Entry) -> Any:
    """The record of an entry, or None for a malformed one."""
    try:
        return decode_json(kind, entry.value, entry.key)
    except Invalid:
        return None
