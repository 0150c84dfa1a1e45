"""Adoption rules over HTTP."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import APIRouter, Response

from agent.api.warnings import with_warnings
from agent.core import Core
from specs.model.adoption import Adoption, AdoptionItem
from specs.model.endpoint import ADOPTED_BY
from warren.errors import NotFound


def router(core: Core) -> APIRouter:
    """The routes of adoption rules."""
    router = APIRouter(tags=["Warren"])

    @router.get("/adoptions")
    def adoptions() -> dict[str, Any]:
        """All adoption rules, each with the endpoints that it has made."""
        rules = core.repository.adoptions()
        made = _made(core, rules)
        return {"adoptions": [_shown(rule, made) for rule in sorted(rules, key=lambda rule: rule.name)]}

    @router.post("/adoptions", status_code=201)
    def put_adoption(body: AdoptionItem) -> dict[str, Any]:
        """Create an adoption rule, or change one."""
        record, _ = core.repository.put_adoption(body.model_dump(mode="json", exclude_none=True))
        return {"adoption": with_warnings(core, "adoption", record.name, _shown(record, _made(core, [record])))}

    @router.delete("/adoptions/{name}", status_code=204)
    def delete_adoption(name: str) -> Response:
        """Delete a rule. The interfaces that it has adopted are given back, and their endpoints go."""
        core.repository.delete_adoption(name)
        return Response(status_code=204)

    return router


def _made(core: Core, rules: Iterable[Adoption]) -> dict[str, list[str]]:
    """The names of the endpoints that rules have made, by rule. Reads the networks of the rules alone."""
    made: dict[str, list[str]] = defaultdict(list)
    for reference in sorted({rule.network for rule in rules}):
        try:
            network = core.lookup.network(reference)
        except NotFound:
            continue
        for endpoint in core.repository.endpoints(network.id):
            made[endpoint.labels.get(ADOPTED_BY, "")].append(endpoint.name or endpoint.id)
    return made


def _shown(rule: Adoption, made: Mapping[str, list[str]]) -> dict[str, Any]:
    """A rule with the names of the endpoints that it has made."""
    return rule.data() | {"endpoints": sorted(set(made.get(rule.name, ())))}
