"""SAND's HTTP API as its clients know it, with Warren's additions. Handlers are synchronous: they run in threads."""

from __future__ import annotations

import logging
import uuid
from typing import Annotated, Any

from fastapi import FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from agent.agent import Agent
from agent.api import operations as routes
from agent.api.body_limit import BodyLimit
from agent.api.sand import EndpointCreate, NetworkCreate, endpoint_out, network_out
from agent.config import VERSION
from agent.status import parse_json
from specs.model.host import Host
from specs.model.records import Endpoint, Network, decode_json
from specs.model.validation import expectation
from specs.store import keys
from specs.store.etcd import Entry, Get
from warren.errors import Conflict, Invalid, NotFound, Unavailable, WarrenError

log = logging.getLogger("warren.api")

DESCRIPTION = """Container networks over Open vSwitch. The API of SAND 1.0.3, and more.

Networks, endpoints and hosts are found by id or by name. Every error is `{"error": "text"}`.

`CONNECT /networks/{id}?ip=A&port=P` (not listed below: OpenAPI has no CONNECT) carries TCP to A:P inside the network,
through an endpoint of any host."""

Forwarded = Annotated[str | None, Header(alias="X-Warren-Forwarded", include_in_schema=False)]


def build(agent: Agent) -> FastAPI:
    """The application of one agent."""
    app = FastAPI(title="Warren agent", version=VERSION, description=DESCRIPTION, strict_content_type=False)
    app.add_middleware(BodyLimit)
    _errors(app)

    @app.get("/version", tags=["SAND"])
    def version() -> dict[str, str]:
        """The agent's version."""
        return {"version": f"v{VERSION}"}

    @app.get("/networks", tags=["SAND"])
    def networks() -> dict[str, Any]:
        """All networks."""
        found = sorted(agent.specs.networks(), key=lambda n: (n.created_at or "", n.name))
        return {"networks": [network_out(network) for network in found]}

    @app.post("/networks", status_code=201, tags=["SAND"])
    def create_network(body: NetworkCreate) -> dict[str, Any]:
        """Create a network. VNI and range are found where the request has none."""
        if body.type != "overlay":
            raise Invalid("type", body.type, "overlay")
        network_id = body.id or str(uuid.uuid4())
        network, revision = agent.specs.create_network({"id": network_id, **body.values(network_id)})
        agent.known.wrote(keys.network(network.id), network.encode(), revision)
        return {"network": network_out(network)}

    @app.get("/networks/{network_id}", tags=["SAND"])
    def show_network(network_id: str) -> dict[str, Any]:
        """One network."""
        return {"network": network_out(agent.network(network_id))}

    @app.delete("/networks/{network_id}", status_code=204, tags=["SAND"])
    def delete_network(network_id: str) -> Response:
        """Delete a network that has no endpoints."""
        network = agent.network(network_id)
        try:
            agent.known.wrote(keys.network(network.id), None, agent.specs.delete_network(network.id))
        except Conflict as error:
            return JSONResponse({"error": str(error)}, 400)  # SAND's status for it
        return Response(status_code=204)

    @app.get("/endpoints", tags=["SAND"])
    def endpoints(
        network_id: Annotated[str, Query(description="Only of this network; empty: of all.")] = "",
        hostname: Annotated[str, Query(description="Only of this host; empty: of all.")] = "",
        states: Annotated[bool, Query(description="Also what the hosts' controllers report.")] = False,
        spares: Annotated[bool, Query(description="Preallocated ones, too.")] = False,
    ) -> dict[str, Any]:
        """Endpoints, of all hosts."""
        try:
            found = agent.specs.endpoints(agent.network(network_id).id if network_id else None)
        except NotFound:
            found = []  # a filter that nothing passes, as in SAND
        found = [e for e in found if (not hostname or e.host == hostname) and (spares or not e.spare)]
        return {"endpoints": _endpoints_out(agent, found, states)}

    @app.post("/endpoints", status_code=201, tags=["SAND"])
    def create_endpoint(body: EndpointCreate, forwarded: Forwarded = None) -> Any:
        """Plug a network namespace into a network; answers when packets can flow."""
        if body.hostname and body.hostname != agent.host.name:
            _no_second_hop(forwarded, body.hostname)
            host = agent.host_record(body.hostname)
            answer = agent.peers.request(host, "POST", "/endpoints", json=body.model_dump(mode="json", exclude_unset=True))
            return JSONResponse(answer.json(), answer.status_code)
        endpoint, network = agent.endpoints.attach(body)
        shown = endpoint if endpoint.netns or not body.netns else endpoint.model_copy(update={"netns": body.netns})
        state = agent.known.states.get(endpoint.id)
        hosts = {**agent.known.snapshot.hosts, agent.host.name: agent.host}
        report = {"state": state.state, "reason": state.reason} if state else None
        return {"endpoint": endpoint_out(shown, {network.id: network}, hosts, report)}

    @app.get("/endpoints/{ref:path}", tags=["Warren"])
    def show_endpoint(ref: str) -> dict[str, Any]:
        """One endpoint, with its state."""
        return {"endpoint": _endpoints_out(agent, [agent.endpoint(ref)], states=True)[0]}

    @app.delete("/endpoints/{ref:path}", status_code=204, tags=["SAND"])
    def delete_endpoint(
        ref: str,
        hostname: Annotated[str, Query(description="Its host: then the request goes to that host's agent.")] = "",
        forwarded: Forwarded = None,
    ) -> Response:
        """Unplug and forget an endpoint of this host (of another one: say `hostname`)."""
        endpoint = agent.endpoint(ref)
        if endpoint.host != agent.host.name and hostname == endpoint.host:
            _no_second_hop(forwarded, hostname)
            agent.peers.request(agent.host_record(hostname), "DELETE", f"/endpoints/{endpoint.id}")
        else:
            agent.endpoints.detach(endpoint)
        return Response(status_code=204)

    routes.add(app, agent)
    return app


def _endpoints_out(agent: Agent, endpoints: list[Endpoint], states: bool) -> list[dict[str, Any]]:
    """Endpoints with what belongs to them, from one read of etcd."""
    store = agent.specs.store
    gets = [Get(keys.NETWORKS, prefix=True), Get(keys.HOSTS, prefix=True)]
    if states and len(endpoints) == 1:
        gets.append(Get(keys.status_endpoint(endpoints[0].host, endpoints[0].id)))
    elif states:
        gets.append(Get(keys.STATUS_ENDPOINTS, prefix=True))
    found = store.txn((), gets).found
    networks = {n.id: n for n in (_decode(Network, entry) for entry in found[0]) if n is not None}
    hosts = {h.name: h for h in (_decode(Host, entry) for entry in found[1]) if h is not None}
    reports = {e.key.rpartition("/")[2]: parse_json(e) for e in found[2]} if states else {}
    ordered = sorted(endpoints, key=lambda e: (e.network_id, e.created_at or "", e.name or "", e.id))
    return [endpoint_out(e, networks, hosts, reports.get(e.id)) for e in ordered]


def _no_second_hop(forwarded: str | None, host: str) -> None:
    if forwarded:
        raise Unavailable(f"the agent of {host}", "its record's URL leads to another agent")


def _errors(app: FastAPI) -> None:
    """Every error as {"error": one line}, none with a traceback."""

    @app.exception_handler(WarrenError)
    def _warren(_request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": str(error)}, getattr(error, "http_status", 500))

    @app.exception_handler(RequestValidationError)
    def _invalid(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return JSONResponse({"error": _one_line(error)}, 400)

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        if error.status_code == 404:
            return JSONResponse({"error": f"there is no {request.method} {request.url.path} (see /docs)"}, 404)
        return JSONResponse({"error": str(error.detail)}, error.status_code, headers=error.headers)

    @app.exception_handler(Exception)
    def _bug(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": f"internal error ({type(error).__name__}), see the agent's log"}, 500)


def _one_line(error: RequestValidationError) -> str:
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path", "header"))
    kind, value = first["type"], first.get("input")
    if kind == "json_invalid":
        return f"the body is not JSON: {first.get('ctx', {}).get('error', first['msg'])}"
    if kind == "missing":
        return f"{path or 'body'}: expected a value (it is required)"
    if not path:
        return f"body: expected {expectation(kind, first['msg']) if kind == 'value_error' else 'a JSON object'}"
    return str(Invalid(path, value, expectation(kind, first["msg"])))


def _decode(kind: type[Any], entry: Entry) -> Any:
    try:
        return decode_json(kind, entry.value, entry.key)
    except Invalid:
        return None
