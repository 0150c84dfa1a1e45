"""A connection to ovsdb-server that reconnects by itself, with a replica of the rows that Warren reads.

One background thread owns the connection and is its only user. Other threads hand it transactions through a queue, wake it
through a socketpair, and sleep on events. In `ryu-manager` the threads are green: nothing here blocks except `select` and
`Event.wait`, and the pair is non-blocking. (A pipe would not do, because eventlet's `os.read` waits on a non-blocking one
too.) Notifications keep the replica current, so adding a port costs the same whatever the number of ports.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from ovsdb.idl import Idl
from ovsdb.operations import Op
from ovsdb.poll import left
from ovsdb.replica import Replica
from ovsdb.request import PendingTransaction
from ovsdb.transact import Json, bump_next_cfg, operations, results
from warren.errors import Unavailable

log = logging.getLogger("warren.ovsdb")

Changed = Callable[[set[str]], None]
TIMEOUT_S = 5.0
RETRY_S = 1.0


class OvsdbConnection:
    """The connection. It carries out transactions, and waits for ovs-vswitchd; what the rows mean is `Ovsdb`'s (ovsdb/client.py).

    `on_change` is called in the connection's thread with what changed: "ports" (the OpenFlow port of an endpoint or of the
    tunnel), "bridge" (anything else that the controller owns), "connection". `on_endpoints` is called with the ids of the
    endpoints whose ports were added, changed or deleted while it was connected.
    """

    def __init__(self, remote: str, on_change: Changed | None = None, on_endpoints: Changed | None = None) -> None:
        self._remote = remote
        self._on_change, self._on_endpoints = on_change, on_endpoints
        self._replica = Replica()
        self._queue: collections.deque[PendingTransaction] = collections.deque()
        self._watches: list[tuple[Callable[[], bool], threading.Event]] = []
        self._connected = False
        self._session_read: int | None = None
        self._closing = False
        self._thread: threading.Thread | None = None
        self._wake_read: socket.socket | None = None
        self._wake_write: socket.socket | None = None

    # ---- life ---------------------------------------------------------------------------------------------------------

    def connect(self, timeout_s: float = 0.0) -> bool:
        """Start, and wait up to `timeout_s` for the first full read. Returns whether it is complete; if not, the client
        keeps trying."""
        if self._thread is None:
            self._wake_read, self._wake_write = socket.socketpair()
            self._wake_read.setblocking(False)
            self._wake_write.setblocking(False)
            self._closing = False
            self._thread = threading.Thread(target=self._run, name="ovsdb", daemon=True)
            self._thread.start()
        return self._wait_for(lambda: self._connected, time.monotonic() + timeout_s)

    def close(self) -> None:
        """Stop the thread and close the connection."""
        if self._thread is None:
            return
        self._closing = True
        self._wake()
        self._thread.join()
        self._thread = None
        assert self._wake_read is not None
        assert self._wake_write is not None
        self._wake_read.close()
        self._wake_write.close()

    @property
    def connected(self) -> bool:
        """Whether the server answers and its content was read. If not, `observed` returns the last known state."""
        return self._connected

    # ---- changes ------------------------------------------------------------------------------------------------------

    def apply(self, ops: Iterable[Op], timeout_s: float = TIMEOUT_S) -> None:
        """Apply operations in one transaction and wait for the database's reply (not for ovs-vswitchd). Raises `Conflict`
        when the database refuses, `Unavailable` when it does not reply."""
        if rows := self._operations(ops):
            self._transact(rows, time.monotonic() + timeout_s)

    # ---- inside -------------------------------------------------------------------------------------------------------

    def _operations(self, ops: Iterable[Op]) -> list[Json]:
        return operations(ops, self._replica.port_uuids, self._replica.bridge_uuids)

    def apply_and_settle(self, ops: Iterable[Op], deadline: float) -> None:
        """As `apply`, until a time of the monotonic clock; and wait until ovs-vswitchd has done what it can."""
        select_next = {"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["next_cfg"]}
        done = self._transact([*self._operations(ops), bump_next_cfg(), select_next], deadline)
        if not done[-1]["rows"]:
            raise Unavailable("ovsdb", "its database is empty; run: ovs-vsctl init")
        next_cfg = done[-1]["rows"][0]["next_cfg"]
        if not self._wait_for(lambda: self._replica.cur_cfg >= next_cfg, deadline):
            raise Unavailable("ovs-vswitchd", "it has not applied the configuration in time (is it running?)")

    def _need_connection(self, deadline: float) -> None:
        if not self._wait_for(lambda: self._connected, deadline):
            raise Unavailable("ovsdb", f"no connection to {self._remote}")

    def _transact(self, ops: list[Json], deadline: float) -> list[Json]:
        request = PendingTransaction(ops)
        self._queue.append(request)
        self._wake()
        if not request.done.wait(max(0.0, left(deadline))):
            request.cancelled = True
            raise Unavailable("ovsdb", f"no answer from {self._remote}")
        return results(request.reply, ops)

    def _wait_for(self, condition: Callable[[], bool], deadline: float) -> bool:
        """Sleep until a condition holds. It is evaluated again after each change of the replica."""
        if condition():
            return True
        watch = (condition, threading.Event())
        self._watches.append(watch)
        try:
            while not condition():
                if (remaining := left(deadline)) <= 0:
                    return False
                watch[1].wait(remaining)
                watch[1].clear()
            return True
        finally:
            self._watches.remove(watch)

    def _wake(self) -> None:
        if self._wake_write is not None:
            with contextlib.suppress(OSError):  # full: it will wake anyway; closed: nobody to wake
                self._wake_write.send(b"w")

    # ---- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing:
            idl = Idl(self._remote, self._notified)
            self._session_read = None
            try:
                while not self._closing:
                    self._turn(idl)
            except Exception:  # the package raises on a message that it cannot parse: start again with a new replica
                log.exception("ovsdb.client_failed remote=%s", self._remote)
                time.sleep(RETRY_S)
            finally:
                idl.close()
                self._set_connected(False)

    def _turn(self, idl: Idl) -> None:
        idl.run()
        if idl.ready and self._session_read != idl.session_number:
            self._replica.load({name: table.rows.values() for name, table in idl.tables.items()})
            self._session_read = idl.session_number
        self._set_connected(idl.ready)
        while self._queue and idl.ready:
            request = self._queue.popleft()
            if not request.cancelled:
                idl.transact(request)
        self._publish()
        assert self._wake_read is not None
        idl.wait_for(self._wake_read)
        with contextlib.suppress(BlockingIOError):
            self._wake_read.recv(4096)

    def _notified(self, deleted: bool, table: str, row: Any) -> None:
        # Load the first read of a session as a whole: no notification reports the rows deleted while the connection was down.
        if self._session_read is not None:
            self._replica.row_changed(deleted, table, row)

    def _set_connected(self, connected: bool) -> None:
        if connected != self._connected:
            self._connected = connected
            log.info("ovsdb.connected remote=%s" if connected else "ovsdb.disconnected remote=%s", self._remote)
            self._replica.changed.add("connection")
            self._publish()

    def _publish(self) -> None:
        changed = self._replica.take_changed()
        if not changed:
            return
        for condition, event in tuple(self._watches):
            if condition():
                event.set()
        reported = changed - {"config"}
        if reported and self._on_change is not None:
            self._on_change(reported)
        endpoints = self._replica.take_endpoints_changed()
        if endpoints and self._on_endpoints is not None:
            self._on_endpoints(endpoints)
