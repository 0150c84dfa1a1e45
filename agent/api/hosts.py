"""Hosts over HTTP: status, flows, checks and traces. Requests about another host go to that host's agent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query

from agent import status, trace
from agent.api.sand import WAIT_LIMIT_S, HostTraceBody, TraceBody
from agent.core import Core
from agent.remote import Forwarded
from intent.sites import tunnel_end
from specs.model.endpoint import Endpoint
from specs.model.profile import BUILT_IN, profile_of
from specs.store.removal import remove_host
from warren.errors import NotFound, Unavailable


def router(core: Core, differences: Callable[[], list[str]], problems: Callable[[], list[str]]) -> APIRouter:
    """The routes of hosts. `differences` compares this host, but for its switch, with the specs; `problems` are those of its agent."""
    router = APIRouter(tags=["Warren"])
    _status_routes(router, core, problems)
    _removal_routes(router, core)
    _switch_routes(router, core, differences)
    _trace_routes(router, core)
    return router


def _status_routes(router: APIRouter, core: Core, problems: Callable[[], list[str]]) -> None:
    @router.get("/hosts")
    def hosts() -> dict[str, Any]:
        """All hosts, and whether their agents and controllers are alive."""
        return {"hosts": status.overview(core.store, core.cache.revisions.copy())["hosts"]}

    @router.get("/hosts/{name}")
    def show_host(name: str) -> dict[str, Any]:
        """One host, with what its agent and controller report."""
        for host in status.overview(core.store, core.cache.revisions.copy(), core.cache.view)["hosts"]:
            if host["name"] == name:
                return {"host": host}
        raise NotFound("host", name)

    @router.get("/status")
    def all_hosts(
        wait_s: Annotated[float, Query(ge=0, le=WAIT_LIMIT_S, description="Wait so long for the controllers to catch up.")] = 0.0,
    ) -> dict[str, Any]:
        """Every host: revisions wanted and applied, endpoints by state, problems. While etcd is unavailable: this host alone, and in `etcd` why."""
        if wait_s:
            status.wait(core.store, core.cache, wait_s)
        view, revisions = core.cache.view, core.cache.revisions.copy()
        try:
            return status.overview(core.store, revisions, view)
        except Unavailable as error:
            if wait_s:
                raise
            record = view.snapshot.hosts.get(core.host.name, core.host)
            return status.alone(record, problems(), view, revisions, str(error))


def _removal_routes(router: APIRouter, core: Core) -> None:
    @router.delete("/hosts/{name}")
    def remove(
        name: str, dry_run: Annotated[bool, Query(description="Only tell what would go.")] = False
    ) -> dict[str, list[str]]:
        """Remove a host that is gone for good, with its endpoints. Refused while its agent or controller lives."""
        return {"removed": remove_host(core.repository, name, dry_run=dry_run)}

    @router.post("/etcd/accept")
    def accept() -> dict[str, str]:
        """Accept what etcd holds after it was restored or emptied: hosts that hold go on, and remove what it lacks."""
        return {"lineage": core.repository.accept_store()}


def _switch_routes(router: APIRouter, core: Core, differences: Callable[[], list[str]]) -> None:
    remote, switch = core.remote, core.switch

    @router.get("/hosts/{name}/flows")
    def flows(name: str, forwarded: Forwarded = None) -> Any:
        """The host's flows, with the tables' names and what each exists for."""
        return {"flows": switch.flows()} if remote.is_local(name, forwarded) else remote.request_json(name, "GET", "/flows")

    @router.get("/hosts/{name}/check")
    def check(name: str, forwarded: Forwarded = None) -> Any:
        """Compare the host's flows, and everything else that Warren makes on it, with a full recompute from etcd."""
        if remote.is_local(name, forwarded):
            return {**switch.check(), "differences": differences()}
        return remote.request_json(name, "GET", "/check")


def _trace_routes(router: APIRouter, core: Core) -> None:
    @router.post("/hosts/{name}/trace")
    def host_trace(name: str, body: HostTraceBody, forwarded: Forwarded = None) -> Any:
        """ofproto/trace on one host, annotated."""
        if core.remote.is_local(name, forwarded):
            return core.switch.trace(body.flow, body.enters)
        return core.remote.request_json(name, "POST", "/trace", json=body.model_dump())

    @router.post("/trace")
    def whole_trace(body: TraceBody) -> dict[str, Any]:
        """Follow a packet between two endpoints, through the tunnel too."""
        ends = trace.TracedEnds(body.src_address, body.src_mac, body.dst_address)
        return follow(core, core.lookup.endpoint(body.src), core.lookup.endpoint(body.dst), body.proto, body.port, ends)


def follow(
    core: Core, source: Endpoint, target: Endpoint, proto: str, port: int | None, ends: trace.TracedEnds = trace.OWN_ENDS
) -> dict[str, Any]:
    """A packet's way through the switches of both hosts."""

    def trace_at(host: str, flow: str, enters: str) -> dict[str, Any]:
        if core.remote.is_local(host):
            return core.switch.trace(flow, enters)
        answer: dict[str, Any] = core.remote.request_json(host, "POST", "/trace", json={"flow": flow, "enters": enters})
        return answer

    at, to = core.lookup.host(source.host), core.lookup.host(target.host)
    specs = core.cache.view.snapshot  # not read from etcd: local switches can be asked while it is away
    network = specs.networks.get(target.network_id)
    profile = (profile_of(network.profile, specs.profiles) if network is not None else None) or BUILT_IN
    vteps = {at.name: str(tunnel_end(at, to, profile)), to.name: str(tunnel_end(to, at, profile))}
    return trace.follow(source, target, proto, port, vteps, trace_at, ends)
