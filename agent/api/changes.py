"""Carries out one change of a document by the writers of a repository."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from specs import keys
from specs.checks import called
from specs.documents.difference import Change
from specs.model.base import Record, decode, restated
from specs.model.endpoint import Endpoint
from specs.model.host import Host
from specs.model.network import Network, default_gateways
from specs.snapshot import Snapshot
from specs.store.repository import Repository
from specs.store.writer import decoded
from warren.errors import Conflict, NotFound

_RECREATED = ("name", "host", "ofport", "mac_address", "ipv4_address", "ipv6_address", "network", "port", "parent", "vlan")


class Changes:
    """Carries out the changes of one document, one after the other. It knows the networks that came by name, and by `touched` the ids of the
    endpoints that came or changed. `current` is what the changes were derived from."""

    def __init__(self, repository: Repository, current: Snapshot) -> None:
        self._repository, self._current = repository, current
        self._networks = {reference: network.id for reference, network in called(current.networks).items()}
        self.touched: set[str] = set()

    def make(self, change: Change) -> None:
        """Carry out one change. Raises what the writers raise."""
        getattr(self, f"_{change.kind}_{change.action}")(change)

    def _host_create(self, change: Change) -> None:
        self._repository.put_host(decode(Host, _without_nulls(change.stated), "host"))

    def _host_update(self, change: Change) -> None:
        self._repository.put_host(_merged(self._record(Host, keys.host(change.name)), change.stated))

    def _host_delete(self, change: Change) -> None:
        self._repository.delete_host(change.name)

    def _named_put(self, change: Change) -> None:
        """Create or change a record whose name is its key."""
        old = getattr(self._current, f"{change.kind}s").get(change.name)
        draft = restated(old.data() if old else {}, change.stated)
        getattr(self._repository, f"put_{change.kind}")(draft)

    def _named_delete(self, change: Change) -> None:
        getattr(self._repository, f"delete_{change.kind}")(change.name)

    _acl_create = _acl_update = _meter_create = _meter_update = _tenant_create = _tenant_update = _named_put
    _mirror_create = _mirror_update = _cluster_create = _cluster_update = _named_put
    _router_create = _router_update = _service_create = _service_update = _named_put
    _site_create = _site_update = _profile_create = _profile_update = _named_put
    _adoption_create = _adoption_update = _named_put
    _cluster_delete = _acl_delete = _meter_delete = _tenant_delete = _mirror_delete = _named_delete
    _router_delete = _service_delete = _site_delete = _profile_delete = _adoption_delete = _named_delete

    def _network_create(self, change: Change) -> None:
        network, _ = self._repository.create_network(_without_nulls(change.stated))
        self._networks |= dict.fromkeys(network.references, network.id)

    def _network_update(self, change: Change) -> None:
        for field in ("name", "tenant", "profile", "vxlan_vni", "ip_range", "ipv6_range"):
            if field in change.fields:
                old, new = ("nothing" if value is None else value for value in change.fields[field])
                raise Conflict(f"{field} cannot change (from {old} to {new}): delete and create the network", field=field)
        network: Network = _merged(self._record(Network, keys.network(str(change.id))), change.stated)
        gateways = {field: value for field, value in default_gateways(network).items() if field in change.stated}
        self._repository.update_network(_merged(network, gateways) if gateways else network)

    def _network_delete(self, change: Change) -> None:
        self._repository.delete_network(str(change.id))

    def _endpoint_create(self, change: Change) -> None:
        self._create(_without_nulls(change.stated) | {"network_id": self._network_of(change)})

    def _endpoint_update(self, change: Change) -> None:
        """Change an endpoint. What is allocated or claimed with it is given back and taken anew: the endpoint is deleted and created again
        under its id, in one transaction."""
        before = self._current.endpoints[str(change.id)]
        old: Endpoint = self._record(Endpoint, keys.endpoint(before.network_id, before.id))
        stated = {k: v for k, v in change.stated.items() if k != "network"} | {"network_id": self._network_of(change, old)}
        if change.fields.keys().isdisjoint(_RECREATED):
            endpoint = _merged(old, stated)
            self._repository.update_endpoint(endpoint)
            self.touched.add(endpoint.id)
            return
        draft = restated(old.data(), stated)
        moved = stated["network_id"] != old.network_id or draft["host"] != old.host
        for field in ("ofport",) if draft["host"] != old.host else ():
            draft[field] = stated.get(field)
        for field in ("ipv4_address", "ipv6_address", "mac_address") if stated["network_id"] != old.network_id else ():
            draft[field] = stated.get(field)
        if not moved and draft.get("mac_address") == old.mac_address and "mac_address" not in stated:
            draft["mac_address"] = None  # the default MAC follows the address
        self._delete(old)
        self._create(_without_nulls(draft))

    def _endpoint_delete(self, change: Change) -> None:
        self._delete(self._current.endpoints[str(change.id)])

    def _network_of(self, change: Change, old: Endpoint | None = None) -> str:
        if "network_id" in change.stated:
            return str(change.stated["network_id"])
        reference = str(change.stated.get("network") or (old.network_id if old else ""))
        if reference in self._networks:
            return self._networks[reference]
        if reference in self._current.networks or reference in self._networks.values():
            return reference
        raise NotFound("network", reference)

    def _create(self, draft: dict[str, Any]) -> None:
        draft.pop("network", None)
        endpoint, _, _ = self._repository.create_endpoint(draft)
        self.touched.add(endpoint.id)

    def _delete(self, endpoint: Endpoint) -> None:
        self._repository.delete_endpoint(endpoint.network_id, endpoint.id)

    def _record(self, kind: type[Any], key: str) -> Any:
        """The record as it is now: another writer may have changed other fields of it. Raises `NotFound`."""
        entry = self._repository.store.get(key)
        record = decoded(kind, entry) if entry is not None else None
        if record is None:
            raise NotFound(kind.__name__.lower(), key.rpartition("/")[2])
        return record


def _without_nulls(stated: Mapping[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in stated.items() if value is not None}


def _merged(old: Any, stated: Mapping[str, Any]) -> Any:
    """The old record with the fields that the document states; null removes a value."""
    record: Record = old
    return decode(type(record), restated(record.data(), stated), type(record).__name__.lower())
