"""send_datagrams SOURCE_PORT ADDRESS PORT COUNT PAYLOAD...: send each payload (hexadecimal) that many times by UDP; source port 0: any."""

from __future__ import annotations

import socket
import sys

port, address, to, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
sock.bind(("", port))
for _ in range(count):
    for payload in sys.argv[5:]:
        sock.sendto(bytes.fromhex(payload), (address, to))
