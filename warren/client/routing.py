"""Routers and services."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from warren.client.calls import Operation, delete, get, path, post, stated
from warren.client.results import (
    Router,
    Service,
    all_of,
)


def routers() -> Operation[tuple[Router, ...]]:
    """All routers."""
    return all_of(Router, (yield get("/routers")), "routers")


def router(name: str) -> Operation[Router]:
    """One router, with the ranges of its networks."""
    return Router.of((yield get(path("routers", name))).get("router"))


def put_router(name: str, networks: Iterable[str]) -> Operation[Router]:
    """Create a router between networks (names or ids), or change the one of that name."""
    return Router.of((yield post("/routers", stated(name=name, networks=list(networks)))).get("router"))


def delete_router(name: str) -> Operation[None]:
    """Delete a router: its networks no longer reach each other."""
    yield delete(path("routers", name))


def services() -> Operation[tuple[Service, ...]]:
    """All services, with their members."""
    return all_of(Service, (yield get("/services")), "services")


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
