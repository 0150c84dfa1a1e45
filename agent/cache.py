"""What this agent knows of the store: all specs and the states of its own endpoints, kept up by two feeds.

Reads for clients go to etcd; this copy is for what must be quick or must go on while etcd is away.
"""

from __future__ import annotations

import gc
import json
import logging
import threading
from collections.abc import Callable

from agent.states import State, States
from intent.history import with_history
from specs.model.records import Endpoint
from specs.snapshot import Decoded, Snapshot, put
from specs.store import keys
from specs.store.etcd import Entry, Event, Store

log = logging.getLogger("warren.known")

Changed = Callable[[set[str]], None]  # ids of endpoints of this host whose record came, changed or went


class Known:
    """The copy. `read` is set after the first full read; nothing may be removed from the host before that."""

    def __init__(self, store: Store, host: str, on_change: Changed, on_read: Callable[[], None]) -> None:
        self.host, self.snapshot, self.states = host, Snapshot(), States()
        self.mine: dict[str, Endpoint] = {}
        self.read = threading.Event()
        self.down: str | None = "not read yet"
        self.wanted = 0  # the newest revision that touched a spec
        self._store, self._on_change, self._on_read = store, on_change, on_read
        self._lock = threading.Lock()
        self._ahead: dict[str, tuple[int, str | None]] = {}  # own writes that the feed has not shown yet
        self._stop = threading.Event()

    def start(self) -> None:
        """Start the feeds."""
        feeds = (
            (keys.SPEC, self._specs_read, self._specs_changed),
            (keys.status_endpoints_of(self.host), self._states_read, self._states_changed),
        )
        for prefix, read, changed in feeds:
            arguments = (prefix, read, changed, self._feed_down, self._stop)
            threading.Thread(target=self._store.feed, args=arguments, name=f"feed {prefix}", daemon=True).start()

    def stop(self) -> None:
        """End the feeds and wake all waiting attaches."""
        self._stop.set()
        self.states.stop()

    def wrote(self, key: str, value: str | None, revision: int) -> None:
        """Take what this agent has just written (None: deleted), before the feed tells it."""
        with self._lock:
            self._ahead[key] = (revision, value)
            self.wanted = max(self.wanted, revision)
            touched = self._note(put(self.snapshot, key, value, revision))
        self._on_change(touched)  # the feed will find nothing new in it

    # ---- the feed of specs ----------------------------------------------------------------------------------------

    def _specs_read(self, revision: int, entries: list[Entry]) -> None:
        fresh = Snapshot()
        for entry in with_history(entries, self._store):
            put(fresh, entry.key, entry.value, entry.create_revision)
        with self._lock:
            self._ahead = {key: ahead for key, ahead in self._ahead.items() if ahead[0] > revision}
            for key, (at, value) in self._ahead.items():
                put(fresh, key, value, at)
            before, self.snapshot = self.mine, fresh
            self.wanted = max(self.wanted, *(entry.mod_revision for entry in entries), 0)
            self.mine = {e.id: e for e in fresh.endpoints.values() if e.host == self.host}
            touched = set(before) | set(self.mine)
        self.down = None
        log.info("specs.read revision=%d keys=%d", revision, len(entries))
        gc.collect()
        gc.freeze()  # the collector need not walk 10 000 records in the middle of an attach
        self.read.set()
        self._on_change(touched)
        self._on_read()

    def _specs_changed(self, revision: int, events: list[Event]) -> None:
        touched: set[str] = set()
        self.down = None
        with self._lock:
            for event in events:
                self.wanted = max(self.wanted, event.mod_revision)
                ahead = self._ahead.get(event.key)
                if ahead is not None and event.mod_revision < ahead[0]:
                    continue
                self._ahead.pop(event.key, None)
                touched |= self._note(put(self.snapshot, event.key, event.value, event.create_revision))
        if touched or any(event.key.startswith(keys.NETWORKS) for event in events):
            self._on_change(touched)

    def _note(self, decoded: Decoded | None) -> set[str]:
        """Keep `mine`; says which endpoints of this host are touched."""
        if decoded is None or decoded.kind != "endpoint":
            return set()
        record = decoded.record
        if isinstance(record, Endpoint) and record.host == self.host:
            self.mine[decoded.id] = record
            return {decoded.id}
        return {decoded.id} if self.mine.pop(decoded.id, None) is not None else set()

    # ---- the feed of states ---------------------------------------------------------------------------------------

    def _states_read(self, revision: int, entries: list[Entry]) -> None:
        found = {entry.key.rpartition("/")[2]: parse_state(entry.value) for entry in entries}
        self.states.replace({endpoint_id: state for endpoint_id, state in found.items() if state is not None})

    def _states_changed(self, revision: int, events: list[Event]) -> None:
        for event in events:
            self.states.put(event.key.rpartition("/")[2], parse_state(event.value) if event.value is not None else None)
        told = {event.key.rpartition("/")[2] for event in events}
        behind = {e for e in told if (record := self.mine.get(e)) is not None and record.port is not None}
        if behind:  # the interface has come or gone
            self._on_change(behind)

    def _feed_down(self, reason: str) -> None:
        self.down = reason
        log.info("feed.down reason=%s", reason)


def parse_state(text: str) -> State | None:
    """A state from the store; None for what is none."""
    try:
        data = json.loads(text)
        return State(str(data["state"]), str(data.get("reason") or ""), int(data["revision"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
