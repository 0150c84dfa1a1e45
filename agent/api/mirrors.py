"""Mirror sessions over HTTP."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from agent.api.tenancy import Narrowed, TenantQuery
from agent.api.warnings import with_warnings
from agent.core import Core
from agent.switch import read_snapshot
from specs.model.mirror import MirrorItem


def router(core: Core) -> APIRouter:
    """The routes of mirror sessions."""
    router = APIRouter(tags=["Warren"])

    @router.get("/mirrors")
    def mirrors(tenant: TenantQuery = "") -> dict[str, Any]:
        """All mirror sessions; those of a tenant copy from one of its networks."""
        state = read_snapshot(core.store)
        narrowed = Narrowed(tenant, state.tenants, state.networks.values())
        ordered = (mirror for _, mirror in sorted(state.mirrors.items()))
        return {"mirrors": [each.data() for each in ordered if narrowed.has(*(source.network for source in each.sources))]}

    @router.post("/mirrors", status_code=201)
    def put_mirror(body: MirrorItem) -> dict[str, Any]:
        """Create a mirror session, or change one."""
        mirror, _ = core.repository.put_mirror(body.model_dump(mode="json", exclude_none=True))
        return {"mirror": with_warnings(core, "mirror", mirror.name, mirror.data())}

    @router.delete("/mirrors/{name}", status_code=204)
    def delete_mirror(name: str) -> Response:
        """End a mirror session."""
        core.repository.delete_mirror(name)
        return Response(status_code=204)

    return router
