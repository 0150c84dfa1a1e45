"""Networks over HTTP."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse

from agent.api.sand import NetworkCreate, default_name, network_out
from agent.api.sand_requests import NETWORK_FIELDS, NetworkRequest, body_schema, network_request
from agent.api.tenancy import Narrowed, TenantQuery
from agent.api.warnings import with_warnings
from agent.core import Core
from warren.errors import Conflict, Invalid, NotFound


async def _request(request: Request) -> NetworkRequest:
    return network_request(await request.body(), request.headers.get("prefer", ""))


def router(core: Core) -> APIRouter:
    """The routes of networks."""
    router = APIRouter(tags=["SAND"])

    @router.get("/networks")
    def networks(tenant: TenantQuery = "") -> dict[str, Any]:
        """All networks."""
        records = core.repository.networks()
        narrowed = Narrowed(tenant, {each.name: each for each in core.repository.tenants()} if tenant else {}, records)
        ordered = sorted((n for n in records if narrowed.has(n.id)), key=lambda n: (n.created_at or "", n.name))
        return {"networks": [network_out(network) for network in ordered]}

    @router.post("/networks", status_code=201, openapi_extra=body_schema(NetworkCreate, NETWORK_FIELDS))
    def create_network(request: Annotated[NetworkRequest, Depends(_request)]) -> dict[str, Any]:
        """Create a network. VNI and range are chosen where the request has none. Read as SAND does (docs/client.md)."""
        body, title = request
        if body.type != "overlay":
            raise Invalid("type", body.type, "overlay")
        network_id = body.id or str(uuid.uuid4())
        values = {"id": network_id, **body.values(network_id)}
        values["title"] = title if title and title != values["name"] else values["title"]
        try:
            network, _ = core.repository.create_network(values)
        except (Conflict, NotFound) as error:
            of_name = error.field == "name" if isinstance(error, Conflict) else error.what == "tenant"
            if title is None or not of_name:
                raise
            name = default_name(network_id)  # SAND's names need not be unique, and are free text
            network, _ = core.repository.create_network(values | {"name": name, "title": title, "tenant": None})
        return {"network": with_warnings(core, "network", network.id, network_out(network))}

    @router.get("/networks/{ref:path}")
    def show_network(ref: str) -> dict[str, Any]:
        """One network."""
        return {"network": network_out(core.lookup.network(ref))}

    @router.delete("/networks/{ref:path}", status_code=204)
    def delete_network(ref: str) -> Response:
        """Delete a network that has no endpoints."""
        network = core.lookup.network(ref)
        try:
            core.repository.delete_network(network.id)
        except Conflict as error:
            return JSONResponse({"error": str(error), "detail": error.fields()}, 400)  # SAND's status for it
        return Response(status_code=204)

    return router
