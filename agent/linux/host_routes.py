"""Reads the addresses and routes of the host (rtnetlink(7)), without those of Warren's interface to the gateways."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface
from pathlib import Path

from ovsdb.rows import UPLINK_PORT
from pipeline.protocols import IpAddress, IpNetwork
from warren.errors import Unavailable
from warren.netlink_dump import ADDRESSES, ROUTES, RULES, attributes, dump, number

RESOLVERS = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))  # the second has what 127.0.0.53 asks
_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_LOCAL_TABLE, _SCOPE_LINK = 255, 253
_LINK_LOCAL = bytes.fromhex("fe80")
_IFA_ADDRESS, _IFA_LOCAL, _FRA_TABLE = 1, 2, 15
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_MULTIPATH, _RTA_TABLE, _RTA_VIA, _RTA_NH_ID = 1, 4, 5, 9, 15, 18, 30
_TYPES = (1, 6, 7, 8)  # unicast, blackhole, unreachable, prohibit: routes that decide where a packet goes


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRoute:
    """A route of the host. Without `gateway`, the destinations are on the link of `device`; without both, packets are dropped."""

    prefix: IpNetwork
    device: str
    gateway: str
    table: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HostAddress:
    """An address with the length of its prefix. `peer` is the other end of a point-to-point link."""

    address: IPv4Interface | IPv6Interface
    peer: IPv4Interface | IPv6Interface
    device: str


def read() -> tuple[list[HostAddress], list[HostRoute]]:
    """Return the addresses, without link-local ones, and the routes of the tables that the host's rules look up, without default routes.
    Raises `Unavailable`."""
    try:
        addresses = [address for family in _FAMILIES for address in _addresses(family)]
        routes = [route for family in _FAMILIES for route in _routes(family, _tables(family))]
    except OSError as error:
        raise Unavailable("the kernel", f"addresses and routes of this host cannot be read ({error})") from None
    return (
        [address for address in addresses if address.device != UPLINK_PORT],
        [route for route in routes if route.device != UPLINK_PORT],
    )


def _addresses(family: int) -> Iterator[HostAddress]:
    for fixed, rest in dump(ADDRESSES, family):
        _, length, _, scope, index = struct.unpack("=BBBBI", fixed)
        if scope == _SCOPE_LINK:
            continue
        values = attributes(rest)
        peer = values[_IFA_ADDRESS]
        yield HostAddress(
            address=ip_interface((values.get(_IFA_LOCAL, peer), length)), peer=ip_interface((peer, length)), device=_name(index)
        )


def own_addresses() -> set[IpAddress]:
    """Return all addresses of the host's interfaces. Raises `Unavailable`."""
    rows = (attributes(rest) for _, rest in _every_address())
    return {ip_address(values.get(_IFA_LOCAL, values[_IFA_ADDRESS])) for values in rows}


def with_addresses() -> list[str]:
    """Return the names of the interfaces that have an address. Raises `Unavailable`."""
    indexes = sorted({struct.unpack("=BBBBI", fixed)[4] for fixed, _ in _every_address()})
    return [_name(index) for index in indexes]


def _every_address() -> list[tuple[bytes, bytes]]:
    try:
        return [row for family in _FAMILIES for row in dump(ADDRESSES, family)]
    except OSError as error:
        raise Unavailable("the kernel", f"addresses of this host cannot be read ({error})") from None


def _tables(family: int) -> set[int]:
    """Return the tables that rules look up, without the table of local addresses."""
    tables = {number(attributes(rest).get(_FRA_TABLE)) or fixed[4] for fixed, rest in dump(RULES, family)}
    return tables - {_LOCAL_TABLE}


def _routes(family: int, tables: set[int]) -> Iterator[HostRoute]:
    for fixed, rest in dump(ROUTES, family):
        _, length, _, _, small_table, _, _, kind = fixed[:8]
        if length == 0 or kind not in _TYPES or small_table == _LOCAL_TABLE:
            continue
        values = attributes(rest)
        destination, table = values[_RTA_DST], number(values.get(_RTA_TABLE)) or small_table
        if table not in tables or (family == socket.AF_INET6 and destination.startswith(_LINK_LOCAL)):
            continue  # every interface has a link-local route
        prefix = ip_interface((destination, length)).network
        index, several = number(values.get(_RTA_OIF)), _RTA_MULTIPATH in values or _RTA_NH_ID in values
        gateway = values.get(_RTA_GATEWAY) or values.get(_RTA_VIA, b"")[2:]  # struct rtvia: family, address
        yield HostRoute(
            prefix=prefix,
            device=_name(index) if index else "",
            gateway=str(ip_address(gateway)) if gateway else "several gateways" if several else "",
            table=table,
        )


def _name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return f"interface {index}"  # it has just been removed


def resolvers() -> set[IpAddress]:
    """Return the addresses of the host's DNS servers."""
    servers = set[IpAddress]()
    for path in RESOLVERS:
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        servers |= {address for line in lines if (address := _nameserver(line)) is not None}
    return servers


def _nameserver(line: str) -> IpAddress | None:
    words = line.split()
    try:
        return ip_address(words[1].partition("%")[0]) if len(words) > 1 and words[0] == "nameserver" else None
    except ValueError:
        return None
