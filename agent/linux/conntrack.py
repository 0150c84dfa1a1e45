"""Reads and ends connections of the host's own connection tracking (netfilter), by ctnetlink."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple, NFCTSocket

from pipeline.protocols import IpAddress
from warren.errors import Unavailable

FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


@dataclass(frozen=True, slots=True, kw_only=True)
class HostConnection:
    """A connection: its first packet as it came in, and the address and port that reply."""

    proto: int
    source: IpAddress
    source_port: int
    target: IpAddress
    target_port: int
    replier: IpAddress
    replier_port: int


def read(version: int, proto: int | None = None, port: int | None = None) -> Iterator[HostConnection]:
    """Yield the connections of one version of IP; with `proto` and `port`, those that were sent to this port. Raises
    `Unavailable`."""
    filter_tuple = NFCTAttrTuple(proto=proto, dport=port) if proto is not None else None
    try:
        with NFCTSocket(FAMILIES[version]) as netlink:
            messages = list(netlink.dump(tuple_orig=filter_tuple))
    except (NetlinkError, OSError) as error:
        raise Unavailable("netfilter", f"its connections cannot be read ({error})") from None
    for message in messages:
        first, reply = (_tuple(message, name) for name in ("CTA_TUPLE_ORIG", "CTA_TUPLE_REPLY"))
        # a kernel before 5.8 does not filter
        if proto in (None, first[0]) and port in (None, first[4]):
            yield HostConnection(
                proto=first[0], source=first[1], target=first[2], source_port=first[3], target_port=first[4],
                replier=reply[1], replier_port=reply[3],
            )  # fmt: skip


def end(entry: HostConnection) -> None:
    """End a connection, unless it has ended meanwhile. Raises `Unavailable`."""
    family = FAMILIES[entry.source.version]
    addresses = {"saddr": str(entry.source), "daddr": str(entry.target), "family": family}
    first = NFCTAttrTuple(proto=entry.proto, sport=entry.source_port, dport=entry.target_port, **addresses)
    try:
        with NFCTSocket(family) as netlink:
            netlink.entry("del", tuple_orig=first)
    except NetlinkError as error:
        if error.code != 2:  # ENOENT
            raise Unavailable("netfilter", f"a connection cannot be ended ({error})") from None


def _tuple(message: Any, name: str) -> tuple[int, IpAddress, IpAddress, int, int]:
    """Return protocol, source, target and both ports (0 for protocols without ports) of one direction."""
    content = message.get_attr(name)
    ip, proto = content.get_attr("CTA_TUPLE_IP"), content.get_attr("CTA_TUPLE_PROTO")
    source, target = (ip.get_attr(f"CTA_IP_V4_{end}") or ip.get_attr(f"CTA_IP_V6_{end}") for end in ("SRC", "DST"))
    ports = (proto.get_attr("CTA_PROTO_SRC_PORT") or 0, proto.get_attr("CTA_PROTO_DST_PORT") or 0)
    return proto.get_attr("CTA_PROTO_NUM"), ip_address(source), ip_address(target), *ports
