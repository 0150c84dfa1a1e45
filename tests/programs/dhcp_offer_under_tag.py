"""dhcp_offer_under_tag FRAME: send a DHCPv4 question (hexadecimal), and print the VLAN tag and the offered address of the answer."""

from __future__ import annotations

import socket
import sys

from raw_socket import opened, untagged

sock = opened(timeout_s=30, tags=True)
sock.send(bytes.fromhex(sys.argv[1]))
while True:
    vlan, frame, outgoing = untagged(sock)
    if not outgoing and frame[12:14] == b"\x08\x00" and frame[34:38] == bytes((0, 67, 0, 68)):
        break
print(vlan, socket.inet_ntoa(frame[58:62]))
