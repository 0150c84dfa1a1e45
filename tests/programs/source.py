"""source ADDRESS: send a million bytes to `sink`, and print how many segments were sent again."""

from __future__ import annotations

import socket
import struct
import sys

SO_MAX_PACING_RATE = 47
connection = socket.create_connection((sys.argv[1], 7777))
connection.setsockopt(
    socket.SOL_SOCKET, SO_MAX_PACING_RATE, 12_500_000
)  # bytes/s: a burst overruns the userspace datapath's sockets
connection.sendall(bytes(1_000_000))
connection.shutdown(socket.SHUT_WR)
connection.recv(1)
print(struct.unpack_from("B7x24I", connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104))[-1])
