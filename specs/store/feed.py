"""The feed: everything in some ranges of keys, first as it is, then every change. Which ranges follows from what was read.

A host reads the endpoints of the networks that concern it (specs/interest.py). When a change makes another network concern it, the feed
reads that network as of the revision of the change, passes both on together, and watches the network from the next revision on.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Protocol

from specs.store.etcd import Store
from specs.store.values import Compacted, Entry, KeyRange, Reread, WatchEvent, below
from specs.store.watch import WatchStream
from warren.errors import Unavailable

log = logging.getLogger("warren.store")

LINGER_S = 60.0  # how long a prefix is read on after it has ceased to be wanted: containers that restart come back


class Wants(Protocol):
    """What a feed reads: `ranges` always, and the prefixes that follow from the keys that it has put."""

    @property
    def ranges(self) -> tuple[KeyRange, ...]:
        """The ranges that are always read."""

    def reset(self) -> None:
        """Forget all keys."""

    def complete(self) -> None:
        """Take note that everything has been put, after a `reset`."""

    def put(self, key: str, value: str | None) -> None:
        """Take a key (value None: deleted)."""

    def prefixes(self) -> frozenset[str]:
        """The prefixes to read besides."""


class Fixed:
    """Wants some ranges of keys, and no more."""

    def __init__(self, *ranges: KeyRange) -> None:
        self.ranges = ranges

    def reset(self) -> None:
        """Do nothing."""

    def complete(self) -> None:
        """Do nothing."""

    def put(self, key: str, value: str | None) -> None:
        """Do nothing."""

    def prefixes(self) -> frozenset[str]:
        """Return nothing."""
        return frozenset()


def _as_they_are(entries: list[Entry]) -> list[Entry]:
    """The default of `complete`."""
    return entries


def _ignore(prefixes: frozenset[str]) -> None:
    """The default of `on_left`."""


class Feed:
    """Passes on what `wants` wants. `on_snapshot` gets everything as of a revision, `on_events` the changes up to a revision, with the
    keys of prefixes that are wanted since, and `on_left` the prefixes that are read no longer; whoever kept their keys forgets them.
    `on_down` is called once per outage, within some 4 s. `complete` may add entries to those that were read.

    Resumes a lost stream after the last revision seen. Reads everything again after a compaction, when etcd's revision has gone back
    or its cluster id has changed (a restored backup, another cluster), and when a callback raises `Reread`. When a callback raises
    `Unavailable`, it is called again with the same data or newer data; any other exception ends the feed.
    """

    def __init__(
        self,
        store: Store,
        wants: Wants,
        on_snapshot: Callable[[int, list[Entry]], None],
        on_events: Callable[[int, list[WatchEvent]], None],
        on_down: Callable[[str], None],
        on_left: Callable[[frozenset[str]], None] = _ignore,
        complete: Callable[[list[Entry]], list[Entry]] = _as_they_are,
    ) -> None:
        self._store, self._wants = store, wants
        self._on_snapshot, self._on_events, self._on_down, self._on_left = on_snapshot, on_events, on_down, on_left
        self._complete = complete
        self._positions: dict[KeyRange, int] = {}  # the newest revision seen of each range; empty: nothing is read yet
        self._needless: dict[str, float] = {}  # prefix -> since when it is not wanted
        self._followed: frozenset[str] = frozenset()
        self._cluster = 0
        self._witness: Entry | None = None  # the newest entry that was seen
        self._down, self._backoff_s = False, 0.1

    def run(self, stop: threading.Event) -> None:
        """Run until `stop`."""
        while not stop.is_set():
            try:
                if self._positions:
                    self._store.check_same(self._cluster, self._revision(), self._witness)
                else:
                    self._read()
                    self._up()
                self._watch(stop)
            except Reread as reason:
                log.info("feed.reread ranges=%s reason=%s", len(self._positions), reason)
                self._positions = {}
            except Unavailable as error:
                if stop.is_set():
                    return
                if not self._down:
                    self._down = True
                    self._on_down(str(error))
                stop.wait(self._backoff_s * random.uniform(0.8, 1.2))
                self._backoff_s = min(self._backoff_s * 2, 1.0)

    @property
    def followed(self) -> frozenset[str]:
        """The prefixes that are read besides the ranges; in `on_events` and `on_left` with what that call is about."""
        return self._followed

    def _up(self) -> None:
        self._down, self._backoff_s = False, 0.1

    def _revision(self) -> int:
        """The newest revision seen."""
        return max(self._positions.values())

    def _read(self) -> None:
        """Read everything that is wanted as of one revision."""
        try:
            revision, entries, followed = read(self._store, self._wants, self._complete)
        except Compacted as error:  # while the pages were read
            raise Reread(str(error)) from None
        self._cluster = self._store.cluster
        self._witness = max(entries, key=lambda entry: entry.mod_revision, default=None)
        self._followed, self._needless = followed, {}
        self._on_snapshot(revision, entries)
        self._positions = dict.fromkeys((*self._wants.ranges, *map(below, followed)), revision)

    def _watch(self, stop: threading.Event) -> None:
        stream = self._store.watch(self._revision, stop)
        for keys, position in self._positions.items():
            self._store.add_watch(stream, keys, position + 1)
        with closing(stream.responses()) as responses:
            for keys, response in responses:
                self._up()
                if response.events:
                    self._advance(stream, keys, [self._store.event(event) for event in response.events])

    def _advance(self, stream: WatchStream[KeyRange], keys: KeyRange, events: list[WatchEvent]) -> None:
        """Take changes of a range, and watch what is wanted now."""
        # not the header's revision: while it catches up, etcd sends 1000 revisions at a time under its newest
        revision = max(event.mod_revision for event in events)
        came, left = self._take(revision, events)
        self._positions[keys] = revision
        for arrived in came:
            self._positions[arrived] = revision
            self._store.add_watch(stream, arrived, revision + 1)
        for departed in left:
            del self._positions[departed]
            stream.remove(departed)

    def _take(self, revision: int, events: list[WatchEvent]) -> tuple[list[KeyRange], list[KeyRange]]:
        """Take changes up to a revision. Returns the ranges that are read from now on, and those that are read no longer."""
        for event in events:
            self._wants.put(event.key, event.value)
        came, arrived = list[str](), list[Entry]()
        while fresh := sorted(self._wants.prefixes() - self._followed - set(came)):
            if any(one.startswith(other) or other.startswith(one) for one in fresh for other in self._followed):
                raise Reread("everything is wanted, or no longer")
            came += fresh
            arrived += [entry for prefix in fresh for entry in self._arrival(prefix, revision)]
        wanted = self._wants.prefixes()
        left = self._no_longer_needed(wanted)
        before, self._followed = self._followed, (self._followed | wanted) - left
        try:
            self._on_events(revision, events + [WatchEvent(e.key, e.value, e.create_revision, e.mod_revision) for e in arrived])
        except Unavailable:
            self._followed = before  # these events come again
            raise
        if left:
            self._on_left(left)
        last = next((event for event in reversed(events) if event.value is not None), None)
        if last is not None:
            self._witness = Entry(last.key, str(last.value), last.create_revision, last.mod_revision)
        return [below(prefix) for prefix in came], [below(prefix) for prefix in sorted(left)]

    def _arrival(self, prefix: str, revision: int) -> list[Entry]:
        """The entries of a prefix as of a revision."""
        try:
            entries = self._complete(self._store.read(below(prefix), revision)[1])
        except Compacted as error:
            raise Reread(str(error)) from None
        for entry in entries:
            self._wants.put(entry.key, entry.value)
        return entries

    def _no_longer_needed(self, wanted: frozenset[str]) -> frozenset[str]:
        """The prefixes that have not been wanted for a while."""
        now = time.monotonic()
        since = {prefix: self._needless.get(prefix, now) for prefix in self._followed - wanted}
        left = frozenset(prefix for prefix, start in since.items() if now - start >= LINGER_S)
        self._needless = {prefix: start for prefix, start in since.items() if prefix not in left}
        return left


def read(
    store: Store, wants: Wants, complete: Callable[[list[Entry]], list[Entry]] = _as_they_are
) -> tuple[int, list[Entry], frozenset[str]]:
    """Read everything that is wanted as of one revision: the revision, the entries, and the prefixes that were read. Raises
    `Unavailable`, `Compacted`."""
    wants.reset()
    revision, entries = 0, list[Entry]()
    followed: frozenset[str] = frozenset()
    ranges: Iterable[KeyRange] = wants.ranges
    while ranges:
        for keys in ranges:
            revision, part = store.read(keys, revision)
            part = complete(part)
            for entry in part:
                wants.put(entry.key, entry.value)
            entries += part
        fresh = wants.prefixes() - followed
        followed |= fresh
        ranges = [below(prefix) for prefix in sorted(fresh)]
    wants.complete()
    return revision, entries, followed


def feed(
    store: Store,
    prefix: str,
    on_snapshot: Callable[[int, list[Entry]], None],
    on_events: Callable[[int, list[WatchEvent]], None],
    on_down: Callable[[str], None],
    stop: threading.Event,
) -> None:
    """Pass on everything below a prefix until `stop`. Blocks."""
    Feed(store, Fixed(below(prefix)), on_snapshot, on_events, on_down).run(stop)
