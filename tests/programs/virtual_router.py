"""virtual_router ADDRESS4 ADDRESS6 MAC: a member of a virtual router (as of VRRP, RFC 5798). It prints "ready" first. After a line `master` on its
input it announces both addresses with the MAC (`own`: that of eth0), and answers ARP, neighbour solicitations and pings for them; after
`backup` it is silent. After each line it prints that line."""

from __future__ import annotations

import os
import select
import socket
import struct
import sys

from raw_socket import opened

from tests.frames import ethernet, icmp6, ipv4, ipv6

ARP, IPV4, IPV6, ICMP, ICMPV6 = 0x806, 0x800, 0x86DD, 1, 58
BROADCAST, ALL_NODES_MAC, ALL_NODES = "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01", "ff02::1"
OVERRIDE, SOLICITED = 0x2000_0000, 0x4000_0000


def text(raw: bytes) -> str:
    return raw.hex(":")


address4, address6, mac = sys.argv[1:4]
packed4, packed6 = socket.inet_aton(address4), socket.inet_pton(socket.AF_INET6, address6)
sock = opened(timeout_s=1.0)
mac = text(sock.getsockname()[4]) if mac == "own" else mac
packed_mac = bytes.fromhex(mac.replace(":", ""))
master = False


def send(to: str, kind: int, body: bytes) -> None:
    sock.send(ethernet(mac, to, kind, body).ljust(60, b"\0"))


def arp(operation: int, to: str, target_mac: bytes, target: bytes) -> None:
    send(to, ARP, struct.pack("!HHBBH", 1, 0x800, 6, 4, operation) + packed_mac + packed4 + target_mac + target)


def advertise(to_mac: str, to: str, flags: int) -> None:
    message = struct.pack("!I", flags) + packed6 + b"\2\1" + packed_mac
    send(to_mac, IPV6, ipv6(address6, to, ICMPV6, icmp6(address6, to, 136, message)))


def summed(body: bytes) -> bytes:
    total = sum(struct.unpack(f"!{len(body) // 2}H", body))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return body[:2] + struct.pack("!H", total ^ 0xFFFF) + body[4:]


def answer(frame: bytes) -> None:
    sender, kind = text(frame[6:12]), int.from_bytes(frame[12:14], "big")
    if kind == ARP and frame[21] == 1 and frame[38:42] == packed4 and frame[28:32] != packed4:
        arp(2, sender, frame[22:28], frame[28:32])
    elif kind == IPV4 and frame[23] == ICMP and frame[30:34] == packed4 and frame[34] == 8:
        length = int.from_bytes(frame[16:18], "big")
        reply = summed(b"\0\0\0\0" + frame[38 : 14 + length])
        send(sender, IPV4, ipv4(address4, socket.inet_ntoa(frame[26:30]), ICMP, reply))
    elif kind == IPV6 and frame[20] == ICMPV6:
        to = socket.inet_ntop(socket.AF_INET6, frame[22:38])
        if frame[54] == 135 and frame[62:78] == packed6:
            advertise(
                ALL_NODES_MAC if to == "::" else sender, ALL_NODES if to == "::" else to, OVERRIDE | SOLICITED * (to != "::")
            )
        elif frame[54] == 128 and frame[38:54] == packed6:
            length = int.from_bytes(frame[18:20], "big")
            send(sender, IPV6, ipv6(address6, to, ICMPV6, icmp6(address6, to, 129, frame[58 : 54 + length])))


print("ready", flush=True)
waiting = ""
while True:
    readable, _, _ = select.select([sock, sys.stdin], [], [])
    if sock in readable:
        frame, where = sock.recvfrom(2000)
        if master and where[2] != socket.PACKET_OUTGOING:
            answer(frame)
    if sys.stdin in readable:
        data = os.read(sys.stdin.fileno(), 4096)
        if not data:
            break
        *lines, waiting = (waiting + data.decode()).split("\n")
        for line in lines:
            master = line == "master"
            if master:
                arp(1, BROADCAST, bytes(6), packed4)
                advertise(ALL_NODES_MAC, ALL_NODES, OVERRIDE)
            print(line, flush=True)
