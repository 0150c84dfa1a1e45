"""Sites over HTTP."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from agent.core import Core
from agent.switch import read_snapshot
from specs.model.site import Site, SiteItem
from specs.snapshot import Snapshot


def router(core: Core) -> APIRouter:
    """The routes of sites."""
    router = APIRouter(tags=["Warren"])

    @router.get("/sites")
    def sites() -> dict[str, Any]:
        """All sites, with their hosts."""
        state = read_snapshot(core.store)
        return {"sites": [_shown(site, state) for _, site in sorted(state.sites.items())]}

    @router.post("/sites", status_code=201)
    def put_site(body: SiteItem) -> dict[str, Any]:
        """Create a site, or change one."""
        record, _ = core.repository.put_site(body.model_dump(mode="json", exclude_none=True))
        return {"site": _shown(record, read_snapshot(core.store))}

    @router.delete("/sites/{name}", status_code=204)
    def delete_site(name: str) -> Response:
        """Delete a site that no host is in."""
        core.repository.delete_site(name)
        return Response(status_code=204)

    return router


def _shown(site: Site, state: Snapshot) -> dict[str, Any]:
    """A site with the names of its hosts."""
    return site.data() | {"hosts": sorted(host.name for host in state.hosts.values() if host.site == site.name)}
