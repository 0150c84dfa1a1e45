"""talk_when_asked ADDRESS PORT: a TCP connection to `serve`. Prints the greeting; then for each line of its input sends 20 000 bytes and prints
"alive" once they are back, or "error"."""

from __future__ import annotations

import socket
import sys

SIZE = 20_000
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
print(connection.recv(100).decode(), flush=True)
connection.settimeout(3)


def echoed() -> bool:
    connection.sendall(b"x" * SIZE)
    received = 0
    while received < SIZE and (data := connection.recv(65536)):
        received += len(data)
    return received == SIZE


for _ in sys.stdin:
    try:
        print("alive" if echoed() else "error", flush=True)
    except OSError:
        print("error", flush=True)
