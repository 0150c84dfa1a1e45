"""hear_mark MARK LIMIT_S GRACE_S: print "ready", then "heard" as soon as a frame with the mark (hexadecimal) arrives. Gives up after LIMIT_S seconds,
or GRACE_S seconds after SIGTERM."""

from __future__ import annotations

import signal
import socket
import sys
import time

from raw_socket import opened

mark, limit_s, grace_s = bytes.fromhex(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
until = time.monotonic() + limit_s


def give_up(*_: object) -> None:
    global until
    until = time.monotonic() + grace_s


signal.signal(signal.SIGTERM, give_up)
sock = opened(timeout_s=0.1)
print("ready", flush=True)
while time.monotonic() < until:
    try:
        frame, where = sock.recvfrom(2000)
    except TimeoutError:
        continue
    if where[2] != socket.PACKET_OUTGOING and mark in frame:
        print("heard")
        break
