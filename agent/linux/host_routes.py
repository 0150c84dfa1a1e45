"""Reads the addresses and routes of the host (rtnetlink(7)), without those of Warren's interface to the gateways."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_address, ip_interface
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from ovsdb.rows import UPLINK_PORT
from pipeline.protocols import IpAddress
from warren.errors import Unavailable

RESOLVERS = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))  # the second has what 127.0.0.53 asks
_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_LOCAL_TABLE = 255
_TYPES = (1, 6, 7, 8)  # unicast, blackhole, unreachable, prohibit: routes that decide where a packet goes

Prefix = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRoute:
    """A route of the host. Without `gateway`, the destinations are on the link of `device`; without both, packets are dropped."""

    prefix: Prefix
    device: str
    gateway: str
    table: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HostAddress:
    """An address with the length of its prefix. `peer` is the other end of a link between two."""

    address: IPv4Interface | IPv6Interface
    peer: IPv4Interface | IPv6Interface
    device: str


def read() -> tuple[list[HostAddress], list[HostRoute]]:
    """Return the addresses, and the routes in the tables that the host's rules look up. Raises `Unavailable`."""
    try:
        with IPRoute() as netlink:
            names = {link["index"]: str(link.get_attr("IFLA_IFNAME")) for link in netlink.get_links()}
            addresses = [_address(row, names) for row in netlink.get_addr()]
            tables = {
                rule.get_attr("FRA_TABLE") for family in _FAMILIES for rule in netlink.get_rules(family=family)
            } - {_LOCAL_TABLE}  # fmt: skip
            routes = [route for family in _FAMILIES for row in netlink.get_routes(family=family) for route in _route(row, names)]
    except (NetlinkError, OSError) as error:
        raise Unavailable("the kernel", f"addresses and routes of this host cannot be read ({error})") from None
    return (
        [address for address in addresses if address.device != UPLINK_PORT],
        [route for route in routes if route.device != UPLINK_PORT and route.table in tables],
    )


def _address(row: Any, names: dict[int, str]) -> HostAddress:
    peer = str(row.get_attr("IFA_ADDRESS"))
    return HostAddress(
        address=ip_interface(f"{row.get_attr('IFA_LOCAL') or peer}/{row['prefixlen']}"),
        peer=ip_interface(f"{peer}/{row['prefixlen']}"),
        device=names.get(row["index"], ""),
    )


def _route(row: Any, names: dict[int, str]) -> Iterator[HostRoute]:
    destination = row.get_attr("RTA_DST")
    if row["type"] not in _TYPES or destination is None:
        return  # multicast and the like; the default route
    via = row.get_attr("RTA_VIA") or {}
    several = row.get_attr("RTA_MULTIPATH") or row.get_attr("RTA_NH_ID")
    yield HostRoute(
        prefix=ip_interface(f"{destination}/{row['dst_len']}").network,
        device=names.get(row.get_attr("RTA_OIF") or 0, ""),
        gateway=str(row.get_attr("RTA_GATEWAY") or via.get("addr") or ("several gateways" if several else "")),
        table=int(row.get_attr("RTA_TABLE") or row["table"]),
    )


def resolvers() -> set[IpAddress]:
    """Return the addresses of the host's DNS servers."""
    found = set[IpAddress]()
    for path in RESOLVERS:
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        found |= {address for line in lines if (address := _nameserver(line)) is not None}
    return found


def _nameserver(line: str) -> IpAddress | None:
    words = line.split()
    try:
        return ip_address(words[1].partition("%")[0]) if len(words) > 1 and words[0] == "nameserver" else None
    except ValueError:
        return None
