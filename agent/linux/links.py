"""Hears when one of Warren's veths vanishes (its namespace ended with the container): ovs-vswitchd does not say so.

Reads rtnetlink's broadcasts raw: most are of interfaces that come, and not worth parsing.
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
LISTEN_S = 1.0  # so long a step waits for a message: then it sees whether the agent ends
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port (netlink(7))
_VETH = re.compile(rb"wv[0-9a-f]{12}(?=\0)")


class Links:
    """Calls `on_vanished` with the name of each of our veths that is deleted, and `on_missed` when messages may have been missed."""

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
        except OSError as error:  # ENOBUFS: the kernel was faster than we
            log.info("links.missed reason=%s", error)
            self._on_missed()
            return
        for name in deleted(data):
            self._on_vanished(name)


def deleted(data: bytes) -> list[str]:
    """Our veths that the netlink messages in `data` say are deleted."""
    found: list[str] = []
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        if kind == RTM_DELLINK and (name := _VETH.search(data, _HEADER.size, length)):
            found.append(name[0].decode())
        data = data[max(_HEADER.size, (length + 3) & ~3) :]
    return found
