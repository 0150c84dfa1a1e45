"""Docker's network driver as a feature of the agent: it answers the engine's calls and sweeps."""

from __future__ import annotations

from collections.abc import Sequence

from agent.core import Core
from agent.dhcp_client.clients import DhcpClients
from agent.docker.driver import Driver
from agent.docker.engine import Engine
from agent.docker.sweep import DockerSweep
from agent.feature import Feature
from warren.worker import Worker


class Docker(Feature):
    """The network driver of one engine. agent/docker/server.py serves it on a socket of its own."""

    def __init__(self, core: Core, dhcp_clients: DhcpClients) -> None:
        engine = Engine(core.config.docker_engine)
        self.driver = Driver(core, engine, dhcp_clients)
        self._follows = bool(core.config.docker_engine)
        self._sweep = DockerSweep(core, self.driver, engine, core.config.docker_sweep_s)

    def problems(self) -> list[str]:
        """Return why containers stay closed: labels that nothing can be made of."""
        return [
            f"container {e.name or e.id}: {self._sweep.wrong[e.id]}"
            for e in self.driver.ledger.endpoints()
            if e.id in self._sweep.wrong
        ]

    def workers(self) -> Sequence[Worker]:
        """Return the worker that sweeps, and the one that follows names."""
        return (self._sweep.worker, *((self._sweep.names,) if self._follows else ()))
