"""Adoption rules: which interfaces that others make (of containers and virtual machines) become endpoints, and on which network. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, model_validator

from specs.model.base import Item, Labels, Name, Record, is_name
from specs.model.derived import is_link_name

_PATTERN = re.compile(r"[A-Za-z0-9_.*?-]{1,15}\Z")
EXPECTED = "the name of an interface, with * for any characters and ? for one, such as ve-*"


def _pattern(value: str) -> str:
    if not _PATTERN.match(value) or value in (".", ".."):
        raise ValueError(EXPECTED)
    return value


class AdoptionFields(BaseModel):
    """The fields that a document, a request and the record of an adoption rule share."""

    match: Annotated[str, AfterValidator(_pattern)]
    network: Name
    host: Name | None = None
    labels: Labels = {}

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: Any) -> Any:
        """A rule without a name is called after what it matches."""
        if not isinstance(data, dict) or "name" in data or not isinstance(data.get("match"), str):
            return data
        name = derived_name(data["match"], data.get("host"))
        return {**data, "name": name} if is_name(name) else data


class Adoption(AdoptionFields, Record):
    """A rule. Taps and veths of `host` (None: of every host) whose name matches become endpoints of `network` (a name or an id), with these
    labels."""

    name: Name
    created_at: str | None = None

    def applies(self, host: str, device: str) -> bool:
        """Whether it is about an interface of a host."""
        return self.host in (None, host) and fnmatchcase(device, self.match) and not is_link_name(device)

    @property
    def order(self) -> tuple[object, ...]:
        """Of several rules about one interface the first counts: one for a host before one for all, the one with more letters before others."""
        letters = len(re.sub(r"[*?]", "", self.match))
        return self.host is None, -letters, "*" in self.match, self.name


class AdoptionItem(AdoptionFields, Item):
    """A rule, in a document."""

    name: Name


def derived_name(match: str, host: str | None) -> str:
    """The name of a rule that states none."""
    name = match.replace("*", "ANY").replace("?", "ONE")
    return f"{name}.{host}" if host else name


def rule_for(host: str, device: str, rules: Iterable[Adoption]) -> Adoption | None:
    """The rule that counts for an interface of a host."""
    return min((rule for rule in rules if rule.applies(host, device)), key=lambda rule: rule.order, default=None)
