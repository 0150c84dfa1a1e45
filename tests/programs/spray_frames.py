"""spray_frames SECONDS PAUSE_S FRAME...: send the frames (hexadecimal) again and again, with a pause after each round, until the time is over or
SIGTERM comes. Prints "ready", at the end the number of frames sent."""

from __future__ import annotations

import contextlib
import signal
import sys
import time

from raw_socket import opened

ending: list[int] = []
signal.signal(signal.SIGTERM, lambda number, _: ending.append(number))
until, pause_s = time.monotonic() + float(sys.argv[1]), float(sys.argv[2])
frames, sent = [bytes.fromhex(frame) for frame in sys.argv[3:]], 0
sock = opened()
print("ready", flush=True)
while not ending and time.monotonic() < until:
    for frame in frames:
        with contextlib.suppress(OSError):  # no room in the queue
            sock.send(frame)
            sent += 1
    if pause_s:
        time.sleep(pause_s)
print(sent)
