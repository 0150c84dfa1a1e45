"""Writes the firewall's settings: an allow list is a proposal until it is confirmed."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from specs import keys
from specs.model.base import decode, decode_json
from specs.model.firewall import FIREWALL, Firewall
from specs.store.values import Put, Unchanged
from specs.store.writer import Writer, dated
from warren.errors import Conflict


class FirewallWriter(Writer):
    """The firewall's settings in a store."""

    def firewall(self) -> Firewall:
        """The settings as they are."""
        entry = self.store.get(keys.firewall(FIREWALL))
        return decode_json(Firewall, entry.value, entry.key) if entry is not None else Firewall()

    def put_firewall(self, draft: dict[str, Any]) -> tuple[Firewall, int]:
        """Change the settings. An allow list becomes a proposal, which hosts try and which somebody must confirm; other modes hold at once, for they
        keep nobody out. Raises `Invalid`."""
        within = {name: value for name, value in draft.items() if name == "confirm_within_s" and value is not None}
        new = decode(Firewall, {name: value for name, value in draft.items() if name != "confirm_within_s"}, "firewall")
        if new.mode != "allowlist":
            return self._change(lambda old: new.model_copy(update={"proposal": None}))
        proposal = {"id": str(uuid.uuid4()), **new.settings.model_dump(mode="json"), **within}
        checked = decode(Firewall, {"proposal": proposal}, "firewall").proposal

        def proposed(old: Firewall) -> Firewall:
            return old.model_copy(update={"proposal": checked if old.settings != new.settings else None})

        return self._change(proposed)

    def confirm_firewall(self) -> tuple[Firewall, int]:
        """Make the proposal hold. Raises `Conflict` if there is none."""

        def confirmed(old: Firewall) -> Firewall:
            if old.proposal is None:
                raise Conflict(
                    "firewall: there is nothing to confirm (what was not confirmed in time was taken back)", field="proposal"
                )
            return old.model_copy(update={"mode": old.proposal.mode, "sources": old.proposal.sources, "proposal": None})

        return self._change(confirmed)

    def drop_proposal(self, proposal_id: str) -> None:
        """Forget a proposal that nobody has confirmed, unless another one has taken its place."""

        def without(old: Firewall) -> Firewall:
            expired = old.proposal is not None and old.proposal.id == proposal_id
            return old.model_copy(update={"proposal": None}) if expired else old

        self._change(without)

    def _change(self, change: Callable[[Firewall], Firewall]) -> tuple[Firewall, int]:
        key = keys.firewall(FIREWALL)

        def attempt() -> tuple[Firewall, int] | None:
            entry = self.store.get(key)
            old = decode_json(Firewall, entry.value, entry.key) if entry is not None else Firewall()
            new = change(old)
            if new == old:
                return old, entry.mod_revision if entry is not None else 0
            record = dated(new, old)
            outcome = self.commit([Unchanged(key, entry.mod_revision if entry is not None else 0)], [Put(key, record.encode())])
            return (record, outcome.revision) if outcome.succeeded else None

        return self.retry(attempt)  # type: ignore[no-any-return]
