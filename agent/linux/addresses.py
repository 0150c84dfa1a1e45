"""The addresses of this host."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

from pyroute2 import IPRoute


def own_addresses() -> set[IPv4Address | IPv6Address]:
    """Return all addresses of the host's interfaces."""
    with IPRoute() as netlink:
        texts = [message.get("local") or message.get("address") for message in netlink.get_addr()]
    return {ip_address(text) for text in texts if text}
