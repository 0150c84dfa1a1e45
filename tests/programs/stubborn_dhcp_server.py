"""stubborn_dhcp_server ADDRESS SERVER: a DHCPv4 server on eth0 that gives one address and no other, for 16 seconds. Prints "ready"."""

from __future__ import annotations

import socket
import struct
import sys

DISCOVER, OFFER, REQUEST, ACK, NAK = 1, 2, 3, 5, 6
LEASE_S = 16
given, server = map(socket.inet_aton, sys.argv[1:3])
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for option in (socket.SO_REUSEADDR, socket.SO_BROADCAST):
    sock.setsockopt(socket.SOL_SOCKET, option, 1)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
sock.bind(("", 67))


def options_of(message: bytes) -> dict[int, bytes]:
    options, at = {}, 240
    while message[at] != 255:
        if message[at]:
            options[message[at]] = message[at + 2 : at + 2 + message[at + 1]]
            at += 1 + message[at + 1]
        at += 1
    return options


print("ready", flush=True)
while True:
    message, _ = sock.recvfrom(2000)
    options = options_of(message)
    kind, requested = options[53][0], options.get(50) or message[12:16]
    if kind not in (DISCOVER, REQUEST):
        continue
    answer = OFFER if kind == DISCOVER else ACK if requested == given else NAK
    reply = bytes((53, 1, answer, 54, 4)) + server
    if answer != NAK:
        reply += bytes((51, 4)) + struct.pack("!I", LEASE_S) + bytes((1, 4, 255, 255, 255, 0))
    addresses = bytes(4) + (bytes(4) if answer == NAK else given) + bytes(8)
    sock.sendto(b"\x02" + message[1:8] + bytes(4) + addresses + message[28:240] + reply + b"\xff", ("255.255.255.255", 68))
