"""The only module that talks to etcd: reads, transactions, leases and watches (specs/store/feed.py makes a feed of these). Keys are relative to the prefix, values are
text.

It uses only the protocol part of the `etcd3` package, whose watcher does not resume after a broken stream or a compaction.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import grpc
from etcd3 import etcdrpc

from specs.store.tls import EtcdTls, failure
from specs.store.values import (
    Compacted,
    Compare,
    Delete,
    Empty,
    Entry,
    Get,
    KeyRange,
    NoneNewer,
    Outcome,
    Put,
    Reread,
    TxnOperation,
    WatchEvent,
)
from specs.store.watch import ANSWER_S, WatchStream, another
from warren.errors import LeaseExpired, Unavailable

log = logging.getLogger("warren.store")

COUNTS = 100  # prefixes that one transaction counts; etcd takes 128 operations by default
PROBE = 0.1  # the part of a call's time that is kept for finding out why it failed
PAGE = 2000  # keys of one answer

CHANNEL_OPTIONS = [
    # etcd ends the connection of a client that pings more often than every 5 s, or without a call (too_many_pings); grpc
    # then doubles its interval, also for later connections. Silence is noticed by asking (specs/store/watch.py), not by these pings.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", 256 << 20),
]


# names for types: inside Store, `list` is the method
Entries = list[Entry]
KeyNames = list[str]


def _end(prefix: bytes) -> bytes:
    return prefix[:-1] + bytes([prefix[-1] + 1])


class Store:
    """etcd below one prefix. Every failure is `Unavailable`, within `timeout_s` seconds."""

    def __init__(
        self,
        endpoints: Sequence[str],
        prefix: str = "/warren",
        tls: EtcdTls | None = None,
        timeout_s: float = 3.0,
    ) -> None:
        self.endpoints, self.timeout_s = list(endpoints), timeout_s
        self.prefix = prefix.rstrip("/") + "/"
        self.calls = 0  # round trips so far
        self.cluster = 0  # id of the cluster that answered last
        self._tls = tls or EtcdTls()
        self._lock = threading.Lock()
        self._current = 0
        self._channel: Any = None

    # ---- the connection ---------------------------------------------------------------------------------------------

    def _connect(self) -> Any:
        with self._lock:
            if self._channel is None:
                url = urlsplit(self.endpoints[self._current % len(self.endpoints)])
                target = url.netloc or url.path
                if url.scheme == "https":
                    try:
                        self._channel = grpc.secure_channel(
                            target, grpc.ssl_channel_credentials(*self._tls.contents()), CHANNEL_OPTIONS
                        )
                    except OSError as error:  # a file that is gone
                        raise Unavailable("etcd", f"TLS: {error}") from None
                else:
                    self._channel = grpc.insecure_channel(target, CHANNEL_OPTIONS)
            return self._channel

    def _next_endpoint(self, failed: Any) -> None:
        with self._lock:
            if self._channel is failed and len(self.endpoints) > 1:
                # not closed, because that would cancel other threads' calls; the last call releases it
                self._channel, self._current = None, self._current + 1

    def reload(self) -> None:
        """Let the next calls read the files of TLS anew. Calls and feeds under way go on with what they have. Raises `Invalid`, and
        leaves everything as it was."""
        self._tls.check()
        with self._lock:
            self._channel = None

    def close(self) -> None:
        """Close the connection. The store can be used again."""
        with self._lock:
            if self._channel is not None:
                self._channel.close()
            self._channel = None

    def _call(self, stub: type, method: str, request: Any) -> Any:
        """Make one round trip. When an endpoint of the cluster is away, tries the others, all within the time limit."""
        deadline = time.monotonic() + self.timeout_s
        reason = "no answer"
        for _ in self.endpoints:
            channel = self._connect()
            left = max(0.05, (deadline - time.monotonic()) * (1 - PROBE)) / (1 if len(self.endpoints) == 1 else 2)
            try:
                self.calls += 1
                # wait_for_ready rides over a reconnect: an etcd that came back a moment ago is not away
                answer = getattr(stub(channel), method)(request, timeout=left, wait_for_ready=True)
                self.cluster = answer.header.cluster_id
                return answer
            except grpc.RpcError as error:
                reason = _reason(error, self.endpoints, self.timeout_s)
                if error.code() is grpc.StatusCode.OUT_OF_RANGE:
                    raise Compacted("etcd", reason) from None
                if error.code() is grpc.StatusCode.NOT_FOUND:  # only a lease can be not found here
                    raise LeaseExpired("etcd", reason) from None
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    break
                reason += self._failure()
                self._next_endpoint(channel)
            except ValueError as error:  # the channel was closed by another thread
                reason = _reason(error, self.endpoints, self.timeout_s)
        raise Unavailable("etcd", reason)

    def _failure(self) -> str:
        """Return why the endpoint that did not answer cannot be spoken to, as text to append; empty if that cannot be found out."""
        cause = failure(self.endpoints[self._current % len(self.endpoints)], self._tls, max(0.05, self.timeout_s * PROBE))
        return f": {cause}" if cause else ""

    # ---- reads and writes -------------------------------------------------------------------------------------------

    def _bytes(self, key: str) -> bytes:
        return (self.prefix + key).encode()

    def _entry(self, kv: Any) -> Entry:
        value = kv.value.decode("utf-8", "replace")
        return Entry(kv.key.decode()[len(self.prefix) :], value, kv.create_revision, kv.mod_revision)

    def _range(self, get: Get) -> Any:
        key = self._bytes(get.key)
        return etcdrpc.RangeRequest(key=key, range_end=_end(key) if get.prefix else b"", revision=get.revision)

    def get(self, key: str, revision: int = 0) -> Entry | None:
        """Return one key, or None, now or as of a revision. Raises `Compacted`."""
        found = self._call(etcdrpc.KVStub, "Range", self._range(Get(key, revision=revision))).kvs
        return self._entry(found[0]) if found else None

    def list(self, prefix: str) -> tuple[int, Entries]:
        """Return etcd's revision and all keys below a prefix, sorted."""
        key = self._bytes(prefix)
        return self._read(key, _end(key), 0)

    def read(self, keys: KeyRange, revision: int = 0) -> tuple[int, Entries]:
        """Return a revision and all keys of a range as of it, sorted: etcd's newest, or the one given. Raises `Compacted`."""
        return self._read(self._bytes(keys.first), self._bytes(keys.end), revision)

    def names(self, prefix: str) -> KeyNames:
        """Return all keys below a prefix, without their values."""
        key = self._bytes(prefix)
        return [entry.key for entry in self._read(key, _end(key), 0, keys_only=True)[1]]

    def _read(self, key: bytes, end: bytes, revision: int, keys_only: bool = False) -> tuple[int, Entries]:
        """Read a range by pages, all as of one revision, so that no message grows with what exists."""
        entries: Entries = []
        while True:
            request = etcdrpc.RangeRequest(key=key, range_end=end, revision=revision, limit=PAGE, keys_only=keys_only)
            answer = self._call(etcdrpc.KVStub, "Range", request)
            entries += map(self._entry, answer.kvs)
            revision = revision or answer.header.revision
            if not answer.more:
                return revision, entries
            key = answer.kvs[-1].key + b"\0"

    def counts(self, prefixes: Sequence[str]) -> tuple[int, ...]:
        """Return how many keys there are below each of some prefixes, without reading them."""
        counts: tuple[int, ...] = ()
        for start in range(0, len(prefixes), COUNTS):
            ranges = [self._range(Get(prefix, prefix=True)) for prefix in prefixes[start : start + COUNTS]]
            for each in ranges:
                each.count_only = True
            answer = self._call(
                etcdrpc.KVStub, "Txn", etcdrpc.TxnRequest(success=[etcdrpc.RequestOp(request_range=r) for r in ranges])
            )
            counts += tuple(int(response.response_range.count) for response in answer.responses)
        return counts

    def put(self, key: str, value: str, lease: int = 0) -> int:
        """Write without a compare; only for keys that have one writer. Returns the revision."""
        request = etcdrpc.PutRequest(key=self._bytes(key), value=value.encode(), lease=lease)
        return int(self._call(etcdrpc.KVStub, "Put", request).header.revision)

    def delete(self, key: str) -> int:
        """Delete without a compare; only for keys that have one writer. Returns the revision."""
        request = etcdrpc.DeleteRangeRequest(key=self._bytes(key))
        return int(self._call(etcdrpc.KVStub, "DeleteRange", request).header.revision)

    def txn(self, compares: Sequence[Compare], success: Sequence[TxnOperation], failure: Sequence[TxnOperation] = ()) -> Outcome:
        """Perform all of `success` if every compare holds, otherwise all of `failure`, atomically."""
        request = etcdrpc.TxnRequest()
        for compare in compares:
            request.compare.add(**self._compare(compare))
        for operations, part in ((success, request.success), (failure, request.failure)):
            for operation in operations:
                self._fill(part.add(), operation)
        answer = self._call(etcdrpc.KVStub, "Txn", request)
        found = tuple(
            tuple(self._entry(kv) for kv in response.response_range.kvs)
            for response in answer.responses
            if response.WhichOneof("response") == "response_range"
        )
        return Outcome(answer.succeeded, found, answer.header.revision)

    def _compare(self, compare: Compare) -> dict[str, Any]:
        """The fields of a compare in etcd's protocol."""
        if isinstance(compare, Empty):
            key = self._bytes(compare.prefix)
            created = etcdrpc.Compare.CREATE
            return {"key": key, "range_end": _end(key), "target": created, "result": etcdrpc.Compare.EQUAL, "create_revision": 0}
        if isinstance(compare, NoneNewer):
            key, newer = self._bytes(compare.prefix), compare.revision + 1
            modified = etcdrpc.Compare.MOD
            return {"key": key, "range_end": _end(key), "target": modified, "result": etcdrpc.Compare.LESS, "mod_revision": newer}
        return {
            "key": self._bytes(compare.key),
            "target": etcdrpc.Compare.MOD,
            "result": etcdrpc.Compare.EQUAL,
            "mod_revision": compare.mod_revision,
        }

    def _fill(self, request: Any, operation: TxnOperation) -> None:
        """Fill in a request of a transaction. To build its parts first, and then put them in, takes twice as long: each is copied."""
        key = self._bytes(operation.key)
        if isinstance(operation, Put):
            put = request.request_put
            put.key, put.value, put.lease = key, operation.value.encode(), operation.lease
        elif isinstance(operation, Delete):
            delete = request.request_delete_range
            delete.key, delete.range_end = key, _end(key) if operation.prefix else b""
        else:
            request.request_range.CopyFrom(self._range(operation))

    # ---- watches ----------------------------------------------------------------------------------------------------

    def watch(self, seen: Callable[[], int], stop: threading.Event) -> WatchStream[KeyRange]:
        """Return a new stream of watches. `seen` returns the newest revision that its reader has seen."""
        channel = self._connect()

        def alive(timeout_s: float) -> Any:
            # on the stream's own connection, because another endpoint's answer proves nothing about this one
            return etcdrpc.KVStub(channel).Range(self._range(Get("alive")), timeout=timeout_s).header

        return WatchStream(
            channel,
            alive=alive,
            reason=lambda error: _reason(error, self.endpoints, ANSWER_S),
            lost=lambda: self._next_endpoint(channel),
            seen=seen,
            cluster=self.cluster,
            stop=stop,
        )

    def add_watch(self, stream: WatchStream[KeyRange], keys: KeyRange, start: int) -> None:
        """Watch a range from a revision on."""
        stream.add(keys, self._bytes(keys.first), self._bytes(keys.end), start)

    def event(self, event: Any) -> WatchEvent:
        """Return an event of a watch as a value."""
        entry = self._entry(event.kv)
        deleted = event.type == 1  # mvccpb Event.DELETE
        return WatchEvent(entry.key, None if deleted else entry.value, entry.create_revision, entry.mod_revision)

    def check_same(self, cluster: int, revision: int, witness: Entry | None) -> None:
        """Raise `Reread` if etcd is not the one that had this revision: a watch would wait for a future that never comes. The
        revision may have grown past it since a restore, so the newest value that was seen must stand in its history, too."""
        header = self._call(etcdrpc.KVStub, "Range", self._range(Get("alive"))).header
        if another(header, cluster, revision):
            raise Reread(f"etcd is at revision {header.revision} of cluster {header.cluster_id:x}")
        with contextlib.suppress(Compacted):
            if witness is not None and self.get(witness.key, witness.mod_revision) != witness:
                raise Reread(f"etcd's history has no {witness.key} of revision {witness.mod_revision}")

    # ---- leases -----------------------------------------------------------------------------------------------------

    def grant(self, ttl_s: int) -> int:
        """Create a lease."""
        return int(self._call(etcdrpc.LeaseStub, "LeaseGrant", etcdrpc.LeaseGrantRequest(TTL=ttl_s)).ID)

    def keep_alive(self, lease: int) -> bool:
        """Renew a lease. Returns False when it has expired."""
        channel = self._connect()
        try:
            request = etcdrpc.LeaseKeepAliveRequest(ID=lease)
            stub = etcdrpc.LeaseStub(channel)
            answers = stub.LeaseKeepAlive(iter([request]), timeout=self.timeout_s, wait_for_ready=True)
            return int(next(iter(answers)).TTL) > 0
        except (grpc.RpcError, StopIteration, ValueError) as error:
            self._next_endpoint(channel)
            raise Unavailable("etcd", _reason(error, self.endpoints, self.timeout_s)) from None

    def revoke(self, lease: int) -> None:
        """End a lease and delete its keys."""
        self._call(etcdrpc.LeaseStub, "LeaseRevoke", etcdrpc.LeaseRevokeRequest(ID=lease))


def _reason(error: Exception, endpoints: Sequence[str], timeout_s: float) -> str:
    if isinstance(error, grpc.RpcError) and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"no answer from {', '.join(endpoints)} within {timeout_s:g} s"
    return _stream_reason(error, endpoints)


def _stream_reason(error: Any, endpoints: Sequence[str]) -> str:
    details = error.details() if hasattr(error, "details") else str(error)
    return f"{details} ({', '.join(endpoints)})"
