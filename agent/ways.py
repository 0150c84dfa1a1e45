"""Routers over HTTP."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Response

from agent.service import Agent
from agent.switch import read
from specs import keys
from specs.errors import NotFound
from specs.routers import Router, RouterItem


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
