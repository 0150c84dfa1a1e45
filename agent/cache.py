"""The agent's cache of the store: all specs, and the states of this host's endpoints, kept current by two feeds.

API requests read from etcd. The cache serves what must be fast or must work while etcd is unavailable.
"""

from __future__ import annotations

import gc
import json
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from agent.listeners import Listeners
from agent.offered import OfferedStore
from agent.states import State, States
from agent.worker import Worker
from intent.history import with_history
from specs import keys
from specs.lineage import continues
from specs.model.endpoint import Endpoint
from specs.snapshot import Decoded, Snapshot, put, updated
from specs.store.continuity import Continuity
from specs.store.etcd import Store
from specs.store.feed import feed
from specs.store.values import Entry, WatchEvent
from warren.errors import Unavailable

log = logging.getLogger("warren.cache")

UNREGISTERED = "this machine has not registered yet"  # the reason why an agent that has just started does not act


@dataclass(frozen=True, slots=True)
class CacheView:
    """The specs at one moment, immutable: a change creates a new view. Take the view once per step: `view = cache.view`."""

    snapshot: Snapshot = field(default_factory=Snapshot)
    local_endpoints: Mapping[str, Endpoint] = field(default_factory=dict)  # endpoints of this host, by id
    publishers: Mapping[str, Endpoint] = field(default_factory=dict)  # endpoints of all hosts that publish ports, by id


class _News(NamedTuple):
    """A change of the view: both snapshots, the decoded changes, and the ids of the local endpoints that they affect."""

    before: Snapshot
    after: Snapshot
    changes: Sequence[Decoded]
    touched: set[str]


class Cache:
    """Holds the newest `view`. `synced` is set while the agent may act on it: after the first full read, unless the store must
    not be acted on (`held`) or this machine is not accepted as the host (`refused`). Nothing may be removed from the host
    without it.

    `changed` is called with the ids of local endpoints whose record or interface was added, changed or removed; `updated` with
    the snapshots before and after each change, and the decoded changes; `reread` after each full read. `host_changed` is
    called when this host's record may have changed, or etcd's history has. `veths` returns the veths of endpoints that exist
    on this host.
    """

    def __init__(
        self,
        store: Store,
        host: str,
        continuity: Continuity | None = None,
        veths: Callable[[], Collection[str]] = tuple,
        refused: str | None = None,
    ) -> None:
        self.host, self.view, self.states = host, CacheView(), States()
        self.synced = threading.Event()
        self.down: str | None = "not read yet"  # why the feed of the specs is down
        self.revision = 0  # the newest revision that touched a spec
        self.changed: Listeners[[set[str]]] = Listeners()
        self.updated: Listeners[[Snapshot, Snapshot, Sequence[Decoded]]] = Listeners()
        self.reread: Listeners[[]] = Listeners()
        self.host_changed: Listeners[[]] = Listeners()
        self.held: str | None = None  # why a store that was read is not acted on
        self.refused = refused  # why this machine is not this host
        self._continuity, self._veths = continuity, veths
        self._offered: OfferedStore | None = None  # a full read that is not taken yet
        self._taken = False  # whether a full read was taken
        self._offering = threading.Lock()
        self._store = store
        self._lock = threading.Lock()  # writers hold it; readers need no lock
        self._ahead: dict[
            str, tuple[int, str | None]
        ] = {}  # key -> revision and value of this agent's writes that the feed has not delivered yet
        self._specs_feed = Worker("feed of specs", self._feed_specs, interval_s=0)
        self._states_feed = Worker("feed of states", self._feed_states, interval_s=0)

    def workers(self) -> Sequence[Worker]:
        """Return the workers of the two feeds."""
        return (self._specs_feed, self._states_feed)

    def stop(self) -> None:
        """Stop the feeds and wake all waiting attaches."""
        for worker in self.workers():
            worker.stop()
        self.states.stop()

    def applied(self, written: Sequence[tuple[str, str | None]], revision: int) -> None:
        """Apply what this agent has just written (None: deleted), before the feed delivers it."""
        with self._lock:
            self._ahead.update({key: (revision, value) for key, value in written})
            self.revision = max(self.revision, revision)
            news = self._take([(key, value, revision) for key, value in written])
        self.updated(news.before, news.after, news.changes)
        self.changed(news.touched)

    def _take(self, changes: Iterable[tuple[str, str | None, int]]) -> _News:
        """Replace the view by one with the changes. The caller holds the lock."""
        before = self.view.snapshot
        snapshot, decoded_changes = updated(before, changes)
        endpoints = [decoded for decoded in decoded_changes if decoded.kind == "endpoint"]
        local, touched = self.view.local_endpoints, set[str]()
        if endpoints:
            local = dict(local)
            touched = {decoded.id for decoded in endpoints if self._update(local, decoded)}
        self.view = CacheView(snapshot, local, _publishers(self.view.publishers, endpoints))
        return _News(before, snapshot, decoded_changes, touched)

    def _update(self, local: dict[str, Endpoint], decoded: Decoded) -> bool:
        """Update `local` with one endpoint; return whether the endpoint is or was a local one."""
        if isinstance(decoded.record, Endpoint) and decoded.record.host == self.host:
            local[decoded.id] = decoded.record
            return True
        return local.pop(decoded.id, None) is not None

    # ---- the feed of specs ----------------------------------------------------------------------------------------

    def _feed_specs(self, items: frozenset[str]) -> None:
        stop = self._specs_feed.stopping
        feed(self._store, keys.SPEC, self._specs_read, self._specs_changed, self._feed_down, stop)

    def _specs_read(self, revision: int, entries: list[Entry]) -> None:
        snapshot = Snapshot()
        for entry in with_history(entries, self._store):
            put(snapshot, entry.key, entry.value, entry.create_revision)
        self.down = None
        log.info("specs.read revision=%d keys=%d", revision, len(entries))
        if self._continuity is None:
            self._take_snapshot(snapshot, revision, max((entry.mod_revision for entry in entries), default=0))
            return
        with self._offering:
            self._offered = OfferedStore(self._continuity.origin(revision, entries), snapshot, entries)
        self.consider()
        self.host_changed()

    def consider(self) -> None:
        """Take the store that is offered, unless this host must hold."""
        with self._offering:
            offered, continuity = self._offered, self._continuity
            if offered is None or continuity is None:
                return
            before = self.view.snapshot if self._taken else None
            held = offered.hold(self.host, continuity.known, before, self._veths() if before is None else ())
            if held != self.held:
                log.info("specs.held reason=%s", held or "none")
                self.held = held
                self._permit()
            if held is not None:
                return
            if self._taken and not continues(continuity.known, offered.origin):
                self._ahead, self.revision = {}, 0  # another history
            self._offered = None
            continuity.remember(offered.origin)
            self._take_snapshot(offered.snapshot, offered.origin.revision, offered.newest)

    def require_permission(self) -> None:
        """Raise `Unavailable` if the agent has been refused as this host, or holds."""
        reason = self.held or (self.refused if self.refused != UNREGISTERED else None)
        if reason is not None:
            raise Unavailable(f"the agent of {self.host}", reason)

    def snapshot_without_etcd(self) -> Snapshot | None:
        """Return the specs as they were last read while etcd is known to be away, else None: then etcd is to be asked."""
        return self.view.snapshot if self.down is not None and self._taken else None

    def permit(self, refused: str | None) -> None:
        """Say that this machine is this host, or why it is not."""
        if refused != self.refused:
            self.refused = refused
            if self._permit() and refused is None:
                self.changed(set(self.view.local_endpoints))
                self.reread()

    def _permit(self) -> bool:
        permitted = self._taken and self.held is None and self.refused is None
        self.synced.set() if permitted else self.synced.clear()
        return permitted

    def _take_snapshot(self, snapshot: Snapshot, revision: int, newest: int) -> None:
        with self._lock:
            self._ahead = {key: ahead for key, ahead in self._ahead.items() if ahead[0] > revision}
            for key, (at, value) in self._ahead.items():
                put(snapshot, key, value, at)
            before = self.view.local_endpoints
            local = {endpoint.id: endpoint for endpoint in snapshot.endpoints.values() if endpoint.host == self.host}
            publishers = {e.id: e for e in snapshot.endpoints.values() if e.active and e.publish}
            self.view = CacheView(snapshot, local, publishers)
            self.revision = max(self.revision, newest)
            touched = set(before) | set(local)
        self._taken = True
        gc.collect()
        gc.freeze()  # keeps the garbage collector from scanning 10 000 records during an attach
        if self._permit():
            self.changed(touched)
            self.reread()

    def _specs_changed(self, revision: int, events: list[WatchEvent]) -> None:
        self.down = None
        if self._continuity is not None and self._offer_changes(self._continuity, revision, events):
            return
        with self._lock:
            changes: list[tuple[str, str | None, int]] = []
            for event in events:
                self.revision = max(self.revision, event.mod_revision)
                ahead = self._ahead.get(event.key)
                if ahead is not None and event.mod_revision < ahead[0]:
                    continue
                self._ahead.pop(event.key, None)
                changes.append((event.key, event.value, event.create_revision))
            publishers = self.view.publishers
            news = self._take(changes)
            publishers_changed = self.view.publishers is not publishers
        self.updated(news.before, news.after, news.changes)
        if news.touched or publishers_changed or any(event.key.startswith(keys.NETWORKS) for event in events):
            self.changed(news.touched)
        if any(event.key == keys.host(self.host) for event in events):
            self.host_changed()

    def _offer_changes(self, continuity: Continuity, revision: int, events: list[WatchEvent]) -> bool:
        """Add changes to the store that is offered, if one is. Raises `Reread` if another process has seen etcd go back."""
        with self._offering:
            offered = self._offered
            if offered is not None:
                offered.add(events, revision)
            elif continuity.known is not None:
                continuity.follow(revision, events)
                return False
        self.consider()
        return offered is not None

    # ---- the feed of states ---------------------------------------------------------------------------------------

    def _feed_states(self, items: frozenset[str]) -> None:
        stop = self._states_feed.stopping
        prefix = keys.status_endpoints_of(self.host)
        feed(self._store, prefix, self._states_read, self._states_changed, self._feed_down, stop)

    def _states_read(self, revision: int, entries: list[Entry]) -> None:
        states = {entry.key.rpartition("/")[2]: parse_state(entry.value) for entry in entries}
        self.states.replace({endpoint_id: state for endpoint_id, state in states.items() if state is not None})

    def _states_changed(self, revision: int, events: list[WatchEvent]) -> None:
        for event in events:
            self.states.put(event.key.rpartition("/")[2], parse_state(event.value) if event.value is not None else None)
        ids = {event.key.rpartition("/")[2] for event in events}
        local = self.view.local_endpoints
        behind_interfaces = {i for i in ids if (record := local.get(i)) is not None and record.port is not None}
        if behind_interfaces:  # the interface has appeared or disappeared
            self.changed(behind_interfaces)

    def _feed_down(self, reason: str) -> None:
        self.down = reason
        log.info("feed.down reason=%s", reason)


def _publishers(before: Mapping[str, Endpoint], changed: Iterable[Decoded]) -> Mapping[str, Endpoint]:
    """Return the endpoints that publish ports after these endpoints have changed: the same mapping if no such endpoint did."""
    changed = [
        decoded
        for decoded in changed
        if decoded.id in before or (isinstance(decoded.record, Endpoint) and decoded.record.publish)
    ]
    if not changed:
        return before
    after = {i: endpoint for i, endpoint in before.items() if i not in {decoded.id for decoded in changed}}
    records = (decoded.record for decoded in changed)
    return after | {e.id: e for e in records if isinstance(e, Endpoint) and e.active and e.publish}


def parse_state(text: str) -> State | None:
    """Parse a state from the store; return None if the text is not a valid state."""
    try:
        data = json.loads(text)
        return State(str(data["state"]), str(data.get("reason") or ""), int(data["revision"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
