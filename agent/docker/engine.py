"""Asks the Docker engine which container an endpoint belongs to.

Both questions need none of the engine's locks, and both have a short time limit. After a question that the engine did not
answer, the agent asks none for a while: an engine that is starting answers nobody.
"""

from __future__ import annotations

import json
import logging
import re
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import httpx

log = logging.getLogger("warren.docker")

TIMEOUT_S = 0.3
PAUSE_S = 1.0
SHORT_ID = 12
_JOINING = "ep-"  # begins the key of an endpoint whose container does not run yet; afterwards the key is the container's id


class Container(NamedTuple):
    """A container's name and labels, the engine's name for the network, and the container's id."""

    name: str
    labels: dict[str, str]
    network: str
    id: str = ""


Members = Mapping[str, tuple[str, str]]  # id of an endpoint -> id and name of its container


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
            key, name = _member(network, endpoint_id)
            if not name:
                return None
            joining = key.startswith(_JOINING)
            # the engine reads a name as a regular expression that may match anywhere, so the answer is compared as well
            filters = {"name": [f"^/{re.escape(name)}$"]} if joining else {"id": [key]}
            for container in self._get("/containers/json", all="1", filters=json.dumps(filters)) or ():
                if f"/{name}" in (container.get("Names") or ()) if joining else container.get("Id") == key:
                    labels = dict(container.get("Labels") or {})
                    return Container(name, labels, str(network.get("Name") or ""), str(container.get("Id") or ""))
            return None
        except EngineError as error:
            self._silent_until = time.monotonic() + PAUSE_S
            log.info("engine.silent reason=%s", error)
            return None

    def endpoints(self, network_ids: list[str]) -> dict[str, Members | None] | None:
        """Return the endpoints of all running containers, by network; None for a network that the engine does not have.

        Returns None instead of the mapping when the engine does not answer.
        """
        answers: dict[str, Members | None] = {}
        try:
            for network_id in network_ids:
                network = self._get(f"/networks/{network_id}")
                members = (network.get("Containers") or {}).items() if network is not None else ()
                by_id = {str(m.get("EndpointID")): (key, str(m.get("Name") or "")) for key, m in members}
                answers[network_id] = by_id if network is not None else None
        except EngineError:
            return None
        return answers

    def network_name(self, network_id: str) -> str | None:
        """Return the name of a network; None when the engine does not tell."""
        try:
            network = self._get(f"/networks/{network_id}")
        except EngineError:
            return None
        return str(network["Name"]) if network is not None and network.get("Name") else None

    def aliases(self, container_id: str) -> dict[str, list[str]]:
        """Return the aliases of a running container by the ids of its endpoints; empty if the engine does not tell. Never ask this while the
        engine waits for an answer: it holds the container's lock then."""
        try:
            container = self._get(f"/containers/{container_id}/json") or {}
        except EngineError:
            return {}
        own = container_id[:SHORT_ID]  # an alias that engines before 25 add
        networks = ((container.get("NetworkSettings") or {}).get("Networks") or {}).values()
        return {str(n.get("EndpointID")): [a for a in n.get("Aliases") or () if a != own] for n in networks if n}

    def news_of_names(self) -> Iterator[str]:
        """Yield when a container has got another name or a network was made (""), and the ids of containers that have started or joined a
        network, until the engine ends. Raises `EngineError`."""
        filters = json.dumps({"type": ["container", "network"], "event": ["rename", "create", "start", "connect"]})
        try:
            with self._client.stream(
                "GET", "/events", params={"filters": filters}, timeout=httpx.Timeout(TIMEOUT_S, read=None)
            ) as events:
                yield ""  # one may have been missed before
                for line in events.iter_lines():
                    if (news := _news(json.loads(line))) is not None:
                        yield news
        except (httpx.HTTPError, OSError, ValueError, AttributeError) as error:
            raise EngineError(str(error) or type(error).__name__) from None

    def containers(self) -> set[str] | None:
        """Return the ids of all containers, also of those that do not run; None when the engine does not answer."""
        try:
            return {str(container.get("Id")) for container in self._get("/containers/json", all="1") or ()}
        except EngineError:
            return None

    def shares_processes(self) -> bool:
        """Return whether this process sees the engine's, and so those of its containers. The engine need not answer for that."""
        if not self._path:
            return False
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(TIMEOUT_S)
            try:
                probe.connect(self._path)
                credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            except OSError:
                return False
        return bool(struct.unpack("3i", credentials)[0] > 0)  # 0: a process of another pid namespace

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


def _news(event: dict[str, Any]) -> str | None:
    """Return what `news_of_names` yields for an event; None for one that changes no name."""
    actor = event.get("Actor") or {}
    match event.get("Type"), event.get("Action"):
        case ("container", "rename") | ("network", "create"):
            return ""
        case ("container", "start"):
            return str(actor.get("ID") or "")
        case ("network", "connect"):
            return str((actor.get("Attributes") or {}).get("container") or "")
    return None


def _member(network: dict[str, Any], endpoint_id: str) -> tuple[str, str]:
    """Return the key and the name that a network's answer has for the container of an endpoint; "" where it has none."""
    members = network.get("Containers") or {}
    joining = f"{_JOINING}{endpoint_id}"
    key = joining if joining in members else next((k for k, m in members.items() if m.get("EndpointID") == endpoint_id), "")
    return key, str(members[key].get("Name") or "") if key else ""
