"""hear_mark MARK SECONDS: print "ready", then "heard" as soon as a frame with the mark (hexadecimal) arrives."""

from __future__ import annotations

import socket
import sys
import time

from raw_socket import opened

mark, until = bytes.fromhex(sys.argv[1]), time.monotonic() + float(sys.argv[2])
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
