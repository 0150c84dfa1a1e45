"""Dials into networks for CONNECT: a socket inside the network namespace of an endpoint, or the agent that has one."""

from __future__ import annotations

import socket
from typing import Any

from agent.api.connect import ConnectRequest, Elsewhere
from agent.core import Core
from agent.linux import netns
from specs.model.endpoint import Endpoint
from warren.errors import Invalid, Unavailable

TIMEOUT_S = 10.0


class Dialer:
    """Dials for one host's agent."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def __call__(self, request: ConnectRequest) -> Any:
        """A socket connected to an address inside a network, or the agent that can connect. Raises `Invalid`, `Unavailable`."""
        network = self._core.lookup.network(request.network_id)
        local = next((e for e in self._core.cache.view.local_endpoints.values() if _enterable(e, network.id)), None)
        if local is not None and local.netns is not None:
            address = (request.ip, request.port)
            try:
                return netns.inside(local.netns, lambda: socket.create_connection(address, TIMEOUT_S))
            except OSError as error:
                raise Unavailable(f"{request.ip}:{request.port}", str(error)) from None
        if not request.forwarded:
            for endpoint in self._core.repository.endpoints(network.id):
                if _enterable(endpoint, network.id) and endpoint.host != self._core.host.name:
                    host = self._core.lookup.host(endpoint.host)
                    if host.api:
                        return Elsewhere(host.name, host.api, self._core.peers.tls)
        raise Invalid("network", network.name, "a network with an active endpoint")


def _enterable(endpoint: Endpoint, network_id: str) -> bool:
    return endpoint.network_id == network_id and endpoint.active and bool(endpoint.netns)
