"""Docker's driver as a part of the agent: the calls of the engine, and the sweep."""

from __future__ import annotations

from collections.abc import Sequence

from agent.core import Core
from agent.dhcp_client.clients import DhcpClients
from agent.docker.driver import Driver
from agent.docker.engine import Engine
from agent.docker.sweep import DockerSweep
from agent.feature import Feature
from agent.worker import Worker


class Docker(Feature):
    """The driver of one engine. Its HTTP server is agent/docker/server.py's, on a socket of its own."""

    def __init__(self, core: Core, dhcp_clients: DhcpClients) -> None:
        engine = Engine(core.config.docker_engine)
        self.driver = Driver(core, engine, dhcp_clients)
        self._sweep = DockerSweep(core, self.driver, engine, core.config.docker_sweep_s)

    def workers(self) -> Sequence[Worker]:
        """The sweep."""
        return (self._sweep.worker,)
