"""send_frames FRAME...: send each frame (hexadecimal) once."""

from __future__ import annotations

import sys

from raw_socket import opened

sock = opened()
for frame in sys.argv[1:]:
    sock.send(bytes.fromhex(frame))
