"""Captures: for `warren capture` this agent makes a mirror session of one endpoint, of any host, whose copies end in a TAP interface
here, and streams them to the client as a pcap file (draft-ietf-opsawg-pcap).

The session is a spec under a lease of this agent, so it goes with the process; it ends at once when the client's connection ends, and
when the client has said nothing for SILENCE_S: a machine that lost its power closes no connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from fastapi import FastAPI, Response
from pydantic import BaseModel, ConfigDict

from agent import status
from agent.agent import Agent
from agent.linux.tap import LONGEST, Tap
from agent.switch import Switch
from specs.model.mirror import Capture, Matches, SnapLength
from specs.model.records import Endpoint, decode
from specs.store import keys
from specs.store.lease import Lease
from warren.errors import Conflict, NotFound, Unavailable, WarrenError

log = logging.getLogger("warren.captures")

SILENCE_S = 10.0
LEASE_S = 10
READY_S = 10.0
PORT_GONE_S = 5.0
LOOK_S = 0.5
AT_ONCE = 262_144  # bytes of frames in one piece of the answer
MAGIC, VERSION, ETHERNET = 0xA1B2C3D4, (2, 4), 1  # microseconds; LINKTYPE_ETHERNET
MEDIA_TYPE = "application/vnd.tcpdump.pcap"
NAME_HEADER = "x-warren-capture"


class CaptureCreate(BaseModel):
    """POST /captures: which endpoint (name, NETWORK/NAME or id), and what of it: `match` has fields of packets as in rules of ACLs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint: str
    direction: Literal["in", "out", "both"] = "both"
    match: Matches = None
    snap: SnapLength | None = None


@dataclass(slots=True)
class Running:
    """A capture: the session's name, the interface in which the copies end, and what it has carried."""

    name: str
    endpoint: Endpoint
    tap: Tap
    lease: Lease
    snap: int
    heard_at: float
    packets: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def take(self, now: float) -> bytes:
        """The frames that wait, as records of a pcap file; `now` is the time of day, in seconds."""
        found, size = [], 0
        while size < AT_ONCE and (frame := self.tap.read()) is not None:
            found.append(record(frame, self.snap, now))
            size += len(frame)
        self.packets += len(found)
        return b"".join(found)


def header(snap: int) -> bytes:
    """How a pcap file begins."""
    return struct.pack("<IHHiIII", MAGIC, *VERSION, 0, 0, snap, ETHERNET)


def record(frame: bytes, snap: int, now: float) -> bytes:
    """A frame in a pcap file, cut to `snap` bytes."""
    seconds = int(now)
    kept = frame[:snap]
    return struct.pack("<IIII", seconds, int((now - seconds) * 1e6), len(kept), len(frame)) + kept


class Captures:
    """The captures of one agent. Thread-safe."""

    def __init__(self, agent: Agent, switch: Switch) -> None:
        self._agent, self._switch = agent, switch
        self._running: dict[str, Running] = {}
        self._left: set[str] = set()  # ended while etcd was away: their claims are still there
        self._lock = threading.Lock()
        self._stop = threading.Event()
        agent.captures = self
        threading.Thread(target=self._watch, name="captures", daemon=True).start()

    def begin(self, body: CaptureCreate) -> Running:
        """Start one; returns when the switches copy. Raises `WarrenError`, and then nothing is left."""
        specs, host = self._agent.specs, self._agent.host.name
        endpoint = self._agent.endpoint(body.endpoint)
        if not endpoint.active:
            raise Conflict(f"endpoint {body.endpoint} is not active: it has no packets")
        name, vni = specs.take_capture(host)
        draft = {
            "name": name, "vni": vni, "direction": body.direction, "match": body.match,
            "sources": [{"network": endpoint.network_id, "endpoint": endpoint.id}],
        }  # fmt: skip
        undo: list[Callable[[], object]] = [lambda: specs.give_back_capture(host, name)]
        try:
            interface = f"wt{decode(Capture, {**draft, 'to': {'host': host, 'interface': 'wt'}}, 'capture').number:08x}"
            session = decode(Capture, {**draft, "to": {"host": host, "interface": interface}}, "capture")
            tap = Tap(interface)
            undo.append(tap.close)
            lease = Lease(specs.store, ttl_s=LEASE_S)
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
        """Wait until the endpoint's switch copies and ours delivers."""
        agent, deadline = self._agent, time.monotonic() + READY_S
        entry = agent.specs.store.get(keys.capture(session.name))
        if entry is None:
            raise Unavailable("etcd", "the lease of the capture has run out")
        agent.known.wrote(entry.key, entry.value, entry.mod_revision)
        late = status.wait(agent.specs.store, agent.known, READY_S, hosts={endpoint.host, agent.host.name})
        while not late and not self._switch.copies(session.number):
            if time.monotonic() > deadline or self._stop.is_set():
                raise Unavailable(f"the switch of {agent.host.name}", "it does not deliver the copies (see warren status)")
            time.sleep(0.02)
        if late:
            raise Unavailable("the capture", f"not applied by {', '.join(late)} after {READY_S:.0f} s (see warren status)")

    def heard(self, name: str) -> dict[str, int]:
        """The client lives; what it should have got so far. Raises `NotFound`."""
        with self._lock:
            running = self._running.get(name)
        if running is None:
            raise NotFound("capture", name)
        running.heard_at = time.monotonic()
        return {"packets": running.packets, "dropped": running.tap.dropped()}

    def end(self, running: Running) -> None:
        """End one; again does nothing. The interface goes when the switch has let go of it."""
        running.over.set()
        with self._lock:
            if self._running.pop(running.name, None) is None:
                return
        try:
            running.lease.close()
            deadline = time.monotonic() + PORT_GONE_S
            while self._agent.ovsdb.port(running.tap.name) is not None and time.monotonic() < deadline:
                time.sleep(0.02)
        finally:
            running.tap.close()
            self._give_back(running.name)
        log.info("capture.ended name=%s packets=%d", running.name, running.packets)

    def _give_back(self, name: str) -> None:
        try:
            self._agent.specs.give_back_capture(self._agent.host.name, name)
            self._left.discard(name)
        except WarrenError as error:
            self._left.add(name)
            log.info("capture.left name=%s reason=%s", name, error)

    def _watch(self) -> None:
        """What an agent before this one has left goes first; then captures whose client is silent or whose endpoint is gone."""
        swept = False
        while not self._stop.wait(LOOK_S):
            if not swept:
                with contextlib.suppress(WarrenError):
                    found = self._agent.specs.captures_of(self._agent.host.name)
                    with self._lock:
                        self._left |= set(found) - set(self._running)
                    swept = True
            for name in list(self._left):
                self._give_back(name)
            with self._lock:
                running = list(self._running.values())
            for each in running:
                gone = self._agent.known.read.is_set() and each.endpoint.id not in self._agent.known.snapshot.endpoints
                if gone or time.monotonic() - each.heard_at > SILENCE_S:
                    self.end(each)

    def finish(self) -> None:
        """Let the answers come to their end: the agent ends. Does not wait."""
        self._stop.set()
        with self._lock:
            for each in self._running.values():
                each.over.set()

    def stop(self) -> None:
        """End all that is left."""
        self.finish()
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
        """As ASGI asks for it."""
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
    """Until something can be read, the client is gone, or a while has passed."""
    ready = asyncio.Event()
    loop.add_reader(fd, ready.set)
    reads = asyncio.ensure_future(ready.wait())
    try:
        await asyncio.wait((reads, gone), timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        reads.cancel()
        loop.remove_reader(fd)


def routes(app: FastAPI, agent: Agent, switch: Switch) -> None:
    """Add the routes."""
    captures = Captures(agent, switch)

    @app.post("/captures", tags=["Warren"], response_class=Response)
    def capture(body: CaptureCreate) -> Response:
        """An endpoint's packets as a pcap file without end. The header X-Warren-Capture names the capture; PUT /captures/NAME at least
        every ten seconds, or it ends. It ends at once when the connection is closed."""
        return Stream(captures, captures.begin(body))

    @app.put("/captures/{name}", tags=["Warren"])
    def heard(name: str) -> dict[str, int]:
        """Go on; how many packets were sent, and how many were dropped because nobody read them in time."""
        return captures.heard(name)
