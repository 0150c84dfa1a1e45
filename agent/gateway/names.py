"""Resolves the names of the cluster's machines: hosts' APIs and etcd, whose URLs may hold names instead of addresses."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from pipeline.protocols import IpAddress
from warren.worker import Worker

INTERVAL_S = 60.0


def hostname(url: str) -> str | None:
    """Return the name or address in a URL; None if there is none."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def literal(name: str) -> IpAddress | None:
    """Return the address that `name` is; None for a name."""
    try:
        return ip_address(name)
    except ValueError:
        return None


class Resolver:
    """Resolves host names repeatedly, and keeps their addresses. A name that cannot be resolved keeps its last addresses."""

    def __init__(self, purpose: str) -> None:
        self._names: frozenset[str] = frozenset()
        self.addresses: Mapping[str, tuple[IpAddress, ...]] = {}
        self.worker = Worker(
            f"names of {purpose}", self._step, interval_s=INTERVAL_S
        )  # resolving may wait for name servers for long

    def want(self, names: Iterable[str]) -> None:
        """Resolve these names from now on; addresses among them need no resolving."""
        hostnames = frozenset(name for name in names if literal(name) is None)
        if hostnames != self._names:
            self._names = hostnames
            self.worker.wake()

    def _step(self, items: frozenset[str]) -> None:
        self.addresses = {name: _resolve(name) or self.addresses.get(name, ()) for name in self._names}


def _resolve(name: str) -> tuple[IpAddress, ...]:
    try:
        entries = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return ()
    return tuple(sorted({ip_address(str(entry[4][0]).partition("%")[0]) for entry in entries}, key=str))
