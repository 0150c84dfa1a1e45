"""Limits of the agent's HTTP connections: how many there are, and how long a request may take to arrive.

uvicorn has neither: a client that sends half a request and waits would keep its connection, and one of the process's files, for ever.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import resource
import time
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

log = logging.getLogger("warren.connections")

CONNECTIONS_LIMIT = 1000  # of each listener; less where the process may have few files
HEAD_S = 10.0  # for the request line and the headers, from the connection or from their first byte
BODY_S = 60.0  # for the whole body
LOG_EVERY_S = 60.0
NO_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Seldom:
    """Logs a line at most once a minute, with the number of those left out."""

    def __init__(self) -> None:
        self._next, self._left_out = 0.0, 0

    def warn(self, event: str, detail: object) -> None:
        now = time.monotonic()
        if now < self._next:
            self._left_out += 1
            return
        log.warning("%s %s left_out=%d", event, detail, self._left_out)
        self._next, self._left_out = now + LOG_EVERY_S, 0


_full, _accepting = Seldom(), Seldom()


def connections_limit() -> int:
    """Return how many connections a listener may have: a quarter of the process's files, because there are up to three listeners."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS_LIMIT if soft == resource.RLIM_INFINITY else max(16, min(CONNECTIONS_LIMIT, soft // 4))


def plain_answer(status: int, error: str, detail: dict[str, Any] | None = None) -> bytes:
    """A whole HTTP answer, after which the connection is closed."""
    body = json.dumps({"error": error} | ({"detail": detail} if detail else {})).encode()
    fields = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close"
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{fields}\r\n\r\n".encode() + body


class LimitedProtocol(H11Protocol):
    """uvicorn's protocol for HTTP with both limits."""

    _timer: asyncio.TimerHandle | None = None
    _reads_body = False

    def connection_made(self, transport: Any) -> None:
        """Count the connection, and begin to wait for a request."""
        super().connection_made(transport)
        if len(self.connections) > connections_limit():
            _full.warn("connections.full", f"limit={connections_limit()}")
            self.refuse(503, "the agent has too many connections")
            return
        self._expect(HEAD_S)

    def data_received(self, data: bytes) -> None:
        """Read a part of a request."""
        self.begins()
        super().data_received(data)
        if self.conn.their_state is h11.SEND_BODY:
            if not self._reads_body:
                self._reads_body = True
                self._expect(BODY_S)
        elif self.conn.their_state is not h11.IDLE or not self._incomplete():
            self.arrived()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.arrived()
        super().connection_lost(exc)

    def begins(self) -> None:
        """Begin to wait for a request, with its first byte."""
        if self._timer is None and self.conn.their_state is h11.IDLE:
            self._expect(HEAD_S)

    def arrived(self) -> None:
        """Wait no longer: the request is complete, or it is none of HTTP's."""
        self._reads_body = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def refuse(self, status: int, error: str) -> None:
        """Answer and close, unless an answer has begun."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(plain_answer(status, error))
        self.transport.close()

    def _incomplete(self) -> bool:
        """Whether part of a head has come."""
        return bool(self.conn.trailing_data[0])

    def _expect(self, timeout_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(timeout_s, self._late, timeout_s)

    def _late(self, timeout_s: float) -> None:
        self._timer = None
        self.refuse(408, f"the request did not arrive in {timeout_s:g} s")


def keep_quiet(loop: asyncio.AbstractEventLoop) -> None:
    """Log at most once a minute that no connection can be accepted: asyncio logs a traceback for each of many tries a second."""

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in NO_FILES:
            _accepting.warn("connections.not_accepted", error.strerror)
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(handle)
