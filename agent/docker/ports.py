"""Publishes the ports of containers (`-p`, `-P`).

Docker names the ports when a network becomes the container's way outside, and withdraws them when another one does. On an
internal network it names them only in Join, and only dovesnap's networks publish them there.
"""

from __future__ import annotations

from typing import Any

from agent.core import Core
from agent.docker.ledger import Ledger
from agent.docker.options import PortRequest, published
from agent.linux.host_ports import listeners
from agent.linux.kernel import has_address
from specs import keys
from specs.model.endpoint import SANDBOX, Endpoint
from specs.model.network import Network
from specs.model.publish import Publish
from specs.store import bitmap
from specs.store.pool import Pool
from warren.errors import MISSING, Conflict, Exhausted, Invalid

CHOICES = 20  # attempts to take free ports, because other agents may be faster


class ContainerPorts:
    """The published ports of the containers of one engine. Methods raise `WarrenError`."""

    def __init__(self, core: Core, ledger: Ledger) -> None:
        self._core, self._ledger = core, ledger

    def requests(self, options: Any, docker_network: str, network: Network) -> list[PortRequest]:
        """Return the ports that Docker wants published on a network. Raises `Invalid` if the network cannot."""
        requests = published(options or {}, self._ledger.settings(docker_network).get("host_ip"))
        if requests and network.mode == "flat":
            problem = f"network {network.name} is in mode flat, and published ports need mode nat or routed (-o warren.mode=nat)"
            raise Invalid("-p", MISSING, "mode nat or routed", problem=problem)
        for request in requests:
            address = request.way.get("host_ip")
            if address == "::1":
                raise Invalid("-p", address, "127.0.0.1: IPv6 does not translate packets from its loopback address")
            if address is not None and not has_address(address):
                raise Invalid("-p", address, f"an address of host {self._core.host.name}, or none")
        return requests

    def in_join(self, options: Any, docker_network: str, network: Network, endpoint: Endpoint) -> tuple[Publish, ...]:
        """Return the ports to publish when a container joins: those of dovesnap's internal networks, without those that another
        interface of the container has."""
        if network.mode == "flat" or not self._ledger.settings(docker_network).get("internal"):
            return endpoint.publish
        requests = self.requests(options, docker_network, network)
        taken = {(p.proto, port) for other in self._siblings(endpoint) for p in other.publish for port, _ in p.pairs}
        free = [r for r in requests if not any((r.way["proto"], port) in taken for port in r.candidates)]
        return tuple(self._choose(free))

    def publish(self, endpoint: Endpoint, requests: list[PortRequest]) -> None:
        """Publish ports of a container at this endpoint, and no longer at its other interfaces. Raises `Conflict` when one is taken."""
        if not requests and not endpoint.publish:
            return
        for sibling in self._siblings(endpoint):
            self.withdraw(sibling)
        for attempt in range(CHOICES):
            try:
                self._ledger.update(endpoint.model_copy(update={"publish": tuple(self._choose(requests))}))
                return
            except Conflict:
                if attempt == CHOICES - 1 or all(len(request.candidates) == 1 for request in requests):
                    raise  # another agent may have taken a free port since; then choose again

    def withdraw(self, endpoint: Endpoint) -> None:
        """Withdraw published ports."""
        if endpoint.publish:
            self._ledger.update(endpoint.model_copy(update={"publish": ()}))

    def _siblings(self, endpoint: Endpoint) -> list[Endpoint]:
        """Return the other endpoints of a container that publish ports."""
        sandbox = endpoint.labels.get(SANDBOX)
        return [e for e in self._ledger.endpoints() if e.publish and e.id != endpoint.id and e.labels.get(SANDBOX) == sandbox]

    def _choose(self, requests: list[PortRequest]) -> list[Publish]:
        """Choose ports of the host where Docker leaves the choice open. The update is refused when another host's agent
        takes one first."""
        ports: list[Publish] = []
        for candidates, request in requests:
            host_port: int | None = candidates[0]
            if len(candidates) > 1:
                prefix = keys.pool_published(self._core.host.name, request["proto"])
                pool = Pool.read(prefix, self._core.repository.store.list(prefix)[1])
                mine = {int(p.host_port) for p in ports if p.proto == request["proto"]}
                mine |= {listener.port for listener in listeners(request["proto"])}
                host_port = bitmap.lowest_free(pool.blocks, candidates[0], candidates[-1], mine)
            if host_port is None:
                raise Exhausted(
                    f"no {request['proto']} port of host {self._core.host.name} is left in {candidates[0]}-{candidates[-1]}"
                )
            ports.append(Publish(host_port=host_port, **request))
        return ports
