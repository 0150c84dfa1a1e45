"""`/ui`, a read-only page with the topology, and `/docs`, the reference of the API: both are drawn in the browser from the agent's own
answers. Plain files, nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import Response

from warren.errors import NotFound

FILES = Path(__file__).parent / "ui"
KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
TYPES = {file.name: KINDS[file.suffix] for file in sorted(FILES.iterdir()) if file.suffix in KINDS}
# the page shows names of specs as text; should one ever be taken for markup, it still could load and run nothing
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
}


def router() -> APIRouter:
    """The routes of the page."""
    router = APIRouter(include_in_schema=False)

    @router.get("/ui")
    def page() -> Response:
        return _file("index.html")

    @router.get("/docs")
    def docs() -> Response:
        return _file("docs.html")

    @router.get("/ui/{name}")
    def part(name: str) -> Response:
        return _file(name)

    return router


def _file(name: str) -> Response:
    if name not in TYPES:
        raise NotFound("page", name)
    return Response((FILES / name).read_bytes(), media_type=TYPES[name], headers=HEADERS)
