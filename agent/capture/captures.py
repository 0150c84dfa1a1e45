"""Captures: for `warren capture` this agent makes a mirror session of one endpoint, on any host. The copies end in a TAP
interface here, and the agent streams them to the client as a pcap file (draft-ietf-opsawg-pcap).

The session is a spec under a lease of this agent, so it ends with the process. It also ends at once when the client's
connection ends, and when the client has sent nothing for SILENCE_S: a machine that lost its power closes no connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict

from agent import status
from agent.core import Core
from agent.feature import Feature
from agent.linux.tap import LONGEST, Tap
from specs import keys
from specs.model.base import decode
from specs.model.endpoint import Endpoint
from specs.model.mirror import Capture, Matches, SnapLength
from specs.store.lease import EtcdLease
from warren.errors import Conflict, NotFound, Unavailable, WarrenError
from warren.worker import Worker

log = logging.getLogger("warren.captures")

SILENCE_S = 10.0
LEASE_S = 10
READY_S = 10.0
PORT_GONE_S = 5.0
INTERVAL_S = 0.5
AT_ONCE = 262_144  # bytes of frames in one chunk of the answer
MAGIC, VERSION, ETHERNET = 0xA1B2C3D4, (2, 4), 1  # microseconds; LINKTYPE_ETHERNET
MEDIA_TYPE = "application/vnd.tcpdump.pcap"
NAME_HEADER = "x-warren-capture"


class CaptureCreate(BaseModel):
    """POST /captures: the endpoint (name, NETWORK/NAME or id), and which of its packets: `match` has fields as in rules of
    ACLs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint: str
    direction: Literal["in", "out", "both"] = "both"
    match: Matches = None
    snap: SnapLength | None = None


@dataclass(slots=True)
class Running:
    """A running capture: the session's name, the interface that receives the copies, and what it has carried."""

    name: str
    endpoint: Endpoint
    tap: Tap
    lease: EtcdLease
    snap: int
    heard_at: float
    packets: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def take(self, now: float) -> bytes:
        """The waiting frames as records of a pcap file; `now` is the time of day, in seconds."""
        records, size = [], 0
        while size < AT_ONCE and (frame := self.tap.read()) is not None:
            records.append(record(frame, self.snap, now))
            size += len(frame)
        self.packets += len(records)
        return b"".join(records)


def header(snap: int) -> bytes:
    """The header of a pcap file."""
    return struct.pack("<IHHiIII", MAGIC, *VERSION, 0, 0, snap, ETHERNET)


def record(frame: bytes, snap: int, now: float) -> bytes:
    """A frame in a pcap file, cut to `snap` bytes."""
    seconds = int(now)
    kept = frame[:snap]
    return struct.pack("<IIII", seconds, int((now - seconds) * 1e6), len(kept), len(frame)) + kept


class Captures(Feature):
    """The captures of one agent. Thread-safe."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._running: dict[str, Running] = {}
        self._left: set[str] = set()  # captures that ended while etcd was away: their claims remain
        self._lock = threading.Lock()
        self._swept = False
        self._worker = Worker("captures", self._step, interval_s=INTERVAL_S)

    def workers(self) -> Sequence[Worker]:
        """The loop that ends captures whose client is silent."""
        return (self._worker,)

    def router(self) -> APIRouter:
        """POST /captures, PUT /captures/NAME."""
        router = APIRouter(tags=["Warren"])

        @router.post("/captures", response_class=Response)
        def capture(body: CaptureCreate) -> Response:
            """An endpoint's packets as an endless pcap file. The header X-Warren-Capture names the capture. Send PUT /captures/NAME at least
            every ten seconds, or it ends. It ends at once when the connection is closed."""
            return Stream(self, self.begin(body))

        @router.put("/captures/{name}")
        def keep_alive(name: str) -> dict[str, int]:
            """Note that the client lives. Returns how many packets it should have got so far. Raises `NotFound`."""
            return self.keep_alive(name)

        return router

    def begin(self, body: CaptureCreate) -> Running:
        """Start a capture; returns when the switches copy. Raises `WarrenError`, and then nothing is left."""
        repository, host = self._core.repository, self._core.host.name
        endpoint = self._core.lookup.endpoint(body.endpoint)
        if not endpoint.active:
            raise Conflict(f"endpoint {body.endpoint} is not active: it has no packets")
        name, vni = repository.take_capture(host)
        draft = {
            "name": name, "vni": vni, "direction": body.direction, "match": body.match,
            "sources": [{"network": endpoint.network_id, "endpoint": endpoint.id}],
        }  # fmt: skip
        undo: list[Callable[[], object]] = [lambda: repository.give_back_capture(host, name)]
        try:
            interface = f"wt{decode(Capture, {**draft, 'to': {'host': host, 'interface': 'wt'}}, 'capture').number:08x}"
            session = decode(Capture, {**draft, "to": {"host": host, "interface": interface}}, "capture")
            tap = Tap(interface)
            undo.append(tap.close)
            lease = EtcdLease(self._core.store, ttl_s=LEASE_S)
            undo.append(lease.close)
            running = Running(name, endpoint, tap, lease, body.snap or LONGEST, time.monotonic())
            with self._lock:
                self._running[name] = running
            lease.put(keys.capture(name), session.encode())
            self._ready(session, endpoint)
        except BaseException:
            with self._lock:
                self._running.pop(name, None)
            for step in reversed(undo):
                with contextlib.suppress(WarrenError):
                    step()
            raise
        log.info("capture.begun name=%s endpoint=%s", name, endpoint.id)
        return running

    def _ready(self, session: Capture, endpoint: Endpoint) -> None:
        """Wait until the endpoint's switch copies and this host's switch delivers."""
        core, deadline = self._core, time.monotonic() + READY_S
        entry = core.store.get(keys.capture(session.name))
        if entry is None:
            raise Unavailable("etcd", "the lease of the capture has run out")
        core.cache.applied(
            [(entry.key, entry.value)], entry.mod_revision
        )  # a key under a lease: no transaction of the repository's
        late = status.wait(core.store, core.cache, READY_S, hosts={endpoint.host, core.host.name})
        while not late and not core.switch.copies(session.number):
            if time.monotonic() > deadline or self._worker.stopping.is_set():
                raise Unavailable(f"the switch of {core.host.name}", "it does not deliver the copies (see warren status)")
            time.sleep(0.02)
        if late:
            raise Unavailable("the capture", f"not applied by {', '.join(late)} after {READY_S:.0f} s (see warren status)")

    def keep_alive(self, name: str) -> dict[str, int]:
        """The client lives; what it should have got so far. Raises `NotFound`."""
        with self._lock:
            running = self._running.get(name)
        if running is None:
            raise NotFound("capture", name)
        running.heard_at = time.monotonic()
        return {"packets": running.packets, "dropped": running.tap.dropped()}

    def end(self, running: Running) -> None:
        """End a capture; does nothing for one that has ended. The interface goes once the switch has released it."""
        running.over.set()
        with self._lock:
            if self._running.pop(running.name, None) is None:
                return
        try:
            running.lease.close()
            deadline = time.monotonic() + PORT_GONE_S
            while self._core.ovsdb.port(running.tap.name) is not None and time.monotonic() < deadline:
                time.sleep(0.02)
        finally:
            running.tap.close()
            self._give_back(running.name)
        log.info("capture.ended name=%s packets=%d", running.name, running.packets)

    def _give_back(self, name: str) -> None:
        try:
            self._core.repository.give_back_capture(self._core.host.name, name)
            self._left.discard(name)
        except WarrenError as error:
            self._left.add(name)
            log.info("capture.left name=%s reason=%s", name, error)

    def _step(self, items: frozenset[str]) -> None:
        """End captures of an earlier agent, and captures whose client is silent or whose endpoint is gone."""
        if not self._swept:
            with contextlib.suppress(WarrenError):
                names = self._core.repository.captures_of(self._core.host.name)
                with self._lock:
                    self._left |= set(names) - set(self._running)
                self._swept = True
        for name in list(self._left):
            self._give_back(name)
        with self._lock:
            running = list(self._running.values())
        cache = self._core.cache
        for each in running:
            followed = cache.view.followed
            complete = cache.synced.is_set() and (followed is None or each.endpoint.network_id in followed)
            gone = complete and each.endpoint.id not in cache.view.snapshot.endpoints
            if gone or time.monotonic() - each.heard_at > SILENCE_S:
                self.end(each)

    def ending(self) -> None:
        """Let the answers come to their end."""
        self._worker.stop()
        with self._lock:
            for each in self._running.values():
                each.over.set()

    def close(self) -> None:
        """End all captures that are left."""
        self.ending()
        with self._lock:
            running = list(self._running.values())
        for each in running:
            self.end(each)


class Stream(Response):
    """The frames of a capture for as long as the client reads."""

    def __init__(self, captures: Captures, running: Running) -> None:
        super().__init__(media_type=MEDIA_TYPE, headers={NAME_HEADER: running.name})
        del self.headers["content-length"]
        self._captures, self._running = captures, running

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """The interface of ASGI."""
        loop, running = asyncio.get_running_loop(), self._running
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": header(running.snap), "more_body": True})
            while not gone.done() and not running.over.is_set():
                if frames := running.take(time.time()):
                    await send({"type": "http.response.body", "body": frames, "more_body": True})
                else:
                    await _readable(loop, running.tap.fileno(), gone)
            if not gone.done():
                await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()
            loop.run_in_executor(None, self._captures.end, running)


async def _disconnected(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _readable(loop: asyncio.AbstractEventLoop, fd: int, gone: asyncio.Future[None]) -> None:
    """Wait until something can be read, the client is gone, or some time has passed."""
    ready = asyncio.Event()
    loop.add_reader(fd, ready.set)
    reads = asyncio.ensure_future(ready.wait())
    try:
        await asyncio.wait((reads, gone), timeout=INTERVAL_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        reads.cancel()
        loop.remove_reader(fd)
