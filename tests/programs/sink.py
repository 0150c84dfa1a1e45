"""sink: print "ready", take one TCP connection on port 7777 over IPv4 or IPv6, and print how many bytes came."""

from __future__ import annotations

import socket

server = socket.create_server(("::", 7777), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
connection, _ = server.accept()
total = 0
while data := connection.recv(65536):
    total += len(data)
print(total)
