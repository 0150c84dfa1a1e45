"""Routers and services over HTTP."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Response

from acl.language import Who
from acl.policy import network_of
from agent.agent import Agent
from agent.switch import read
from intent.views import meant as means
from specs.model.records import Endpoint
from specs.model.router import Router, RouterItem
from specs.model.service import Service, ServiceItem, meant
from specs.snapshot import Snapshot
from specs.store import keys
from warren.errors import NotFound


def routes(app: FastAPI, agent: Agent) -> None:
    """Add the routes."""

    @app.get("/routers", tags=["Warren"])
    def routers() -> dict[str, Any]:
        """All routers."""
        return {"routers": [router.data() for _, router in sorted(read(agent.specs.store).routers.items())]}

    @app.get("/routers/{name}", tags=["Warren"])
    def show(name: str) -> dict[str, Any]:
        """One router, with its networks' ranges."""
        state = read(agent.specs.store)
        router = state.routers.get(name)
        if router is None:
            raise NotFound("router", name)
        there = {reference: n for n in state.networks.values() for reference in (n.id, n.name) if reference in router.networks}
        ranges = {r: [str(x) for x in (n.ip_range, n.ipv6_range) if x is not None] for r, n in there.items()}
        return {"router": router.data() | {"ranges": ranges}}

    @app.post("/routers", status_code=201, tags=["Warren"])
    def create(body: RouterItem) -> dict[str, Any]:
        """Create a router, or change one."""
        router: Router
        router, revision = agent.specs.put_router(body.model_dump(mode="json", exclude_none=True))
        agent.known.wrote(keys.router(router.name), router.encode(), revision)
        return {"router": router.data()}

    @app.delete("/routers/{name}", status_code=204, tags=["Warren"])
    def delete(name: str) -> Response:
        """Delete a router: its networks are apart again."""
        agent.known.wrote(keys.router(name), None, agent.specs.delete_router(name))
        return Response(status_code=204)

    @app.get("/services", tags=["Warren"])
    def services() -> dict[str, Any]:
        """All services, with their members."""
        state = read(agent.specs.store)
        return {"services": [_shown(service, state) for _, service in sorted(state.services.items())]}

    @app.get("/services/{name}", tags=["Warren"])
    def show_service(name: str) -> dict[str, Any]:
        """One service, with its members."""
        state = read(agent.specs.store)
        if name not in state.services:
            raise NotFound("service", name)
        return {"service": _shown(state.services[name], state)}

    @app.post("/services", status_code=201, tags=["Warren"])
    def create_service(body: ServiceItem) -> dict[str, Any]:
        """Create a service, or change one."""
        service: Service
        service, revision = agent.specs.put_service(body.model_dump(mode="json", exclude_none=True))
        agent.known.wrote(keys.service(service.name), service.encode(), revision)
        return {"service": service.data()}

    @app.delete("/services/{name}", status_code=204, tags=["Warren"])
    def delete_service(name: str) -> Response:
        """Delete a service; its port leads nowhere."""
        agent.known.wrote(keys.service(name), None, agent.specs.delete_service(name))
        return Response(status_code=204)


def _shown(service: Service, state: Snapshot) -> dict[str, Any]:
    def members(network_id: str, who: Who) -> list[Endpoint]:
        return [e for e in state.endpoints.values() if e.active and means(who, e, network_id, state.networks)]

    found = meant(service, str(network_of(service.network, state.networks)), members)
    return service.data() | {"members": [f"{e.name or e.id} on {e.host}" for e in found]}
