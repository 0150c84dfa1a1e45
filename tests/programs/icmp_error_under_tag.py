"""icmp_error_under_tag FRAME: send a frame (hexadecimal), and print the VLAN tag, type, code and MTU of the ICMP error about it."""

from __future__ import annotations

import struct
import sys

from raw_socket import opened, untagged

sock = opened(timeout_s=30, tags=True)
sock.send(bytes.fromhex(sys.argv[1]))
while True:
    vlan, frame, outgoing = untagged(sock)
    if not outgoing and frame[12:14] == b"\x08\x00" and frame[23] == 1:
        break
print(vlan, *struct.unpack("!BB2xHH", frame[34:42]))
