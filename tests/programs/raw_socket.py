"""Ethernet frames from and to eth0, for the programs beside this module."""

from __future__ import annotations

import socket
import struct

SOL_PACKET, PACKET_AUXDATA, ETH_P_ALL = 263, 8, 3


def opened(timeout_s: float | None = None, tags: bool = False) -> socket.socket:
    """A raw socket on eth0; without a timeout it only sends. `tags`: the kernel tells the tag that it takes off a frame."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0 if timeout_s is None else socket.htons(ETH_P_ALL))
    made.bind(("eth0", 0))
    made.settimeout(timeout_s)
    if tags:
        made.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    return made


def untagged(sock: socket.socket) -> tuple[int, bytes, bool]:
    """The next frame: its VLAN id (0: none), the frame without the tag, whether it comes from this machine."""
    frame, extra, _, where = sock.recvmsg(2000, 100)
    vlan = struct.unpack_from("HH", extra[0][2], 16)[0] & 0xFFF if extra else 0
    if frame[12:14] == b"\x81\x00":
        vlan, frame = int.from_bytes(frame[14:16], "big") & 0xFFF, frame[:12] + frame[16:]
    return vlan, frame, where[2] == socket.PACKET_OUTGOING
