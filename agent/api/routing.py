"""Routers, services and tenants over HTTP."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from acl.language import Who
from acl.policy import network_of
from agent.api.tenancy import Narrowed, TenantQuery
from agent.api.warnings import with_warnings
from agent.core import Core
from agent.endpoints.request import RequestBody
from agent.switch import read_snapshot
from intent.services import service_members
from intent.views import selects
from specs.model.base import AclNames, restated
from specs.model.endpoint import Endpoint
from specs.model.number_ranges import VlanRanges, VniRanges
from specs.model.router import RouterItem
from specs.model.service import Service, ServiceItem
from specs.model.tenant import DEFAULT, NetworksLimit, Tenant, TenantItem
from specs.snapshot import Snapshot
from warren.errors import NotFound


class TenantChange(RequestBody):
    """PATCH /tenants/{name}."""

    vni: VniRanges | None = None
    vlan: VlanRanges | None = None
    max_networks: NetworksLimit | None = None
    acls: AclNames | None = None


def router(core: Core) -> APIRouter:
    """The routes of routers, services and tenants."""
    router = APIRouter(tags=["Warren"])
    _router_routes(router, core)
    _service_routes(router, core)
    _tenant_routes(router, core)
    return router


def _tenant_routes(router: APIRouter, core: Core) -> None:
    def shown(tenant: Tenant, snapshot: Snapshot) -> dict[str, Any]:
        names = sorted(n.name for n in snapshot.networks.values() if (n.tenant or DEFAULT) == tenant.name)
        return tenant.data() | {"networks": names}

    @router.get("/tenants")
    def tenants() -> dict[str, Any]:
        """All tenants, with their networks."""
        snapshot = read_snapshot(core.store)
        return {"tenants": [shown(tenant, snapshot) for _, tenant in sorted(snapshot.tenants.items())]}

    @router.get("/tenants/{name}")
    def show_tenant(name: str) -> dict[str, Any]:
        """One tenant."""
        snapshot = read_snapshot(core.store)
        if name not in snapshot.tenants:
            raise NotFound("tenant", name)
        return {"tenant": shown(snapshot.tenants[name], snapshot)}

    @router.post("/tenants", status_code=201)
    def put_tenant(body: TenantItem) -> dict[str, Any]:
        """Create a tenant, or change one. Ranges that others use are refused."""
        tenant, _ = core.repository.put_tenant(body.model_dump(mode="json", exclude_none=True))
        return {"tenant": shown(tenant, read_snapshot(core.store))}

    @router.patch("/tenants/{name}")
    def update_tenant(name: str, body: TenantChange) -> dict[str, Any]:
        """Change a tenant: what is not stated stays, null takes a value away."""
        old = next((each for each in core.repository.tenants() if each.name == name), None)
        if old is None:
            raise NotFound("tenant", name)
        stated = body.model_dump(mode="json", exclude_unset=True)
        tenant, _ = core.repository.put_tenant(restated(old.data(), stated))
        return {"tenant": shown(tenant, read_snapshot(core.store))}

    @router.delete("/tenants/{name}", status_code=204)
    def delete_tenant(name: str) -> Response:
        """Delete a tenant that has no networks."""
        core.repository.delete_tenant(name)
        return Response(status_code=204)


def _router_routes(router: APIRouter, core: Core) -> None:
    @router.get("/routers")
    def routers(tenant: TenantQuery = "") -> dict[str, Any]:
        """All routers."""
        state = read_snapshot(core.store)
        narrowed = Narrowed(tenant, state.tenants, state.networks.values())
        return {"routers": [each.data() for _, each in sorted(state.routers.items()) if narrowed.has(*each.networks)]}

    @router.get("/routers/{name}")
    def show_router(name: str) -> dict[str, Any]:
        """One router, with its networks' ranges."""
        snapshot = read_snapshot(core.store)
        record = snapshot.routers.get(name)
        if record is None:
            raise NotFound("router", name)
        networks = {ref: n for n in snapshot.networks.values() for ref in n.references if ref in record.networks}
        ranges = {ref: [str(r) for r in (n.ip_range, n.ipv6_range) if r is not None] for ref, n in networks.items()}
        return {"router": record.data() | {"ranges": ranges}}

    @router.post("/routers", status_code=201)
    def put_router(body: RouterItem) -> dict[str, Any]:
        """Create a router, or change one."""
        record, _ = core.repository.put_router(body.model_dump(mode="json", exclude_none=True))
        return {"router": record.data()}

    @router.delete("/routers/{name}", status_code=204)
    def delete_router(name: str) -> Response:
        """Delete a router: its networks no longer reach each other."""
        core.repository.delete_router(name)
        return Response(status_code=204)


def _service_routes(router: APIRouter, core: Core) -> None:
    @router.get("/services")
    def services(tenant: TenantQuery = "") -> dict[str, Any]:
        """All services, with their members."""
        snapshot = read_snapshot(core.store)
        narrowed = Narrowed(tenant, snapshot.tenants, snapshot.networks.values())
        ordered = (service for _, service in sorted(snapshot.services.items()) if narrowed.has(service.network))
        return {"services": [_service_out(service, snapshot) for service in ordered]}

    @router.get("/services/{name}")
    def show_service(name: str) -> dict[str, Any]:
        """One service, with its members."""
        snapshot = read_snapshot(core.store)
        if name not in snapshot.services:
            raise NotFound("service", name)
        return {"service": _service_out(snapshot.services[name], snapshot)}

    @router.post("/services", status_code=201)
    def put_service(body: ServiceItem) -> dict[str, Any]:
        """Create a service, or change one."""
        service, _ = core.repository.put_service(body.model_dump(mode="json", exclude_none=True))
        return {"service": with_warnings(core, "service", service.name, service.data())}

    @router.delete("/services/{name}", status_code=204)
    def delete_service(name: str) -> Response:
        """Delete a service: its port leads nowhere."""
        core.repository.delete_service(name)
        return Response(status_code=204)


def _service_out(service: Service, snapshot: Snapshot) -> dict[str, Any]:
    def select(network_id: str, who: Who) -> list[Endpoint]:
        return [e for e in snapshot.endpoints.values() if e.active and selects(who, e, network_id, snapshot.networks)]

    members = service_members(service, str(network_of(service.network, snapshot.networks)), select)
    return service.data() | {"members": [f"{e.name or e.id} on {e.host}" for e in members]}
