"""Opens the sockets that the agent listens on."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from pathlib import Path

from warren.errors import Invalid

BACKLOG = 128  # connections that the kernel holds for us, and how often asyncio tries to accept at a time
SILENT_S = 60  # a peer that acknowledges nothing for so long is gone


def inherited_socket(environ: Mapping[str, str], pid: int, name: str) -> socket.socket | None:
    """Return the socket of that name that systemd has opened for this process (sd_listen_fds(3)), otherwise None."""
    if environ.get("LISTEN_PID") != str(pid):
        return None
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    fds = range(3, 3 + int(environ.get("LISTEN_FDS") or 0))
    descriptor = next((fd for fd, fd_name in zip(fds, names, strict=False) if fd_name == name), None)
    return socket.socket(fileno=descriptor) if descriptor is not None else None


def bind_unix(path: str, variable: str = "WARREN_SOCKET") -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(path) == 0:
                raise Invalid(variable, path, "a socket that no other agent serves")
        unlink(path)  # a process that was killed leaves its socket
        mask = os.umask(0o117)
        try:
            listener.bind(path)  # read and write for user and group: every process that can connect may administer the networks
        finally:
            os.umask(mask)
        listener.listen(BACKLOG)
    except OSError as error:
        raise Invalid(variable, path, f"a path to bind a unix socket to ({error.strerror or error})") from None
    return listener


def bind_tcp(host: str, port: int, variable: str = "WARREN_HTTP") -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        _watch_peers(listener)
        listener.listen(BACKLOG)
    except OSError as error:
        expected = f"an address of this host and a free port ({error.strerror or error})"
        raise Invalid(variable, f"{host}:{port}", expected) from None
    return listener


def unlink(path: str | None) -> None:
    if path:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _watch_peers(listener: socket.socket) -> None:
    """Have the kernel end connections whose peer is gone or reads nothing. Accepted sockets inherit it."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENT_S)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_S * 1000)
