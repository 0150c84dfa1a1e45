"""Warren's own routes: hosts, status, documents, flows, traces, checks. What is about another host goes to its agent."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import FastAPI, Header, Query
from fastapi.responses import PlainTextResponse

from agent import status, trace
from agent.agent import Agent
from agent.api import apply as applying
from agent.api import mirrors, pages
from agent.api import policies as acls
from agent.api import routing as ways
from agent.api.preview import differences, preview
from agent.api.sand import WAIT_LIMIT_S, Apply, HostTrace, Trace
from agent.capture import captures
from agent.cni import attachments as cni
from agent.switch import Switch, read
from specs.documents.document import diff, export, parse
from specs.model.records import Endpoint
from warren.errors import NotFound, Unavailable

Forwarded = Annotated[str | None, Header(alias="X-Warren-Forwarded", include_in_schema=False)]


def add(app: FastAPI, agent: Agent) -> None:
    """Put the routes into the application."""
    store = agent.specs.store
    switch = Switch(agent.host.name, agent.config.common.bridge, store, agent.ovsdb)

    def at(host: str, forwarded: str | None) -> bool:
        """Whether the request is this agent's own to answer."""
        if host == agent.host.name:
            return True
        if forwarded:
            raise Unavailable(f"the agent of {host}", "its record's URL leads to another agent")
        return False

    def ask(host: str, method: str, path: str, **kwargs: Any) -> Any:
        return agent.peers.request(agent.host_record(host), method, f"/hosts/{host}{path}", **kwargs).json()

    @app.get("/hosts", tags=["Warren"])
    def hosts() -> dict[str, Any]:
        """All hosts, and whether their agents and controllers are alive."""
        return {"hosts": status.overview(store, agent.known, counts=False)["hosts"]}

    @app.get("/hosts/{name}", tags=["Warren"])
    def host(name: str) -> dict[str, Any]:
        """One host, with what its agent and controller report."""
        for found in status.overview(store, agent.known)["hosts"]:
            if found["name"] == name:
                return {"host": found}
        raise NotFound("host", name)

    @app.get("/status", tags=["Warren"])
    def all_hosts(
        wait_s: Annotated[float, Query(ge=0, le=WAIT_LIMIT_S, description="Wait so long for the controllers to catch up.")] = 0.0,
    ) -> dict[str, Any]:
        """Every host: revisions wanted and applied, endpoints by state, problems."""
        if wait_s:
            status.wait(store, agent.known, wait_s)
        return status.overview(store, agent.known)

    @app.post("/apply", tags=["Warren"])
    def apply(body: Apply) -> dict[str, Any]:
        """Make the specs say what a YAML document says; the answer lists the changes."""
        document, current = parse(body.document), read(store)
        changes = diff(document, current, body.prune)
        late: list[str] = []
        if not body.dry_run:
            touched = applying.apply(agent.specs, current, changes, agent.known.wrote)
            if body.wait_s:
                late = status.wait(store, agent.known, body.wait_s, touched)
        found: dict[str, Any] = {"changes": [change.data() for change in changes], "late": late}
        if body.dry_run:
            pairs, skipped = differences(current, preview(current, changes))
            found |= {"pairs": [asdict(pair) for pair in pairs], "pairs_not_compared": skipped}
        return found

    @app.get("/export", tags=["Warren"], response_class=PlainTextResponse)
    def export_document() -> PlainTextResponse:
        """All specs as a YAML document."""
        return PlainTextResponse(export(read(store)), media_type="application/yaml")

    @app.get("/hosts/{name}/flows", tags=["Warren"])
    def flows(name: str, forwarded: Forwarded = None) -> Any:
        """The host's flows, with the tables' names and what each exists for."""
        return {"flows": switch.flows()} if at(name, forwarded) else ask(name, "GET", "/flows")

    @app.get("/hosts/{name}/check", tags=["Warren"])
    def check(name: str, forwarded: Forwarded = None) -> Any:
        """Compare the host's flows with a full recompute from etcd."""
        return switch.check() if at(name, forwarded) else ask(name, "GET", "/check")

    def trace_at(host: str, flow: str, enters: str) -> dict[str, Any]:
        if host == agent.host.name:
            return switch.trace(flow, enters)
        found: dict[str, Any] = ask(host, "POST", "/trace", json={"flow": flow, "enters": enters})
        return found

    @app.post("/hosts/{name}/trace", tags=["Warren"])
    def host_trace(name: str, body: HostTrace, forwarded: Forwarded = None) -> Any:
        """ofproto/trace on one host, annotated."""
        if at(name, forwarded):
            return switch.trace(body.flow, body.enters)
        return ask(name, "POST", "/trace", json=body.model_dump())

    @app.post("/trace", tags=["Warren"])
    def whole_trace(body: Trace) -> dict[str, Any]:
        """Follow a packet between two endpoints, through the tunnel too."""
        source, target = agent.endpoint(body.src), agent.endpoint(body.dst)
        return traced(source, target, body.proto, body.port)

    def traced(source: Endpoint, target: Endpoint, proto: str, port: int | None) -> dict[str, Any]:
        there = agent.host_record(target.host)
        return trace.follow(source, target, proto, port, str(there.vtep), trace_at)

    acls.add(app, agent, switch, lambda host, path: ask(host, "GET", path), traced)
    mirrors.routes(app, agent)
    ways.routes(app, agent)
    captures.routes(app, agent, switch)
    cni.routes(app, agent)
    pages.routes(app)
