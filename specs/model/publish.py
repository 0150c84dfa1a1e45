"""Published ports: ports of a host that lead to an endpoint. Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, model_validator

from specs.model.base import NestedValue

PUBLISHED_LIMIT = 1024  # ports of one endpoint


def _ports(value: Any) -> Any:
    """A port, or a range of ports as text."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535:
        return value
    low, dash, high = str(value).partition("-")
    if isinstance(value, str) and dash and low.isdigit() and high.isdigit() and 1 <= int(low) <= int(high) <= 65535:
        return f"{int(low)}-{int(high)}"
    raise ValueError("a port from 1 to 65535, or a range such as 8000-8010")


PublishedPorts = Annotated[int | str, BeforeValidator(_ports)]


def _range(ports: int | str) -> range:
    low, _, high = str(ports).partition("-")
    return range(int(low), int(high or low) + 1)


class Publish(NestedValue):
    """A port of the endpoint's host that leads to a port of the endpoint; ranges map one to one. `host_ip`: only at that address."""

    host_port: PublishedPorts
    port: PublishedPorts
    proto: Literal["tcp", "udp", "sctp"] = "tcp"
    host_ip: IPv4Address | IPv6Address | None = None

    @model_validator(mode="after")
    def _as_many(self) -> Publish:
        if len(_range(self.host_port)) != len(_range(self.port)):
            raise ValueError(f"as many ports in host_port ({self.host_port}) as in port ({self.port})")
        return self

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Pairs of a port of the host and the port of the endpoint."""
        return list(zip(_range(self.host_port), _range(self.port), strict=True))
