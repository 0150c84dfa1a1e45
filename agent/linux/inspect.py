"""Inspects interfaces inside a container's network namespace."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, replace
from ipaddress import IPv4Interface, IPv6Interface, ip_interface

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from agent.linux import netns as namespaces
from warren.errors import Unavailable


@dataclass(frozen=True, slots=True)
class Far:
    """The interface as the kernel reports it: MTU in bytes, addresses with prefix length, next hops of default routes that
    leave by it."""

    mac: str
    mtu: int
    up: bool
    addresses: frozenset[str]
    gateways: tuple[str, ...]


def look(netns: str, interface: str) -> Far | None:
    """Return the interface of that name, or None. Raises `Invalid` for an unusable namespace, `Unavailable` if the kernel refuses."""

    def work() -> Far | None:
        try:
            index = socket.if_nametoindex(interface)
        except OSError:
            return None
        with IPRoute() as inside:
            link = next(iter(inside.link("get", index=index)))
            rows = inside.get_addr(index=index)
            # a default route by another interface belongs to another attachment
            routes = [r for family in (socket.AF_INET, socket.AF_INET6) for r in inside.get_default_routes(family=family)]
            gateways = (r.get_attr("RTA_GATEWAY") for r in routes if r.get_attr("RTA_OIF") == index)
            return Far(
                mac=str(link.get_attr("IFLA_ADDRESS")),
                mtu=int(link.get_attr("IFLA_MTU")),
                up=bool(link["flags"] & 1),
                addresses=frozenset(f"{row.get_attr('IFA_ADDRESS')}/{row['prefixlen']}" for row in rows),
                gateways=tuple(gateway for gateway in gateways if gateway),
            )

    try:
        return namespaces.inside(netns, work)
    except (NetlinkError, OSError) as error:
        raise Unavailable("the kernel", f"cannot look at {interface} in {netns}: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceAddress:
    """An address of an interface, with the length of its prefix. `peer` is the name of the interface of this host that is the other end of its
    veth pair, or empty: two networks with the same addresses have endpoints with the same address and MAC."""

    interface: str
    mac: str
    address: IPv4Interface | IPv6Interface
    peer: str = ""


def identity(netns: str) -> tuple[int, int]:
    """Return device and inode of a namespace, which may have several paths. Raises `Invalid` if there is none under that name."""
    with namespaces.opened(netns) as fd:
        status = os.fstat(fd)
        return status.st_dev, status.st_ino


def addresses(netns: str) -> list[NamespaceAddress]:
    """Return the addresses of a namespace, without loopback and link-local ones. Raises `Invalid` for an unusable namespace, `Unavailable` if
    the kernel refuses."""

    def work() -> list[tuple[int, NamespaceAddress]]:
        if len(namespaces.interfaces()) < 2:
            return []  # a new namespace: netlink would take some milliseconds
        with IPRoute() as inside:
            links = {link["index"]: link for link in inside.get_links()}
            rows = [(row, links[row["index"]]) for row in inside.get_addr() if row["index"] in links]
            read = [
                (
                    int(link.get_attr("IFLA_LINK") or 0),
                    NamespaceAddress(
                        interface=str(link.get_attr("IFLA_IFNAME")),
                        mac=str(link.get_attr("IFLA_ADDRESS") or ""),
                        address=ip_interface(f"{row.get_attr('IFA_LOCAL') or row.get_attr('IFA_ADDRESS')}/{row['prefixlen']}"),
                    ),
                )
                for row, link in rows
            ]
            return [pair for pair in read if not (pair[1].address.ip.is_loopback or pair[1].address.ip.is_link_local)]

    try:
        return [replace(each, peer=_name(peer)) for peer, each in namespaces.inside(netns, work)]
    except (NetlinkError, OSError) as error:
        raise Unavailable("the kernel", f"cannot read the addresses of {netns}: {error}") from error


def _name(index: int) -> str:
    """The name of the interface of this thread's namespace with that index, or an empty text."""
    try:
        return socket.if_indextoname(index)
    except OSError:
        return ""
