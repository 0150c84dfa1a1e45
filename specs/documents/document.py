"""Documents: YAML text as a value. Pure. `warren apply` reads a document, specs/documents/difference.py compares it with the store.

    networks:  [{name: amber, ip_range: 10.0.0.0/24}]
    endpoints: [{name: web-1, network: amber, host: h1, netns: /run/netns/web-1}]

A field that a document does not state keeps its value (or is allocated); `null` removes the value. A section that the document does
not have is left alone, by `prune` too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from specs.documents.text import line_of, load
from specs.model.acl import AclItem
from specs.model.adoption import AdoptionItem
from specs.model.base import Item
from specs.model.cluster import ClusterItem
from specs.model.endpoint import EndpointItem
from specs.model.host import HostItem
from specs.model.meter import MeterItem
from specs.model.mirror import MirrorItem
from specs.model.names import full
from specs.model.network import NetworkItem
from specs.model.profile import ProfileItem
from specs.model.router import RouterItem
from specs.model.service import ServiceItem
from specs.model.site import SiteItem
from specs.model.tenant import TenantItem
from specs.model.validation import invalid
from warren.errors import MISSING, Invalid

SECTIONS: dict[str, type[Item]] = {
    "clusters": ClusterItem,
    "sites": SiteItem,
    "tenants": TenantItem,
    "meters": MeterItem,
    "acls": AclItem,
    "mirrors": MirrorItem,
    "hosts": HostItem,
    "profiles": ProfileItem,
    "networks": NetworkItem,
    "endpoints": EndpointItem,
    "routers": RouterItem,
    "services": ServiceItem,
    "adopt": AdoptionItem,
}
SECTION_OF = {"adoption": "adopt"}  # of other kinds it is KINDs


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed document. A section is None if the document does not have it."""

    clusters: tuple[ClusterItem, ...] | None = None
    sites: tuple[SiteItem, ...] | None = None
    hosts: tuple[HostItem, ...] | None = None
    profiles: tuple[ProfileItem, ...] | None = None
    networks: tuple[NetworkItem, ...] | None = None
    endpoints: tuple[EndpointItem, ...] | None = None
    acls: tuple[AclItem, ...] | None = None
    meters: tuple[MeterItem, ...] | None = None
    tenants: tuple[TenantItem, ...] | None = None
    mirrors: tuple[MirrorItem, ...] | None = None
    routers: tuple[RouterItem, ...] | None = None
    services: tuple[ServiceItem, ...] | None = None
    adopt: tuple[AdoptionItem, ...] | None = None


WITHOUT_ENDPOINTS = ("clusters", "sites", "meters", "acls", "profiles", "networks")  # sections


def concerns_endpoints(document: Document) -> bool:
    """Whether one must know endpoints to compare a document with the store: it has a section that states them or names them, or an ACL that
    names some."""
    if any(getattr(document, section) is not None for section in SECTIONS if section not in WITHOUT_ENDPOINTS):
        return True
    return any(_names_endpoints(rule) for acl in document.acls or () for rule in acl.rules)


def _names_endpoints(rule: dict[str, Any]) -> bool:
    actions = rule.get("actions")
    places = isinstance(actions, dict) and not actions.keys().isdisjoint(("output", "mirror"))
    return places or any("endpoint" in (rule.get(end) or ()) for end in ("from", "to"))


def section_of(kind: str) -> str:
    """The section of a document that lists objects of a kind."""
    return SECTION_OF.get(kind, f"{kind}s")


def parse(text: str) -> Document:
    """A document from YAML text. Raises `Invalid` with the path to the wrong value and its line."""
    data = load(text)
    try:
        return _document(data)
    except Invalid as error:
        raise error.on(line_of(text, error.path)) from None


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
    elif isinstance(item, NetworkItem):
        yield "name", full(item.name, item.tenant)
    else:
        yield "name", item.name  # type: ignore[attr-defined]
    if getattr(item, "id", None) is not None:
        yield "id", item.id  # type: ignore[attr-defined]
