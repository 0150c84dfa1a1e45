"""Addresses of a network that are set aside: by MAC, and a pool for all others. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from specs.model.base import Mac, NestedValue, Whole, require_text
from warren.errors import Invalid

RESERVATIONS_LIMIT = 4096  # of one network
POOL_LEASE_S = 30
NONE = "none"

ReservedAddress4 = Annotated[IPv4Address, BeforeValidator(require_text)]
ReservedAddress6 = Annotated[IPv6Address, BeforeValidator(require_text)]


class Reservation(NestedValue):
    """The addresses of the endpoint with that MAC. Nobody else gets them."""

    mac: Mac
    ipv4_address: ReservedAddress4 | None = None
    ipv6_address: ReservedAddress6 | None = None

    @model_validator(mode="after")
    def _some_address(self) -> Self:
        if self.ipv4_address is None and self.ipv6_address is None:
            raise ValueError("ipv4_address, ipv6_address or both")
        return self

    @property
    def addresses(self) -> tuple[IPv4Address | IPv6Address, ...]:
        """Both addresses, IPv4 first."""
        return tuple(address for address in (self.ipv4_address, self.ipv6_address) if address is not None)


class AddressPool(NestedValue):
    """The IPv4 addresses, `first` to `last`, of endpoints that state none and have no reservation. DHCP leases them for `lease_s` seconds."""

    first: ReservedAddress4
    last: ReservedAddress4
    lease_s: Annotated[Whole, Field(ge=10, le=31_536_000)] = POOL_LEASE_S

    def __contains__(self, address: object) -> bool:
        return isinstance(address, IPv4Address) and self.first <= address <= self.last


def pool_value(value: Any) -> Any:
    """A pool, or `none`; refuses other texts."""
    if isinstance(value, str) and value != NONE:
        raise ValueError(f"{NONE}, or first, last and lease_s")
    return value


DhcpPool = Annotated[AddressPool | Literal["none"], BeforeValidator(pool_value)]


def check_reservations(
    reservations: Sequence[Reservation],
    pool: AddressPool | str | None,
    ranges: Sequence[IPv4Network | IPv6Network | None],
    gateways: Sequence[IPv4Address | IPv6Address],
) -> None:
    """Raises `Invalid` for an address outside the network's ranges, one that is the gateway's, and a MAC or an address that is there twice."""
    seen: set[object] = set()
    for position, reservation in enumerate(reservations):
        for field, value in _values(reservation):
            path = f"reservations[{position}].{field}"
            if value in seen:
                raise Invalid(path, str(value), "a value that no other reservation has")
            seen.add(value)
            if field != "mac":
                check_address(path, value, ranges, gateways)
    if isinstance(pool, AddressPool):
        for field, address in (("first", pool.first), ("last", pool.last)):
            check_address(f"dhcp_pool.{field}", address, ranges, ())
        if pool.last < pool.first:
            raise Invalid("dhcp_pool.last", str(pool.last), f"an address from {pool.first} on")


def _values(reservation: Reservation) -> Iterator[tuple[str, Any]]:
    return (
        (name, value) for name in ("mac", "ipv4_address", "ipv6_address") if (value := getattr(reservation, name)) is not None
    )


def check_address(
    path: str, address: Any, ranges: Sequence[IPv4Network | IPv6Network | None], gateways: Sequence[IPv4Address | IPv6Address]
) -> None:
    """Raises `Invalid` for an address that no endpoint of a network can have."""
    of_version = [each for each in ranges if each is not None and each.version == address.version]
    edges = {
        edge for each in of_version for edge in (each.network_address, *([each.broadcast_address] if each.version == 4 else []))
    }
    if not any(address in each for each in of_version) or address in edges:
        raise Invalid(
            path, str(address), f"a host address of {' or '.join(map(str, of_version)) or 'a range, which the network lacks'}"
        )
    if address in gateways:
        raise Invalid(path, str(address), "an address other than the gateway's")
