"""ACLs. Pure. acl/language.py reads the rules."""

from __future__ import annotations

from typing import Any

from pydantic import PrivateAttr, field_validator

from acl.language import Rule, canonical, parse_rule
from specs.model.base import Item, Name, Record


class Acl(Record):
    """An ordered list of rules; packets that no rule allows are dropped."""

    name: Name
    rules: tuple[dict[str, Any], ...]
    description: str = ""
    created_at: str | None = None
    _parsed: tuple[Rule, ...] = PrivateAttr(())
    _stateful: bool = PrivateAttr(False)

    @field_validator("rules", mode="before")
    @classmethod
    def _canonical(cls, value: Any) -> Any:
        return canonical(value, "rules")

    def model_post_init(self, context: Any) -> None:
        """Read the rules; a wrong one is `Invalid`."""
        self._parsed = tuple(parse_rule(rule, f"rules[{i}]") for i, rule in enumerate(self.rules))
        self._stateful = any(rule.stateful for rule in self._parsed)

    @property
    def parsed(self) -> tuple[Rule, ...]:
        """The rules as values."""
        return self._parsed

    @property
    def stateful(self) -> bool:
        """Whether networks that use it must track connections."""
        return self._stateful


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
