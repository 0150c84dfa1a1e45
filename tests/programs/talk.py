"""talk ADDRESS PORT: a TCP connection to `serve` that sends and receives without pause. Prints "connected"; SIGTERM ends it after one more
round, and it prints the number of rounds. A connection that breaks or stands still ends it with an error."""

from __future__ import annotations

import signal
import socket
import sys
import time

ending: list[int] = []
signal.signal(signal.SIGTERM, lambda number, _: ending.append(number))
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), 30)
connection.recv(100)
print("connected", flush=True)
rounds = 0


def talk() -> None:
    connection.sendall(b"x" * 1000)
    received = 0
    while received < 1000:
        data = connection.recv(1000)
        assert data, "the other side has closed the connection"
        received += len(data)


while not ending:
    talk()
    rounds += 1
    time.sleep(0.01)
talk()
print(rounds + 1)
