"""The host's interface to the gateways, an internal port of the bridge: its MAC, addresses, neighbours and routes
(rtnetlink(7))."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection
from ipaddress import ip_network
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from intent.gateway import GATEWAY_MAC, HOST4, HOST6, HOST_MAC, NEXT_HOP4, NEXT_HOP6
from ovsdb.rows import UPLINK_PORT
from warren.errors import Unavailable

_NODAD, _PERMANENT = 0x02, 0x80  # IFA_F_NODAD, NUD_PERMANENT
_AF_INET, _AF_INET6 = 2, 10


def up(versions: Collection[int], routes: Collection[str], mtu: int) -> None:
    """Give the interface its addresses for these versions of IP, and exactly these routes with this MTU (bytes). Raises
    `Unavailable`."""
    try:
        with IPRoute() as netlink:
            index = _link_up(netlink)
            _add_addresses(netlink, index, versions)
            _set_routes(netlink, index, routes, mtu)
    except NetlinkError as error:
        raise Unavailable(f"interface {UPLINK_PORT}", error.args[1] if len(error.args) > 1 else str(error)) from None


def down() -> None:
    """Remove the interface's addresses and set it down, which also removes its routes. Raises `Unavailable`."""
    try:
        with IPRoute() as netlink:
            for index in netlink.link_lookup(ifname=UPLINK_PORT):
                for address in netlink.get_addr(index=index):
                    netlink.addr("del", index=index, address=address.get_attr("IFA_ADDRESS"), prefixlen=address["prefixlen"])
                netlink.link("set", index=index, state="down")
    except NetlinkError as error:
        raise Unavailable(f"interface {UPLINK_PORT}", error.args[1] if len(error.args) > 1 else str(error)) from None


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


def _add_addresses(netlink: Any, index: int, versions: Collection[int]) -> None:
    present = {(a.get_attr("IFA_ADDRESS"), a["prefixlen"]) for a in netlink.get_addr(index=index)}
    for version, address, next_hop in ((4, HOST4, NEXT_HOP4), (6, HOST6, NEXT_HOP6)):
        if version not in versions:
            continue
        if (str(address.ip), address.network.prefixlen) not in present:
            flags = {"flags": _NODAD} if version == 6 else {}
            _unless_present(
                netlink.addr, "add", index=index, address=str(address.ip), prefixlen=address.network.prefixlen, **flags
            )
        netlink.neigh("replace", dst=str(next_hop), lladdr=GATEWAY_MAC, ifindex=index, state=_PERMANENT)


def _set_routes(netlink: Any, index: int, routes: Collection[str], mtu: int) -> None:
    present = {
        route.get_attr("RTA_DST") and f"{route.get_attr('RTA_DST')}/{route['dst_len']}"
        for family in (_AF_INET, _AF_INET6)
        for route in netlink.get_routes(family=family, oif=index)
        if route.get_attr("RTA_GATEWAY")
    }
    for prefix in routes:
        next_hop = NEXT_HOP4 if ip_network(prefix).version == 4 else NEXT_HOP6
        netlink.route("replace", dst=prefix, gateway=str(next_hop), oif=index, metrics={"mtu": mtu})
    for prefix in present - {None} - set(routes):
        netlink.route("del", dst=prefix, oif=index)


def _unless_present(call: Callable[..., Any], *command: str, **arguments: Any) -> None:
    try:
        call(*command, **arguments)
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise
