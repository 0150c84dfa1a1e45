"""Documents over HTTP: apply one, export one."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from agent import status
from agent.api.apply import apply
from agent.api.preview import differences, preview
from agent.api.sand import ApplyBody
from agent.core import Core
from agent.switch import read_snapshot
from specs.documents.difference import diff
from specs.documents.document import parse
from specs.documents.export import export


def router(core: Core) -> APIRouter:
    """The routes of documents."""
    router = APIRouter(tags=["Warren"])

    @router.post("/apply")
    def apply_document(body: ApplyBody) -> dict[str, Any]:
        """Make the specs say what a YAML document says; the answer lists the changes."""
        document, current = parse(body.document), read_snapshot(core.store)
        changes = diff(document, current, body.prune)
        late: list[str] = []
        if not body.dry_run:
            touched = apply(core.repository, current, changes)
            if body.wait_s:
                late = status.wait(core.store, core.cache, body.wait_s, touched)
        answer: dict[str, Any] = {"changes": [change.data() for change in changes], "late": late}
        if body.dry_run:
            pairs, skipped = differences(current, preview(current, changes))
            answer |= {"pairs": [asdict(pair) for pair in pairs], "pairs_not_compared": skipped}
        return answer

    @router.get("/export", response_class=PlainTextResponse)
    def export_document() -> PlainTextResponse:
        """All specs as a YAML document."""
        return PlainTextResponse(export(read_snapshot(core.store)), media_type="application/yaml")

    return router
