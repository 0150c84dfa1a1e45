"""Services: one port of the hosts that leads to several endpoints of a network. Pure.

services: [{name: shop, network: amber, host_port: 8080, port: 80, label: role=web}]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from acl.language import Who
from intent.gateway import Gateway
from specs.model.records import Endpoint, Item, Name, Record

MEMBERS_LIMIT = 512  # that share the load: a group message must fit 64 KiB (pipeline/tables.py)
Port = Annotated[int, Field(ge=1, le=65_535)]
Proto = Literal["tcp", "udp", "sctp"]
Label = Annotated[str, Field(min_length=1, max_length=300)]


class ServiceFields(BaseModel):
    """What is said of a service, in a document, a request and its record alike."""

    name: Name
    network: Name
    host_port: Port
    port: Port
    proto: Proto = "tcp"
    endpoints: tuple[Name, ...] = ()
    label: Label | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.label is None) == (not self.endpoints):
            raise ValueError("endpoints or label, one of the two")
        return self


class Service(ServiceFields, Record):
    """`host_port` of every host with endpoints of the network (name or id) leads to `port` of one of those that are meant: by name
    (or id), or by a label (KEY or KEY=VALUE)."""

    created_at: str | None = None

    @property
    def whom(self) -> tuple[Who, ...]:
        """As rules of ACLs say it."""
        return (Who(label=self.label),) if self.label is not None else tuple(Who(endpoint=name) for name in self.endpoints)


class ServiceItem(ServiceFields, Item):
    """A service in a document. It says who is meant in one of two ways, which takes the other away."""

    def stated(self) -> dict[str, Any]:
        """As every item's."""
        return {"endpoints": [], "label": None} | super().stated()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceView:
    """A service on one host: what comes to `host_port` of the network's transit addresses, and where it may go."""

    name: str
    vni: int
    proto: str
    host_port: int
    port: int
    gateway: Gateway
    members4: tuple[str, ...]
    members6: tuple[str, ...]


def meant(service: Service, network_id: str, members: Callable[[str, Who], Iterable[Endpoint]]) -> tuple[Endpoint, ...]:
    """The endpoints of a service, in an order that all hosts share."""
    found = {e.id: e for who in service.whom for e in members(network_id, who)}
    return tuple(found[e] for e in sorted(found))


def service_view(service: Service, vni: int, gateway: Gateway, members: Iterable[Endpoint]) -> ServiceView:
    """A service on one host with the members that can be reached."""
    some = list(members)[:MEMBERS_LIMIT]
    four, six = (
        tuple(str(a) for a in found if a is not None)
        for found in ((e.ipv4_address for e in some), (e.ipv6_address for e in some))
    )
    return ServiceView(
        name=service.name,
        vni=vni,
        proto=service.proto,
        host_port=service.host_port,
        port=service.port,
        gateway=gateway,
        members4=four,
        members6=six,
    )
