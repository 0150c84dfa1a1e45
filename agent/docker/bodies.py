"""The shape of the bodies of Docker's calls, as far as the driver reads them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from specs.model.validation import invalid

_Id = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z_.:-]{0,127}$")]
_Text = Annotated[str, StringConstraints(max_length=4096, pattern=r"^[^\x00-\x1f]*$")]
_Port = Annotated[int, Field(ge=0, le=65535)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class _Mapping(_Part):
    Proto: Literal[6, 17, 132]
    Port: Annotated[int, Field(ge=1, le=65535)]
    HostIP: _Text | None = None
    HostPort: _Port | None = None
    HostPortEnd: _Port | None = None


class _Options(_Part):
    """Also options whose values are text, which the tables of agent/docker/options.py read."""

    generic: Annotated[dict[_Text, str | bool | int | None] | None, Field(alias="com.docker.network.generic")] = None
    internal: Annotated[bool | None, Field(alias="com.docker.network.internal")] = None
    portmap: Annotated[list[_Mapping] | None, Field(alias="com.docker.network.portmap")] = None


class _Interface(_Part):
    Address: _Text | None = None
    AddressIPv6: _Text | None = None
    MacAddress: _Text | None = None


class _Subnet(_Part):
    AddressSpace: _Text | None = None
    Pool: _Text | None = None
    Gateway: _Text | None = None
    AuxAddresses: dict[str, _Text] | None = None


class _Body(_Part):
    NetworkID: _Id | None = None
    EndpointID: _Id | None = None
    SandboxKey: _Text | None = None
    PoolID: _Text | None = None
    Address: _Text | None = None
    Pool: _Text | None = None
    SubPool: _Text | None = None
    V6: bool | None = None
    Options: _Options | None = None
    Interface: _Interface | None = None
    IPv4Data: list[_Subnet] | None = None
    IPv6Data: list[_Subnet] | None = None


def check(body: Mapping[str, Any]) -> None:
    """Raise `Invalid` for a body that no engine sends."""
    try:
        _Body.model_validate(body)
    except ValidationError as error:
        raise invalid(error, "request") from None
