"""A stream of watches of etcd: several ranges of keys over one gRPC stream. specs/store/etcd.py opens it."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

import grpc
from etcd3 import etcdrpc

from specs.store.values import Reread
from warren.errors import Unavailable

Key = TypeVar("Key")

SILENCE_S = 2.0  # interval at which an idle stream checks that etcd answers
ANSWER_S = 2.0  # time limit for that answer


class WatchStream(Generic[Key]):
    """Watches of key ranges, each with a name. Add and remove watches while reading the `responses`, from the same thread.

    `alive` asks etcd, on this stream's own connection, for the header of an answer, and `reason` says in words why a call failed.
    `lost` is called when the stream has failed. `seen` is the newest revision that the reader has seen, and `cluster` the id of
    the cluster that it was seen in: an etcd that is behind it is another one, which a stream alone does not show.
    """

    def __init__(
        self,
        channel: Any,
        alive: Callable[[float], Any],
        reason: Callable[[Exception], str],
        lost: Callable[[], None],
        seen: Callable[[], int],
        cluster: int,
        stop: threading.Event,
    ) -> None:
        self._channel, self._alive, self._reason, self._lost = channel, alive, reason, lost
        self._seen, self._cluster, self._stop = seen, cluster, stop
        self._requests: queue.Queue[Any] = queue.Queue()
        self._asked: deque[Key] = deque()  # names of watches that etcd has not confirmed yet; it does so in order
        self._names: dict[int, Key] = {}
        self._removed: deque[Key] = deque()  # names of watches removed before they were confirmed
        self._ended = threading.Event()
        self._silent: str | None = None
        self._call: Any = None

    def add(self, name: Key, first: bytes, end: bytes, start: int) -> None:
        """Watch the keys from `first` to `end` from revision `start` on."""
        create = etcdrpc.WatchCreateRequest(key=first, range_end=end, start_revision=start)
        self._asked.append(name)
        self._requests.put(etcdrpc.WatchRequest(create_request=create))

    def remove(self, name: Key) -> None:
        """End a watch. No more of its responses are returned."""
        for number, watched in list(self._names.items()):
            if watched == name:
                del self._names[number]
                self._cancel(number)
                return
        self._removed.append(name)

    def _cancel(self, number: int) -> None:
        self._requests.put(etcdrpc.WatchRequest(cancel_request=etcdrpc.WatchCancelRequest(watch_id=number)))

    def responses(self) -> Generator[tuple[Key, Any]]:
        """Yield the name of a watch and a response to it. Raises `Unavailable` when the stream ends, `Reread` after a compaction."""
        try:
            self._call = etcdrpc.WatchStub(self._channel).Watch(iter(self._requests.get, None))
            threading.Thread(target=self._watch_over, daemon=True).start()
            while (response := next(self._call, None)) is not None:
                if response.created:
                    self._confirm(response.watch_id)
                elif response.watch_id in self._names:
                    _check(response)
                    yield self._names[response.watch_id], response
            raise Unavailable("etcd", "the watch stream ended")
        except (grpc.RpcError, ValueError) as error:  # ValueError: the channel was closed by another thread
            self._lost()
            raise Unavailable("etcd", self._silent or self._reason(error)) from None
        finally:
            self._ended.set()
            self._requests.put(None)
            if self._call is not None:
                self._call.cancel()

    def _confirm(self, number: int) -> None:
        name = self._asked.popleft()
        if name in self._removed:
            self._removed.remove(name)
            self._cancel(number)
        else:
            self._names[number] = name

    def _watch_over(self) -> None:
        """End the stream on `stop`, and when etcd is silent or another one."""
        asked = time.monotonic()
        while not self._stop.wait(0.2) and not self._ended.is_set():
            if time.monotonic() - asked > SILENCE_S:
                try:
                    header = self._alive(ANSWER_S)
                except (grpc.RpcError, ValueError) as error:
                    self._silent = self._reason(error)
                    break
                if another(header, self._cluster, self._seen()):
                    self._silent = "its cluster has changed or its revision has gone back"
                    break
                asked = time.monotonic()
        self._call.cancel()


def _check(response: Any) -> None:
    if response.compact_revision:
        raise Reread(f"etcd has compacted revision {response.compact_revision}")
    if response.canceled:
        raise Unavailable("etcd", response.cancel_reason or "the watch was cancelled")


def another(header: Any, cluster: int, revision: int) -> bool:
    """Whether an answer's header is not of the etcd that had this revision."""
    return bool(header.cluster_id != cluster or header.revision < revision)
