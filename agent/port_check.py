"""Asks the hosts concerned, before ports are published, whether one of their processes listens there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from fastapi import APIRouter, Response
from pydantic import BaseModel

from agent.cache import Cache
from agent.feature import Feature
from agent.gateway.held_ports import HeldPorts, ports_of
from agent.linux.host_ports import HostPort
from agent.peers import PeerError
from agent.remote import Forwarded, Remote
from pipeline.protocols import IpAddress
from specs.model.endpoint import Endpoint
from specs.model.network import Network
from specs.model.publish import Publish
from specs.model.service import Proto
from warren.errors import Conflict, NotFound, Unavailable

log = logging.getLogger("warren.ports")


class PortBody(BaseModel):
    """A port at an address of a host; 0.0.0.0 and :: are all of its version of IP."""

    proto: Proto
    address: IpAddress
    port: int


class PortsBody(BaseModel):
    """POST /hosts/{name}/ports/check."""

    ports: list[PortBody]


class PortCheck(Feature):
    """Checks the ports of this host, and asks other hosts' agents about theirs."""

    def __init__(self, cache: Cache, held: HeldPorts, remote: Remote, endpoints_of: Callable[[str], Iterable[Endpoint]]) -> None:
        """`endpoints_of` reads the endpoints of a network that does not concern this host."""
        self._endpoints_of = endpoints_of
        self._cache, self._held, self._remote = cache, held, remote

    def check(self, host: str | None, network: Network, publish: tuple[Publish, ...]) -> None:
        """Raise `Conflict` if a process listens on one of the ports that an endpoint of this network shall publish: on
        `host`, or (None) on every host with endpoints of the network. A host that does not answer is not asked again: its status
        tells later."""
        if not (ports := ports_of(publish, network)):
            return
        for name in [host] if host is not None else self._hosts_of(network.id):
            if self._remote.is_local(name):
                self._held.check(ports)
            else:
                self._request(name, ports)

    def _hosts_of(self, network_id: str) -> list[str]:
        view = self._cache.view
        known = view.followed is None or network_id in view.followed
        endpoints = view.snapshot.endpoints.values() if known else self._endpoints_of(network_id)
        return sorted({endpoint.host for endpoint in endpoints if endpoint.network_id == network_id and endpoint.active})

    def _request(self, host: str, ports: Iterable[HostPort]) -> None:
        body = PortsBody(ports=[PortBody(**port._asdict()) for port in ports])
        try:
            self._remote.request(host, "POST", f"/hosts/{host}/ports/check", json=body.model_dump(mode="json"))
        except PeerError as error:
            if error.http_status == Conflict.http_status:
                raise Conflict(str(error), field="publish") from None
            log.info("ports.unchecked host=%s reason=%s", host, error)
        except (Unavailable, NotFound) as error:
            log.info("ports.unchecked host=%s reason=%s", host, error)

    def router(self) -> APIRouter:
        """The route by which other agents ask this one."""
        router = APIRouter(tags=["Warren"])

        @router.post("/hosts/{name}/ports/check", status_code=204)
        def check_host(name: str, body: PortsBody, forwarded: Forwarded = None) -> Response:
            """Refuse (409) ports on which a process of the host listens."""
            if self._remote.is_local(name, forwarded):
                self._held.check(HostPort(p.proto, p.address, p.port) for p in body.ports)
            else:
                self._remote.request(name, "POST", f"/hosts/{name}/ports/check", json=body.model_dump(mode="json"))
            return Response(status_code=204)

        return router
