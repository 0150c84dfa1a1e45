"""Asks the Docker engine which container an endpoint belongs to.

Both questions need none of the engine's locks, and both have a short time limit. After a question that the engine did not
answer, the agent asks none for a while: an engine that is starting answers nobody.
"""

from __future__ import annotations

import json
import logging
import time
from typing import Any, NamedTuple

import httpx

log = logging.getLogger("warren.docker")

TIMEOUT_S = 0.3
PAUSE_S = 3.0


class Container(NamedTuple):
    """A container's name and labels, and the engine's name for the network."""

    name: str
    labels: dict[str, str]
    network: str


class EngineError(Exception):
    """The engine answered with an error, or not at all."""


class Engine:
    """The Docker engine behind a unix socket. Thread-safe."""

    def __init__(self, path: str) -> None:
        self._path, self._silent_until = path, 0.0
        # no connection is kept: an engine that restarts closes it; no certificates are loaded: it is a unix socket
        transport = httpx.HTTPTransport(uds=path, verify=False, limits=httpx.Limits(max_keepalive_connections=0))
        self._client = httpx.Client(base_url="http://docker", transport=transport, timeout=TIMEOUT_S, trust_env=False)

    def container(self, network_id: str, endpoint_id: str) -> Container | None:
        """Return the container of an endpoint that has joined or is about to. Returns None when the engine does not tell."""
        if not self._path or time.monotonic() < self._silent_until:
            return None
        try:
            network = self._get(f"/networks/{network_id}") or {}
            members = network.get("Containers") or {}
            member: dict[str, Any] = members.get(f"ep-{endpoint_id}") or next(
                (m for m in members.values() if m.get("EndpointID") == endpoint_id), {}
            )
            if not member.get("Name"):
                return None
            filters = json.dumps({"name": [f"^/{member['Name']}$"]})
            containers = self._get("/containers/json", all="1", filters=filters)
            if not containers:
                return None
            return Container(str(member["Name"]), dict(containers[0].get("Labels") or {}), str(network.get("Name") or ""))
        except EngineError as error:
            self._silent_until = time.monotonic() + PAUSE_S
            log.info("engine.silent reason=%s", error)
            return None

    def endpoints(self, network_ids: list[str]) -> dict[str, set[str] | None] | None:
        """Return the endpoint ids of all running containers, by network; None for a network that the engine does not have.

        Returns None instead of the mapping when the engine does not answer.
        """
        answers: dict[str, set[str] | None] = {}
        try:
            for network_id in network_ids:
                network = self._get(f"/networks/{network_id}")
                members = (network.get("Containers") or {}).values() if network is not None else ()
                answers[network_id] = {str(m.get("EndpointID")) for m in members} if network is not None else None
        except EngineError:
            return None
        return answers

    def _get(self, path: str, **query: str) -> Any:
        """Return the JSON of an answer, or None for 404. Raises `EngineError`."""
        try:
            answer = self._client.get(path, params=query)
            if answer.status_code == httpx.codes.NOT_FOUND:
                return None
            answer.raise_for_status()
            return answer.json()
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise EngineError(str(error) or type(error).__name__) from None
