"""tagged_station VLAN MAC ADDRESS TARGET: a host under a VLAN tag that answers ARP and pings. Prints "ready". When TARGET is another address it
asks for that, pings it for some seconds, and prints "answered" as soon as a reply comes; else it answers until it is killed."""

from __future__ import annotations

import socket
import struct
import sys
import time

from raw_socket import opened, untagged

WAIT_S = 3.0
tag, mac = int(sys.argv[1]), bytes.fromhex(sys.argv[2].replace(":", ""))
address, target = map(socket.inet_aton, sys.argv[3:5])
sock = opened(timeout_s=0.2, tags=True)


def send(to: bytes, kind: int, body: bytes) -> None:
    sock.send(to + mac + struct.pack("!HHH", 0x8100, tag, kind) + body)


def arp(operation: int, target_mac: bytes, target_address: bytes) -> bytes:
    return struct.pack("!HHBBH", 1, 0x800, 6, 4, operation) + mac + address + target_mac + target_address


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def icmp(kind: int, to: bytes, rest: bytes) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 24 + len(rest), 7, 0, 64, 1, 0) + address + to
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    body = struct.pack("!BBH", kind, 0, 0) + rest
    return head + body[:2] + struct.pack("!H", checksum(body)) + body[4:]


print("ready", flush=True)
serving, until, target_mac = target == address, time.monotonic() + WAIT_S, b""
while serving or time.monotonic() < until:
    if target_mac:
        send(target_mac, 0x800, icmp(8, target, b"idnowarren"))
    elif not serving:
        send(b"\xff" * 6, 0x806, arp(1, bytes(6), target))
    try:
        vlan, frame, _ = untagged(sock)
    except TimeoutError:
        continue
    if vlan != tag or (frame[:6] != mac and frame[0] & 1 == 0):
        continue
    if frame[12:14] == b"\x08\x06" and frame[38:42] == address:
        if frame[21] == 1:
            send(frame[6:12], 0x806, arp(2, frame[22:28], frame[28:32]))
        elif frame[28:32] == target:
            target_mac = frame[22:28]
    elif frame[12:14] == b"\x08\x00" and frame[23] == 1 and frame[30:34] == address:
        if frame[34] == 8:
            send(frame[6:12], 0x800, icmp(0, frame[26:30], frame[38:]))
        elif frame[34] == 0 and frame[26:30] == target:
            print("answered", flush=True)
            break
