"""A request for an endpoint, as SAND's HTTP API, Docker's driver and the CNI plugin make it. Pure."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from specs.model.base import Name, Whole
from specs.model.endpoint import EndpointFields
from specs.model.names import NetworkName
from warren.errors import Invalid


def _unset_is_documented(schema: dict[str, Any]) -> None:
    """Add to each field's schema that an empty text counts as not set."""
    for name, field in schema.get("properties", {}).items():
        if field.get("type") != "string" or "enum" in field:
            kept = {key: field.pop(key) for key in ("title", "default", "description") if key in field}
            choices = field.get("anyOf") or [field]
            schema["properties"][name] = {"anyOf": [*choices, {"const": ""}], **kept}


class RequestBody(BaseModel):
    """The body of a request to the agent. Unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=_unset_is_documented)

    @model_validator(mode="before")
    @classmethod
    def _unset(cls, data: Any) -> Any:
        """An empty string counts as not set: SAND's client is written in Go."""
        return {k: v for k, v in data.items() if v != ""} if isinstance(data, dict) else data


class ActivateParams(RequestBody):
    """SAND's fields: the namespace's path. SAND's server takes `set_addr` and `move_veth` as true in every request, because its client
    never sets them; Warren's own fields are `set_addresses` and `move_interface` of the endpoint."""

    ns_handle_path: str | None = None
    set_addr: bool = True
    move_veth: bool = True

    def check(self) -> None:
        """Refuse a strict request with false in these fields, which would have no effect. Raises `Invalid`."""
        for name, instead in (("set_addr", "set_addresses"), ("move_veth", "move_interface")):
            if not getattr(self, name):
                raise Invalid(
                    f"activate_params.{name}", False, f"true, or no such field, as with SAND; instead set {instead}: false"
                )


class EndpointCreate(EndpointFields, RequestBody):
    """POST /endpoints: SAND's fields, and Warren's: name, labels, interface, ipv6_address, ofport, hostname. `set_addresses` puts the
    addresses on the interface; `move_interface` moves it into the namespace (otherwise it stays in the host's, for a runtime that moves
    it itself). Instead of a path, `machine` is the name of a container that systemd-machined knows, and `pid` that of a process in the
    container. With `keep_netns` the path is that of a namespace below /run/netns, which Warren makes."""

    network_id: NetworkName
    activate: bool = True
    activate_params: ActivateParams | None = None
    ns_handle_path: str | None = None
    set_addresses: bool = True
    move_interface: bool = True
    id: Name | None = None
    name: Name | None = None
    hostname: Name | None = None
    pid: Annotated[Whole, Field(ge=1, le=4_194_304)] | None = None

    @model_validator(mode="after")
    def _one_namespace(self) -> Self:
        if sum(value is not None for value in (self.machine, self.pid, self.netns)) > 1:
            raise ValueError("one of machine, pid and a namespace's path")
        return self

    @property
    def netns(self) -> str | None:
        """The namespace's path, from any of the fields that may hold it."""
        nested = self.activate_params.ns_handle_path if self.activate_params else None
        return nested or self.ns_handle_path


def cidr(address: Any, network: IPv4Network | IPv6Network | None) -> str:
    """An address with its network's prefix length; empty without an address."""
    if address is None:
        return ""
    return f"{address}/{network.prefixlen if network is not None else address.max_prefixlen}"
