"""Tells systemd the daemon's state (sd_notify(3)); does nothing without systemd."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping


def notify(environ: Mapping[str, str], *lines: str) -> None:
    """Send lines such as READY=1."""
    path = environ.get("NOTIFY_SOCKET")
    if not path:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect("\0" + path[1:] if path.startswith("@") else path)
        sender.send("\n".join(lines).encode())


def watchdog_s(environ: Mapping[str, str]) -> float | None:
    """Return how often systemd wants a sign of life, in seconds; None without a watchdog."""
    text = environ.get("WATCHDOG_USEC", "")
    mine = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(text) / 2e6 if mine and text.isdigit() and int(text) else None
