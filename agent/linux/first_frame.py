"""Learns the MAC of a virtual machine from the first frame that it sends: the kernel knows only that of the tap."""

from __future__ import annotations

import socket

from warren.errors import Unavailable

_ETH_P_ALL, _OUTGOING = 0x0003, 4  # <linux/if_ether.h>; PACKET_OUTGOING of packet(7)
_FRAMES = 64  # read at once


class FirstFrame:
    """Listens on an interface, which must be up, until `mac` has an answer. Raises `Unavailable` if it cannot."""

    def __init__(self, interface: str) -> None:
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
            self._socket.bind((interface, _ETH_P_ALL))
        except OSError as error:
            raise Unavailable("the kernel", f"cannot listen on {interface}: {error.strerror or error}") from None

    def mac(self) -> str | None:
        """Return the source MAC of the machine's first frame, once one has come."""
        for _ in range(_FRAMES):
            try:
                frame, (_, _, direction, _, _) = self._socket.recvfrom(64)
            except OSError:  # no frame waits, or the interface is gone
                return None
            source = frame[6:12]
            if direction != _OUTGOING and len(source) == 6 and not source[0] & 1 and any(source):
                return source.hex(":")
        return None

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
