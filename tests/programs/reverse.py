"""reverse ADDRESS PORT: print "ready", take one TCP connection, and send what came back in reverse order once the other side has sent all."""

from __future__ import annotations

import socket
import sys

server = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
connection, _ = server.accept()
data = b""
while part := connection.recv(65536):
    data += part
connection.sendall(data[::-1])
connection.close()
