"""Takes away endpoints whose container went while the agent was not there to be told, and addresses that Docker asked for and never used.

Only what the engine, asked twice with a pause between, does not have (any more); an engine that does not answer proves nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from datetime import UTC, datetime

from agent.docker_driver import LABEL
from agent.docker_engine import Engine
from agent.service import Agent
from specs import keys
from specs.errors import WarrenError
from specs.records import Endpoint

log = logging.getLogger("warren.docker")

UNUSED_S = 300.0  # an address without an endpoint; a start takes seconds


class Sweep:
    """A thread. `every_s` is the pause between two looks."""

    def __init__(self, agent: Agent, engine: Engine, every_s: float) -> None:
        self._agent, self._engine, self._every_s = agent, engine, every_s
        self._suspects: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="docker sweep", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            if self._agent.known.read.is_set():
                try:
                    self.look()
                except WarrenError as error:
                    log.info("sweep.waits reason=%s", error)

    def look(self) -> None:
        """One look: what was missing at the last one too goes."""
        host = self._agent.host.name
        networks = [entry.key.rpartition("/")[2] for entry in self._agent.specs.store.list(keys.docker_network(host, ""))[1]]
        there = self._engine.endpoints(networks)
        if there is None:
            self._suspects = set()
            return
        mine = [e for e in list(self._agent.known.mine.values()) if LABEL in e.labels]
        missing = lost(mine, there, datetime.now(UTC))
        for endpoint in missing:
            if endpoint.id in self._suspects:
                log.info("endpoint.container_gone id=%s", endpoint.id)
                self._agent.endpoints.detach(endpoint)
        self._suspects = {endpoint.id for endpoint in missing}


def lost(endpoints: Iterable[Endpoint], there: set[str], now: datetime) -> list[Endpoint]:
    """The endpoints of Docker's that are none of `there`; addresses that wait for an endpoint when they are old."""
    found = []
    for endpoint in endpoints:
        docker_id = endpoint.labels[LABEL]
        made = datetime.fromisoformat(endpoint.created_at) if endpoint.created_at else now
        waits = not endpoint.active and (now - made).total_seconds() < UNUSED_S
        if docker_id not in there and not waits:
            found.append(endpoint)
    return found
