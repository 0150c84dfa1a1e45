"""The agent's HTTP application: SAND's API as its clients know it, and Warren's own routes. Handlers are synchronous: they run in threads."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI

from agent.agent import Agent, differences, problems
from agent.api import (
    admin,
    adoptions,
    cluster,
    documents,
    endpoints,
    hosts,
    mirrors,
    networks,
    pages,
    policies,
    profiles,
    reference,
    routing,
    sites,
)
from agent.api.body_limit import BodyLimit
from agent.api.errors import add_handlers
from warren import __version__

DESCRIPTION = """Container networks over Open vSwitch. The API of SAND 1.0.3, and more.

Networks, endpoints and hosts are found by id or by name. Every error is `{"error": "text", "detail": {...}}`: `detail` has a `kind`
(`invalid`, `not_found`, `conflict`, `exhausted`, `unavailable`) and the fields of that kind, such as `path` and `expected`.

`CONNECT /networks/{id}?ip=A&port=P` (not listed below: OpenAPI has no CONNECT) carries TCP to A:P inside the network,
through an endpoint of any host."""


def build(agent: Agent) -> FastAPI:
    """The application of one agent."""
    # FastAPI's own pages load their programs from another host; ours are in pages.py
    app = FastAPI(
        title="Warren agent",
        version=__version__,
        description=DESCRIPTION,
        strict_content_type=False,
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(BodyLimit)
    add_handlers(app)
    app.include_router(_version())
    app.include_router(
        hosts.router(agent.core, lambda: differences(agent.features), lambda: problems(agent.features, agent.workers()))
    )
    for subject in (admin, cluster, networks, endpoints, documents, policies, mirrors, routing, sites, profiles, adoptions):
        app.include_router(subject.router(agent.core))
    app.include_router(pages.router())
    for feature in agent.features:
        if (router := feature.router()) is not None:
            app.include_router(router)
    reference.document(app)
    return app


def _version() -> APIRouter:
    router = APIRouter(tags=["SAND"])

    @router.get("/version")
    def version() -> dict[str, str]:
        """The agent's version."""
        return {"version": f"v{__version__}"}

    return router
