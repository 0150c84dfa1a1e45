"""Writes adoption rules."""

from __future__ import annotations

from typing import Any

from specs import keys
from specs.model.adoption import Adoption
from specs.model.base import decode
from specs.store.network_state import network_called
from specs.store.writer import Writer, decoded
from warren.errors import NotFound


class AdoptionWriter(Writer):
    """The adoption rules of a store."""

    def adoptions(self) -> list[Adoption]:
        """All adoption rules; malformed records are left out."""
        rules = (decoded(Adoption, entry) for entry in self.store.list(keys.ADOPTIONS)[1])
        return [rule for rule in rules if rule is not None]

    def put_adoption(self, draft: dict[str, Any]) -> tuple[Adoption, int]:
        """Create or change a rule; return it with the revision. Raises `Invalid`, and `NotFound` for its network."""
        rule = decode(Adoption, draft, "adoption")
        if network_called(self.store, rule.network) is None:
            raise NotFound("network", rule.network)
        return self.put_record(keys.adoption(rule.name), rule)

    def delete_adoption(self, name: str) -> int:
        """Delete a rule. Raises `NotFound`. Returns the revision."""
        return self.delete_record("adoption", name, keys.adoption(name))
