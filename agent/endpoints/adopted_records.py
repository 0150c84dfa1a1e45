"""Writes the records of endpoints that adoption rules make, and remembers their addresses."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from acl.policy import network_of
from agent.endpoints.endpoints import Endpoints
from agent.endpoints.remembered import RememberedAddresses
from specs.model.adoption import Adoption
from specs.model.base import is_name
from specs.model.endpoint import ADOPTED_BY, Endpoint
from specs.snapshot import Snapshot
from specs.store.repository import Repository
from warren.errors import Conflict, Invalid, NotFound

log = logging.getLogger("warren.adoptions")


class AdoptedRecords:
    """Creates and removes the records of one host. Thread-safe, because the file of addresses is read once and written by what changes it."""

    def __init__(self, file: Path, repository: Repository, endpoints: Endpoints) -> None:
        self.host = endpoints.host
        self._repository, self._endpoints, self._addresses = repository, endpoints, RememberedAddresses(file)

    def create(self, device: str, draft: Mapping[str, Any]) -> None:
        """Create the endpoint of an interface from the fields of `draft_of`. Raises `WarrenError`."""
        full_name = f"{self.host}.{device}"
        data = {
            **draft,
            "id": str(uuid.uuid4()),
            "host": self.host,
            "device": device,
            "name": full_name if is_name(full_name) else None,
        }
        addresses = self._addresses.of(draft["network_id"], draft["mac_address"])
        try:
            endpoint, network, _ = self._repository.create_endpoint(data | addresses)
        except (Conflict, Invalid):  # another endpoint has got its addresses meanwhile, or it has others reserved
            if not addresses:
                raise
            endpoint, network, _ = self._repository.create_endpoint(data)
        self._addresses.keep(endpoint)
        log.info("device.adopted name=%s network=%s endpoint=%s mac=%s", device, network.name, endpoint.id, endpoint.mac_address)

    def remove(self, endpoint: Endpoint) -> None:
        """Remove an endpoint: its interface, or the rule, is gone. Raises `WarrenError`."""
        self._endpoints.detach(endpoint)
        log.info("device.released name=%s endpoint=%s", endpoint.device, endpoint.id)


def require_network(rule: Adoption, snapshot: Snapshot) -> str:
    """Return the id of the network that a rule names. Raises `NotFound`."""
    network_id = network_of(rule.network, snapshot.networks)
    if network_id is None:
        raise NotFound("network", rule.network)
    return network_id


def draft_of(rule: Adoption, network_id: str, mac: str, iface_id: str | None = None) -> dict[str, Any]:
    """Return the fields of an endpoint that a rule makes. Pure."""
    labels = {**rule.labels, ADOPTED_BY: rule.name}
    return {"network_id": network_id, "mac_address": mac, "labels": labels, "iface_id": iface_id}


def as_drafted(endpoint: Endpoint, draft: Mapping[str, Any]) -> bool:
    """Return whether an endpoint has these fields. Pure."""
    return all(getattr(endpoint, name) == value for name, value in draft.items())
