"""Adoption rules over HTTP."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from agent.api.warnings import with_warnings
from agent.core import Core
from agent.switch import read_snapshot
from specs.model.adoption import Adoption, AdoptionItem
from specs.model.endpoint import ADOPTED_BY
from specs.snapshot import Snapshot


def router(core: Core) -> APIRouter:
    """The routes of adoption rules."""
    router = APIRouter(tags=["Warren"])

    @router.get("/adoptions")
    def adoptions() -> dict[str, Any]:
        """All adoption rules, each with the endpoints that it has made."""
        state = read_snapshot(core.store)
        return {"adoptions": [_shown(rule, state) for _, rule in sorted(state.adoptions.items())]}

    @router.post("/adoptions", status_code=201)
    def put_adoption(body: AdoptionItem) -> dict[str, Any]:
        """Create an adoption rule, or change one."""
        record, _ = core.repository.put_adoption(body.model_dump(mode="json", exclude_none=True))
        return {"adoption": with_warnings(core, "adoption", record.name, _shown(record, read_snapshot(core.store)))}

    @router.delete("/adoptions/{name}", status_code=204)
    def delete_adoption(name: str) -> Response:
        """Delete a rule. The interfaces that it has adopted are given back, and their endpoints go."""
        core.repository.delete_adoption(name)
        return Response(status_code=204)

    return router


def _shown(rule: Adoption, state: Snapshot) -> dict[str, Any]:
    """A rule with the names of the endpoints that it has made."""
    made = sorted(e.name or e.id for e in state.endpoints.values() if e.labels.get(ADOPTED_BY) == rule.name)
    return rule.data() | {"endpoints": made}
