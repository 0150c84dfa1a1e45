"""collect_erspan TYPE COUNT: print "ready", collect ERSPAN packets of a type (1 is II on the wire, 2 is III) whose inner packet is ICMP, and print
(version, session, source, destination, ICMP type) of each: when COUNT have come and no more come for a second, or after a minute."""

from __future__ import annotations

import socket
import sys
import time

from raw_socket import opened

GRE, ICMP = 47, 1
kind, count = int(sys.argv[1]), int(sys.argv[2])
protocol = {1: b"\x88\xbe", 2: b"\x22\xeb"}[kind]
collected: list[tuple[int, int, str, str, int]] = []
until, last = time.monotonic() + 60, 0.0
sock = opened(timeout_s=1.0)
print("ready", flush=True)
while time.monotonic() < until and (len(collected) < count or time.monotonic() < last + 1):
    try:
        data = sock.recv(2000)
    except TimeoutError:
        continue
    if data[12:14] != b"\x08\x00" or data[23] != GRE or data[36:38] != protocol:
        continue
    at = 38 + 4  # GRE's header and its sequence number (draft-foschiano-erspan-03, 4)
    version, session = data[at] >> 4, int.from_bytes(data[at + 2 : at + 4], "big") & 0x3FF
    inner = data[at + {1: 8, 2: 12}[kind] :]
    if inner[12:14] == b"\x08\x00" and inner[23] == ICMP:
        last = time.monotonic()
        collected.append((version, session, socket.inet_ntoa(inner[26:30]), socket.inet_ntoa(inner[30:34]), inner[34]))
print(collected)
