"""echo_datagrams PORT: print "ready", and answer each datagram with its content."""

from __future__ import annotations

import socket
import sys

sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("", int(sys.argv[1])))
print("ready", flush=True)
while True:
    data, client = sock.recvfrom(2000)
    sock.sendto(data, client)
