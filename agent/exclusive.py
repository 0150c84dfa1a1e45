"""Exclusive: locks by key."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class Exclusive:
    """Locks by key: one thread at a time holds a key. Locks exist only while they are held. Thread-safe; not reentrant."""

    def __init__(self) -> None:
        self._held: set[str] = set()
        self._released = threading.Condition()

    def held(self, key: str) -> bool:
        """Return whether a thread holds the key now."""
        with self._released:
            return key in self._held

    def all_held(self) -> set[str]:
        """Return the keys that are held now."""
        with self._released:
            return set(self._held)

    @contextlib.contextmanager
    def hold(self, key: str, wait: bool = True) -> Iterator[bool]:
        """Hold a key during the context. Without `wait`, yield False if another thread holds it."""
        with self._released:
            while wait and key in self._held:
                self._released.wait()
            free = key not in self._held
            self._held.add(key)
        if not free:
            yield False
            return
        try:
            yield True
        finally:
            with self._released:
                self._held.discard(key)
                self._released.notify_all()
