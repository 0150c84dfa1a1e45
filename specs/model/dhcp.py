"""The DHCP settings of a network. Pure.

The server has the address SERVER4, or that of the gateway, and the gateway's link-local address: the same on every host.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from specs.model.base import NestedValue, Whole, require_text
from warren.errors import Invalid

SERVER4 = IPv4Address("169.254.67.1")  # of networks without a gateway (link-local, RFC 3927: never routed)
DNS_LIMIT = 8
ROUTES_LIMIT = 16  # they must fit in one option of 255 bytes
LEASE_FIRST_S, LEASE_LAST_S = 10, 31_536_000
EXTERNAL = "external"

_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\Z")


def _server(value: Any) -> Any:
    if isinstance(value, (IPv4Address, IPv6Address)):
        return value
    try:
        return ip_address(value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError("an IPv4 or IPv6 address, such as 192.0.2.53") from None


def _domain(value: str) -> str:
    name = value.rstrip(".").lower()
    if len(name) > 253 or not all(_LABEL.match(label) for label in name.split(".")):
        raise ValueError("a domain name such as example.org")
    return name


def _listed(value: Any) -> Any:
    """One value or a list."""
    return [value] if isinstance(value, (str, dict)) else value


def _answering(value: Any) -> Any:
    if not isinstance(value, bool) and value != EXTERNAL:
        raise ValueError(f"true, false or {EXTERNAL}")
    return value


ServerAddress = Annotated[IPv4Address | IPv6Address, BeforeValidator(_server)]


class DhcpRoute(NestedValue):
    """A route that DHCPv4 announces (option 121, RFC 3442): to a range by a next hop on the network."""

    to: Annotated[IPv4Network, BeforeValidator(require_text)]
    via: Annotated[IPv4Address, BeforeValidator(require_text)]


class DhcpFields(BaseModel):
    """The DHCP fields of a network. With `dhcp` the controller answers: it leases each endpoint its own address, for `dhcp_lease_s` seconds,
    so a client that renews late gets the same address. With `external` a server behind an interface of the network answers."""

    dhcp: Annotated[bool | Literal["external"], BeforeValidator(_answering)] = False
    dns: Annotated[tuple[ServerAddress, ...], BeforeValidator(_listed), Field(max_length=DNS_LIMIT)] = ()
    domain: Annotated[str, AfterValidator(_domain)] | None = None
    dhcp_routes: Annotated[tuple[DhcpRoute, ...], BeforeValidator(_listed), Field(max_length=ROUTES_LIMIT)] = ()
    dhcp_lease_s: Annotated[Whole, Field(ge=LEASE_FIRST_S, le=LEASE_LAST_S)] = 3600

    @property
    def answers(self) -> bool:
        """Whether the controller answers DHCP and router solicitations."""
        return self.dhcp is True

    @property
    def external(self) -> bool:
        """Whether an external server leases the IPv4 addresses."""
        return self.dhcp == EXTERNAL


def check_dhcp(network: DhcpFields, ip_range: IPv4Network | None, mode: str) -> None:
    """Raises `Invalid` for settings that DHCP cannot announce, and for settings that belong to an external server."""
    if network.external:
        if mode != "flat":
            raise Invalid("mode", mode, "flat, with dhcp: external (the external server announces the router)")
        if ip_range is not None:
            raise Invalid("ip_range", str(ip_range), "nothing, with dhcp: external: the external server leases the addresses")
        for name in ("dns", "domain", "dhcp_routes"):
            if value := network.model_dump(mode="json", include={name})[name]:
                raise Invalid(name, value, "nothing, with dhcp: external: the external server announces it")
    for i, route in enumerate(network.dhcp_routes):
        if ip_range is None or route.via not in ip_range:
            raise Invalid(
                f"dhcp_routes[{i}].via", str(route.via), f"an address of the network's ip_range ({ip_range or 'it has none'})"
            )
    if network.answers and mode == "flat" and ip_range is not None and SERVER4 in ip_range:
        raise Invalid("ip_range", str(ip_range), f"a range without {SERVER4}, from which a network in mode flat is served DHCP")
