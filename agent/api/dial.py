"""Dials into networks for CONNECT: a socket inside the network namespace of an endpoint, or the agents that have one."""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from collections.abc import Iterable, Iterator
from functools import partial
from ipaddress import IPv4Interface, IPv6Interface, ip_address

from agent.api.connect import ConnectRequest, Elsewhere
from agent.core import Core
from agent.linux import netns
from agent.linux.reading import far_end_of
from specs.model.endpoint import Endpoint
from specs.model.network import Network
from warren.errors import Invalid, Unavailable, WarrenError

TIMEOUT_S = 10.0
NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL)  # another container of the network may have a way there


class Dialer:
    """Dials for one host's agent."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def __call__(self, request: ConnectRequest) -> socket.socket | Elsewhere:
        """A socket connected to an address inside a network, or the agents that can connect. Raises `Invalid`, `Unavailable`."""
        network = self._core.lookup.network(request.network_id)
        if not self._core.cache.synced.wait(TIMEOUT_S):  # the agent has just started
            raise Unavailable(f"the agent of {self._core.host.name}", "it has not read the specs yet")
        local = [e for e in self._core.cache.view.local_endpoints.values() if _enterable(e, network.id)]
        if not self._core.config.connects_anywhere:
            check_target(request.ip, network, self._prefixes(network))
        if (connected := _connect(local, request)) is not None:
            return connected
        hosts = {} if request.forwarded else self._hosts(network)
        if not hosts:
            expected = "a network with an active endpoint"
            raise Invalid("network", network.name, expected if not local else f"{expected} whose namespace exists")
        return Elsewhere(hosts, self._core.peers.tls)

    def _hosts(self, network: Network) -> dict[str, str]:
        """The other hosts with an endpoint on the network, and the URLs of their agents."""
        names = {e.host for e in self._core.repository.endpoints(network.id) if _enterable(e, network.id)} - {
            self._core.host.name
        }
        hosts = [self._core.lookup.host(name) for name in sorted(names)]
        return {host.name: host.api for host in hosts if host.api}

    def _prefixes(self, network: Network) -> Iterator[IPv4Interface | IPv6Interface]:
        """The prefixes that a DHCP server outside has leased addresses of."""
        for endpoint in self._core.repository.endpoints(network.id) if network.external else ():
            if endpoint.leased_prefix is not None:
                yield IPv4Interface(f"{endpoint.ipv4_address}/{endpoint.leased_prefix}")


def check_target(ip: str, network: Network, leased: Iterable[IPv4Interface | IPv6Interface] = ()) -> None:
    """Raises `Invalid` unless an address is the network's: loopback of a container and what lies beyond it are not. Pure."""
    address = ip_address(ip)
    reaches = [reach for reach in (network.ip_range, network.ipv6_range) if reach is not None]
    if not any(address in reach for reach in (*reaches, *(each.network for each in leased))):
        ranges = " or ".join(map(str, reaches)) or "the network, which has no range"
        raise Invalid("ip", ip, f"an address of {ranges} (WARREN_CONNECT=any on the agent allows every address)")


def _enterable(endpoint: Endpoint, network_id: str) -> bool:
    return endpoint.network_id == network_id and endpoint.active and endpoint.namespace is not None


def _connect(endpoints: Iterable[Endpoint], request: ConnectRequest) -> socket.socket | None:
    """A socket from the first namespace that has a way to the target; None if no namespace exists. Raises `Unavailable`."""
    deadline, problem = time.monotonic() + TIMEOUT_S, None
    for endpoint in endpoints:
        for path in _namespaces(endpoint):
            left = max(deadline - time.monotonic(), 0.1)
            try:
                return netns.inside(path, partial(socket.create_connection, (request.ip, request.port), left))
            except Invalid:  # the container has ended
                continue
            except OSError as error:
                problem = Unavailable(f"{request.ip}:{request.port}", str(error))
                if error.errno not in NO_WAY or time.monotonic() > deadline:
                    raise problem from None
    if problem is not None:
        raise problem
    return None


def _namespaces(endpoint: Endpoint) -> Iterator[str]:
    """Where an endpoint's interface is. An agent in a container does not see an engine's mounts, but all processes; that search costs more."""
    path = endpoint.namespace
    assert path is not None
    yield path
    if endpoint.netns is None:
        for process in netns.of_processes():
            with contextlib.suppress(WarrenError):
                if far_end_of(endpoint.veth, process) is not None:
                    yield process
                    return
