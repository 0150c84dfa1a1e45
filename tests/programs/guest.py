"""guest TAP NETNS MAC: a virtual machine as the host sees it. A tap of that name in this namespace carries the frames of an interface `eth0`, with
that MAC, in another namespace. Both vanish when it ends."""

from __future__ import annotations

import ctypes
import fcntl
import os
import selectors
import struct
import subprocess
import sys

TUNSETIFF, TAP, NO_PI, NEWNET = 0x400454CA, 0x0002, 0x1000, 0x40000000


def opened(name: str) -> int:
    """A tap in the namespace that this process is in."""
    fd = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), TAP | NO_PI))
    return fd


tap, netns, mac = sys.argv[1:]
near = opened(tap)
with open(f"/run/netns/{netns}") as namespace:
    assert ctypes.CDLL(None).setns(namespace.fileno(), NEWNET) == 0
far = opened("eth0")
subprocess.run(["ip", "link", "set", "eth0", "address", mac, "up"], check=True)
print("ready", flush=True)
selector = selectors.DefaultSelector()
for source, target in ((near, far), (far, near)):
    selector.register(source, selectors.EVENT_READ, target)
while True:
    for key, _ in selector.select():
        try:
            os.write(key.data, os.read(key.fd, 65536))
        except OSError:
            pass  # an interface that is down takes no frames
