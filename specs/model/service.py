"""Services: a port of all hosts that leads to several endpoints of a network. Pure.

services: [{name: shop, network: amber, host_port: 8080, port: 80, label: role=web}]
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from acl.language import Who
from specs.model.base import Item, Name, Record, Whole
from specs.model.names import NetworkName

PortNumber = Annotated[Whole, Field(ge=1, le=65_535)]
Proto = Literal["tcp", "udp", "sctp"]
Label = Annotated[str, Field(min_length=1, max_length=300)]


class ServiceFields(BaseModel):
    """The fields that a document, a request and the record of a service share."""

    name: Name
    network: NetworkName
    host_port: PortNumber
    port: PortNumber
    proto: Proto = "tcp"
    endpoints: tuple[Name, ...] = ()
    label: Label | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.label is None) == (not self.endpoints):
            raise ValueError("endpoints or label, one of the two")
        return self


class Service(ServiceFields, Record):
    """`host_port` of every host that has endpoints of the network (name or id) leads to `port` of one of the members. Members are listed by
    name or id, or selected by a label (KEY or KEY=VALUE)."""

    created_at: str | None = None

    @property
    def selectors(self) -> tuple[Who, ...]:
        """The members as selectors of ACL rules."""
        return (Who(label=self.label),) if self.label is not None else tuple(Who(endpoint=name) for name in self.endpoints)


class ServiceItem(ServiceFields, Item):
    """A service in a document. Its members are stated in one of two ways; stating one removes the other."""

    def stated(self) -> dict[str, Any]:
        """The stated fields; the way of naming members that is not used is stated as empty."""
        return {"endpoints": [], "label": None} | super().stated()
