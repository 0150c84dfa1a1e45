"""Endpoints over HTTP. Requests about an endpoint of another host go to that host's agent."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse

from agent.api.sand import endpoint_out
from agent.api.sand_requests import ENDPOINT_FIELDS, EndpointRequest, body_schema, check_prefix, endpoint_request
from agent.api.tenancy import Narrowed, TenantQuery
from agent.api.warnings import with_warnings
from agent.core import Core
from agent.endpoints.request import EndpointCreate
from agent.remote import Forwarded
from agent.status import parse_json
from specs import keys
from specs.model.base import decode_json
from specs.model.endpoint import Endpoint
from specs.model.host import Host
from specs.model.network import Network
from specs.store.removal import delete_endpoint_of_dead_host
from specs.store.values import Entry, Get
from warren.errors import Invalid, NotFound, Unavailable


async def _request(request: Request) -> EndpointRequest:
    return endpoint_request(await request.body(), request.headers.get("prefer", ""))


def router(core: Core) -> APIRouter:
    """The routes of endpoints."""
    router = APIRouter()

    @router.get("/endpoints", tags=["SAND"])
    def endpoints(
        network_id: Annotated[str, Query(description="Only of this network; empty: of all.")] = "",
        hostname: Annotated[str, Query(description="Only of this host; empty: of all.")] = "",
        states: Annotated[bool, Query(description="Also the states that the hosts' controllers report.")] = False,
        spares: Annotated[bool, Query(description="Preallocated ones, too.")] = False,
        tenant: TenantQuery = "",
    ) -> dict[str, Any]:
        """Endpoints, of all hosts."""
        chosen = [
            e for e in _chosen(core, network_id, tenant) if (not hostname or e.host == hostname) and (spares or not e.spare)
        ]
        return {"endpoints": _endpoints_out(core, chosen, states)}

    @router.post("/endpoints", status_code=201, tags=["SAND"], openapi_extra=body_schema(EndpointCreate, ENDPOINT_FIELDS))
    def create_endpoint(request: Annotated[EndpointRequest, Depends(_request)], forwarded: Forwarded = None) -> Any:
        """Plug a network namespace into a network; answers when packets can flow. Read as SAND does (docs/client.md)."""
        body = request.body
        if body.hostname and not core.remote.is_local(body.hostname, forwarded):
            answer = core.remote.request(
                body.hostname, "POST", "/endpoints", json=body.model_dump(mode="json", exclude_unset=True)
            )
            return JSONResponse(answer.json(), answer.status_code)
        body = _with_id_of_network(core, body)
        if request.prefix is not None:
            check_prefix(request, core.lookup.network(body.network_id))
        endpoint, network = core.endpoints.attach(body)
        shown = endpoint if endpoint.netns or not body.netns else endpoint.model_copy(update={"netns": body.netns})
        state = core.cache.states.get(endpoint.id)
        hosts = {core.host.name: core.host, **core.cache.view.snapshot.hosts}
        report = {"state": state.state, "reason": state.reason} if state else None
        data = endpoint_out(shown, {network.id: network}, hosts, report)
        return {"endpoint": with_warnings(core, "endpoint", endpoint.id, data)}

    @router.get("/endpoints/{ref:path}", tags=["Warren"])
    def show_endpoint(ref: str) -> dict[str, Any]:
        """One endpoint, with its state."""
        return {"endpoint": _endpoints_out(core, [core.lookup.endpoint(ref)], states=True)[0]}

    @router.delete("/endpoints/{ref:path}", status_code=204, tags=["SAND"])
    def delete_endpoint(
        ref: str,
        hostname: Annotated[str, Query(description="Its host: then the request goes to that host's agent.")] = "",
        force: Annotated[bool, Query(description="Also if its host is dead: only the record goes.")] = False,
        forwarded: Forwarded = None,
    ) -> Response:
        """Unplug and forget an endpoint of this host (of another one: say `hostname`)."""
        endpoint = _endpoint_of(core, ref, hostname)
        if force and endpoint.host != core.host.name and core.store.get(keys.status_agent(endpoint.host)) is None:
            delete_endpoint_of_dead_host(core.repository, endpoint)
        elif hostname and not core.remote.is_local(hostname, forwarded):
            _require_living(core, endpoint)
            core.remote.request(hostname, "DELETE", f"/endpoints/{endpoint.id}")
        else:
            core.endpoints.detach(endpoint)
        return Response(status_code=204)

    return router


def _chosen(core: Core, network_id: str, tenant: str) -> list[Endpoint]:
    """The endpoints of a network (empty: of all) that a tenant has (empty: any)."""
    try:
        endpoints = core.repository.endpoints(core.lookup.network(network_id).id if network_id else None)
    except NotFound:
        endpoints = []  # an unknown network has no endpoints, as in SAND
    if not tenant:
        return endpoints
    tenants = {each.name: each for each in core.repository.tenants()}
    narrowed = Narrowed(tenant, tenants, core.repository.networks())
    return [endpoint for endpoint in endpoints if narrowed.has(endpoint.network_id)]


def _endpoint_of(core: Core, ref: str, hostname: str) -> Endpoint:
    """The endpoint, if it is of that host (empty: of any). Raises `NotFound`."""
    endpoint = core.lookup.endpoint(ref)
    if hostname and hostname != endpoint.host:
        raise NotFound(f"endpoint of host {hostname}", ref)
    return endpoint


def _require_living(core: Core, endpoint: Endpoint) -> None:
    """Raise `Unavailable`, with the ways out, if the agent of an endpoint's host is dead."""
    if core.store.get(keys.status_agent(endpoint.host)) is None:
        name = endpoint.name or endpoint.id
        way = f"warren endpoint delete --force {name}, or, if the host is gone for good: warren host remove {endpoint.host}"
        host = core.lookup.host(endpoint.host)
        state = (
            "it is dead"
            if host.api is not None
            else "it is dead, and its record has no URL (set WARREN_HTTP or WARREN_API there)"
        )
        raise Unavailable(f"the agent of {endpoint.host}", f"{state}; start it, or delete the record alone: {way}")


def _with_id_of_network(core: Core, body: EndpointCreate) -> EndpointCreate:
    """A request may name its network, or one that was made a moment ago on another host. Raises `NotFound`."""
    if body.network_id in core.cache.view.snapshot.networks:
        return body
    return body.model_copy(update={"network_id": core.lookup.network(body.network_id).id})


def _endpoints_out(core: Core, endpoints: list[Endpoint], states: bool) -> list[dict[str, Any]]:
    """Endpoints with their networks, hosts and states, from one read of etcd."""
    gets = [Get(keys.NETWORKS, prefix=True), Get(keys.HOSTS, prefix=True)]
    if states and len(endpoints) == 1:
        gets.append(Get(keys.status_endpoint(endpoints[0].host, endpoints[0].id)))
    elif states:
        gets.append(Get(keys.STATUS_ENDPOINTS, prefix=True))
    entries = core.store.txn((), gets).found
    networks = {n.id: n for n in (_decode(Network, entry) for entry in entries[0]) if n is not None}
    hosts = {h.name: h for h in (_decode(Host, entry) for entry in entries[1]) if h is not None}
    reports = {e.key.rpartition("/")[2]: parse_json(e) for e in entries[2]} if states else {}
    ordered = sorted(endpoints, key=lambda e: (e.network_id, e.created_at or "", e.name or "", e.id))
    return [endpoint_out(e, networks, hosts, reports.get(e.id)) for e in ordered]


def _decode(kind: type[Any], entry: Entry) -> Any:
    try:
        return decode_json(kind, entry.value, entry.key)
    except Invalid:
        return None
