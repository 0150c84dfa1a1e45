"""Tells when one of Warren's veths vanishes (its namespace ended with the container): ovs-vswitchd does not say so.

Reads rtnetlink's broadcasts raw: most are of interfaces that come, and not worth parsing.
"""

from __future__ import annotations

import logging
import re
import socket
import struct
import threading
from collections.abc import Callable

log = logging.getLogger("warren.links")

RTMGRP_LINK = 1
RTM_DELLINK = 17
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port (netlink(7))
_VETH = re.compile(rb"wv[0-9a-f]{12}(?=\0)")


class Links:
    """Calls `on_gone` with the name of each of our veths that is deleted, and `on_lost` when some may have been missed."""

    def __init__(self, on_gone: Callable[[str], None], on_lost: Callable[[], None]) -> None:
        self._on_gone, self._on_lost = on_gone, on_lost
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.bind((0, RTMGRP_LINK))

    def start(self) -> None:
        """Start the thread; it ends with the process."""
        threading.Thread(target=self._run, name="links", daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except OSError as error:  # ENOBUFS: the kernel was faster than we
                log.info("links.lost reason=%s", error)
                self._on_lost()
                continue
            for name in deleted(data):
                self._on_gone(name)


def deleted(data: bytes) -> list[str]:
    """Our veths that the netlink messages in `data` say are deleted."""
    found: list[str] = []
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        if kind == RTM_DELLINK and (name := _VETH.search(data, _HEADER.size, length)):
            found.append(name[0].decode())
        data = data[max(_HEADER.size, (length + 3) & ~3) :]
    return found
