"""Typed, allocating access to the specs of a store: every change with all that it allocates is one etcd transaction."""

from __future__ import annotations

from specs.captures import Captures
from specs.endpoints import Endpoints
from specs.hosts import Hosts
from specs.networks import Networks
from specs.rulebooks import Rulebooks
from specs.ways import Ways


class Specs(Networks, Endpoints, Hosts, Rulebooks, Ways, Captures):
    """All kinds of specs."""

    def delete_network(self, network_id: str) -> int:
        """Raises `NotFound`, and `Conflict` while it has endpoints, preallocated ones apart. Returns the revision."""
        self._delete_spares(network_id)
        return super().delete_network(network_id)
