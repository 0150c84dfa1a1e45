"""bind tcp|udp ADDRESS PORT: listen there for a moment; print "bound", or why that is not possible."""

from __future__ import annotations

import socket
import sys

kind, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
try:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as listener:
        if kind == "tcp":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        if kind == "tcp":
            listener.listen()
    print("bound")
except OSError as error:
    print("error", error)
