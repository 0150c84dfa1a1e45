"""Puts a leased address and its routes on the interface of a container, and waits until packets have left."""

from __future__ import annotations

import errno
import logging
import socket
import time
from collections.abc import Callable, Iterable
from ipaddress import IPv4Interface
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from agent.dhcp_client.lease_file import EVERYWHERE, LeaseRoute
from agent.linux.netns import enter, in_thread, inside, opened
from agent.linux.reading import pair_of
from warren.errors import Unavailable

log = logging.getLogger("warren.leased")

DHCP = 16  # the protocol of our routes (RTPROT_DHCP, rtnetlink(7)), by which they are recognised
ON_LINK = 4  # RTNH_F_ONLINK: a next hop need not be inside the range of the address
ASKED = 0x01  # the state of a neighbour whose MAC is still unknown (NUD_INCOMPLETE)
LEFT_S, PAUSE_S = 1.0, 0.01


def put(netns: str, veth: str, address: IPv4Interface | None, routes: Iterable[LeaseRoute]) -> None:
    """Give the container's end of a veth this IPv4 address and these routes, and remove earlier leased ones. Addresses and
    routes that somebody else made stay. Does nothing if the interface is not there. Raises `Invalid` for an unusable
    namespace, `Unavailable` if the kernel refuses."""

    _at_far_end(netns, veth, lambda inner, index, name: _put(inner, index, address, tuple(routes)), f"cannot put {address} on")


def missing(netns: str, veth: str, address: IPv4Interface, routes: Iterable[LeaseRoute]) -> list[str]:
    """Return which of the address and the routes the container's end of a veth lacks, a phrase each; nothing if the interface is not
    there. Raises as `put` does."""
    lacks: list[str] = []

    def read(inner: Any, index: int, name: str) -> None:
        if (str(address.ip), address.network.prefixlen) not in _addresses(inner, index):
            lacks.append(f"the leased address {address} is missing on {name}")
        present = {
            _route(row)[0] for row in inner.get_routes(family=socket.AF_INET)
        }  # somebody's own route takes the place of a leased one
        lacks.extend(f"the leased route to {to} by {via} is missing" for to, via in routes if to not in present)

    _at_far_end(netns, veth, read, f"cannot read {address} on")
    return lacks


def _at_far_end(netns: str, veth: str, use: Callable[[Any, int, str], None], failure: str) -> None:
    """Call `use` inside a namespace with netlink and the index and name of the container's end of a veth, if it is there."""

    def work(fd: int) -> None:
        with IPRoute() as host:
            far = pair_of(host, veth, fd)[1]
        if far is not None:
            enter(fd)
            with IPRoute() as inner:
                use(inner, far.index, far.name)

    with opened(netns) as fd:
        try:
            in_thread(lambda: work(fd))
        except (NetlinkError, OSError) as error:
            raise Unavailable("the kernel", f"{failure} {veth}'s far end: {error}") from error


def _put(inner: Any, index: int, address: IPv4Interface | None, routes: tuple[LeaseRoute, ...]) -> None:
    desired = {(str(address.ip), address.network.prefixlen)} if address is not None else set()
    for row in list(inner.get_routes(family=socket.AF_INET, oif=index)):
        if row["proto"] == DHCP and _route(row) not in routes:
            _gone(inner.route, "del", dst=_route(row)[0], gateway=row.get_attr("RTA_GATEWAY"), oif=index, proto=DHCP)
    for ip, length in _addresses(inner, index) - desired:
        _gone(inner.addr, "del", index=index, address=ip, prefixlen=length)
    for ip, length in desired - _addresses(inner, index):  # last: the kernel removes the others of a range with the first one
        inner.addr("add", index=index, address=ip, prefixlen=length)
    for to, via in routes:
        hop: dict[str, Any] = {"gateway": via, "flags": ON_LINK} if via != "0.0.0.0" else {"scope": 253}
        try:
            inner.route("add", dst=to, oif=index, proto=DHCP, **hop)
        except NetlinkError as error:
            if error.code != errno.EEXIST:
                raise


def _addresses(inner: Any, index: int) -> set[tuple[str, int]]:
    return {(row.get_attr("IFA_LOCAL"), row["prefixlen"]) for row in inner.get_addr(family=socket.AF_INET, index=index)}


def _route(row: Any) -> LeaseRoute:
    to = row.get_attr("RTA_DST")
    return (f"{to}/{row['dst_len']}" if to else EVERYWHERE, row.get_attr("RTA_GATEWAY") or "0.0.0.0")


def _gone(call: Any, *words: str, **what: Any) -> None:
    try:
        call(*words, **{name: value for name, value in what.items() if value is not None})
    except NetlinkError as error:
        if error.code not in (errno.ESRCH, errno.EADDRNOTAVAIL):  # it was removed with another one
            raise


def sent(netns: str) -> None:
    """Wait until no packet in a namespace waits for a neighbour's MAC any more, for a second at most."""

    def work() -> None:
        deadline = time.monotonic() + LEFT_S
        with IPRoute() as inner:
            while any(row["state"] & ASKED for row in inner.get_neighbours(family=socket.AF_INET)):
                if time.monotonic() > deadline:
                    return
                time.sleep(PAUSE_S)

    try:
        inside(netns, work)
    except (NetlinkError, OSError) as error:
        log.info("leased.not_seen netns=%s reason=%s", netns, error)
