"""many_connections ADDRESS: one datagram to each of 400 ports, so that each is a connection of its own to the connection tracker."""

from __future__ import annotations

import contextlib
import socket
import sys

sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for port in range(20_000, 20_400):
    with contextlib.suppress(OSError):
        sender.sendto(b"flood", (sys.argv[1], port))
