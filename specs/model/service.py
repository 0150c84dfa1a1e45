"""Services: one port of the hosts that leads to several endpoints of a network. Pure.

services: [{name: shop, network: amber, host_port: 8080, port: 80, label: role=web}]
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from acl.language import Who
from specs.model.base import Item, Name, Record

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
