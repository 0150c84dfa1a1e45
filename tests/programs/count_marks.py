"""count_marks MARK...: print "ready", then count the frames with each mark (hexadecimal); SIGTERM makes it print the counts and end."""

from __future__ import annotations

import signal
import sys
import time

from raw_socket import opened

ending: list[int] = []
signal.signal(signal.SIGTERM, lambda number, _: ending.append(number))
marks = [bytes.fromhex(mark) for mark in sys.argv[1:]]
counts = [0] * len(marks)
last = time.monotonic()
sock = opened(timeout_s=0.1)
print("ready", flush=True)
while not ending or time.monotonic() < last + 0.5:  # so that what is on its way arrives
    try:
        frame = sock.recv(2000)
    except TimeoutError:
        continue
    for index, mark in enumerate(marks):
        if mark in frame:
            counts[index] += 1
            last = time.monotonic()
print(*counts)
