"""The keys by which a host finds its endpoints, and what others publish, without reading all endpoints.

They are written in the transactions that write endpoints. An agent from before these keys, or a person with etcdctl, does not write them: each
host's agent puts those of its own host right (agent/placements.py).
"""

from __future__ import annotations

import json
from typing import NamedTuple

from pydantic import TypeAdapter

from specs import keys
from specs.model.endpoint import Endpoint
from specs.model.publish import Publish
from specs.store.values import Delete, Put, TxnOperation, Unchanged
from specs.store.writer import Writer, decoded


class Publisher(NamedTuple):
    """What is known of an endpoint of another network that publishes ports: its host, and the ports."""

    host: str
    publish: tuple[Publish, ...]


_PORTS = TypeAdapter(tuple[Publish, ...])


def parse_publisher(host: str, text: str) -> Publisher | None:
    """The ports in a key of `specs.keys.publisher`; None if they are malformed."""
    try:
        return Publisher(host, _PORTS.validate_json(text))
    except ValueError:
        return None


def index(endpoint: Endpoint) -> dict[str, str]:
    """The keys of an endpoint and their values: where it is, and the ports that it publishes while it is active."""
    ports = [publish.model_dump(mode="json", exclude_none=True) for publish in endpoint.publish] if endpoint.active else []
    published = {keys.publisher(endpoint.host, endpoint.id): json.dumps(ports, separators=(",", ":"))} if ports else {}
    return {keys.placement(endpoint.host, endpoint.id): endpoint.network_id, **published}


def index_changes(old: Endpoint | None, new: Endpoint | None) -> list[TxnOperation]:
    """The operations that belong to the transaction that changes an endpoint; None: it does not exist."""
    before, after = (index(endpoint) if endpoint is not None else {} for endpoint in (old, new))
    changes: list[TxnOperation] = [Put(key, value) for key, value in after.items() if before.get(key) != value]
    return changes + [Delete(key) for key in before if key not in after]


class PlacementWriter(Writer):
    """The placements of a store."""

    def index_endpoint(self, host: str, network_id: str, endpoint_id: str) -> None:
        """Make the keys of an endpoint of a host right, as its record says now."""

        def attempt() -> bool | None:
            key = keys.endpoint(network_id, endpoint_id)
            entry = self.store.get(key)
            endpoint = decoded(Endpoint, entry) if entry is not None else None
            if entry is not None and endpoint is None:
                return True  # malformed: what it was before still counts
            right = index(endpoint) if endpoint is not None and endpoint.host == host else {}
            stale = {keys.placement(host, endpoint_id), keys.publisher(host, endpoint_id)} - right.keys()
            changes: list[TxnOperation] = [Put(name, value) for name, value in right.items()]
            compare = Unchanged(key, entry.mod_revision if entry is not None else 0)
            return self.commit([compare], changes + [Delete(name) for name in stale]).succeeded or None

        self.retry(attempt)

    def confirm_placements(self, host: str) -> None:
        """Say that all endpoints of a host have their placements."""
        self.commit([], [Put(keys.placing(host), "{}")])
