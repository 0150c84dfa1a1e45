"""Gives endpoints the names that Docker has for them in their network: `--network-alias`, `docker network connect --alias`, and those of
compose's services.

The engine tells a driver none of them, and other questions than about a running container wait for its lock. So they are asked for when a
container has started, for networks with a name server only.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from agent.core import Core
from agent.docker.engine import Engine
from agent.docker.ledger import LABEL, Ledger
from specs.model.endpoint import ALIASES_LIMIT, Endpoint
from specs.model.names import is_name

log = logging.getLogger("warren.docker")


class DockerAliases:
    """The aliases of one engine's endpoints. Each endpoint is asked for once, because its aliases never change."""

    def __init__(self, core: Core, ledger: Ledger, engine: Engine) -> None:
        self._core, self._ledger, self._engine = core, ledger, engine
        self._known: set[str] = set()  # endpoints whose aliases the engine has told

    def awaited(self) -> bool:
        """Return whether there are endpoints whose aliases are not known yet."""
        waiting = {e.id for e in self._named()}
        self._known &= waiting
        return bool(waiting - self._known)

    def read(self, containers: Iterable[str]) -> None:
        """Ask for the aliases of containers. Raises `WarrenError`."""
        for container_id in containers:
            by_endpoint = self._engine.aliases(container_id)
            for endpoint in self._named() if by_endpoint else ():
                if (names := by_endpoint.get(endpoint.labels[LABEL])) is not None and endpoint.id not in self._known:
                    self._give(endpoint, names)
                    self._known.add(endpoint.id)

    def _named(self) -> list[Endpoint]:
        """Return the active endpoints of networks with a name server."""
        networks = self._core.cache.view.snapshot.networks
        endpoints = (e for e in self._ledger.endpoints() if e.active and e.labelled)
        return [e for e in endpoints if (network := networks.get(e.network_id)) is not None and network.dns_server]

    def _give(self, endpoint: Endpoint, names: Iterable[str]) -> None:
        aliases = merged(endpoint, names)
        if aliases != endpoint.aliases:
            self._core.repository.update_endpoint(endpoint.model_copy(update={"aliases": aliases}))
            log.info("endpoint.aliases id=%s aliases=%s", endpoint.id, ",".join(aliases))


def merged(endpoint: Endpoint, names: Iterable[str]) -> tuple[str, ...]:
    """Return an endpoint's aliases and further names of it, without what can be no name and what is too many. Pure."""
    further = (name for name in names if is_name(name) and name != endpoint.name)
    return tuple(dict.fromkeys((*endpoint.aliases, *further)))[:ALIASES_LIMIT]
