"""Where Docker's engine reaches the driver: a unix socket for each of its names, and the TCP port of SAND's agent, which a file names."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import NamedTuple

from agent.config import Config, Tls
from agent.docker.networks import SAND
from agent.sockets import bind_tcp, bind_unix
from warren.errors import Invalid

LOOPBACK = "127.0.0.1"


class DriverListener(NamedTuple):
    """A socket of the driver, and the name that it gives to the driver; `path` is removed at the end."""

    name: str
    listener: socket.socket
    tls: Tls | None = None
    path: str | None = None


def listen(config: Config, inherited: socket.socket | None) -> list[DriverListener]:
    """Open all sockets of the driver; `inherited` is the one that systemd has opened. Raises `Invalid`."""
    sockets = dict(config.docker_sockets)
    listeners: list[DriverListener] = []
    if inherited is not None:
        name = Path(config.docker_socket or "warren.sock").stem
        sockets.pop(name, None)
        listeners.append(DriverListener(name, inherited))
    for name, path in sockets.items():
        variable = "WARREN_DOCKER_SOCKET" if path == config.docker_socket else "WARREN_DOCKER_NAMES"
        listeners.append(DriverListener(name, bind_unix(path, variable), path=path))
    if config.docker_port is not None:
        address = "0.0.0.0" if config.http_tls else LOOPBACK  # the certificate is that of the host's name, not of loopback
        listener = bind_tcp(address, config.docker_port, "DOCKER_PLUGIN_HTTP_PORT")
        listeners.append(DriverListener(SAND, listener, config.http_tls))
        host = config.host if config.http_tls else LOOPBACK
        _write(config.docker_specs / f"{SAND}.json", specification(SAND, f"{host}:{config.docker_port}", config.http_tls))
    return listeners


def specification(name: str, address: str, tls: Tls | None) -> str:
    """The file by which Docker finds a driver that listens on TCP. Pure."""
    data = {"Name": name, "Addr": f"{'https' if tls else 'http'}://{address}"}
    files = {"InsecureSkipVerify": False, "CAFile": tls.ca, "CertFile": tls.cert, "KeyFile": tls.key} if tls else None
    return json.dumps(data | ({"TLSConfig": files} if files else {})) + "\n"


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        expected = f"a directory to write {path.name} to, or WARREN_DOCKER_NAMES={path.stem} without ENABLE_DOCKER_PLUGIN ({error.strerror})"
        raise Invalid("WARREN_DOCKER_SPECS", str(path.parent), expected) from None
