"""The DHCP settings of a network. Pure.

The server has the address SERVER4, or that of the gateway, and the gateway's link-local address: the same on every host.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from specs.model.base import NestedValue, Whole, require_text
from specs.model.reservations import RESERVATIONS_LIMIT, DhcpPool, Reservation
from warren.errors import Invalid

SERVER4 = IPv4Address("169.254.67.1")  # of networks without a gateway (link-local, RFC 3927: never routed)
DNS_LIMIT = 8
ROUTES_LIMIT = 16  # they must fit in one option of 255 bytes
LEASE_FIRST_S, LEASE_LAST_S = 10, 31_536_000
BOOT_FILE_LONGEST = 127  # bytes: the header's field ends with a zero byte
SEARCH_LONGEST = 255
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


def _searched(value: tuple[str, ...]) -> tuple[str, ...]:
    if sum(len(name) + 2 for name in value) > SEARCH_LONGEST:
        raise ValueError(f"domain names that fit in one option of {SEARCH_LONGEST} bytes together")
    return value


Domain = Annotated[str, AfterValidator(_domain)]
Server4 = Annotated[IPv4Address, BeforeValidator(require_text)]
ServerAddress = Annotated[IPv4Address | IPv6Address, BeforeValidator(_server)]


class DhcpRoute(NestedValue):
    """A route that DHCPv4 announces (option 121, RFC 3442): to a range by a next hop on the network."""

    to: Annotated[IPv4Network, BeforeValidator(require_text)]
    via: Annotated[IPv4Address, BeforeValidator(require_text)]


def _boot_file(value: str) -> str:
    if not value.isascii() or not value.isprintable() or " " in value or not 1 <= len(value) <= BOOT_FILE_LONGEST:
        raise ValueError(f"a path or URL of 1 to {BOOT_FILE_LONGEST} printable ASCII characters without spaces")
    return value


BootFile = Annotated[str, AfterValidator(_boot_file)]


class Boot(NestedValue):
    """What a machine without a disk is told: the server of its boot file (`server`), the file, and the root file system (`root_path`, option 17).
    `files` has other boot files for the architectures that clients name in option 93, and for those that iPXE runs on already (`ipxe`)."""

    server: Annotated[IPv4Address, BeforeValidator(require_text)]
    file: BootFile | None = None
    files: dict[Literal["bios", "efi-ia32", "efi-x86_64", "efi-arm64", "http-x86_64", "http-arm64", "ipxe"], BootFile] = {}
    root_path: BootFile | None = None

    @model_validator(mode="after")
    def _some_file(self) -> Self:
        if self.file is None and not self.files:
            raise ValueError("file, or files by architecture")
        return self


class DhcpFields(BaseModel):
    """The DHCP fields of a network. With `dhcp` the controller answers: it leases each endpoint its own address, for `dhcp_lease_s` seconds,
    so a client that renews late gets the same address. With `external` a server behind an interface of the network answers. `reservations` set addresses
    aside by MAC; an endpoint that states no IPv4 address and has no reservation gets one of `dhcp_pool`, if that is there, and none if it is `none`."""

    dhcp: Annotated[bool | Literal["external"], BeforeValidator(_answering)] = False
    dns: Annotated[tuple[ServerAddress, ...], BeforeValidator(_listed), Field(max_length=DNS_LIMIT)] = ()
    domain: Domain | None = None
    dhcp_routes: Annotated[tuple[DhcpRoute, ...], BeforeValidator(_listed), Field(max_length=ROUTES_LIMIT)] = ()
    boot: Boot | None = None
    ntp: Annotated[tuple[Server4, ...], BeforeValidator(_listed), Field(max_length=DNS_LIMIT)] = ()
    search: Annotated[tuple[Domain, ...], BeforeValidator(_listed), AfterValidator(_searched)] = ()
    reservations: Annotated[tuple[Reservation, ...], BeforeValidator(_listed), Field(max_length=RESERVATIONS_LIMIT)] = ()
    dhcp_pool: DhcpPool | None = None
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
        for name in ("dns", "domain", "dhcp_routes", "boot", "ntp", "search", "reservations", "dhcp_pool"):
            if value := network.model_dump(mode="json", include={name})[name]:
                raise Invalid(name, value, "nothing, with dhcp: external: the external server announces it")
    for i, route in enumerate(network.dhcp_routes):
        if ip_range is None or route.via not in ip_range:
            raise Invalid(
                f"dhcp_routes[{i}].via", str(route.via), f"an address of the network's ip_range ({ip_range or 'it has none'})"
            )
    if network.answers and mode == "flat" and ip_range is not None and SERVER4 in ip_range:
        raise Invalid("ip_range", str(ip_range), f"a range without {SERVER4}, from which a network in mode flat is served DHCP")
