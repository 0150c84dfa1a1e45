"""The resolver's process: follows the specs in etcd, and answers the questions of this host's endpoints.

The agent starts it (agent/names/feature.py), and it outlives the agent: names are resolved while no agent and no controller run, and while etcd
is away, by what was read last. Its arguments are the file for its pid, and the version of Warren.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from pathlib import Path

from agent.linux import resolver_namespace
from agent.names.index import KINDS, NameIndex
from agent.names.server import Server, tcp_socket, udp_socket
from agent.names.upstream import Upstream, addresses
from specs.interest import Interest
from specs.store.etcd import Store
from specs.store.feed import Feed
from specs.store.tls import EtcdTls
from specs.store.values import Entry, WatchEvent
from warren.errors import WarrenError
from warren.settings import LOG_FORMAT, log_level, settings

log = logging.getLogger("warren.names")


class ZoneFeed:
    """Keeps a server's names current, in a thread of its own. The names belong to the server's loop, which alone changes them."""

    def __init__(self, store: Store, host: str, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self._server, self._loop = server, loop
        self._feed = Feed(store, Interest(host), self._on_snapshot, self._on_events, self._on_down, self._on_left)

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="feed", daemon=True).start()

    def _run(self) -> None:
        try:
            self._feed.run(threading.Event())
        except Exception:
            log.exception("names.failed")
        os._exit(1)  # the agent starts another one

    def _on_snapshot(self, revision: int, entries: list[Entry]) -> None:
        names = NameIndex()
        for entry in entries:
            names.put(entry.key, entry.value, entry.create_revision)
        self._loop.call_soon_threadsafe(setattr, self._server, "names", names)
        log.info("names.read revision=%d", revision)

    def _on_events(self, revision: int, events: list[WatchEvent]) -> None:
        self._loop.call_soon_threadsafe(self._take, [event for event in events if event.key.startswith(KINDS)])

    def _take(self, events: list[WatchEvent]) -> None:
        for event in events:
            assert self._server.names is not None
            self._server.names.put(event.key, event.value, event.create_revision)

    def _on_left(self, prefixes: frozenset[str]) -> None:
        self._loop.call_soon_threadsafe(self._forget, prefixes)

    def _forget(self, prefixes: frozenset[str]) -> None:
        assert self._server.names is not None
        self._server.names.forget(prefixes)

    def _on_down(self, reason: str) -> None:
        log.info("names.etcd_down reason=%s", reason)


async def serve(store: Store, host: str, upstream: Upstream) -> None:
    """Serve until SIGTERM."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    loop.add_signal_handler(signal.SIGHUP, _reload, store)
    server = Server(upstream)
    families = [family for family in (socket.AF_INET, socket.AF_INET6) if family == socket.AF_INET or socket.has_ipv6]
    udp, tcp = resolver_namespace.create(lambda: ([udp_socket(f) for f in families], [tcp_socket(f) for f in families]))
    await server.start(udp, tcp)
    ZoneFeed(store, host, server, loop).start()
    log.info("names.started host=%s", host)
    await ended.wait()
    log.info("names.ended host=%s", host)


def _reload(store: Store) -> None:
    """Read certificates anew. What cannot be read leaves everything as it was."""
    try:
        store.reload()
    except WarrenError as error:
        log.warning("names.reload_refused reason=%s", error)


def main() -> None:
    """Run the resolver. Exit with status 2 and one line if it cannot start."""
    logging.basicConfig(format=LOG_FORMAT, stream=sys.stderr)
    logging.getLogger("pyroute2").setLevel(logging.WARNING)
    Path(sys.argv[1]).write_text(str(os.getpid()))
    try:
        logging.getLogger().setLevel(log_level(os.environ))
        config = settings(os.environ)
        tls = EtcdTls(config.etcd_cert, config.etcd_key, config.etcd_ca)
        tls.check()
        upstream = Upstream(addresses("WARREN_DNS", os.environ.get("WARREN_DNS", "")))
        asyncio.run(serve(Store(list(config.etcd), config.prefix, tls), config.host, upstream))
    except WarrenError as error:
        log.error("names.refused reason=%s", error)
        os._exit(2)
    os._exit(0)  # threads of grpc may be blocked in calls


if __name__ == "__main__":
    main()
