"""The difference between a document and the store, as changes in an order that works. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic_core import PydanticUndefined, to_jsonable_python

from specs.checks import called, check_routing, planned
from specs.documents.document import Document, section_of
from specs.model import names
from specs.model.base import ALLOCATED, Item, Record
from specs.model.derived import default_mac
from specs.model.endpoint import Endpoint, EndpointItem
from specs.model.host import OF_CLOUD, Host, HostItem
from specs.model.network import Network, NetworkItem, default_gateways
from specs.model.profile import BUILT_IN, DEFAULT, Profile
from specs.model.ranges import check_ranges
from specs.snapshot import Snapshot
from warren.errors import MISSING, Invalid

KINDS = (
    "cluster",
    "site",
    "meter",
    "acl",
    "tenant",
    "mirror",
    "host",
    "profile",
    "network",
    "endpoint",
    "router",
    "service",
    "adoption",
)


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `id` is None for an object that is created without one; `stated` are the fields that the document states;
    `fields` maps each field that differs to its old and its new value; `path` is that of the item in the document."""

    action: str  # create, update, delete
    kind: str  # cluster, site, acl, meter, tenant, mirror, host, profile, network, endpoint, router, service, adoption
    name: str
    id: str | None
    path: str
    stated: Mapping[str, Any]
    fields: Mapping[str, tuple[Any, Any]]

    def data(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "action": self.action,
            "kind": self.kind,
            "name": self.name,
            "id": self.id,
            "fields": {field: {"old": old, "new": new} for field, (old, new) in self.fields.items()},
        }


def diff(document: Document, current: Snapshot, prune: bool = False) -> tuple[Change, ...]:
    """The changes that make the store agree with the document. With `prune`, objects that a section of the document does not list are
    deleted. The order:

    1. the cluster, sites, meters, ACLs, tenants, mirrors, hosts and tunnel profiles are created and updated
    2. routers, services and adoption rules are deleted, and updated where they name only networks that exist
    3. endpoints and networks are deleted, which frees names, numbers and addresses
    4. networks and endpoints are created and updated, and networks are deleted that endpoints have left
    5. the other routers and services, and adoption rules, are created and updated
    6. profiles, hosts, mirrors, tenants, ACLs, meters, sites and the cluster are deleted

    Raises `Invalid` when the document refers to a network or a host that neither it nor the store has."""
    difference = _Difference(document, current)
    changed = {kind: difference.changed(kind) for kind in KINDS}
    gone = {kind: difference.gone(kind) if prune else [] for kind in KINDS}
    if document.routers or document.services:
        networks = [difference.stated(network, f"networks[{i}]") for i, network in enumerate(document.networks or ())]
        check_routing(document.routers or (), document.services or (), current, networks, prune)
    late = difference.left_by(changed["endpoint"], gone["network"])
    routing = [*changed["router"], *changed["service"]]
    early = [change for change in routing if change.action == "update" and difference.names_existing_networks(change)]
    steps = [changed[kind] for kind in ("cluster", "site", "meter", "acl", "tenant", "mirror", "host", "profile")]
    steps += [gone["router"], gone["service"], gone["adoption"], early, gone["endpoint"], _but(gone["network"], late)]
    steps += [changed["network"], changed["endpoint"], late, _but(routing, early), changed["adoption"]]
    steps += [gone[kind] for kind in ("profile", "host", "mirror", "tenant", "acl", "meter", "site", "cluster")]
    return tuple(change for step in steps for change in step)


def _but(changes: Iterable[Change], others: Container[Change]) -> list[Change]:
    return [change for change in changes if change not in others]


class _Difference:
    """Compares the items of a document with the records of the store, kind by kind."""

    def __init__(self, document: Document, current: Snapshot) -> None:
        self.document, self.current = document, current
        self.networks = called(current.networks)
        self.networks_by_name = {name: n for _, n in sorted(current.networks.items(), reverse=True) for name in n.references[1:]}
        self.endpoints_by_name = {(e.network_id, e.name): e for e in current.endpoints.values() if e.name}
        self.new_networks = {name for n in document.networks or () for name in (*names.names_of(n.name, n.tenant), n.id) if name}
        self.bearers = self._bearers()
        self.hosts = {host.name for host in document.hosts or ()} | set(current.hosts)

    def changed(self, kind: str) -> list[Change]:
        """What is created or updated, in the order of the document."""
        changes: list[Change] = []
        for i, item in enumerate(self._items(kind) or ()):
            path = f"{section_of(kind)}[{i}]"
            stated = self.stated(item, path)
            old = self._old(kind, item)
            name = str(stated.get("name") or _name(item))
            change = self._named_networks(_change(kind, name, stated, old, path))
            if isinstance(item, NetworkItem):
                _check_network(item, old if isinstance(old, Network) else None, change, path)
            if change is not None:
                changes.append(change)
        return changes

    def _named_networks(self, change: Change | None) -> Change | None:
        """The change, with the names of the networks that an endpoint leaves and joins."""
        if change is None or change.kind != "endpoint" or change.action != "update" or "network" not in change.fields:
            return change
        old = self.current.endpoints[str(change.id)].network_id
        name = self.current.networks[old].name if old in self.current.networks else old
        fields = {field: value for field, value in change.fields.items() if field != "network_id"}
        return replace(change, fields=fields | {"network": (name, change.stated["network"])})

    def gone(self, kind: str) -> list[Change]:
        """What the store has, and the section of the document does not list. Nothing, if the document does not have the section. Endpoints
        that agents make stay."""
        items = self._items(kind)
        if items is None:
            return []
        kept = {_identity(old) for item in items if (old := self._old(kind, item)) is not None}
        records = {i: record for i, record in self._records(kind).items() if getattr(record, "declared", True)}
        return [Change("delete", kind, _name(records[i]), i, "", {}, {}) for i in sorted(set(records) - kept)]

    def left_by(self, endpoints: Iterable[Change], networks: Iterable[Change]) -> list[Change]:
        """Those networks that the endpoints are on before they change."""
        left = {self.current.endpoints[str(change.id)].network_id for change in endpoints if change.action == "update"}
        return [change for change in networks if change.id in left]

    def names_existing_networks(self, change: Change) -> bool:
        """Whether the store has all networks that a router or service names."""
        references = set(change.stated.get("networks") or [str(change.stated.get("network"))])
        return references <= self.networks.keys()

    def _items(self, kind: str) -> tuple[Item, ...] | None:
        items: tuple[Item, ...] | None = getattr(self.document, section_of(kind))
        return items

    def _records(self, kind: str) -> Mapping[str, Record]:
        records: Mapping[str, Record] = getattr(self.current, f"{kind}s")
        return records

    def _network(self, reference: str) -> Network | None:
        return self.networks.get(reference)

    def _old(self, kind: str, item: Item) -> Record | None:
        """The record of an item: by its id if it states one, else by its name; None if the store has none."""
        if (identity := getattr(item, "id", None)) is not None:
            return self._records(kind).get(identity)
        if isinstance(item, NetworkItem):
            return self._network_of(item)
        if isinstance(item, EndpointItem):
            network = self._network(item.network)
            return self.endpoints_by_name.get((network.id, item.name)) if network is not None and item.name else None
        return self._records(kind).get(_name(item))

    def _network_of(self, item: NetworkItem) -> Network | None:
        """The network of an item without an id: the tenant's of that name. An item without a tenant is of whoever has the name."""
        network = self.networks_by_name.get(names.full(item.name, item.tenant)) or self.networks_by_name.get(item.name)
        foreign = network is not None and item.tenant is not None and item.tenant != (network.tenant or names.DEFAULT)
        return None if foreign else network

    def _bearers(self) -> dict[str, set[str]]:
        """The networks that each name without a tenant may mean, in the document and in the store, by their full names."""
        bearers = {name: {names.full(name, network.tenant)} for name, network in self.networks_by_name.items()}
        for item in self.document.networks or ():
            network = self._old("network", item)
            tenant = network.tenant if isinstance(network, Network) else item.tenant
            bearers.setdefault(item.name, set()).add(names.full(item.name, tenant))
        return bearers

    def _name_of(self, item: NetworkItem) -> str:
        """The name of an item's network: as the store has it; a new one whose name is somebody else's, too, gets the tenant in front."""
        network = self._old("network", item)
        if isinstance(network, Network):
            known_by = names.full(item.name, item.tenant or network.tenant) in network.references
            return network.name if known_by else item.name
        return names.full(item.name, item.tenant) if len(self.bearers[item.name]) > 1 else item.name

    def _check_references(self, item: Item, path: str) -> None:
        """Raises `Invalid` if an item names networks in a way that several networks may have."""
        field = "networks" if hasattr(item, "networks") else "network"
        value = getattr(item, field, None) or ()
        for reference in (value,) if isinstance(value, str) else value:
            if len(bearers := self.bearers.get(reference, ())) > 1:
                raise Invalid(f"{path}.{field}", reference, f"{' or '.join(sorted(bearers))}: several networks have this name")

    def _network_expected(self, reference: str) -> str:
        close = names.near(reference, (*self.new_networks, *self.networks_by_name))
        return "a network of this document or of the store" + (f", such as {close[0]}" if close else "")

    def stated(self, item: Item, path: str) -> dict[str, Any]:
        """The fields that an item states. An endpoint's network is its id, where the store has the network."""
        stated = item.stated()
        self._check_references(item, path)
        if isinstance(item, NetworkItem):
            return stated | {"name": self._name_of(item)}
        if isinstance(item, HostItem):
            return _stated_host(stated, self.current.hosts.get(item.name), path)
        if not isinstance(item, EndpointItem):
            return stated
        network = self._network(item.network)
        if network is None and item.network not in self.new_networks:
            raise Invalid(f"{path}.network", item.network, self._network_expected(item.network))
        if item.host not in self.hosts:
            raise Invalid(f"{path}.host", item.host, "a host of this document or of the store")
        if network is not None:
            stated["network_id"] = network.id
            old = self._old("endpoint", item)
            if old is not None and network.id == getattr(old, "network_id"):  # noqa: B009
                stated.pop("network")
        return stated


def _stated_host(stated: dict[str, Any], old: Host | None, path: str) -> dict[str, Any]:
    """The fields that a document states of a host. Of a registered host of a cloud, those that its agent finds in the metadata are left out: they
    may have changed since the document was written. Raises `Invalid`."""
    cloud = stated.get("underlay", old.underlay if old is not None else None) is not None
    if old is not None and cloud:
        return {field: value for field, value in stated.items() if field not in OF_CLOUD}
    if stated.get("vtep") is None:
        expected = (
            f"an address on the underlay: host {stated['name']} has not registered yet, which its agent does when it starts"
        )
        raise Invalid(f"{path}.vtep", MISSING, expected)
    return stated


def _check_network(item: NetworkItem, old: Network | None, change: Change | None, path: str) -> None:
    """Raises `Invalid` where the fields do not fit together. A changed range is not checked: the repository refuses it as such."""
    if old is None or change is None or change.fields.keys().isdisjoint(("ip_range", "ipv6_range")):
        network = planned(old, item.stated(), path)
        if old is None:
            check_ranges(network, path)


def _name(thing: Item | Record) -> str:
    """The name by which people know an object: its name, or the id of an endpoint without one."""
    return getattr(thing, "name", None) or str(getattr(thing, "id", None))


def _identity(record: Record) -> str:
    """The key of a record in the snapshot: its id, or the name of a kind that has no ids."""
    return str(getattr(record, "id", None) or getattr(record, "name"))  # noqa: B009


def _without(record: Record, field: str, value: Any) -> Any:
    """The value that a field of a record has, as JSON data, once its value is taken away. What is allocated stays; of addresses, another one
    may be allocated."""
    if field in ALLOCATED or (isinstance(record, Profile) and field == "port"):
        return value
    if isinstance(record, Endpoint) and record.parent is not None and field in ("mac_address", "vlan"):
        return value  # the parent's, and the network's
    if field == "mac_address" and isinstance(record, Endpoint):
        return default_mac(record.id, record.ipv4_address, record.ipv6_address)
    if field in ("gateway", "ipv6_gateway") and isinstance(record, Network):
        return default_gateways(record.model_copy(update={field: None})).get(field)
    if field == "hosts" and isinstance(record, Profile) and record.name == DEFAULT:
        return list(BUILT_IN.hosts)
    default = type(record).model_fields[field].default
    return None if default is PydanticUndefined else to_jsonable_python(default)


def _change(kind: str, name: str, stated: dict[str, Any], old: Record | None, path: str) -> Change | None:
    if old is None:
        fields = {field: (None, value) for field, value in stated.items() if value is not None and field != "network_id"}
        return Change("create", kind, name, stated.get("id"), path, stated, fields)
    before = old.model_dump(mode="json")
    fields = {
        field: (before.get(field), value)
        for field, value in stated.items()
        if before.get(field) != (value if value is not None else _without(old, field, before.get(field)))
    }
    return Change("update", kind, name, _identity(old), path, stated, fields) if fields else None
