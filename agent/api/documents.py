"""Documents over HTTP: apply one, export one."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response, StreamingResponse

from agent import status
from agent.api.apply import Application, ApplyProgress, NotApplied
from agent.api.preview import differences, preview
from agent.api.sand import ApplyBody
from agent.api.warnings import lines
from agent.core import Core
from agent.switch import read_snapshot
from specs.documents.document import parse
from specs.documents.export import export
from specs.documents.text import line_of
from warren.errors import Invalid, WarrenError

LINES = "application/x-ndjson"
STREAM = {200: {"content": {LINES: {"schema": {"type": "string"}}}}}

log = logging.getLogger("warren.documents")


class YamlResponse(Response):
    """A YAML document."""

    media_type = "application/yaml"


def router(core: Core) -> APIRouter:
    """The routes of documents."""
    router = APIRouter(tags=["Warren"])

    @router.post("/apply", responses=STREAM)  # type: ignore[arg-type]
    def apply_document(body: ApplyBody) -> Any:
        """Make the specs say what a YAML document says; the answer lists the changes. With `progress` it comes as lines of JSON: first
        how far the work is (`phase`, `done`, `total`), at last the answer, or `error`, `detail` and `status`. Then the work ends when the client goes."""
        application = Application(core.store, core.repository, parse(body.document), prune=body.prune, whole=body.dry_run)
        work = _work(core, application, body)
        if body.progress:
            return StreamingResponse(_lines(work), media_type=LINES)
        return list(work)[-1]

    @router.get(
        "/export",
        response_class=YamlResponse,
        responses={200: {"content": {YamlResponse.media_type: {"schema": {"type": "object"}}}}},
    )
    def export_document() -> YamlResponse:
        """All specs as a YAML document."""
        return YamlResponse(export(read_snapshot(core.store)))

    return router


def _work(core: Core, application: Application, body: ApplyBody) -> Iterator[ApplyProgress | dict[str, Any]]:
    """Apply a document; reports the progress, and last the answer."""
    try:
        yield from application.check()
        if not body.dry_run:
            yield from application.write()
    except (Invalid, NotApplied) as error:
        raise error.on(line_of(body.document, error.path)) from None
    late: list[str] = []
    if body.wait_s and not body.dry_run:
        late = status.wait(core.store, core.cache, body.wait_s, application.touched)
    answer: dict[str, Any] = {"changes": [change.data() for change in application.changes], "late": late}
    answer["warnings"] = lines(application.warnings)
    if body.dry_run:
        pairs, skipped = differences(application.current, preview(application.current, application.changes))
        answer |= {"pairs": [asdict(pair) for pair in pairs], "pairs_not_compared": skipped}
    yield answer


def _lines(work: Iterator[ApplyProgress | dict[str, Any]]) -> Iterator[str]:
    """Each step as a line of JSON; an error is the last line."""
    try:
        for step in work:
            yield json.dumps(asdict(step) if isinstance(step, ApplyProgress) else step) + "\n"
    except WarrenError as error:
        yield json.dumps({"error": str(error), "detail": error.fields(), "status": error.http_status}) + "\n"
    except Exception as error:
        log.exception("apply.failed")
        text = f"internal error ({type(error).__name__}), see the agent's log"
        yield json.dumps({"error": text, "detail": {"kind": "internal"}, "status": 500}) + "\n"
