"""Keeps the resolver of this host running while a network with `dns_server` has an endpoint here. The resolver outlives the agent."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from agent.cache import Cache
from agent.feature import Feature
from agent.linux import resolver_namespace, survivors
from pipeline.tables import RESOLVER_PORT
from warren import __version__
from warren.worker import Worker

log = logging.getLogger("warren.resolver")

INTERVAL_S = 1.0  # the longest time until a resolver that has ended is started again
END_S = 2.0
MODULE = "agent.names.main"


class ResolverProcess(Feature):
    """Starts, adopts and ends the process. `run` is the directory of files that outlive the agent; `works` says whether the
    switch has the resolver's port."""

    def __init__(self, run: Path, cache: Cache, works: Callable[[], bool], on_change: Callable[[], None]) -> None:
        self._pid_file, self._cache, self._works = run.absolute() / "names.pid", cache, works
        self._held: survivors.Held | None = None
        self._problems: list[str] = []
        self._on_change = on_change
        self._worker = Worker("resolver", self._step, interval_s=INTERVAL_S, on_change=on_change)
        cache.changed.add(lambda ids: self._worker.wake())

    def workers(self) -> Sequence[Worker]:
        """Return the worker."""
        return (self._worker,)

    def problems(self) -> list[str]:
        """Return why names are not resolved here, if so."""
        return self._problems

    def differences(self) -> list[str]:
        """Return how the resolver differs from what the specs call for."""
        wanted, runs = self.wanted(), self._runs()
        if wanted != runs:
            return [f"the resolver: {'does not run' if wanted else 'runs for no network'}"]
        return self._missing() if wanted else []

    def wanted(self) -> bool:
        """Return whether a network with a name server has an active endpoint here."""
        view = self._cache.view
        networks = {network.id for network in view.snapshot.networks.values() if network.dns_server}
        return bool(networks) and any(e.network_id in networks and e.active for e in view.local_endpoints.values())

    def _step(self, items: frozenset[str]) -> None:
        if not self._cache.synced.is_set():
            return
        before, wanted, runs = self._problems, self.wanted(), self._runs()
        if wanted and not runs:
            self._start()
        elif runs and not wanted:
            self._end()
        self._problems = self._missing() if wanted and runs else []
        if before != self._problems:
            self._on_change()

    def _missing(self) -> list[str]:
        if not resolver_namespace.exists():
            return [f"the resolver: interface {RESOLVER_PORT} is missing"]
        return [] if self._works() else [f"the resolver: the switch has no port {RESOLVER_PORT} (yet)"]

    def _runs(self) -> bool:
        """Return whether the process runs; adopt one that an earlier agent started, unless it is of another version."""
        if self._held is None:
            self._held = survivors.find(self._pid_file)
            if self._held is not None:
                log.info("resolver.found pid=%d", self._held.pid)
        if self._held is None:
            return False
        if not survivors.ends(self._held, 0):
            if __version__ in survivors.arguments(self._held.pid):
                return True
            self._end()
            return False
        survivors.release(self._held)
        self._held = None
        return False

    def _start(self) -> None:
        self._pid_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._pid_file.unlink(missing_ok=True)
        command = (sys.executable, "-m", MODULE, str(self._pid_file), __version__)
        self._held = survivors.start(command, os.environ, quiet=False)
        log.info("resolver.started pid=%d", self._held.pid)

    def _end(self) -> None:
        held, self._held = self._held, None
        if held is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(held.pidfd, number)
            if survivors.ends(held, END_S):
                break
        survivors.release(held)
        self._pid_file.unlink(missing_ok=True)
        log.info("resolver.ended pid=%d", held.pid)
