"""Documents: YAML in and out, and what separates a document from the store. Pure; `warren apply` and `export` stand on it.

    networks:  [{name: amber, ip_range: 10.0.0.0/24}]
    endpoints: [{name: web-1, network: amber, host: h1, netns: /run/netns/web-1}]

What a document does not say stays as it is (or is allocated); `null` takes a value away.
A section that it does not have is left alone, by `prune` too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml
from pydantic import ValidationError, field_validator, model_validator

from acl.language import canonical, parse_rule
from specs.checks import check_ways, planned
from specs.documents.yaml import line_of, load
from specs.model.host import HostFields
from specs.model.mirror import Matches, Mirror, SnapLength, Source, Target
from specs.model.records import (
    AclNames,
    Address,
    Endpoint,
    EndpointFields,
    Item,
    MeterBurst,
    MeterId,
    MeterRate,
    Mtu,
    Name,
    NetworkFields,
    Record,
    Vlan,
)
from specs.model.router import RouterItem
from specs.model.service import ServiceItem
from specs.model.validation import invalid
from specs.snapshot import Snapshot
from warren.errors import MISSING, Invalid


class HostItem(HostFields, Item):
    """A host; agents register their own, so that documents seldom need any."""

    name: Name
    vtep: Address
    api: str | None = None
    underlay_mtu: Mtu = 1500


class NetworkItem(NetworkFields, Item):
    """A network; without `vxlan_vni` one is allocated."""

    name: Name


class _Placed(Item):
    id: Name | None = None
    name: Name | None = None
    network: Name
    host: Name
    netns: str | None = None
    active: bool = True


class EndpointItem(EndpointFields, _Placed):
    """An endpoint; `network` is a name or an id. Addresses, MAC and port are allocated unless said."""


class AclItem(Item):
    """An ACL, as a list item or as FAUCET's NAME: RULES."""

    name: Name
    rules: tuple[dict[str, Any], ...]
    description: str = ""

    @field_validator("rules", mode="before")
    @classmethod
    def _canonical(cls, value: Any) -> Any:
        rules = canonical(value, "rules")
        for number, rule in enumerate(rules):
            parse_rule(rule, f"rules[{number}]")
        return rules


class MeterItem(Item):
    """A meter; without `meter_id` one is allocated."""

    name: Name
    meter_id: MeterId | None = None
    rate: MeterRate
    burst: MeterBurst = 0
    packets: bool = False


class TenantItem(Item):
    """What holds for all networks."""

    name: Name
    acls: AclNames = ()


class MirrorItem(Item):
    """A mirror session; without `vni` one is allocated."""

    name: Name
    sources: tuple[Source, ...]
    direction: Literal["in", "out", "both"] = "both"
    match: Matches = None
    snap: SnapLength | None = None
    to: Target
    vlan: Vlan | None = None
    active: bool = True

    @model_validator(mode="after")
    def _sound(self) -> MirrorItem:
        Mirror(**self.model_dump(), vni=1)
        return self


SECTIONS: dict[str, type[Item]] = {
    "tenants": TenantItem,
    "meters": MeterItem,
    "acls": AclItem,
    "mirrors": MirrorItem,
    "hosts": HostItem,
    "networks": NetworkItem,
    "endpoints": EndpointItem,
    "routers": RouterItem,
    "services": ServiceItem,
}


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed document; None for a section that it does not have."""

    hosts: tuple[HostItem, ...] | None = None
    networks: tuple[NetworkItem, ...] | None = None
    endpoints: tuple[EndpointItem, ...] | None = None
    acls: tuple[AclItem, ...] | None = None
    meters: tuple[MeterItem, ...] | None = None
    tenants: tuple[TenantItem, ...] | None = None
    mirrors: tuple[MirrorItem, ...] | None = None
    routers: tuple[RouterItem, ...] | None = None
    services: tuple[ServiceItem, ...] | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `id` is None for what the store shall name; `stated` is what the document says;
    `fields` tells old and new value of each field that differs; `path` leads to the item in the document."""

    action: str  # create, update, delete
    kind: str  # acl, meter, tenant, mirror, host, network, endpoint, router, service
    name: str
    id: str | None
    path: str
    stated: Mapping[str, Any]
    fields: Mapping[str, tuple[Any, Any]]

    def data(self) -> dict[str, Any]:
        """For people and scripts."""
        return {
            "action": self.action,
            "kind": self.kind,
            "name": self.name,
            "id": self.id,
            "fields": {field: {"old": old, "new": new} for field, (old, new) in self.fields.items()},
        }


# ---- YAML in ------------------------------------------------------------------------------------------------------


def parse(text: str) -> Document:
    """A document from YAML text. Raises `Invalid` with the path to the wrong value and its line."""
    data = load(text)
    try:
        return _document(data)
    except Invalid as error:
        line = line_of(text, error.path)
        raise error.at(f"line {line}: {error.path}" if line else error.path) from None


def _document(data: Any) -> Document:
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise Invalid("document", data, f"a mapping with some of the sections {', '.join(SECTIONS)}")
    for section in data:
        if section not in SECTIONS:
            raise Invalid(str(section), data[section], f"no such section (there are {', '.join(SECTIONS)})")
    items = {section: _section(section, data[section]) for section in data}
    return Document(**items)  # type: ignore[arg-type]


def _section(section: str, data: Any) -> tuple[Item, ...]:
    if data is None:
        return ()
    if section == "acls" and isinstance(data, dict):  # as in faucet.yaml
        data = [{"name": name, "rules": rules} for name, rules in data.items()]
    if not isinstance(data, list):
        raise Invalid(section, data, "a list")
    items = tuple(_item(SECTIONS[section], item, f"{section}[{i}]") for i, item in enumerate(data))
    seen: dict[tuple[str, ...], str] = {}
    for i, item in enumerate(items):
        path = f"{section}[{i}]"
        for key in _identities(item, path):
            if key in seen:
                raise Invalid(f"{path}.{key[0]}", key[-1], f"one that {seen[key]} does not have")
            seen[key] = path
    return items


def _item(kind: type[Item], data: Any, path: str) -> Item:
    if not isinstance(data, dict):
        raise Invalid(path, data, "a mapping")
    try:
        item = kind.model_validate(data)
    except ValidationError as error:
        raise invalid(error, path) from None
    except Invalid as error:
        raise error.at(f"{path}.{error.path}") from None
    if isinstance(item, NetworkItem) and item.type != "overlay":
        raise Invalid(f"{path}.type", item.type, "overlay")
    return item


def _identities(item: Item, path: str) -> Iterator[tuple[str, ...]]:
    if isinstance(item, EndpointItem):
        if item.name is None and item.id is None:
            raise Invalid(f"{path}.name", MISSING, "an endpoint needs a name or an id, by which to know it again")
        if item.name is not None:
            yield "name", item.network, item.name
    else:
        yield "name", item.name  # type: ignore[attr-defined]
    if getattr(item, "id", None) is not None:
        yield "id", item.id  # type: ignore[attr-defined]


# ---- the difference -----------------------------------------------------------------------------------------------


def diff(document: Document, current: Snapshot, prune: bool = False) -> tuple[Change, ...]:
    """What to do so that the store says what the document says, in an order that works:
    meters, ACLs, tenants, hosts, routers and services that go or change among the networks there are, what goes (it frees names,
    numbers and addresses), networks, endpoints, the other routers and services, and last the hosts, tenants, ACLs and meters that go.
    Raises `Invalid` when the document refers to what neither it nor the store has."""
    hosts, networks, endpoints = document.hosts or (), document.networks or (), document.endpoints or ()
    host_changes = [_change("host", h.name, h.stated(), current.hosts.get(h.name), f"hosts[{i}]") for i, h in enumerate(hosts)]
    by_name = {network.name: network for network in current.networks.values()}
    network_changes = []
    for i, item in enumerate(networks):
        old = current.networks.get(item.id) if item.id else by_name.get(item.name)
        change = _change("network", item.name, item.stated(), old, f"networks[{i}]")
        if (
            old is None or change is None or change.fields.keys().isdisjoint(("ip_range", "ipv6_range"))
        ):  # those are refused as such
            planned(old, item.stated(), f"networks[{i}]")
        network_changes.append(change)
    endpoint_changes = []
    named: dict[tuple[str, str | None], Endpoint] = {(e.network_id, e.name): e for e in current.endpoints.values() if e.name}
    known_hosts = {h.name for h in hosts} | set(current.hosts)
    new_networks = {n.name for n in networks} | {n.id for n in networks if n.id}
    keep: set[str] = set()
    for i, endpoint in enumerate(endpoints):
        path = f"endpoints[{i}]"
        network = by_name.get(endpoint.network) or current.networks.get(endpoint.network)
        if network is None and endpoint.network not in new_networks:
            raise Invalid(f"{path}.network", endpoint.network, "a network of this document or of the store")
        if endpoint.host not in known_hosts:
            raise Invalid(f"{path}.host", endpoint.host, "a host of this document or of the store")
        found = current.endpoints.get(endpoint.id) if endpoint.id else None
        if found is None and endpoint.id is None and network is not None:
            found = named.get((network.id, endpoint.name))
        stated = endpoint.stated()
        if network is not None:
            stated["network_id"] = network.id
        if found is not None:
            keep.add(found.id)
            if network is not None and network.id == found.network_id:
                stated.pop("network")
        endpoint_changes.append(_change("endpoint", endpoint.name or str(endpoint.id), stated, found, path))
    changes = [*_named(document, current, "meter", "acl", "tenant", "mirror"), *host_changes]
    changes += _pruned(document, current, "router", "service") if prune else ()
    ways = [change for change in _named(document, current, "router", "service") if change is not None]
    early = [change for change in ways if change.action == "update" and _names(change) <= {*by_name, *current.networks}]
    changes += early
    if prune and document.endpoints is not None:
        gone = sorted(set(current.endpoints) - keep)
        changes += [_gone("endpoint", current.endpoints[e].name or e, e) for e in gone]
    if prune and document.networks is not None:
        kept = {n.id for n in networks} | {by_name[n.name].id for n in networks if n.name in by_name and not n.id}
        changes += [_gone("network", current.networks[n].name, n) for n in sorted(set(current.networks) - kept)]
    changes += [*network_changes, *endpoint_changes, *(way for way in ways if way not in early)]
    if document.routers or document.services:
        after = [network.stated() for network in networks]
        check_ways(document.routers or (), document.services or (), current, after, prune)
    if prune and document.hosts is not None:
        changes += [_gone("host", h, h) for h in sorted(set(current.hosts) - {h.name for h in hosts})]
    changes += _pruned(document, current, "mirror", "tenant", "acl", "meter") if prune else ()
    return tuple(change for change in changes if change is not None)


def _names(way: Change) -> set[str]:
    """The networks that a router or service names."""
    return set(way.stated.get("networks") or [str(way.stated.get("network"))])


def _pruned(document: Document, current: Snapshot, *kinds: str) -> Iterator[Change]:
    for kind in kinds:
        if (items := getattr(document, f"{kind}s")) is not None:
            yield from (_gone(kind, n, n) for n in sorted(set(getattr(current, f"{kind}s")) - {item.name for item in items}))


def _named(document: Document, current: Snapshot, *kinds: str) -> Iterator[Change | None]:
    """What is known by its name alone."""
    for kind in kinds:
        for i, item in enumerate(getattr(document, f"{kind}s") or ()):
            yield _change(kind, item.name, item.stated(), getattr(current, f"{kind}s").get(item.name), f"{kind}s[{i}]")


def _change(kind: str, name: str, stated: dict[str, Any], old: Record | None, path: str) -> Change | None:
    if old is None:
        fields = {field: (None, value) for field, value in stated.items() if value is not None and field != "network_id"}
        return Change("create", kind, name, stated.get("id"), path, stated, fields)
    before = old.model_dump(mode="json")
    fields = {f: (before.get(f), value) for f, value in stated.items() if before.get(f) != value}
    identity = before.get("id", name)
    return Change("update", kind, name, identity, path, stated, fields) if fields else None


def _gone(kind: str, name: str, identity: str) -> Change:
    return Change("delete", kind, name, identity, "", {}, {})


# ---- YAML out -----------------------------------------------------------------------------------------------------


def export(current: Snapshot) -> str:
    """The whole store as a document; applied to an empty store it gives the same records."""
    names = {network.id: network.name for network in current.networks.values()}
    document = {
        "tenants": [_out(TenantItem, tenant) for _, tenant in sorted(current.tenants.items())],
        "meters": [_out(MeterItem, meter) for _, meter in sorted(current.meters.items())],
        "acls": [_out(AclItem, acl) for _, acl in sorted(current.acls.items())],
        "mirrors": [_out(MirrorItem, mirror) for _, mirror in sorted(current.mirrors.items())],
        "hosts": [_out(HostItem, host) for _, host in sorted(current.hosts.items())],
        "networks": [_out(NetworkItem, n) for n in sorted(current.networks.values(), key=lambda n: (n.name, n.id))],
        "endpoints": [
            _out(EndpointItem, _unleased(e), network=names.get(e.network_id, e.network_id))
            for e in sorted(
                (e for e in current.endpoints.values() if not e.spare), key=lambda e: (e.network_id, e.name or "", e.id)
            )
        ],
        "routers": [_out(RouterItem, router) for _, router in sorted(current.routers.items())],
        "services": [_out(ServiceItem, service) for _, service in sorted(current.services.items())],
    }
    document = {section: items for section, items in document.items() if items or section in ("hosts", "networks", "endpoints")}
    return yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=160, allow_unicode=True)


def _unleased(endpoint: Endpoint) -> Endpoint:
    """What somebody else gave for a while is nothing to declare."""
    return endpoint if endpoint.leased_prefix is None else endpoint.model_copy(update={"ipv4_address": None})


def _out(kind: type[Item], record: Record, **extra: str) -> dict[str, Any]:
    data = record.data() | extra
    return {field: data[field] for field in kind.model_fields if data.get(field) not in (None, {}, [], "")}
