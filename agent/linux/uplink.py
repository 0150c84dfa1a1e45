"""The host's interface to the gateways, an internal port of the bridge: its MAC, addresses, neighbours and routes
(rtnetlink(7))."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network, ip_address, ip_network
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from agent.linux.interface import ROUTE_PROTOCOL
from intent.gateway import GATEWAY_MAC, HOST_MAC
from ovsdb.rows import UPLINK_PORT
from specs.model.cluster import Transit
from warren.errors import Unavailable
from warren.netlink_dump import ROUTES, attributes, dump, number

_EARLIER_PROTOCOL = 4  # static: the protocol of Warren's routes before they had a mark
_NODAD, _PERMANENT = 0x02, 0x80  # IFA_F_NODAD, NUD_PERMANENT
_AF_INET, _AF_INET6, _SCOPE_LINK = 2, 10, 253
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC, _RTA_METRICS, _RTAX_MTU = 1, 4, 5, 7, 8, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayRoute:
    """A route to the gateways, with its MTU in bytes and the preferred source address of the host's packets; None: the interface's."""

    prefix: IPv4Network | IPv6Network
    gateway: IPv4Address | IPv6Address
    mtu: int
    source: IPv4Address | IPv6Address | None = None


def up(versions: Collection[int], transit: Transit) -> None:
    """Give the interface its addresses for these versions of IP, no others, and the neighbours that routes lead to. Raises `Unavailable`."""
    with _netlink() as netlink:
        _set_addresses(netlink, _link_up(netlink), versions, transit)


def routes() -> set[GatewayRoute]:
    """Return Warren's routes. Raises `Unavailable`."""
    try:
        index = socket.if_nametoindex(UPLINK_PORT)
    except OSError:
        return set()  # without the interface there are none
    try:
        return set(_routes_by(index, ROUTE_PROTOCOL))
    except OSError as error:
        raise Unavailable("the kernel", f"routes cannot be read ({error})") from None


def _routes_by(index: int, protocol: int) -> Iterator[GatewayRoute]:
    """Yield the routes by the interface through a gateway that carry a protocol number. Raises `OSError`."""
    for fixed, rest in (row for family in (_AF_INET, _AF_INET6) for row in dump(ROUTES, family)):
        if fixed[5] != protocol:
            continue
        values = attributes(rest)
        if _RTA_DST in values and _RTA_GATEWAY in values and number(values.get(_RTA_OIF)) == index:
            yield GatewayRoute(
                prefix=ip_network((values[_RTA_DST], fixed[1])),
                gateway=ip_address(values[_RTA_GATEWAY]),
                mtu=number(attributes(values.get(_RTA_METRICS, b"")).get(_RTAX_MTU)),
                source=ip_address(values[_RTA_PREFSRC]) if _RTA_PREFSRC in values else None,
            )


def change_routes(remove: Collection[GatewayRoute], add: Collection[GatewayRoute]) -> list[GatewayRoute]:
    """Remove routes of Warren, then add some. Returns those that are refused because the host has a route to the same prefix.
    Raises `Unavailable`."""
    with _netlink() as netlink:
        index = _link_up(netlink)
        prefixes = {route.prefix for route in add}
        for route in list(_routes_by(index, _EARLIER_PROTOCOL)):
            if route.prefix in prefixes:
                _delete(netlink, index, route, _EARLIER_PROTOCOL)  # an earlier version of Warren made it, without the mark
        for route in remove:
            _delete(netlink, index, route, ROUTE_PROTOCOL)
        return [route for route in add if not _added(netlink, index, route)]


def down() -> None:
    """Remove the interface's addresses and set it down, which also removes its routes. Raises `Unavailable`."""
    with _netlink() as netlink:
        for index in netlink.link_lookup(ifname=UPLINK_PORT):
            for address in netlink.get_addr(index=index):
                netlink.addr("del", index=index, address=address.get_attr("IFA_ADDRESS"), prefixlen=address["prefixlen"])
            netlink.link("set", index=index, state="down")


def _link_up(netlink: Any) -> int:
    links = list(netlink.link("get", ifname=UPLINK_PORT)) if netlink.link_lookup(ifname=UPLINK_PORT) else []
    if not links:
        raise Unavailable(f"interface {UPLINK_PORT}", "the controller has not created it (yet)")
    link, index = links[0], int(links[0]["index"])
    if link.get_attr("IFLA_ADDRESS") != HOST_MAC:
        netlink.link("set", index=index, address=HOST_MAC)
    if not link["flags"] & 1:  # IFF_UP
        netlink.link("set", index=index, state="up")
    return index


def _set_addresses(netlink: Any, index: int, versions: Collection[int], transit: Transit) -> None:
    present = {(a.get_attr("IFA_ADDRESS"), a["prefixlen"]) for a in netlink.get_addr(index=index) if a["scope"] != _SCOPE_LINK}
    desired: list[tuple[IPv4Interface | IPv6Interface, IPv4Address | IPv6Address]] = []
    if 4 in versions:
        desired.append((transit.host4, transit.next_hop4))
    if 6 in versions:
        desired.append((transit.host6, transit.next_hop6))
    for address, length in present - {(str(address.ip), address.network.prefixlen) for address, _ in desired}:
        netlink.addr("del", index=index, address=address, prefixlen=length)  # of an earlier transit range
    for address, next_hop in desired:
        if (str(address.ip), address.network.prefixlen) not in present:
            flags = {"flags": _NODAD} if address.version == 6 else {}
            _unless_present(
                netlink.addr, "add", index=index, address=str(address.ip), prefixlen=address.network.prefixlen, **flags
            )
        netlink.neigh("replace", dst=str(next_hop), lladdr=GATEWAY_MAC, ifindex=index, state=_PERMANENT)


def _added(netlink: Any, index: int, route: GatewayRoute) -> bool:
    """Add a route; return whether the host had none to the same prefix. Never replaces a route (NLM_F_EXCL)."""
    arguments = {"gateway": str(route.gateway), "oif": index, "metrics": {"mtu": route.mtu}, "proto": ROUTE_PROTOCOL}
    arguments |= {"prefsrc": str(route.source)} if route.source is not None else {}
    return _unless_present(netlink.route, "add", dst=str(route.prefix), **arguments)


def _delete(netlink: Any, index: int, route: GatewayRoute, protocol: int) -> None:
    try:
        netlink.route("del", dst=str(route.prefix), gateway=str(route.gateway), oif=index, proto=protocol)
    except NetlinkError as error:
        if error.code != errno.ESRCH:  # somebody else has removed it
            raise


def _unless_present(call: Callable[..., Any], *command: str, **arguments: Any) -> bool:
    """Call rtnetlink; return False if what it should add exists already."""
    try:
        call(*command, **arguments)
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise
        return False
    return True


@contextlib.contextmanager
def _netlink() -> Iterator[Any]:
    try:
        with IPRoute() as netlink:
            yield netlink
    except NetlinkError as error:
        raise Unavailable(f"interface {UPLINK_PORT}", error.args[1] if len(error.args) > 1 else str(error)) from None
