"""hear_until_last MARK...: print "ready", and once a frame with the last mark (text) arrives, which of the marks have come."""

from __future__ import annotations

import socket
import sys

from raw_socket import opened

marks, heard = [mark.encode() for mark in sys.argv[1:]], set[bytes]()
sock = opened(timeout_s=30)
print("ready", flush=True)
while marks[-1] not in heard:
    frame, where = sock.recvfrom(2000)
    if where[2] != socket.PACKET_OUTGOING:
        heard |= {mark for mark in marks if mark in frame}
print(*sorted(mark.decode() for mark in heard))
