"""The admin overlay: a network on which every host has an endpoint in its own namespace, and nobody else has one. Pure.

networks: [{name: admin, ip_range: 10.44.44.0/24, admin: {addresses: {h1: 10.44.44.11}}}]
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from specs.model.base import Address, Name, NestedValue
from specs.model.reservations import check_address
from warren.errors import Invalid

ADMIN_INTERFACE = "warren-admin"  # its name on each host
ADMIN_NAME, ADMIN_VNI, ADMIN_VLAN = "admin", 2, 2  # the defaults of `warren admin-overlay init`
HOST_NAMESPACE = "/proc/self/ns/net"  # the namespace of the agent, which is the host's own
_IDS = uuid.UUID("5b0c1a7e-6f0a-5c0e-9d57-57a44e4e0002")


def _listed(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


HostAddresses = Annotated[tuple[Address, ...], BeforeValidator(_listed), Field(min_length=1, max_length=2)]


class AdminOverlay(NestedValue):
    """What makes a network the admin overlay. `addresses` are those of hosts that have not just any free one: one, or one of each version of IP.
    A host that does not exist yet may be named."""

    addresses: dict[Name, HostAddresses] = {}

    def of_host(self, host: str) -> dict[str, Address]:
        """The addresses that a host must have, by field of its endpoint."""
        return {f"ipv{address.version}_address": address for address in self.addresses.get(host, ())}


def host_endpoint_id(network_id: str, host: str) -> str:
    """The id of a host's own endpoint on the admin overlay: always the same, so a host never has two."""
    return str(uuid.uuid5(_IDS, f"{network_id}/{host}"))


def check_admin(admin: AdminOverlay, ranges: Sequence[IPv4Network | IPv6Network | None]) -> None:
    """Raises `Invalid` for an address outside the ranges of the network, and for one that two hosts have."""
    holders: dict[object, str] = {}
    for host, addresses in sorted(admin.addresses.items()):
        for address in addresses:
            path = f"admin.addresses.{host}"
            check_address(path, address, ranges, ())
            if address in holders:
                raise Invalid(path, str(address), f"an address that host {holders[address]} does not have")
            holders[address] = host
        if len({address.version for address in addresses}) < len(addresses):
            raise Invalid(f"admin.addresses.{host}", ", ".join(map(str, addresses)), "one address of each version of IP")
