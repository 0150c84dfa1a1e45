"""advertise_router INTERFACE SECONDS: send router advertisements (RFC 4861) by the interface, with this router lifetime, five a second until it
ends."""

from __future__ import annotations

import socket
import struct
import sys
import time

ALL_NODES = "ff02::1"
interface, lifetime = sys.argv[1], int(sys.argv[2])
sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
index = socket.if_nametoindex(interface)
print("ready", flush=True)
while True:
    # type, code, checksum (the kernel's), hop limit, flags, router lifetime in seconds, reachable and retransmission time
    try:
        sock.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, lifetime, 0, 0), (ALL_NODES, 0, 0, index))
    except OSError:
        pass  # the interface has no usable address yet
    time.sleep(0.2)
