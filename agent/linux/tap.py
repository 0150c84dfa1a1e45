"""A TAP interface (Linux, Documentation/networking/tuntap.rst): frames that the switch sends into it can be read here. It is
not persistent: it ends with the process that made it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from agent.linux import netns
from agent.linux.veth import NO_ADDRESS_OF_ITS_OWN
from warren.errors import Unavailable

DEVICE = "/dev/net/tun"
LONGEST = 65_521  # bytes; the largest MTU that a TAP can have
QUEUE = 4096  # frames that wait for the reader; others are dropped, and counted

_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000


class Tap:
    """A TAP interface `name` in the host's namespace, which is up. Raises `Unavailable` if the kernel has no TAP or refuses."""

    def __init__(self, name: str) -> None:
        self.name = name
        try:
            self._fd = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise Unavailable(DEVICE, error.strerror or str(error)) from None
        try:
            fcntl.ioctl(self._fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
            netns.in_thread(self._up)
        except (OSError, NetlinkError) as error:
            os.close(self._fd)
            raise Unavailable("the kernel", f"cannot make interface {name}: {error}") from None

    def _up(self) -> None:
        with IPRoute() as host:
            index = host.link_lookup(ifname=self.name)[0]
            # on an interface without an address the kernel sends nothing, so every frame that is read comes from the switch
            host.link("set", index=index, IFLA_AF_SPEC=NO_ADDRESS_OF_ITS_OWN)
            host.link("set", index=index, mtu=LONGEST, txqlen=QUEUE, state="up")

    def fileno(self) -> int:
        """Return the file descriptor, for select and its like."""
        return self._fd

    def read(self) -> bytes | None:
        """Return the next frame, or None if no frame waits."""
        try:
            return os.read(self._fd, LONGEST + 64)
        except BlockingIOError:
            return None

    def dropped(self) -> int:
        """Return how many frames came while the queue was full."""
        try:
            return netns.in_thread(self._dropped)
        except (OSError, NetlinkError):
            return 0

    def _dropped(self) -> int:
        with IPRoute() as host:  # not /sys, which may show another namespace's
            (link,) = host.link("get", index=socket.if_nametoindex(self.name))
            return int(link.get_attr("IFLA_STATS64")["tx_dropped"])

    def close(self) -> None:
        """Remove the interface."""
        with contextlib.suppress(OSError):
            os.close(self._fd)
