"""Ports of this host: finds the sockets that listen on them, and holds ports against other processes.

A held port is a socket that is bound and does nothing: no process can listen there, and the kernel does not choose it for
connections of its own.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
from collections.abc import Collection, Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import NamedTuple

from pipeline.protocols import IpAddress

WILDCARDS: dict[int, IpAddress] = {4: IPv4Address("0.0.0.0"), 6: IPv6Address("::")}
TABLES = Path("/proc/net")
_TYPES = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}
_WAITING = {"tcp": "0A", "udp": "07"}  # the state of listening sockets (include/net/tcp_states.h)
_IP_FREEBIND = 15  # ip(7): an address that the host does not have (yet)
_WITHOUT_PROTOCOL = (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT, errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class HostPort(NamedTuple):
    """A port of the host at one of its addresses, or at all of one version of IP (0.0.0.0, ::)."""

    proto: str
    address: IpAddress
    port: int

    def __str__(self) -> str:
        return f"{self.port}/{self.proto}"


class Listener(NamedTuple):
    """A listening socket of a process; `inode` is its number."""

    address: IpAddress
    port: int
    inode: int

    @property
    def where(self) -> str:
        """The address for a message."""
        return "all addresses" if self.address in WILDCARDS.values() else str(self.address)


def hold(port: HostPort) -> socket.socket | None:
    """Return a socket that holds the port; None if nothing can listen there, because this kernel does not speak the protocol.
    Raises `OSError`: EADDRINUSE if a process listens there or the kernel uses the port for a connection."""
    kind, number = _TYPES[port.proto]
    try:
        holder = socket.socket(socket.AF_INET if port.address.version == 4 else socket.AF_INET6, kind, number)
    except OSError as error:
        if error.errno in _WITHOUT_PROTOCOL:
            return None
        raise
    try:
        holder.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        if port.address.version == 6:
            holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # the smallest buffer: nobody reads
        holder.bind((str(port.address), port.port))
    except OSError as error:
        holder.close()
        if error.errno in _WITHOUT_PROTOCOL:
            return None
        raise
    return holder


def listener_at(port: HostPort, held_inodes: Collection[int]) -> Listener | None:
    """Return the socket of another process that listens on the port, if there is one; `held_inodes` are inodes of this process."""
    for listener in listeners(port.proto):
        addresses = (listener.address, port.address)
        meet = listener.address == port.address or any(address in WILDCARDS.values() for address in addresses)
        same_version = listener.address.version == port.address.version or listener.address == WILDCARDS[6]  # :: may mean both
        if listener.port == port.port and meet and same_version and listener.inode not in held_inodes:
            return listener
    return None


def listeners(proto: str) -> Iterator[Listener]:
    """Yield the sockets on which processes of this host listen."""
    if proto == "sctp":
        yield from _sctp_listeners()
        return
    for version, name in ((4, proto), (6, f"{proto}6")):
        for line in _lines(name):
            _, local, _, state, _, _, _, _, _, inode, *_ = line.split()
            if state == _WAITING[proto]:
                address, _, port = local.partition(":")
                yield Listener(_address(version, address), int(port, 16), int(inode))


def _sctp_listeners() -> Iterator[Listener]:
    """Yield the endpoints of SCTP, which have several addresses each (net/sctp/proc.c)."""
    for line in _lines("sctp/eps"):
        _, _, _, _, _, port, _, inode, *addresses = line.split()
        for address in addresses:
            yield Listener(IPv6Address(address) if ":" in address else IPv4Address(address), int(port), int(inode))


def _lines(name: str) -> list[str]:
    """Return the lines of a table in /proc/net, without its head; none if the protocol is not loaded."""
    with contextlib.suppress(FileNotFoundError):
        return (TABLES / name).read_text().splitlines()[1:]
    return []


def _address(version: int, text: str) -> IpAddress:
    """Parse an address as /proc/net prints it: words of 32 bits in the order of this machine's bytes."""
    words = b"".join(int(text[i : i + 8], 16).to_bytes(4, sys.byteorder) for i in range(0, len(text), 8))
    address = IPv4Address(words) if version == 4 else IPv6Address(words)
    return getattr(address, "ipv4_mapped", None) or address
