"""Removes endpoints of containers that have ended, when one of them is in the way of a container that starts.

Docker tells once that a container has ended. When nobody hears it (the agent runs in a container of the same engine, say), the
endpoint keeps its address, its MAC and its ports, and Docker does not start the next container a second time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from agent.core import Core
from agent.docker.engine import Engine
from agent.docker.ledger import LABEL, Ledger
from agent.linux.processes import in_namespace
from agent.linux.veth import exists
from specs.model.endpoint import SANDBOX, Endpoint
from warren.errors import Conflict

log = logging.getLogger("warren.docker")

T = TypeVar("T")


class DeadEndpoints:
    """The endpoints of the engine on one host that no container has any more."""

    def __init__(self, core: Core, ledger: Ledger, engine: Engine) -> None:
        self._core, self._ledger, self._engine = core, ledger, engine

    def yielding(self, work: Callable[[], T]) -> T:
        """Do something. If it raises `Conflict`, remove the endpoints of containers that have ended, and try once more."""
        try:
            return work()
        except Conflict:
            if not self._remove():
                raise
            return work()

    def _remove(self) -> bool:
        dead = self._dead()
        for endpoint in dead:
            log.info("endpoint.container_ended id=%s name=%s", endpoint.id, endpoint.name)
            self._core.endpoints.detach(endpoint)
        return bool(dead)

    def _dead(self) -> list[Endpoint]:
        """Return the endpoints that neither the engine nor the kernel has a container for. What this engine has created since it
        started is not among them: it tells when such a container ends."""
        earlier = [e for e in self._ledger.endpoints() if e.id not in self._ledger.of_this_run]
        if not earlier:
            return []
        by_network = self._engine.endpoints(sorted(self._ledger.networks()))
        if by_network is not None:
            existing = {docker_id for ids in by_network.values() for docker_id in ids or ()}
            return [e for e in earlier if e.labels[LABEL] not in existing]
        if not self._engine.shares_processes():
            return []
        return [e for e in earlier if not _runs(e)]


def _runs(endpoint: Endpoint) -> bool:
    """Return whether a process is in the namespace that has the endpoint's interface."""
    if not endpoint.active or SANDBOX not in endpoint.labels or not exists(endpoint.veth):
        return False
    return any(True for _ in in_namespace(endpoint.labels[SANDBOX], endpoint.veth))
