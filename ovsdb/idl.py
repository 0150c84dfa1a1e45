"""The part of the client that uses the `ovs` package: one session with ovsdb-server. No other module imports that package.

It replaces two parts of the package: its JSON parser, and `select`, which refuses file descriptors above 1023.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from typing import Any

import ovs.db.idl
import ovs.json
import ovs.jsonrpc
import ovs.poller

from ovsdb import jsonstream
from ovsdb.poll import Poll
from ovsdb.request import PendingTransaction
from ovsdb.schema import DATABASE, TABLES, schema

BACKOFF_MS = (100, 1000)  # an attach may be waiting
PROBE_MS = 5000  # keepalive of a TCP or TLS remote; none on a unix socket

if ovs.json.PARSER == ovs.json.PARSER_PY:
    ovs.json.Parser = jsonstream.Parser  # 30 times faster than the package's own parser


class Idl(ovs.db.idl.Idl):  # type: ignore[misc]  # the package has no types
    """One session with ovsdb-server. Lets other green threads run while it parses a large first read.

    `notified` gets every change of a row: whether the row was deleted, its table, the row.
    """

    def __init__(self, remote: str, notified: Callable[[bool, str, Any], None]) -> None:
        if hasattr(select, "poll"):  # eventlet removes it
            ovs.poller.SelectPoll = Poll
        helper = ovs.db.idl.SchemaHelper(schema_json=schema())
        for table, columns in TABLES.items():
            helper.register_columns(table, list(columns))
        super().__init__(remote, helper, probe_interval=0 if remote.startswith("unix:") else PROBE_MS)
        self._notified = notified
        self._rows_parsed = 0
        self._session.reconnect.set_backoff(*BACKOFF_MS)

    def notify(self, event: str, row: Any, updates: Any = None) -> None:
        self._notified(event == ovs.db.idl.ROW_DELETE, row._table.name, row)

    def cooperative_yield(self) -> None:
        self._rows_parsed += 1
        if self._rows_parsed % 100 == 0:
            time.sleep(0)

    @property
    def ready(self) -> bool:
        """Whether the session is connected and its first read is complete."""
        return bool(self.state == self.IDL_S_MONITORING and self._session.is_connected())

    @property
    def session_number(self) -> int:
        """The number of the connection; a reconnect increments it."""
        return int(self._session.get_seqno())

    def wait_for(self, wake: socket.socket) -> None:
        """Wait until the server sends something, `wake` can be read, or a timer of the session expires."""
        poller = ovs.poller.Poller()
        poller.fd_wait(wake, ovs.poller.POLLIN)
        self.wait(poller)
        poller.block()

    def transact(self, request: PendingTransaction) -> None:
        """Send a transaction. The session completes the request when the reply arrives."""
        message = ovs.jsonrpc.Message.create_request("transact", [DATABASE, *request.ops])
        if self._session.send(message):
            request.done.set()
        else:
            self._outstanding_txns[message.id] = request
