"""The cluster's settings over HTTP."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from agent.core import Core
from agent.endpoints.request import RequestBody
from agent.switch import read_snapshot
from specs.model.base import Flag
from specs.model.cluster import Cluster, Transit4, Transit6


class ClusterBody(RequestBody):
    """POST /cluster: a field that is not stated keeps its value. `force` changes transit ranges although connections break."""

    transit4: Transit4 | None = None
    transit6: Transit6 | None = None
    force: Flag = False


def router(core: Core) -> APIRouter:
    """The routes of the cluster's settings."""
    router = APIRouter(tags=["Warren"])

    @router.get("/cluster")
    def show_cluster() -> dict[str, Any]:
        """The settings of the cluster."""
        return {"cluster": _out(read_snapshot(core.store).cluster)}

    @router.post("/cluster")
    def put_cluster(body: ClusterBody) -> dict[str, Any]:
        """Change settings of the cluster, after all hosts and networks were asked."""
        stated = body.model_dump(mode="json", exclude_none=True, exclude={"force"})
        record, _ = core.repository.put_cluster(read_snapshot(core.store).cluster.data() | stated, body.force)
        return {"cluster": _out(record)}

    return router


def _out(cluster: Cluster) -> dict[str, Any]:
    return {"transit4": str(cluster.transit4), "transit6": str(cluster.transit6)}
