"""The store while etcd is slow, stopped, absent, restarted or compacted. Each test breaks an etcd of its own."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from etcd3 import etcdrpc

from intent.history import with_history
from specs.store.etcd import Store
from specs.store.feed import feed
from specs.store.lease import EtcdLease
from specs.store.values import Delete, Empty, Entry, Get, KeyRange, Put, Unchanged, WatchEvent
from specs.store.watch import WatchStream
from tests.etcd.conftest import Etcd, free_port
from tests.waiting import LIMIT_S, eventually
from warren.errors import Unavailable


@pytest.fixture
def private_etcd(tmp_path: Path) -> Iterator[Etcd]:
    with tempfile.TemporaryDirectory(prefix="warren-etcd-") as directory:
        server = Etcd(Path(directory))
        server.start()
        yield server
        freeze(server, False)
        server.stop()


def freeze(server: Etcd, frozen: bool) -> None:
    assert server.process is not None
    if server.process.poll() is None:
        os.kill(server.process.pid, signal.SIGSTOP if frozen else signal.SIGCONT)
        # the signal is on its way when kill returns: a thread that still runs would answer one more request
        eventually(lambda: not frozen or thread_states(server.process.pid) == {"T"})  # type: ignore[union-attr]


def thread_states(pid: int) -> set[str]:
    return {path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{pid}/task").glob("*/stat")}


class Follower:
    """A feed in a thread: the copy that it keeps, and all that it was told."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.copy: dict[str, str] = {}
        self.snapshots: list[int] = []
        self.batches: list[tuple[int, list[WatchEvent]]] = []
        self.downs: list[str] = []
        self.first: Callable[[], None] = lambda: None
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.tries, self._watch = 0, store.watch
        store.watch = self._counted  # type: ignore[method-assign]
        self._check_same = store.check_same
        store.check_same = self._counted_check  # type: ignore[method-assign]

    def _counted(self, seen: Callable[[], int], stop: threading.Event) -> WatchStream[KeyRange]:
        self.tries += 1
        return self._watch(seen, stop)

    def _counted_check(self, *arguments: Any) -> None:
        self.tries += 1  # what each try after the first begins with
        self._check_same(*arguments)

    def _run(self) -> None:
        feed(self.store, "spec/", self._snapshot, self._events, self.downs.append, self.stop)

    def _snapshot(self, revision: int, entries: list[Entry]) -> None:
        self.copy = {entry.key: entry.value for entry in entries}
        if not self.snapshots:
            self.first()
        self.snapshots.append(revision)

    def _events(self, revision: int, events: list[WatchEvent]) -> None:
        for event in events:
            if event.value is None:
                self.copy.pop(event.key, None)
            else:
                self.copy[event.key] = event.value
        self.batches.append((revision, events))

    @property
    def changed(self) -> list[tuple[str, str | None]]:
        return [(event.key, event.value) for _, events in self.batches for event in events]

    def __enter__(self) -> Follower:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join(LIMIT_S)
        assert not self.thread.is_alive(), "the feed did not stop"


# ---- transactions -------------------------------------------------------------------------------------------------------


def test_transactions_compare_revisions_and_empty_prefixes(store: Store) -> None:
    assert store.txn([Unchanged("a", 0), Empty("dir/")], [Put("a", "1")]).succeeded
    entry = store.get("a")
    assert entry is not None
    assert (entry.key, entry.value, entry.create_revision) == ("a", "1", entry.mod_revision)
    lost = store.txn([Unchanged("a", 0)], [Put("a", "2")], [Get("a")])
    assert not lost.succeeded
    assert lost.found == ((entry,),)
    assert store.txn([Unchanged("a", entry.mod_revision)], [Put("dir/x", "ä"), Put("dir/y", "")]).succeeded
    assert not store.txn([Empty("dir/")], [Delete("a")]).succeeded
    revision, entries = store.list("dir/")
    assert [(e.key, e.value) for e in entries] == [("dir/x", "ä"), ("dir/y", "")]
    assert store.txn([], [Delete("dir/", prefix=True)]).revision == revision + 1
    assert store.txn([Empty("dir/")], [Delete("a")]).succeeded
    assert store.get("a") is None


def test_a_prefix_sees_its_own_keys_only(etcd: Etcd) -> None:
    one, other = Store([etcd.url], prefix="/own"), Store([etcd.url], prefix="/owner")
    one.put("spec/a", "1")
    other.put("spec/b", "2")
    assert [e.key for e in one.list("")[1]] == ["spec/a"]


# ---- unavailable --------------------------------------------------------------------------------------------------------


def test_a_stopped_or_absent_etcd_is_unavailable_in_time(private_etcd: Etcd) -> None:
    store = Store([private_etcd.url], timeout_s=0.5)
    store.put("a", "1")
    calls: list[Callable[[], object]] = [
        lambda: store.get("a"),
        lambda: store.list(""),
        lambda: store.put("a", "2"),
        lambda: store.txn([], [Put("a", "2")]),
        lambda: store.grant(5),
        lambda: store.keep_alive(1),
    ]

    def refused(server: Store, call: Callable[[], object]) -> None:
        with pytest.raises(Unavailable, match="etcd is unavailable: .*127.0.0.1"):
            call()

    freeze(private_etcd, True)
    for call in calls:
        refused(store, call)
    fresh = Store([private_etcd.url], timeout_s=0.5)  # the kernel accepts its connection, nobody answers
    refused(fresh, lambda: fresh.get("a"))
    freeze(private_etcd, False)
    eventually(lambda: store.get("a"))
    private_etcd.stop()
    for call in calls:
        refused(store, call)
    private_etcd.start()
    assert store.get("a") is not None


def test_another_endpoint_takes_over(private_etcd: Etcd) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    store = Store([nobody, private_etcd.url], timeout_s=2.0)
    store.put("a", "1")
    answered = store._current
    assert store.get("a") is not None
    assert store._current == answered, "the endpoint that answered is kept"
    lease = Store([nobody, private_etcd.url], timeout_s=1.0)
    eventually(lambda: _alive(lease, store.grant(30)))


def _alive(store: Store, lease: int) -> bool:
    try:
        return store.keep_alive(lease)
    except Unavailable:
        return False


def test_one_thread_changing_the_endpoint_disturbs_no_other(private_etcd: Etcd) -> None:
    store = Store([f"http://127.0.0.1:{free_port()}", private_etcd.url], timeout_s=2.0)
    failed: list[Exception] = []

    def read() -> None:
        try:
            store.get("a")
        except Unavailable as error:
            failed.append(error)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for number, thread in enumerate(threads):
        thread.start()
        time.sleep(0.05 * (number % 2))
    for thread in threads:
        thread.join()
    assert not failed


# ---- the feed -----------------------------------------------------------------------------------------------------------


def test_the_feed_delivers_all_changes_and_stops(store: Store) -> None:
    store.put("spec/a", "1")
    store.put("status/x", "no spec")
    with Follower(store) as follower:
        eventually(lambda: follower.snapshots)
        assert follower.copy == {"spec/a": "1"}
        done = store.txn([], [Put("spec/b", "2"), Delete("spec/a"), Put("status/x", "again")]).revision
        eventually(lambda: follower.batches)
    revision, events = follower.batches[0]
    assert revision == done
    assert sorted((e.key, e.value) for e in events) == [("spec/a", None), ("spec/b", "2")]
    assert {e.mod_revision for e in events} == {done}
    assert follower.downs == []


def test_the_feed_resumes_over_a_restart(private_etcd: Etcd) -> None:
    store = Store([private_etcd.url])
    with Follower(Store([private_etcd.url])) as follower:
        eventually(lambda: follower.snapshots)
        store.put("spec/a", "1")
        eventually(lambda: follower.copy)
        private_etcd.stop()
        eventually(lambda: follower.downs)
        eventually(lambda: follower.tries > 3)
        assert len(follower.downs) == 1, "an outage is told once"
        private_etcd.start()
        store.put("spec/a", "2")
        store.put("spec/a", "3")
        eventually(lambda: follower.copy == {"spec/a": "3"})
        assert follower.changed == [("spec/a", "1"), ("spec/a", "2"), ("spec/a", "3")]
        assert len(follower.snapshots) == 1, "resumed, not read again"
        private_etcd.stop()
        eventually(lambda: len(follower.downs) == 2)


def test_an_idle_feed_stays_up_and_a_frozen_etcd_is_noticed(private_etcd: Etcd) -> None:
    with Follower(Store([private_etcd.url])) as follower:
        eventually(lambda: follower.snapshots)
        # etcd closes the connection of a client that pings more often than every 5 s: the strikes are full after some 6 s
        time.sleep(9)
        assert follower.downs == []
        assert len(follower.snapshots) == 1
        freeze(private_etcd, True)
        eventually(lambda: follower.downs)
        tries = follower.tries
        eventually(lambda: follower.tries > tries)
        assert len(follower.downs) == 1
        freeze(private_etcd, False)
        store = Store([private_etcd.url])
        eventually(lambda: store.put("spec/a", "1"))
        eventually(lambda: follower.copy == {"spec/a": "1"})


def test_after_a_compaction_all_is_read_again(private_etcd: Etcd) -> None:
    store = Store([private_etcd.url])
    follower = Follower(Store([private_etcd.url]))

    def compacted_before_the_watch_begins() -> None:
        store.put("spec/a", "1")
        store.put("spec/a", "2")
        revision = store.put("spec/a", "3")
        channel = store._connect()
        etcdrpc.KVStub(channel).Compact(etcdrpc.CompactionRequest(revision=revision, physical=True), timeout=3)

    follower.first = compacted_before_the_watch_begins
    with follower:
        eventually(lambda: follower.copy == {"spec/a": "3"})
        assert len(follower.snapshots) == 2
        store.put("spec/b", "4")
        eventually(lambda: follower.copy == {"spec/a": "3", "spec/b": "4"})
        assert follower.downs == []


def test_the_feeds_revision_is_that_of_the_last_delivered_change(private_etcd: Etcd) -> None:
    # etcd sends what was missed in batches of 1000 revisions, and puts its newest revision in each header
    store = Store([private_etcd.url])
    follower = Follower(Store([private_etcd.url]))

    def missed() -> None:
        for number in range(2500):
            store.put(f"spec/{number}", "x")

    follower.first = missed
    with follower:
        eventually(lambda: len(follower.copy) == 2500)
    assert len(follower.batches) > 1
    for revision, events in follower.batches:
        assert revision == max(event.mod_revision for event in events)


def test_events_that_the_reader_refused_are_delivered_again(store: Store) -> None:
    delivered: list[str] = []
    stop = threading.Event()

    def take(_: int, events: list[WatchEvent]) -> None:
        delivered.extend(event.key for event in events)
        if len(delivered) == 1:
            raise Unavailable("etcd", "the callback asked etcd and got no answer")
        stop.set()

    def snapshot(_: int, __: list[Entry]) -> None:
        threading.Timer(0.2, store.put, ("spec/a", "1")).start()

    thread = threading.Thread(target=feed, args=(store, "spec/", snapshot, take, lambda _: None, stop), daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    stop.set()
    assert delivered == ["spec/a", "spec/a"]


def test_an_exception_of_the_reader_is_not_reported_as_an_outage(store: Store) -> None:
    downs: list[str] = []

    def wrong(_: int, __: list[Entry]) -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        feed(store, "spec/", wrong, lambda _, __: None, downs.append, threading.Event())
    assert downs == []


# ---- leases -------------------------------------------------------------------------------------------------------------


def value(store: Store, key: str) -> str | None:
    entry = store.get(key)
    return entry.value if entry else None


def lapsed(store: Store, key: str) -> None:
    """Wait until a lease of one second that nobody keeps alive has run out, on etcd's clock."""
    store.put(key, "1", lease=store.grant(1))
    eventually(lambda: store.get(key) is None)


def test_a_leased_key_lives_as_long_as_its_lease(store: Store) -> None:
    lease = EtcdLease(store, ttl_s=1)
    lease.put("status/a", "1")
    lapsed(store, "status/unkept")
    eventually(lambda: value(store, "status/a") == "1")
    before = store.get("status/a")
    lease.put("status/a", "1")
    assert store.get("status/a") == before, "the same value is not written again"
    lease.close()
    assert store.get("status/a") is None


def test_a_lost_lease_is_made_again_with_all_its_keys(store: Store) -> None:
    lease = EtcdLease(store, ttl_s=2)
    lease.put("status/a", "1")
    lease.put("status/b", "2")
    store.revoke(lease.id)
    assert store.get("status/a") is None
    lease.put("status/a", "3")  # does not wait for the next renewal
    assert value(store, "status/a") == "3"
    eventually(lambda: value(store, "status/b") == "2")
    lease.close()
    assert store.list("status/")[1] == []


def test_the_last_readable_acl_is_read_from_etcds_history(store: Store) -> None:
    good, key = '{"name": "web", "rules": [{"actions": {"allow": 1}}]}', "spec/acls/web"
    store.put(key, good)
    for wrong in ("{", '{"name": "web", "rules": 7}', good.replace("web", "other")):
        store.put(key, wrong)
    store.put("spec/networks/bad", "{}")
    store.put("spec/networks/bad", "{")
    entries = store.list("spec/")[1]
    assert [entry.value for entry in with_history(entries, store)] == [good, wrong, "{"], "only of policies"
    store.delete(key)
    store.put(key, "{")
    assert [entry.value for entry in with_history(store.list(key)[1], store)] == ["{"], "what was deleted does not come back"
    store.put(key, good)
    last = store.put(key, "{")
    assert [entry.value for entry in with_history(store.list(key)[1], store)] == [good, "{"]
    store._call(etcdrpc.KVStub, "Compact", etcdrpc.CompactionRequest(revision=last, physical=True))
    assert [entry.value for entry in with_history(store.list(key)[1], store)] == ["{"], "a past that is forgotten is none"


def test_leased_values_refused_during_an_outage_are_written_after_it(private_etcd: Etcd) -> None:
    store = Store([private_etcd.url], timeout_s=0.5)
    never, half = EtcdLease(store, ttl_s=2), EtcdLease(store, ttl_s=2)
    half.put("status/half", "1")
    private_etcd.stop()
    for lease, key in ((never, "status/never"), (half, "status/half")):
        with pytest.raises(Unavailable):
            lease.put(key, "2")
    private_etcd.start()
    eventually(lambda: (value(store, "status/never"), value(store, "status/half")) == ("2", "2"))
    lapsed(store, "status/unkept")
    eventually(lambda: (value(store, "status/never"), value(store, "status/half")) == ("2", "2"))
    never.close()
    private_etcd.stop()
    half.close()  # the lease runs out by itself
