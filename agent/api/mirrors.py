"""Mirror sessions over HTTP."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Response

from agent.agent import Agent
from agent.switch import read
from specs.documents.document import MirrorItem
from specs.model.mirror import Mirror
from specs.store import keys


def routes(app: FastAPI, agent: Agent) -> None:
    """Add the routes."""

    @app.get("/mirrors", tags=["Warren"])
    def mirrors() -> dict[str, Any]:
        """All mirror sessions."""
        return {"mirrors": [m.data() for _, m in sorted(read(agent.specs.store).mirrors.items())]}

    @app.post("/mirrors", status_code=201, tags=["Warren"])
    def create(body: MirrorItem) -> dict[str, Any]:
        """Create a mirror session, or change one."""
        mirror: Mirror
        mirror, revision = agent.specs.put_mirror(body.model_dump(mode="json", exclude_none=True))
        agent.known.wrote(keys.mirror(mirror.name), mirror.encode(), revision)
        return {"mirror": mirror.data()}

    @app.delete("/mirrors/{name}", status_code=204, tags=["Warren"])
    def delete(name: str) -> Response:
        """End a mirror session."""
        agent.known.wrote(keys.mirror(name), None, agent.specs.delete_mirror(name))
        return Response(status_code=204)
