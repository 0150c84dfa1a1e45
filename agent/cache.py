"""The agent's cache of the store: all specs, and the states of this host's endpoints, kept current by two feeds.

API requests read from etcd. The cache serves what must be fast or must work while etcd is unavailable.
"""

from __future__ import annotations

import gc
import json
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from typing import NamedTuple

from agent.listeners import Listeners
from agent.offered import OfferedStore
from agent.revisions import Revisions
from agent.states import State, States
from intent.history import with_history
from specs import keys
from specs.checks import ValidNetworks
from specs.interest import Interest, networks_of
from specs.lineage import continues
from specs.model.derived import veth_name
from specs.model.endpoint import Endpoint
from specs.snapshot import Decoded, Snapshot, put, updated
from specs.store.continuity import Continuity
from specs.store.etcd import Store
from specs.store.feed import Feed, feed
from specs.store.placements import PlacementWriter, Publisher, parse_publisher
from specs.store.values import Entry, Reread, WatchEvent, below
from specs.store.writer import decoded
from warren.errors import Unavailable
from warren.memory import give_back_soon
from warren.worker import Worker

log = logging.getLogger("warren.cache")

UNREGISTERED = "this machine has not registered yet"  # the reason why an agent that has just started does not act


@dataclass(frozen=True, slots=True)
class CacheView:
    """The specs at one moment, immutable: a change creates a new view. Take the view once per step: `view = cache.view`."""

    snapshot: Snapshot = field(default_factory=Snapshot)
    local_endpoints: Mapping[str, Endpoint] = field(default_factory=dict)  # endpoints of this host, by id
    publishers: Mapping[str, Endpoint | Publisher] = field(default_factory=dict)  # those of all hosts that publish ports, by id
    index: Mapping[str, str] = field(default_factory=dict)  # this host's keys of specs/store/placements.py
    followed: frozenset[str] | None = None  # networks whose endpoints are in the snapshot; None: all
    before: InitVar[CacheView | None] = None  # the view that this one replaces
    valid: ValidNetworks = field(init=False)

    def __post_init__(self, before: CacheView | None) -> None:
        valid = before.valid.of(self.snapshot) if before is not None else ValidNetworks(self.snapshot)
        object.__setattr__(self, "valid", valid)


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
        self.revisions = Revisions()
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
        self._following = Feed(
            store,
            Interest(host, below(keys.PUBLISHERS)),
            self._specs_read,
            self._specs_changed,
            self._feed_down,
            self._specs_left,
            lambda entries: list(with_history(entries, store)),
        )
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
        """Apply what this agent has just written (None: deleted), before the feed delivers it. Endpoints of networks that do not
        concern this host are left out: the feed would not deliver what becomes of them."""
        with self._lock:
            for key, _ in written:
                self.revisions.note(key, revision)
            written = [(key, value) for key, value in written if self._concerns(key, value)]
            self._ahead.update({key: (revision, value) for key, value in written})
            news = self._take([(key, value, revision) for key, value in written])
        self.updated(news.before, news.after, news.changes)
        self.changed(news.touched)

    def _concerns(self, key: str, value: str | None) -> bool:
        followed = self.view.followed
        network_id = keys.network_of(key)
        if network_id is None or followed is None or network_id in followed:
            return True
        return key.rpartition("/")[2] in self.view.local_endpoints or (value is not None and f'"{self.host}"' in value)

    def _take(self, changes: Iterable[tuple[str, str | None, int]]) -> _News:
        """Replace the view by one with the changes. The caller holds the lock."""
        before, changes = self.view.snapshot, list(changes)
        snapshot, decoded_changes = updated(before, changes)
        endpoints = [decoded for decoded in decoded_changes if decoded.kind == "endpoint"]
        local, touched = self.view.local_endpoints, set[str]()
        if endpoints:
            local = dict(local)
            touched = {decoded.id for decoded in endpoints if self._update(local, decoded)}
        self.view = CacheView(
            snapshot,
            local,
            _publishers(self.view.publishers, endpoints, changes),
            _index(self.host, self.view.index, changes),
            networks_of(self._following.followed),
            self.view,
        )
        return _News(before, snapshot, decoded_changes, touched)

    def _update(self, local: dict[str, Endpoint], decoded: Decoded) -> bool:
        """Update `local` with one endpoint; return whether the endpoint is or was a local one."""
        if isinstance(decoded.record, Endpoint) and decoded.record.host == self.host:
            local[decoded.id] = decoded.record
            return True
        return local.pop(decoded.id, None) is not None

    # ---- the feed of specs ----------------------------------------------------------------------------------------

    def _feed_specs(self, items: frozenset[str]) -> None:
        self._following.run(self._specs_feed.stopping)

    def _specs_read(self, revision: int, entries: list[Entry]) -> None:
        snapshot = Snapshot()
        for entry in entries:
            put(snapshot, entry.key, entry.value, entry.create_revision)
        self.down = None
        log.info("specs.read revision=%d keys=%d", revision, len(entries))
        if self._continuity is None:
            self._take_snapshot(snapshot, revision, entries)
            return
        with self._offering:
            origin = self._continuity.origin(revision, entries)
            self._offered = OfferedStore(origin, snapshot, entries, self._networks(), self._hosts_of_veths(snapshot))
        self.consider()
        self.host_changed()

    def _networks(self) -> frozenset[str] | None:
        """The networks whose endpoints the feed reads; None: all."""
        return networks_of(self._following.followed)

    def _hosts_of_veths(self, snapshot: Snapshot) -> Mapping[str, str]:
        """At the start of an agent on a machine with veths of unknown endpoints: the hosts that their records name, by veth. Raises `Reread`
        after it has put the placements of this host's right that were missing."""
        strays = set(self._veths()) - {endpoint.veth for endpoint in snapshot.endpoints.values()}
        if self._taken or self._networks() is None or not strays:
            return {}
        writer, hosts, missing = PlacementWriter(self._store), dict[str, str](), 0
        for key in self._store.names(keys.ENDPOINTS):
            network_id, endpoint_id = key.split("/")[2:]
            entry = self._store.get(key) if veth_name(endpoint_id) in strays else None
            endpoint = decoded(Endpoint, entry) if entry is not None else None
            if endpoint is not None:
                hosts[endpoint.veth] = endpoint.host
            if endpoint is not None and endpoint.host == self.host:
                writer.index_endpoint(self.host, network_id, endpoint_id)
                missing += 1
        if missing:
            raise Reread(f"{missing} placements were missing")
        return hosts

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
                self._ahead, self.revisions = {}, Revisions()  # another history
            self._offered = None
            continuity.remember(offered.origin)
            self._take_snapshot(offered.snapshot, offered.origin.revision, offered.entries())

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

    def _take_snapshot(self, snapshot: Snapshot, revision: int, entries: Collection[Entry]) -> None:
        with self._lock:
            for entry in entries:
                self.revisions.note(entry.key, entry.mod_revision)
            self._ahead = {key: ahead for key, ahead in self._ahead.items() if ahead[0] > revision}
            for key, (at, value) in self._ahead.items():
                put(snapshot, key, value, at)
            before = self.view.local_endpoints
            local = {endpoint.id: endpoint for endpoint in snapshot.endpoints.values() if endpoint.host == self.host}
            indexed = [(entry.key, entry.value, 0) for entry in entries]
            publishers = dict(_publishers({}, (), indexed))
            publishers.update((e.id, e) for e in snapshot.endpoints.values() if e.active and e.publish)
            self.view = CacheView(snapshot, local, publishers, _index(self.host, {}, indexed), self._networks())
            touched = set(before) | set(local)
        self._taken = True
        gc.collect()
        give_back_soon()
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
                self.revisions.note(event.key, event.mod_revision)
                ahead = self._ahead.get(event.key)
                if ahead is not None and event.mod_revision < ahead[0]:
                    continue
                self._ahead.pop(event.key, None)
                if ahead is not None and ahead[0] == event.mod_revision and event.create_revision in (0, event.mod_revision):
                    continue  # `applied` has taken it, with the same revision of creation
                changes.append((event.key, event.value, event.create_revision))
            publishers = self.view.publishers
            news = self._take(changes)
            publishers_changed = self.view.publishers is not publishers
        if news.changes or publishers_changed:  # else the events only say where the endpoints of this host are
            self.updated(news.before, news.after, news.changes)
            if news.touched or publishers_changed or any(event.key.startswith(keys.NETWORKS) for event in events):
                self.changed(news.touched)
        if any(event.key == keys.host(self.host) for event in events):
            self.host_changed()

    def _specs_left(self, prefixes: frozenset[str]) -> None:
        """Forget the endpoints of networks that do not concern this host any more."""
        networks = networks_of(prefixes) or frozenset()
        with self._offering:
            if self._offered is not None:
                self._offered.forget(networks)
        with self._lock:
            endpoints = [e for e in self.view.snapshot.endpoints.values() if e.network_id in networks]
            news = self._take([(keys.endpoint(e.network_id, e.id), None, 0) for e in endpoints])
        self.updated(news.before, news.after, news.changes)

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


KeyChanges = Collection[tuple[str, str | None, int]]
Publishers = Mapping[str, Endpoint | Publisher]


def _publishers(before: Publishers, changed: Iterable[Decoded], changes: KeyChanges) -> Publishers:
    """Return the endpoints that publish ports after these endpoints and keys have changed: the same mapping if no such endpoint did.
    Of an endpoint that is in the snapshot its record counts."""
    endpoints = [
        decoded
        for decoded in changed
        if decoded.id in before or (isinstance(decoded.record, Endpoint) and decoded.record.publish)
    ]
    indexed = [(key, value) for key, value, _ in changes if key.startswith(keys.PUBLISHERS)]
    if not endpoints and not indexed:
        return before
    after = dict(before)
    for key, value in indexed:
        _, host, endpoint_id = key.split("/", 2)
        if not isinstance(after.get(endpoint_id), Endpoint):
            after.pop(endpoint_id, None)
            if value is not None and (publisher := parse_publisher(host, value)) is not None:
                after[endpoint_id] = publisher
    for change in endpoints:
        after.pop(change.id, None)
        if isinstance(record := change.record, Endpoint) and record.active and record.publish:
            after[change.id] = record
    return after


def _index(host: str, before: Mapping[str, str], changes: KeyChanges) -> Mapping[str, str]:
    """Return the keys of this host that say where its endpoints are, after these changes."""
    prefixes = (keys.placements_of(host), keys.publishers_of(host))
    changed = {key: value for key, value, _ in changes if key.startswith(prefixes) or key == keys.placing(host)}
    if not changed:
        return before
    return {key: value for key, value in {**before, **changed}.items() if value is not None}


def parse_state(text: str) -> State | None:
    """Parse a state from the store; return None if the text is not a valid state."""
    try:
        data = json.loads(text)
        return State(str(data["state"]), str(data.get("reason") or ""), int(data["revision"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
