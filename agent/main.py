"""The process `warren-agent`: reads settings from the environment, serves on a unix socket and on TCP, and shuts down
cleanly."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import faulthandler
import logging
import os
import resource
import signal
import socket
import ssl
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import uvicorn

from agent.agent import Agent
from agent.api import connections
from agent.api.app import build as build_app
from agent.api.connect import protocol
from agent.api.dial import Dialer
from agent.composition import build
from agent.config import SETTINGS, Config, Tls, load
from agent.docker.feature import Docker
from agent.docker.server import application
from warren import __version__
from warren.errors import MISSING, Invalid, WarrenError
from warren.settings import LOG_FORMAT

log = logging.getLogger("warren.agent")

SHUTDOWN_S = 2
THREADS = 128  # each attach waits in a thread
_OPTIONS: dict[str, Any] = {  # options of both servers
    "lifespan": "off",
    "loop": "asyncio",
    "log_config": None,
    "log_level": "warning",
    "access_log": False,
    "timeout_graceful_shutdown": SHUTDOWN_S,
    "backlog": connections.BACKLOG,
}
HELP = """Warren's agent: one on each host. It plugs containers (network namespaces) into networks, speaks SAND's HTTP API
and more (see http://.../docs), registers its host in etcd, and restores the host from the specs after a restart.

  WARREN_VTEP=192.0.2.1 WARREN_ETCD=http://192.0.2.9:2379 warren-agent
  curl --unix-socket /run/warren/agent.sock http://agent/networks

Settings are environment variables (defaults in brackets; SAND's names on the right work as well):
"""


def main() -> None:
    """Run the agent. Exit with status 2 and one line on standard error if it cannot start."""
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("warren-agent", description=HELP + SETTINGS, formatter_class=style)
    parser.add_argument("--version", action="version", version=__version__)
    parser.parse_args()
    logging.basicConfig(
        level=os.environ.get("WARREN_LOG", "INFO").upper(),
        format=LOG_FORMAT,
        stream=sys.stderr,
    )
    logging.getLogger("pyroute2").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a descriptor for each published port
    faulthandler.register(signal.SIGUSR1)  # SIGUSR1 prints the stacks of all threads to standard error
    try:
        config = load(os.environ)
        inherited = inherited_socket(os.environ, os.getpid(), "docker")
        agent, docker = build(config, with_docker=bool(config.docker_socket) or inherited is not None)
        listeners = _listen(config)
    except WarrenError as error:
        print(f"warren-agent: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # a TLS file that cannot be read
        print(f"warren-agent: {error}", file=sys.stderr)
        sys.exit(2)
    asyncio.run(serve(agent, listeners, docker, inherited))
    log.info("agent.ended host=%s", config.host)
    # _exit, because threads of grpc and of the pool may be blocked in calls; everything else has been closed
    logging.shutdown()
    os._exit(0)


class ApiServer(uvicorn.Server):
    """uvicorn without its signal handlers, because two servers in this process share one SIGTERM."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no signal handlers."""
        yield


async def serve(
    agent: Agent, listeners: list[tuple[socket.socket, Tls | None]], docker: Docker | None, inherited: socket.socket | None
) -> None:
    """Serve on the sockets until SIGTERM or SIGINT, then stop the agent. `inherited` is the Docker driver's socket if
    systemd has opened it."""
    config, name = agent.core.config, agent.core.host.name
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(THREADS, "dial"))
    connections.keep_quiet(loop)
    app, dial = build_app(agent), Dialer(agent.core)
    _more_threads()
    servers = [_server(app, dial, tls) for _, tls in listeners]
    if docker is not None:
        listener = inherited or _unix(config.docker_socket or "", "WARREN_DOCKER_SOCKET")
        listeners = [*listeners, (listener, None)]
        servers.append(ApiServer(uvicorn.Config(application(docker.driver), http=connections.LimitedProtocol, **_OPTIONS)))

    def end() -> None:
        log.info("agent.ending host=%s", name)
        agent.ending()
        for server in servers:
            server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    agent.start()
    log.info("agent.started host=%s version=%s listeners=%d", name, __version__, len(listeners))
    await asyncio.gather(*(s.serve(sockets=[sock]) for s, (sock, _) in zip(servers, listeners, strict=True)))
    await loop.run_in_executor(None, agent.stop)
    _unlink(config.socket)
    if inherited is None:
        _unlink(config.docker_socket)


def _more_threads() -> None:
    """Allow more threads, so that handlers that wait for the controller do not block others."""
    import anyio.to_thread

    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS


def _server(app: Any, dial: Dialer, tls: Tls | None) -> ApiServer:
    options: dict[str, Any] = {}
    if tls is not None:
        options = {"ssl_certfile": tls.cert, "ssl_keyfile": tls.key, "ssl_ca_certs": tls.ca, "ssl_cert_reqs": ssl.CERT_REQUIRED}
    return ApiServer(uvicorn.Config(app, http=protocol(dial), ws="none", server_header=False, **_OPTIONS, **options))


def _listen(config: Config) -> list[tuple[socket.socket, Tls | None]]:
    """Open the sockets. `main` calls this before it starts the servers, so that an address in use is reported clearly.
    Raises `Invalid`."""
    listeners: list[tuple[socket.socket, Tls | None]] = []
    if config.socket:
        listeners.append((_unix(config.socket), None))
    if config.http:
        listeners.append((_tcp(*config.http), config.http_tls))
    if not listeners:
        raise Invalid(
            "WARREN_SOCKET", MISSING, "set it to a path, or WARREN_HTTP to host:port: the agent must listen on one of them"
        )
    return listeners


def inherited_socket(environ: Mapping[str, str], pid: int, name: str) -> socket.socket | None:
    """Return the socket of that name that systemd has opened for this process (sd_listen_fds(3)), otherwise None."""
    if environ.get("LISTEN_PID") != str(pid):
        return None
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    fds = range(3, 3 + int(environ.get("LISTEN_FDS") or 0))
    descriptor = next((fd for fd, fd_name in zip(fds, names, strict=False) if fd_name == name), None)
    return socket.socket(fileno=descriptor) if descriptor is not None else None


def _unix(path: str, variable: str = "WARREN_SOCKET") -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(path) == 0:
                raise Invalid(variable, path, "a socket that no other agent serves")
        _unlink(path)  # a process that was killed leaves its socket
        mask = os.umask(0o117)
        try:
            listener.bind(path)  # read and write for user and group: every process that can connect may administer the networks
        finally:
            os.umask(mask)
        listener.listen(connections.BACKLOG)
    except OSError as error:
        raise Invalid(variable, path, f"a path to bind a unix socket to ({error.strerror or error})") from None
    return listener


def _tcp(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        connections.watch_peers(listener)
        listener.listen(connections.BACKLOG)
    except OSError as error:
        expected = f"an address of this host and a free port ({error.strerror or error})"
        raise Invalid("WARREN_HTTP", f"{host}:{port}", expected) from None
    return listener


def _unlink(path: str | None) -> None:
    if path:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


if __name__ == "__main__":
    main()
