"""Reads and writes all specs of a store. Every change, with all that it allocates, is one etcd transaction."""

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
        """Deletes a network and its preallocated endpoints. Raises `NotFound`, and `Conflict` while it has other endpoints or a router or
        service names it. Returns the revision."""
        try:
            return super().delete_network(network_id)
        except HasEndpoints:
            if any(not endpoint.spare for endpoint in self.endpoints(network_id)):
                raise
        self._delete_preallocated(network_id)
        return super().delete_network(network_id)

    def _delete_preallocated(self, network_id: str) -> None:
        """Stops preallocation and deletes the preallocated endpoints; their hosts remove the veths when they notice."""
        network = self.network(network_id)
        self.update_network(network.model_copy(update={"preallocate": 0}))
        while spares := [
            endpoint for endpoint in self.endpoints(network_id) if endpoint.spare
        ]:  # a host that has not noticed yet may add some
            for endpoint in spares:
                with contextlib.suppress(NotFound):
                    self.delete_endpoint(network_id, endpoint.id)
