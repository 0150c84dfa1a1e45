"""Holds the ports that this host publishes, so that no process can take them, and refuses ports on which a process listens."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Collection, Iterable, Sequence

from agent.linux.host_ports import WILDCARDS, HostPort, hold, listener_at
from specs.model.network import Network
from specs.model.publish import Publish
from warren.errors import Conflict


def ports_of(publish: Iterable[Publish], network: Network) -> set[HostPort]:
    """Return the ports of the host that these entries mean, for the versions of IP that the network has."""
    versions = [version for version, prefix in ((4, network.ip_range), (6, network.ipv6_range)) if prefix is not None]
    return {
        HostPort(entry.proto, WILDCARDS[version] if entry.host_ip is None else entry.host_ip, port)
        for entry in publish
        for version in versions
        if entry.host_ip is None or entry.host_ip.version == version
        for port, _ in entry.pairs
    }


class HeldPorts:
    """The published ports of one host. Thread-safe."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._lock = threading.Lock()
        self._held: dict[HostPort, socket.socket | None] = {}
        self._held_by_runtimes: frozenset[HostPort] = frozenset()
        self.taken: frozenset[HostPort] = frozenset()  # ports on which a process of the host listens
        self.problems: Sequence[str] = ()  # why ports are not held

    def check(self, ports: Iterable[HostPort]) -> None:
        """Raise `Conflict` if a process of the host listens on one of the ports."""
        with self._lock:
            mine = {(port.proto, port.port) for port in self._held.keys() | self._held_by_runtimes}
            for port in sorted(ports, key=str):
                if (port.proto, port.port) in mine:
                    continue  # held for an endpoint: the store knows whether for another one
                try:
                    if (holder := hold(port)) is not None:
                        holder.close()
                except OSError as error:
                    listener = listener_at(port, self._inodes()) if error.errno == errno.EADDRINUSE else None
                    if listener is not None:
                        raise Conflict(f"port {port} is in use on {self._host} ({listener.where})", field="publish") from None

    def reconcile(self, desired: Collection[HostPort], held_by_runtimes: Iterable[HostPort] = ()) -> None:
        """Hold exactly these ports, as far as possible; set `taken` and `problems`. `held_by_runtimes` are published ports that a container
        runtime holds itself."""
        with self._lock:
            self._held_by_runtimes = frozenset(held_by_runtimes)
            for port in self._held.keys() - set(desired):
                _close(self._held.pop(port))
            problems: list[str] = []
            taken: set[HostPort] = set()
            for port in sorted(set(desired) - self._held.keys(), key=str):
                try:
                    self._held[port] = hold(port)
                except OSError as error:
                    listener = listener_at(port, self._inodes()) if error.errno == errno.EADDRINUSE else None
                    if listener is not None:
                        taken.add(port)
                        problems.append(
                            f"published port {port}: a process of this host listens on it ({listener.where}); stop it"
                            f" (ss -lnp 'sport = :{port.port}'), or publish another port"
                        )
                    elif error.errno != errno.EADDRINUSE:  # otherwise a connection of the host has the port: try again next time
                        problems.append(f"published port {port} cannot be held: {error.strerror}")
            self.taken, self.problems = frozenset(taken), problems

    def close(self) -> None:
        """Release all ports."""
        with self._lock:
            for port in list(self._held):
                _close(self._held.pop(port))

    def _inodes(self) -> set[int]:
        return {os.fstat(holder.fileno()).st_ino for holder in self._held.values() if holder is not None}


def _close(holder: socket.socket | None) -> None:
    if holder is not None:
        holder.close()
