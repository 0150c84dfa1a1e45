"""Reports deleted veths of Warren (the kernel deletes a veth with the container's namespace), which ovs-vswitchd does not
report.

Searches rtnetlink's broadcasts without parsing them completely, because most of them announce new interfaces.
"""

from __future__ import annotations

import logging
import re
import socket
import struct
from collections.abc import Callable

from agent.worker import Worker

log = logging.getLogger("warren.links")

RTMGRP_LINK = 1
RTM_DELLINK = 17
LISTEN_S = 1.0  # how long a step waits for a message before the worker checks whether it must stop
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port (netlink(7))
_VETH = re.compile(rb"wv[0-9a-f]{12}(?=\0)")


class Links:
    """Calls `on_vanished` with the name of each of Warren's veths that is deleted, and `on_missed` when messages may have
    been lost."""

    def __init__(self, on_vanished: Callable[[str], None], on_missed: Callable[[], None]) -> None:
        self._on_vanished, self._on_missed = on_vanished, on_missed
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.bind((0, RTMGRP_LINK))
        self._socket.settimeout(LISTEN_S)
        self.worker = Worker("links", self._step, interval_s=0)

    def _step(self, items: frozenset[str]) -> None:
        try:
            data = self._socket.recv(1 << 16)
        except TimeoutError:
            return
        except OSError as error:  # ENOBUFS: messages were lost because the socket's buffer was full
            log.info("links.missed reason=%s", error)
            self._on_missed()
            return
        for name in deleted(data):
            self._on_vanished(name)


def deleted(data: bytes) -> list[str]:
    """Return the names of Warren's veths that the netlink messages in `data` report as deleted."""
    names: list[str] = []
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        if kind == RTM_DELLINK and (match := _VETH.search(data, _HEADER.size, length)):
            names.append(match[0].decode())
        data = data[max(_HEADER.size, (length + 3) & ~3) :]
    return names
