"""Asks the Docker engine which container an endpoint is of: two questions that wait for none of the engine's locks, each with a short
limit, and none at all for a while after one went unanswered (an engine that is starting answers nobody)."""

from __future__ import annotations

import http.client
import json
import logging
import socket
import time
from typing import Any, NamedTuple
from urllib.parse import quote

log = logging.getLogger("warren.docker")

TIMEOUT_S = 0.3
PAUSE_S = 3.0


class Container(NamedTuple):
    """A container's name and labels, and what the engine calls the network."""

    name: str
    labels: dict[str, str]
    network: str


class Engine:
    """The engine at a unix socket."""

    def __init__(self, path: str) -> None:
        self._path, self._silent_until = path, 0.0

    def container(self, network_id: str, endpoint_id: str) -> Container | None:
        """The container of an endpoint that has joined, or is just joining; None when the engine does not tell."""
        if not self._path or time.monotonic() < self._silent_until:
            return None
        try:
            network = self._ask(f"/networks/{network_id}")
            there = network.get("Containers") or {}
            told: dict[str, Any] = there.get(f"ep-{endpoint_id}") or next(
                (c for c in there.values() if c.get("EndpointID") == endpoint_id), {}
            )
            if not told.get("Name"):
                return None
            filters = quote(json.dumps({"name": [f"^/{told['Name']}$"]}))
            found = self._ask(f"/containers/json?all=1&filters={filters}")
            if not found:
                return None
            return Container(str(told["Name"]), dict(found[0].get("Labels") or {}), str(network.get("Name") or ""))
        except (OSError, ValueError, http.client.HTTPException) as error:
            self._silent_until = time.monotonic() + PAUSE_S
            log.info("engine.silent reason=%s", error)
            return None

    def endpoints(self, network_ids: list[str]) -> dict[str, set[str] | None] | None:
        """The ids of all endpoints of running containers, network by network; None for a network that the engine does not have.
        None in all when the engine does not answer."""
        found: dict[str, set[str] | None] = {}
        try:
            for network_id in network_ids:
                network = self._ask(f"/networks/{network_id}")
                if "Id" in network:
                    found[network_id] = {str(c.get("EndpointID")) for c in (network.get("Containers") or {}).values()}
                elif "not found" in str(network.get("message")):
                    found[network_id] = None
                else:
                    return None
        except (OSError, ValueError, http.client.HTTPException):
            return None
        return found

    def _ask(self, path: str) -> Any:
        connection = _Connection(self._path)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self._path)
