"""Reads the veth pair of an endpoint, on the host and inside the namespace of its far end. Changes nothing."""

from __future__ import annotations

import errno
import socket
from ipaddress import ip_interface
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from agent.linux import netns as namespaces
from agent.linux.interface import ROUTE_PROTOCOL, DefaultRoute, Desired, Inside, Link, Pair
from agent.linux.kernel import index_of, reason
from warren.errors import Unavailable

_IFF_UP = 1
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


def read(desired: Desired) -> Pair:
    """Return the pair of an endpoint, with the state inside its namespace if that is known. Raises `Invalid` if there is no such
    namespace, `Unavailable` if the kernel refuses."""
    with namespaces.opened_or_none(desired.netns) as fd:
        try:
            return namespaces.in_thread(lambda: _read(desired, fd))
        except (NetlinkError, OSError) as error:
            raise Unavailable("the kernel", f"cannot read {desired.veth}: {reason(error)}") from error


def far_end_of(veth: str, netns: str) -> Link | None:
    """Return the far end of a pair if it is in that namespace. Raises as `read` does."""
    with namespaces.opened(netns) as fd, IPRoute() as host:
        try:
            return pair_of(host, veth, fd)[1]
        except (NetlinkError, OSError) as error:
            raise Unavailable("the kernel", f"cannot read {veth}: {reason(error)}") from error


def _read(desired: Desired, fd: int | None) -> Pair:
    with IPRoute() as host:
        near, far = pair_of(host, desired.veth, fd)
    if near is None or far is None or fd is None:
        return Pair(host=near, far=far)
    namespaces.enter(fd)
    with IPRoute() as inside:
        return Pair(host=near, far=far, inside=read_inside(inside, desired, far))


def read_inside(inside: Any, desired: Desired, far: Link) -> Inside:
    """Return the state inside the namespace that this thread is in; `inside` is a netlink socket of that namespace."""
    rows = inside.get_addr(index=far.index) if desired.addresses else ()
    families = {_FAMILIES[address.version] for address in desired.addresses}
    routes = [row for family in sorted(families) for row in inside.get_default_routes(family=family)]
    return Inside(
        addresses=frozenset(ip_interface(f"{_address(row)}/{row['prefixlen']}") for row in rows),
        default_routes=frozenset(_default_route(row, far) for row in routes),
        offload=desired.offload_off and namespaces.tx_checksum(far.name),
        ipv6_off=desired.ipv6 and namespaces.ipv6_off(far.name),
    )


def _default_route(row: Any, far: Link) -> DefaultRoute:
    ours = row["proto"] == ROUTE_PROTOCOL and row.get_attr("RTA_OIF") == far.index
    return DefaultRoute(6 if row["family"] == socket.AF_INET6 else 4, row.get_attr("RTA_GATEWAY"), ours)


def _address(row: Any) -> str:
    return str(row.get_attr("IFA_LOCAL") or row.get_attr("IFA_ADDRESS"))  # IFA_ADDRESS is the peer of a point-to-point address


def pair_of(host: Any, veth: str, fd: int | None) -> tuple[Link | None, Link | None]:
    """Return both ends of a pair, the far one as `far_end` does. The thread must still be in the host's namespace."""
    index = index_of(veth)
    near = link_of(host, index) if index is not None else None
    return near, far_end(host, near, fd) if near is not None else None


def far_end(host: Any, near: Link, fd: int | None) -> Link | None:
    """Return the far end of a pair if it is in the namespace `fd`, or wherever it is if `fd` is None. `host` is a netlink
    socket of the host's namespace."""
    if near.peer is None:
        return None
    if fd is not None and (None if namespaces.is_own(fd) else namespace_id(host, fd)) != near.peer_nsid:
        return None
    return link_of(host, near.peer, near.peer_nsid)


def namespace_id(host: Any, fd: int) -> int | None:
    """Return the id of another namespace seen from the host's; None if it has no id."""
    number = int(host.get_netnsid(fd=fd)["nsid"])
    return number if number < 1 << 31 else None  # NETNSA_NSID_NOT_ASSIGNED is -1


def link_of(host: Any, index: int, nsid: int | None = None) -> Link | None:
    """Return the link with an index, in the host's namespace or in the namespace `nsid`; None if it does not exist."""
    where = {"if_netnsid": nsid} if nsid is not None else {}
    try:
        row = next(iter(host.link("get", index=index, **where)), None)
    except NetlinkError as error:
        if error.code in (errno.ENODEV, errno.EINVAL):  # EINVAL: no namespace has that id any more
            return None
        raise
    return to_link(row) if row is not None else None


def links() -> list[Link]:
    """Return all interfaces of the namespace that this thread is in."""
    with IPRoute() as netlink:
        return [to_link(row) for row in netlink.get_links()]


def to_link(row: Any) -> Link:
    """Return a link as a value; `row` is pyroute2's."""
    return Link(
        index=int(row["index"]),
        name=str(row.get_attr("IFLA_IFNAME")),
        mac=str(row.get_attr("IFLA_ADDRESS")),
        mtu=int(row.get_attr("IFLA_MTU")),
        up=bool(row["flags"] & _IFF_UP),
        peer=row.get_attr("IFLA_LINK"),
        peer_nsid=row.get_attr("IFLA_LINK_NETNSID"),
    )
