"""Reads and writes all specs of a store. Every change, with all that it allocates, is one etcd transaction."""

from __future__ import annotations

import contextlib

from specs.store.acls import AclWriter
from specs.store.adoptions import AdoptionWriter
from specs.store.captures import CaptureWriter
from specs.store.clusters import ClusterWriter
from specs.store.endpoints import EndpointWriter
from specs.store.firewalls import FirewallWriter
from specs.store.hosts import HostWriter
from specs.store.leased_addresses import LeasedAddressWriter
from specs.store.meters import MeterWriter
from specs.store.mirrors import MirrorWriter
from specs.store.networks import HasEndpoints, NetworkWriter
from specs.store.placements import PlacementWriter
from specs.store.profiles import ProfileWriter
from specs.store.routers import RouterWriter
from specs.store.services import ServiceWriter
from specs.store.sites import SiteWriter
from specs.store.tenants import TenantWriter
from warren.errors import NotFound


class Repository(
    ClusterWriter,
    HostWriter,
    NetworkWriter,
    EndpointWriter,
    LeasedAddressWriter,
    PlacementWriter,
    AclWriter,
    MeterWriter,
    TenantWriter,
    MirrorWriter,
    CaptureWriter,
    RouterWriter,
    ServiceWriter,
    SiteWriter,
    ProfileWriter,
    FirewallWriter,
    AdoptionWriter,
):
    """All kinds of specs."""

    def delete_network(self, network_id: str) -> int:
        """Deletes a network and the endpoints that agents have made there. Raises `NotFound`, and `Conflict` while it has other endpoints or a
        router or service names it. Returns the revision."""
        try:
            return super().delete_network(network_id)
        except HasEndpoints:
            if any(endpoint.declared for endpoint in self.endpoints(network_id)):
                raise
        self._delete_undeclared(network_id)
        return super().delete_network(network_id)

    def _delete_undeclared(self, network_id: str) -> None:
        """Stops preallocation, and that hosts make their endpoints, and deletes these; their hosts remove the veths when they notice."""
        network = self.network(network_id)
        self.update_network(network.model_copy(update={"preallocate": 0, "admin": None}))
        while undeclared := [
            endpoint for endpoint in self.endpoints(network_id) if not endpoint.declared
        ]:  # a host that has not noticed yet may add some
            for endpoint in undeclared:
                with contextlib.suppress(NotFound):
                    self.delete_endpoint(network_id, endpoint.id)
