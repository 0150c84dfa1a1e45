"""Routers, services and tenants."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from warren.client.calls import Operation, delete, get, patch, path, post, stated
from warren.client.results import (
    Result,
    Router,
    Service,
    all_of,
)


@dataclass(frozen=True, kw_only=True)
class Tenant(Result):
    """Who owns the VNIs `vni` and the VLAN ids `vlan` (ranges such as `5000-5099,7000`), and `networks`, by name."""

    name: str = ""
    vni: str = ""
    vlan: str = ""
    max_networks: int | None = None
    acls: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()


def routers(tenant: str | None = None) -> Operation[tuple[Router, ...]]:
    """All routers, or those of a tenant's networks."""
    return all_of(Router, (yield get("/routers", tenant=tenant)), "routers")


def router(name: str) -> Operation[Router]:
    """One router, with the ranges of its networks."""
    return Router.of((yield get(path("routers", name))).get("router"))


def put_router(name: str, networks: Iterable[str]) -> Operation[Router]:
    """Create a router between networks (names or ids), or change the one of that name."""
    return Router.of((yield post("/routers", stated(name=name, networks=list(networks)))).get("router"))


def delete_router(name: str) -> Operation[None]:
    """Delete a router: its networks no longer reach each other."""
    yield delete(path("routers", name))


def services(tenant: str | None = None) -> Operation[tuple[Service, ...]]:
    """All services, with their members, or those of a tenant's networks."""
    return all_of(Service, (yield get("/services", tenant=tenant)), "services")


def service(name: str) -> Operation[Service]:
    """One service, with its members."""
    return Service.of((yield get(path("services", name))).get("service"))


def put_service(
    name: str,
    network: str,
    host_port: int,
    port: int | str,
    *,
    proto: str = "tcp",
    label: str | None = None,
    endpoints: Sequence[str] | None = None,
) -> Operation[Service]:
    """Create a service, or change the one of that name: `host_port` of the hosts leads to `port` of the endpoints that have the label or
    are named."""
    body = stated(name=name, network=network, host_port=host_port, port=port, proto=proto, label=label, endpoints=endpoints)
    return Service.of((yield post("/services", body)).get("service"))


def delete_service(name: str) -> Operation[None]:
    """Delete a service: its port leads nowhere."""
    yield delete(path("services", name))


def tenants() -> Operation[tuple[Tenant, ...]]:
    """All tenants, with their networks."""
    return all_of(Tenant, (yield get("/tenants")), "tenants")


def tenant(name: str) -> Operation[Tenant]:
    """One tenant."""
    return Tenant.of((yield get(path("tenants", name))).get("tenant"))


def put_tenant(
    name: str,
    *,
    vni: str | None = None,
    vlan: str | None = None,
    max_networks: int | None = None,
    acls: Sequence[str] | None = None,
) -> Operation[Tenant]:
    """Create a tenant, or replace the one of that name. `vni` and `vlan` are ranges such as `5000-5099,7000`."""
    body = stated(name=name, vni=vni, vlan=vlan, max_networks=max_networks, acls=acls)
    return Tenant.of((yield post("/tenants", body)).get("tenant"))


def update_tenant(name: str, **fields: Any) -> Operation[Tenant]:
    """Change `vni`, `vlan`, `max_networks` or `acls` of a tenant; what is not named stays, None takes a value away."""
    return Tenant.of((yield patch(path("tenants", name), fields)).get("tenant"))


def delete_tenant(name: str) -> Operation[None]:
    """Delete a tenant; it must have no networks."""
    yield delete(path("tenants", name))
