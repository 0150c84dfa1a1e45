"""ask tcp|udp ADDRESS PORT [BYTES]: print the greeting of `serve`, or "error ..." when no answer comes within two seconds.
UDP asks in a datagram of BYTES, if they are given."""

from __future__ import annotations

import socket
import sys

WAIT_S = 2.0
kind, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
question = b"who am I?".ljust(int(sys.argv[4]) if len(sys.argv) > 4 else 0, b"?")
try:
    if kind == "tcp":
        connection = socket.create_connection((address, port), WAIT_S)
    else:
        connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        connection.settimeout(WAIT_S)
        connection.connect((address, port))
        connection.send(question)
    print(connection.recv(100).decode())
except OSError as error:
    print("error", error)
