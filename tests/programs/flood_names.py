"""Floods a name server until SIGTERM; prints then how many answers came, and how many questions were sent."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys

import dns.message

ended = []
signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
question = dns.message.make_query("n-green", "A").to_wire()
answered = sent = 0
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.connect((sys.argv[1], 53))
    sock.setblocking(False)
    print("ready", flush=True)
    while not ended:
        with contextlib.suppress(OSError):
            for _ in range(100):
                sent += sock.send(question) > 0
        with contextlib.suppress(OSError):
            while sock.recv(2048):
                answered += 1
print(answered, sent, flush=True)
