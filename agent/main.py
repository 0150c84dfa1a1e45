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
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from agent.docker.listeners import DriverListener, listen
from agent.docker.server import application
from agent.sockets import BACKLOG, bind_tcp, bind_unix, inherited_socket, unlink
from warren import __version__
from warren.errors import MISSING, Invalid, WarrenError
from warren.settings import LOG_FORMAT, log_level, reloaded

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
    "backlog": BACKLOG,
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
    logging.basicConfig(format=LOG_FORMAT, stream=sys.stderr)
    logging.getLogger("pyroute2").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a descriptor for each published port
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until `serve` reads files again at SIGHUP
    faulthandler.register(signal.SIGUSR1)  # SIGUSR1 prints the stacks of all threads to standard error
    try:
        logging.getLogger().setLevel(log_level(os.environ))
        config = load(os.environ)
        inherited = inherited_socket(os.environ, os.getpid(), "docker")
        agent, docker = build(config, with_docker=config.with_docker or inherited is not None)
        listeners, drivers = _listen(config), listen(config, inherited)
    except WarrenError as error:
        print(f"warren-agent: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # a TLS file that cannot be read
        print(f"warren-agent: {error}", file=sys.stderr)
        sys.exit(2)
    asyncio.run(serve(agent, listeners, docker, drivers))
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
    agent: Agent, listeners: list[tuple[socket.socket, Tls | None]], docker: Docker | None, drivers: list[DriverListener]
) -> None:
    """Serve on the sockets until SIGTERM or SIGINT, then stop the agent."""
    config, name = agent.core.config, agent.core.host.name
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(THREADS, "dial"))
    connections.keep_quiet(loop)
    app, dial = build_app(agent), Dialer(agent.core)
    _more_threads()
    servers = [_server(app, dial, tls) for _, tls in listeners]
    for driver in drivers if docker is not None else ():
        listeners = [*listeners, (driver.listener, driver.tls)]
        driver_app = application(docker.driver, driver.name)  # type: ignore[union-attr]
        servers.append(
            ApiServer(uvicorn.Config(driver_app, http=connections.LimitedProtocol, **_OPTIONS, **_tls_options(driver.tls)))
        )

    def end() -> None:
        log.info("agent.ending host=%s", name)
        agent.ending()
        for server in servers:
            server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    loop.add_signal_handler(signal.SIGHUP, lambda: reload(agent, [server.config.ssl for server in servers]))
    agent.start()
    log.info("agent.started host=%s version=%s listeners=%d", name, __version__, len(listeners))
    await asyncio.gather(*(s.serve(sockets=[sock]) for s, (sock, _) in zip(servers, listeners, strict=True)))
    await loop.run_in_executor(None, agent.stop)
    unlink(config.socket)
    for driver in drivers:
        unlink(driver.path)


def reload(agent: Agent, contexts: Sequence[ssl.SSLContext | None]) -> None:
    """Read certificates and the log's level anew. What cannot be read leaves everything as it was. New connections use the new files."""
    config = agent.core.config
    try:
        level = log_level(reloaded(os.environ))
        agent.core.peers.reload()
        agent.core.store.reload()
        for context in contexts:
            if context is not None and config.http_tls is not None:
                context.load_cert_chain(config.http_tls.cert, config.http_tls.key)
                context.load_verify_locations(config.http_tls.ca)
    except (OSError, WarrenError) as error:  # ssl.SSLError is an OSError
        log.warning("agent.reload_refused reason=%s", error)
        return
    logging.getLogger().setLevel(level)
    log.info("agent.reloaded level=%s", level)


def _more_threads() -> None:
    """Allow more threads, so that handlers that wait for the controller do not block others."""
    import anyio.to_thread

    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS


def _server(app: Any, dial: Dialer, tls: Tls | None) -> ApiServer:
    return ApiServer(uvicorn.Config(app, http=protocol(dial), ws="none", server_header=False, **_OPTIONS, **_tls_options(tls)))


def _tls_options(tls: Tls | None) -> dict[str, Any]:
    if tls is None:
        return {}
    return {"ssl_certfile": tls.cert, "ssl_keyfile": tls.key, "ssl_ca_certs": tls.ca, "ssl_cert_reqs": ssl.CERT_REQUIRED}


def _listen(config: Config) -> list[tuple[socket.socket, Tls | None]]:
    """Open the sockets. `main` calls this before it starts the servers, so that an address in use is reported clearly.
    Raises `Invalid`."""
    listeners: list[tuple[socket.socket, Tls | None]] = []
    if config.socket:
        listeners.append((bind_unix(config.socket), None))
    if config.http:
        listeners.append((bind_tcp(*config.http), config.http_tls))
    if not listeners:
        raise Invalid(
            "WARREN_SOCKET", MISSING, "set it to a path, or WARREN_HTTP to host:port: the agent must listen on one of them"
        )
    return listeners


if __name__ == "__main__":
    main()
