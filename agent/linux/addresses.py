"""Finds the interfaces of the host that have an address."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

from pyroute2 import IPRoute

from specs.paths import DEFAULT_MTU


def interface_mtu(address: IPv4Address | IPv6Address) -> int | None:
    """Return the MTU of the interface that has an address; None if there is none."""
    link = _link(address)
    return min(int(link.get("mtu", DEFAULT_MTU)), 65_535) if link is not None else None  # lo has 65536


def interface_of(address: IPv4Address | IPv6Address) -> str | None:
    """Return the name of the interface that has an address; None if there is none."""
    link = _link(address)
    return str(link.get("ifname")) if link is not None else None


def _link(sought: IPv4Address | IPv6Address) -> Any:
    with IPRoute() as netlink:
        for address in netlink.get_addr():
            if str(sought) in (address.get("local"), address.get("address")):
                return netlink.get_links(address["index"])[0]
    return None
