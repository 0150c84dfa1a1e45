"""Typed, allocating access to the specs of a store: every change with all that it allocates is one etcd transaction."""

from __future__ import annotations

import contextlib

from specs.store.acls import Acls
from specs.store.captures import Captures
from specs.store.endpoints import Endpoints
from specs.store.hosts import Hosts
from specs.store.leased_addresses import LeasedAddresses
from specs.store.meters import Meters
from specs.store.mirrors import Mirrors
from specs.store.networks import HasEndpoints, Networks
from specs.store.routers import Routers
from specs.store.services import Services
from specs.store.tenants import Tenants
from warren.errors import NotFound


class Repository(Hosts, Networks, Endpoints, LeasedAddresses, Acls, Meters, Tenants, Mirrors, Captures, Routers, Services):
    """All kinds of specs."""

    def delete_network(self, network_id: str) -> int:
        """Raises `NotFound`, and `Conflict` while it has endpoints, preallocated ones apart, or is named. Returns the revision."""
        try:
            return super().delete_network(network_id)
        except HasEndpoints:
            if any(not endpoint.spare for endpoint in self.endpoints(network_id)):
                raise
        self._delete_spares(network_id)
        return super().delete_network(network_id)

    def _delete_spares(self, network_id: str) -> None:
        """No more are made, and those that are there go; their hosts clean up when they see it."""
        network = self.network(network_id)
        self.update_network(network.model_copy(update={"preallocate": 0}))
        while found := [endpoint for endpoint in self.endpoints(network_id) if endpoint.spare]:  # a host may not have seen it yet
            for endpoint in found:
                with contextlib.suppress(NotFound):
                    self.delete_endpoint(network_id, endpoint.id)
