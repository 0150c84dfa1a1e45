"""Applies the difference between a document and the store: each change is a transaction of its own; the agents plug in and unplug."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from specs.documents.difference import Change
from specs.model.base import Record, decode
from specs.model.endpoint import Endpoint
from specs.model.host import Host
from specs.snapshot import Snapshot
from specs.store.repository import Repository
from warren.errors import Conflict, NotFound, WarrenError

_ALLOCATED = ("name", "host", "ofport", "mac_address", "ipv4_address", "ipv6_address", "network_id")


class NotApplied(WarrenError):
    """A change of a document was refused. The changes before it are made, and the same document can be applied again."""

    def __init__(self, change: Change, made: int, total: int, error: WarrenError) -> None:
        where = change.path or f"{change.action} {change.kind} {change.name}"
        super().__init__(f"{where}: {error}" + (f" ({made} of {total} changes were made)" if made else ""))
        self.http_status, self._cause = error.http_status, error

    def fields(self) -> dict[str, Any]:
        """The fields of the error that refused the change."""
        return self._cause.fields()


def apply(repository: Repository, current: Snapshot, changes: tuple[Change, ...]) -> set[str]:
    """Make the changes in their order. Returns the ids of the endpoints that came or changed. Raises `NotApplied` at the
    first change that is refused."""
    work = _Work(repository, current)
    for made, change in enumerate(changes):
        try:
            getattr(work, f"{change.kind}_{change.action}")(change)
        except WarrenError as error:
            raise NotApplied(change, made, len(changes), error) from None
    return work.touched


class _Work:
    """One run: it also knows the networks that it has just created, by name."""

    def __init__(self, repository: Repository, current: Snapshot) -> None:
        self._repository, self._current = repository, current
        self._networks = {network.name: network.id for network in current.networks.values()}
        self.touched: set[str] = set()

    def host_create(self, change: Change) -> None:
        self._put_host(decode(Host, _without_nulls(change.stated), "host"))

    def host_update(self, change: Change) -> None:
        self._put_host(_merged(self._current.hosts[change.name], change.stated))

    def _put_host(self, host: Host) -> None:
        self._repository.put_host(host)

    def host_delete(self, change: Change) -> None:
        self._repository.delete_host(change.name)

    def named_put(self, change: Change) -> None:
        """Create or change a record whose name is its key."""
        old = getattr(self._current, f"{change.kind}s").get(change.name)
        draft = _without_nulls((old.data() if old else {}) | dict(change.stated))
        getattr(self._repository, f"put_{change.kind}")(draft)

    def named_delete(self, change: Change) -> None:
        getattr(self._repository, f"delete_{change.kind}")(change.name)

    acl_create = acl_update = meter_create = meter_update = tenant_create = tenant_update = mirror_create = mirror_update = (
        named_put
    )
    cluster_create = cluster_update = named_put
    router_create = router_update = service_create = service_update = named_put
    cluster_delete = acl_delete = meter_delete = tenant_delete = mirror_delete = router_delete = service_delete = named_delete

    def network_create(self, change: Change) -> None:
        network, _ = self._repository.create_network(_without_nulls(change.stated))
        self._networks[network.name] = network.id

    def network_update(self, change: Change) -> None:
        for field in ("name", "vxlan_vni", "ip_range", "ipv6_range"):
            if field in change.fields:
                old, new = change.fields[field]
                raise Conflict(f"{field} cannot change (from {old} to {new}): delete and create the network")
        network = _merged(self._current.networks[str(change.id)], change.stated)
        self._repository.update_network(network)

    def network_delete(self, change: Change) -> None:
        self._repository.delete_network(str(change.id))

    def endpoint_create(self, change: Change) -> None:
        self._create(_without_nulls(change.stated) | {"network_id": self._network_of(change)})

    def endpoint_update(self, change: Change) -> None:
        """Change an endpoint. Allocated fields cannot change in place: the endpoint is deleted and created again under its
        id."""
        old = self._current.endpoints[str(change.id)]
        stated = {k: v for k, v in change.stated.items() if k != "network"} | {"network_id": self._network_of(change, old)}
        if not any(field in change.fields for field in (*_ALLOCATED, "network")):
            endpoint = _merged(old, stated)
            self._repository.update_endpoint(endpoint)
            self.touched.add(endpoint.id)
            return
        draft = old.data() | stated
        moved = stated["network_id"] != old.network_id or draft["host"] != old.host
        for field in ("ofport",) if draft["host"] != old.host else ():
            draft[field] = stated.get(field)
        for field in ("ipv4_address", "ipv6_address", "mac_address") if stated["network_id"] != old.network_id else ():
            draft[field] = stated.get(field)
        if not moved and draft["mac_address"] == old.mac_address and "mac_address" not in stated:
            draft["mac_address"] = None  # the default MAC follows the address
        self._delete(old)
        self._create({k: v for k, v in draft.items() if v is not None})

    def endpoint_delete(self, change: Change) -> None:
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


def _without_nulls(stated: Mapping[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in stated.items() if value is not None}


def _merged(old: Any, stated: Mapping[str, Any]) -> Any:
    """The old record with the fields that the document states; null removes a value."""
    record: Record = old
    data = {field: value for field, value in (record.data() | dict(stated)).items() if value is not None}
    return decode(type(record), data, type(record).__name__.lower())
