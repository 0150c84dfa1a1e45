"""Runs controller/feed.py as a child process and exchanges messages with it. Part of the overlay application."""

from __future__ import annotations

import json
import logging
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

from controller.events import KeyState, StoreChanged, StoreLeft, StoreRead
from controller.framework.runtime import hub, is_manager
from specs.lineage import StoreOrigin

log = logging.getLogger("warren.overlay")

END_S = 5.0  # how long an ending child has to close its lease
FeedMessage = dict[str, Any]


class Child(NamedTuple):
    """A child process, and this end of its connection."""

    process: subprocess.Popen[bytes]
    channel: Any


_early: list[Child] = []  # the first child, until `StoreFeed` takes it


def start_early() -> None:
    """Start the first child if this process is `ryu-manager`: it reads etcd while this process loads the rest of its modules."""
    if is_manager():
        _early.append(_start())


def store_event(message: FeedMessage) -> StoreRead | StoreChanged | StoreLeft:
    """The event that a message of the child about the specs means."""
    if message["type"] == "left":
        return StoreLeft(frozenset(message["networks"]))
    entries, revision = tuple(KeyState(*entry) for entry in message["entries"]), message["revision"]
    followed = frozenset(message["followed"]) if message["followed"] is not None else None
    if message["type"] == "changed":
        return StoreChanged(entries, revision, followed, message["at"])
    return StoreRead(
        entries,
        revision,
        tuple(message["reported"]),
        origin=StoreOrigin(**message["origin"]),
        known=StoreOrigin(**message["known"]) if message["known"] else None,
        followed=followed,
        placements=message["placements"],
    )


class StoreFeed:
    """The connection to etcd. `on_start` is called for each new child, `on_message` for each message from it."""

    def __init__(self, on_start: Callable[[], None], on_message: Callable[[FeedMessage], None]) -> None:
        self._on_start, self._on_message = on_start, on_message
        self._channel: Any = None
        self._out: Any = None  # the queue of lines for the child
        self._child: subprocess.Popen[bytes] | None = None

    def send(self, message: FeedMessage) -> None:
        """Pass a message to the child. Without a child it is dropped; `on_start` is the time to send it again."""
        if self._out is not None:
            self._out.put(json.dumps(message).encode() + b"\n")

    def reload(self) -> None:
        """Let the child read certificates and its log's level anew."""
        if self._child is not None:
            self._child.send_signal(signal.SIGHUP)

    def restart(self) -> None:
        """Let the child end; the next one reads all specs."""
        if self._channel is not None:
            _shut_down(self._channel)

    def run(self) -> None:
        """Run one child until it ends; one step of a loop."""
        with ExitStack() as stack:
            child, channel = _early.pop() if _early else _start()
            stack.callback(channel.close)
            stack.callback(_end, child)
            stack.callback(_shut_down, channel)  # the child ends when it reads the end of the connection
            out: Any = hub.Queue()
            stack.callback(hub.kill, hub.spawn(_send, channel, out))
            stack.callback(self._detach)
            self._channel, self._out, self._child = channel, out, child
            self._on_start()
            self._receive(channel)
        log.error("feed.ended; starting another")
        hub.sleep(1)

    def _receive(self, channel: Any) -> None:
        buffer = b""
        while data := channel.recv(1 << 20):
            buffer += data
            if b"\n" not in data:
                continue
            *lines, buffer = buffer.split(b"\n")
            del data
            while lines:  # a full read is one line of megabytes: it must not stay until the next one
                self._on_message(json.loads(lines.pop(0)))

    def _detach(self) -> None:
        self._channel = self._out = self._child = None


def _start() -> Child:
    from eventlet.green import socket as green_socket  # its reads yield to other green threads

    channel, theirs = green_socket.socketpair()
    with theirs:
        command = [sys.executable, "-m", "controller.feed", str(theirs.fileno())]
        return Child(subprocess.Popen(command, pass_fds=[theirs.fileno()]), channel)


def _send(channel: Any, out: Any) -> None:
    """Send lines until the green thread is killed. If that fails, end the connection: then `run` starts another child."""
    try:
        while True:
            channel.sendall(out.get())
    finally:
        _shut_down(channel)


def _shut_down(channel: Any) -> None:
    try:
        channel.shutdown(socket.SHUT_RDWR)
    except OSError:
        log.debug("feed.closed already")


def _end(child: subprocess.Popen[bytes]) -> None:
    """Wait for the end of a child, whose connection is shut down; kill it if it does not end."""
    deadline = time.monotonic() + END_S
    while child.poll() is None and time.monotonic() < deadline:
        hub.sleep(0.05)
    if child.poll() is None:
        child.kill()
    child.wait()
