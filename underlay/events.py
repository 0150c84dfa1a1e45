"""Listens to changes of links, addresses, routes and rules (rtnetlink(7)), and reports that something may have changed."""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Callable, Iterator

from underlay.plan import MARK
from warren.worker import Worker

log = logging.getLogger("warren.underlay.events")

# RTMGRP_LINK; addresses, routes and rules of IPv4 and IPv6
GROUPS = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 1 << 18
LISTEN_S = 1.0
BUFFER = 1 << 20
_SO_RCVBUFFORCE = 33
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_NEWROUTE, _DELROUTE = 24, 25


class Events:
    """Calls `on_change` after messages that may concern state with our mark, and when messages were lost."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER)
        self._socket.bind((0, GROUPS))
        self._socket.settimeout(LISTEN_S)
        self.worker = Worker("events", self._step, interval_s=0)

    def _step(self, items: frozenset[str]) -> None:
        try:
            data = self._socket.recv(1 << 16)
        except TimeoutError:
            return
        except OSError as error:  # ENOBUFS: messages were lost because the buffer was full
            log.info("underlay.events_lost reason=%s", error)
            self._on_change()
            return
        if any(concerns(kind, body) for kind, body in messages(data)):
            self._on_change()


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the types and bodies of netlink messages."""
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        yield kind, data[_HEADER.size : length]
        data = data[max(_HEADER.size, (length + 3) & ~3) :]


def concerns(kind: int, body: bytes) -> bool:
    """Return whether a message may concern us. Routes other than default routes and ours do not: a router has many of them."""
    if kind in (_NEWROUTE, _DELROUTE) and len(body) >= 12:
        return body[1] == 0 or body[5] == MARK
    return True
