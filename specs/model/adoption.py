"""Adoption rules: which interfaces that others make (of containers and virtual machines) become endpoints, and on which network. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, model_validator

from specs.model.base import Item, Labels, Name, Record
from specs.model.derived import is_link_name
from specs.model.iface_id import IfaceIdPattern, matches
from specs.model.names import NetworkName, is_name

_PATTERN = re.compile(r"[A-Za-z0-9_.*?-]{1,15}\Z")
EXPECTED = "the name of an interface, with * for any characters and ? for one, such as ve-*"


def _pattern(value: str) -> str:
    if not _PATTERN.match(value) or value in (".", ".."):
        raise ValueError(EXPECTED)
    return value


class AdoptionFields(BaseModel):
    """The fields that a document, a request and the record of an adoption rule share."""

    match: Annotated[str, AfterValidator(_pattern)] | None = None
    iface_id: IfaceIdPattern | None = None
    network: NetworkName
    host: Name | None = None
    labels: Labels = {}

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: Any) -> Any:
        """A rule names interfaces or ids. Without a name it is called after them."""
        if not isinstance(data, dict):
            return data
        if data.get("match") is None and data.get("iface_id") is None:
            raise ValueError("match (names of interfaces, such as ve-*) or iface_id (ids that a hypervisor gives them), or both")
        if "name" in data:
            return data
        name = derived_name(data.get("match"), data.get("iface_id"), data.get("host"))
        return {**data, "name": name} if is_name(name) else data


class Adoption(AdoptionFields, Record):
    """A rule. Taps and veths of `host` (None: of every host) whose name matches become endpoints of `network` (a name or an id), with these
    labels. With `iface_id` it is about ports alone that a hypervisor puts on the bridge under such an id."""

    name: Name
    created_at: str | None = None

    def applies(self, host: str, device: str, iface_id: str | None = None) -> bool:
        """Whether it is about an interface of a host, which a hypervisor has put on the bridge under an id (None: nobody has)."""
        named = self.match is None or fnmatchcase(device, self.match)
        return self.host in (None, host) and named and matches(iface_id, self.iface_id) and not is_link_name(device)

    @property
    def order(self) -> tuple[object, ...]:
        """Of several rules about one interface the first counts: one for a host before one for all, one that names ids before one that names
        interfaces alone, the one with more letters before others."""
        patterns = (self.iface_id or "", self.match or "")
        letters = tuple(-len(re.sub(r"[*?]", "", pattern)) for pattern in patterns)
        return self.host is None, self.iface_id is None, letters, "*" in "".join(patterns), self.name


class AdoptionItem(AdoptionFields, Item):
    """A rule, in a document."""

    name: Name


def derived_name(match: Any, iface_id: Any, host: Any) -> str:
    """The name of a rule that states none; no name at all where a part is no text."""
    parts = [match, f"iface-{iface_id}" if iface_id else None, host or None]
    stated = [part for part in parts if part is not None]
    return ".".join(stated).replace("*", "ANY").replace("?", "ONE") if all(isinstance(part, str) for part in stated) else ""


def rule_for(host: str, device: str, rules: Iterable[Adoption], iface_id: str | None = None) -> Adoption | None:
    """The rule that counts for an interface of a host."""
    return min((rule for rule in rules if rule.applies(host, device, iface_id)), key=lambda rule: rule.order, default=None)
