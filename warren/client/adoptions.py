"""Adoption rules: which interfaces that others make become endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from warren.client.calls import Operation, delete, get, path, post, stated
from warren.client.results import Result, all_of


@dataclass(frozen=True, kw_only=True)
class Adoption(Result):
    """An adoption rule, with the names of the endpoints that it has made. Without `host` it is for every host."""

    name: str = ""
    match: str | None = None
    iface_id: str | None = None
    network: str = ""
    host: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    endpoints: tuple[str, ...] = ()


def adoptions() -> Operation[tuple[Adoption, ...]]:
    """All adoption rules."""
    return all_of(Adoption, (yield get("/adoptions")), "adoptions")


def put_adoption(
    match: str | None,
    network: str,
    *,
    host: str | None = None,
    name: str | None = None,
    labels: Mapping[str, str] | None = None,
    iface_id: str | None = None,
) -> Operation[Adoption]:
    """Create an adoption rule, or change one: interfaces of containers and virtual machines with such a name (`ve-*`) become endpoints of a
    network, on a host or on every host. With `iface_id` they are those that a hypervisor puts on the bridge under such an id (`*`: any), of any name if
    `match` is None. Without `name` the rule is called after what it matches."""
    body = stated(match=match, network=network, host=host, name=name, labels=labels, iface_id=iface_id)
    return Adoption.of((yield post("/adoptions", body)).get("adoption"))


def delete_adoption(name: str) -> Operation[None]:
    """Delete an adoption rule; what it has adopted is given back."""
    yield delete(path("adoptions", name))
