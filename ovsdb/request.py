"""A transaction on its way from a caller, through the client's thread, to the server and back."""

from __future__ import annotations

import threading
from typing import Any

from ovsdb.transact import Json


class PendingTransaction:
    """A transaction on its way. `Idl` calls the methods whose names begin with an underscore."""

    def __init__(self, ops: list[Json]) -> None:
        self.ops = ops
        self.done = threading.Event()
        self.reply: Any = None
        self.cancelled = False

    def _process_reply(self, message: Any) -> None:
        self.reply = message
        self.done.set()

    @property
    def _status(self) -> str:
        return "incomplete"

    @_status.setter
    def _status(self, _value: str) -> None:
        self.done.set()  # the connection broke: no reply
