"""Reserves the auxiliary addresses of Docker networks (`--aux-address`), which no container may get.

Each address is held by an endpoint without a container. A label per Docker network says who asked for it, because engines of
several hosts may ask for the same one. When the last label goes, the endpoint is deleted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

from agent.core import Core
from agent.docker.ledger import Ledger
from specs.model.endpoint import Endpoint
from specs.model.network import Network
from warren.errors import NotFound

PREFIX = "docker.aux."  # and Docker's id of the network: a label; its value is the host of the engine


class AuxAddresses:
    """The auxiliary addresses of the engine on one host. Methods raise `WarrenError`."""

    def __init__(self, core: Core, ledger: Ledger) -> None:
        self._core, self._ledger = core, ledger

    def keep(self, docker_id: str, network: Network, addresses: Iterable[str]) -> None:
        """Reserve addresses of a network. Raises `Conflict` when an endpoint has one of them."""
        label = {PREFIX + docker_id[:12]: self._core.host.name}
        for address in addresses:
            with self._ledger.cleared(network, (address,)):
                held = self._ledger.held(network.id, address)  # with our IPAM driver Docker requested it before CreateNetwork
                if held is not None and held.active:
                    held = self._ledger.recreate(held)
                family_field, other = ("ipv6_address", "ipv4_address") if ":" in address else ("ipv4_address", "ipv6_address")
                if held is not None:
                    self._ledger.update(held.model_copy(update={"labels": label, other: None}))
                elif not self._share(network, address, label):
                    draft = {"network_id": network.id, "labels": label, family_field: address}
                    self._ledger.create(draft, (6,) if ":" in address else (4,))

    def give_back(self, docker_id: str, network_id: str) -> None:
        """Give up what a Docker network has reserved. An address that another Docker network reserved too stays reserved."""
        label = PREFIX + docker_id[:12]
        for endpoint in [e for e in self._core.repository.endpoints(network_id) if label in e.labels]:
            rest = {name: value for name, value in endpoint.labels.items() if name != label}
            if any(name.startswith(PREFIX) for name in rest):
                self._relabel(endpoint, label, None)
            else:
                self._delete(endpoint)

    def reserved(self, network: Network, address: str) -> bool:
        """Return whether any engine has reserved an address."""
        return self._find(network, address) is not None

    def _share(self, network: Network, address: str, label: dict[str, str]) -> bool:
        """Add our label to an address that is reserved already. Returns False when nobody has reserved it."""
        holder = self._find(network, address)
        return holder is not None and self._relabel(holder, *next(iter(label.items())))

    def _find(self, network: Network, address: str) -> Endpoint | None:
        reserved = (e for e in self._core.repository.endpoints(network.id) if any(name.startswith(PREFIX) for name in e.labels))
        return next((e for e in reserved if address in (str(e.ipv4_address), str(e.ipv6_address))), None)

    def _relabel(self, endpoint: Endpoint, label: str, value: str | None) -> bool:
        """Add or remove a label. Returns False when the endpoint is gone."""
        return self._core.repository.relabel_endpoint(endpoint.network_id, endpoint.id, label, value)

    def _delete(self, endpoint: Endpoint) -> None:
        with contextlib.suppress(NotFound):
            self._core.repository.delete_endpoint(endpoint.network_id, endpoint.id)


def addresses_of(body: Any) -> list[str]:
    """Return the auxiliary addresses in the body of CreateNetwork, without prefix lengths."""
    data = [entry for family in ("IPv4Data", "IPv6Data") for entry in body.get(family) or ()]
    return sorted({str(text).partition("/")[0] for entry in data for text in (entry.get("AuxAddresses") or {}).values()})
