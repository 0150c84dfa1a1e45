"""echo ADDRESS ID COUNT: send echo requests with this ICMP id, each after the answer to the one before; print what comes back, a line each:
the sequence number, or "error SOURCE" for an ICMP error."""

from __future__ import annotations

import socket
import struct
import sys
import time

address, icmp_id, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
WAIT_S = 2.0
SIX = ":" in address
REQUEST, REPLY, ERRORS = (128, 129, range(1, 5)) if SIX else (8, 0, (3, 11))
family, proto = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if SIX else (socket.AF_INET, socket.IPPROTO_ICMP)


def checksum(data: bytes) -> int:
    """The Internet checksum of an even number of bytes (RFC 1071); the kernel computes ICMPv6's."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def answer(sock: socket.socket, sequence: int) -> str | None:
    """What comes back for a request: its sequence number, or who sent an error; None after a while."""
    limit = time.monotonic() + WAIT_S
    while (left := limit - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            data, source = sock.recvfrom(2000)
        except TimeoutError:
            break
        message = data if SIX else data[(data[0] & 0xF) * 4 :]
        if message[0] == REPLY and struct.unpack_from("!HH", message, 4) == (icmp_id, sequence):
            return str(sequence)
        inner = message[8 + (40 if SIX else 20) :]
        if message[0] in ERRORS and struct.unpack_from("!HH", inner, 4) == (icmp_id, sequence):
            return f"error {source[0]}"
    return None


sock = socket.socket(family, socket.SOCK_RAW, proto)
answers = []
for sequence in range(1, count + 1):
    head = struct.pack("!BBHHH", REQUEST, 0, 0, icmp_id, sequence)
    if not SIX:
        head = struct.pack("!BBHHH", REQUEST, 0, checksum(head), icmp_id, sequence)
    sock.sendto(head, (address, 0))
    answers.append(answer(sock, sequence))
print("\n".join(a for a in answers if a is not None))
