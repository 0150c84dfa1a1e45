"""What a network's reservations and its pool say of the addresses of one endpoint. Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

from pipeline.protocols import IpNetwork
from specs.model.base import decode
from specs.model.endpoint import Endpoint
from specs.model.network import Network
from specs.model.reservations import NONE, AddressPool
from warren.errors import MISSING, Conflict, Invalid

FIELDS = ("ipv4_address", "ipv6_address")


def with_reserved(network: Network, data: dict[str, Any], probe: Endpoint) -> tuple[dict[str, Any], Endpoint]:
    """A draft and its decoded form, completed from the reservation of its MAC, or of an address that it states. Raises `Conflict` if an address
    is reserved for another MAC."""
    mac = probe.mac_address if "mac_address" in data else None
    reservation = network.reservation(mac, probe.ipv4_address, probe.ipv6_address)
    if reservation is not None:
        addresses = {
            name: str(value) for name in FIELDS if (value := getattr(reservation, name)) is not None and name not in data
        }
        data = {**data, "mac_address": reservation.mac, **addresses}
        probe = decode(Endpoint, {"ofport": 1, **data}, "endpoint")
    check_reserved(network, probe, data.get("mac_address"))
    return data, probe


def check_reserved(network: Network, endpoint: Endpoint, mac: str | None) -> None:
    """Raises `Conflict` if an address of the endpoint is reserved for another MAC."""
    for field in FIELDS:
        address = getattr(endpoint, field)
        reservation = network.reservation(None, address) if address is not None else None
        if reservation is not None and reservation.mac != mac:
            raise Conflict(f"{address} of network {network.name} is reserved for {reservation.mac}", field=field)


def set_aside(network: Network, network_range: IpNetwork) -> set[int]:
    """The numbers of a range that are allocated to nobody: the gateway's, reserved ones, and those of named hosts."""
    gateways: tuple[IPv4Address | IPv6Address, ...] = tuple(gateway.ip for gateway in network.gateways)
    of_hosts = network.admin.addresses.values() if network.admin is not None else ()
    reserved = (each.addresses for each in network.reservations)
    taken = (*gateways, *(address for addresses in (*reserved, *of_hosts) for address in addresses))
    return {int(address) - int(network_range.network_address) for address in taken if address.version == network_range.version}


def require_address(network: Network, version: int) -> None:
    """Raises `Invalid` if the network gives no address of that version to endpoints that state none and have no reservation."""
    if version == 4 and network.dhcp_pool == NONE:
        expected = f"an address, or a reservation for the MAC: network {network.name} gives others none (dhcp_pool: none)"
        raise Invalid("endpoint.ipv4_address", MISSING, expected)


def bounds(network: Network, network_range: IpNetwork) -> tuple[int, int]:
    """The first and the last number of a range that are allocated to endpoints that state no address."""
    base, pool = int(network_range.network_address), network.dhcp_pool
    if network_range.version == 4 and isinstance(pool, AddressPool):
        return int(pool.first) - base, int(pool.last) - base
    return 1, int(network_range.broadcast_address) - base - (1 if network_range.version == 4 else 0)
