"""The feed through restarts, compaction and silence of etcd."""

from __future__ import annotations

import os
import queue
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from etcd3 import etcdrpc

from specs.store.etcd import Store
from specs.store.feed import feed
from specs.store.lease import EtcdLease
from specs.store.values import Entry, KeyRange, Put, Unchanged, WatchEvent
from specs.store.watch import WatchStream
from tests.etcd.conftest import Etcd
from tests.waiting import LIMIT_S, eventually
from warren.errors import Unavailable


@pytest.fixture
def own_etcd() -> Iterator[Etcd]:
    """An etcd that the test may stop."""
    with tempfile.TemporaryDirectory(prefix="warren-etcd-") as directory:
        server = Etcd(Path(directory))
        server.start()
        yield server
        server.stop()


class Follower:
    """A feed whose news go into a queue, and the state that they add up to."""

    def __init__(self, store: Store) -> None:
        self.news: queue.Queue[tuple[str, Any, dict[str, str]]] = queue.Queue()  # with the state after each
        self.state: dict[str, str] = {}
        self.stop = threading.Event()
        self.thread = threading.Thread(
            target=feed, args=(store, "spec/", self.read, self.changed, self.down, self.stop), daemon=True
        )
        self.thread.start()

    def read(self, revision: int, entries: list[Entry]) -> None:
        self.state = {entry.key: entry.value for entry in entries}
        self.news.put(("read", revision, dict(self.state)))

    def changed(self, revision: int, events: list[WatchEvent]) -> None:
        for event in events:
            if event.value is None:
                self.state.pop(event.key, None)
            else:
                self.state[event.key] = event.value
        self.news.put(("changed", revision, dict(self.state)))

    def down(self, reason: str) -> None:
        self.news.put(("down", reason, dict(self.state)))

    def until(self, state: dict[str, str], timeout_s: float = LIMIT_S) -> list[str]:
        """Wait until the state is this; the kinds of news on the way."""
        kinds, deadline = [], time.monotonic() + timeout_s
        last: dict[str, str] | None = None
        while last != state:
            kind, _, last = self.news.get(timeout=max(0.01, deadline - time.monotonic()))
            kinds.append(kind)
        return kinds

    def end(self) -> None:
        self.stop.set()
        self.thread.join(LIMIT_S)
        assert not self.thread.is_alive()


def test_the_feed_delivers_every_change_below_its_prefix_in_order(store: Store) -> None:
    store.put("spec/a", "1")
    follower = Follower(store)
    assert follower.until({"spec/a": "1"}) == ["read"]
    store.put("status/x", "not ours")
    store.txn([], [Put("spec/b", "2"), Put("spec/c", "3")])
    assert follower.until({"spec/a": "1", "spec/b": "2", "spec/c": "3"}) == ["changed"]
    store.delete("spec/a")
    assert follower.until({"spec/b": "2", "spec/c": "3"}) == ["changed"]
    follower.end()


def test_the_feed_resumes_after_a_restart_of_etcd(own_etcd: Etcd) -> None:
    store = Store([own_etcd.url], timeout_s=2)
    follower = Follower(store)
    store.put("spec/a", "1")
    follower.until({"spec/a": "1"})
    own_etcd.stop()
    assert follower.news.get(timeout=LIMIT_S)[0] == "down"
    own_etcd.start()
    Store([own_etcd.url]).put("spec/b", "2")
    kinds = follower.until({"spec/a": "1", "spec/b": "2"})
    assert "read" not in kinds, "what was missed comes as changes: nothing is read again"
    assert kinds.count("down") == 0, "an outage is told once"
    follower.end()


def test_the_feed_reads_again_after_a_compaction(own_etcd: Etcd) -> None:
    store = Store([own_etcd.url], timeout_s=2)
    store.put("spec/a", "1")
    follower = Follower(store)
    follower.until({"spec/a": "1"})
    os.kill(own_etcd.process.pid, signal.SIGSTOP)  # type: ignore[union-attr]
    assert follower.news.get(timeout=LIMIT_S)[0] == "down"
    # while the follower is cut off, history moves on and is compacted
    follower_cannot = own_etcd.url
    os.kill(own_etcd.process.pid, signal.SIGCONT)  # type: ignore[union-attr]
    other = Store([follower_cannot], timeout_s=2)
    other.delete("spec/a")
    last = other.put("spec/b", "2")
    other._call(etcdrpc.KVStub, "Compact", etcdrpc.CompactionRequest(revision=last, physical=True))
    assert follower.until({"spec/b": "2"})
    follower.end()


def test_a_watch_from_a_compacted_revision_reads_all_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("spec/a", "1")
    old, _ = store.list("spec/")
    store.delete("spec/a")
    last = store.put("spec/b", "2")
    store._call(etcdrpc.KVStub, "Compact", etcdrpc.CompactionRequest(revision=last, physical=True))
    really, once = store.add_watch, []

    def from_the_past(stream: WatchStream[KeyRange], keys: KeyRange, start: int) -> None:
        once.append(start)
        really(stream, keys, old if len(once) == 1 else start)

    monkeypatch.setattr(store, "add_watch", from_the_past)
    follower = Follower(store)
    assert follower.until({"spec/b": "2"}) == ["read"]
    assert follower.news.get(timeout=LIMIT_S)[0] == "read"
    follower.end()


def test_a_silent_etcd_is_unavailable_within_the_limit(own_etcd: Etcd) -> None:
    store = Store([own_etcd.url], timeout_s=1)
    store.put("spec/a", "1")
    os.kill(own_etcd.process.pid, signal.SIGSTOP)  # type: ignore[union-attr]
    try:
        with pytest.raises(Unavailable, match="etcd is unavailable"):
            store.get("spec/a")
    finally:
        os.kill(own_etcd.process.pid, signal.SIGCONT)  # type: ignore[union-attr]
    assert store.get("spec/a") is not None


def test_the_next_endpoint_is_tried(own_etcd: Etcd) -> None:
    store = Store(["http://127.0.0.1:9", own_etcd.url], timeout_s=4)
    store.put("spec/a", "1")
    assert store.get("spec/a") is not None


def test_a_compare_that_fails_writes_nothing(store: Store) -> None:
    store.put("spec/a", "1")
    outcome = store.txn([Unchanged("spec/a", 0)], [Put("spec/a", "2"), Put("spec/b", "2")])
    assert not outcome.succeeded
    assert [(e.key, e.value) for e in store.list("spec/")[1]] == [("spec/a", "1")]


def test_a_lease_ends_with_its_writer_and_comes_back_after_it_ran_out(store: Store) -> None:
    lease = EtcdLease(store, ttl_s=2)
    lease.put("status/agents/h1", "alive")
    store.revoke(lease.id)  # as if it had run out during an outage
    eventually(lambda: store.get("status/agents/h1"))
    lease.close()
    assert store.get("status/agents/h1") is None
