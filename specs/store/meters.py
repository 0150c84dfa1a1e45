"""Writes meters: the meter id is claimed in the same transaction."""

from __future__ import annotations

from typing import Any

from specs import keys
from specs.model.acl import Acl
from specs.model.base import decode
from specs.model.meter import METER_ID_FIRST, METER_ID_LAST, Meter
from specs.store.values import Compare, Delete, Entry, Get, Put, TxnOperation, Unchanged
from specs.store.writer import Writer, dated, decoded
from warren.errors import Conflict, Exhausted


class MeterWriter(Writer):
    """The meters of a store."""

    def meters(self) -> list[Meter]:
        """All meters; malformed records are left out."""
        return [meter for entry in self.store.list(keys.METERS)[1] if (meter := decoded(Meter, entry)) is not None]

    def put_meter(self, draft: dict[str, Any]) -> tuple[Meter, int]:
        """Create or change a meter; without `meter_id` it keeps its own or gets the lowest free one. Returns it with the revision.
        Raises `Invalid`, `Conflict` (the id is another's), `Exhausted`."""
        requested = draft.get("meter_id")
        name = decode(Meter, {**draft, "meter_id": METER_ID_FIRST if requested is None else requested}, "meter").name

        def attempt() -> tuple[Meter, int] | None:
            read = self.store.txn((), (Get(keys.meter(name)), Get(keys.claim_meter_id_prefix(), prefix=True)))
            entry = read.found[0][0] if read.found[0] else None
            old = decoded(Meter, entry) if entry else None
            claims = {int(claim.key.rpartition("/")[2]): claim for claim in read.found[1]}
            number = requested if requested is not None else old.meter_id if old else _free(claims)
            if number in claims and claims[number].value != name:
                raise Conflict(f"meter id {number} belongs to meter {claims[number].value}")
            new = dated(decode(Meter, {**draft, "meter_id": number}, "meter"), old)
            if old == new:
                return new, entry.mod_revision  # type: ignore[union-attr]
            claim = keys.claim_meter_id(number)
            compares: list[Compare] = [Unchanged(keys.meter(name), entry.mod_revision if entry else 0)]
            compares.append(Unchanged(claim, claims[number].mod_revision if number in claims else 0))
            changes: list[TxnOperation] = [Put(keys.meter(name), new.encode()), Put(claim, name)]
            if old is not None and old.meter_id != number:
                changes.append(Delete(keys.claim_meter_id(old.meter_id)))
            outcome = self.commit(compares, changes)
            return (new, outcome.revision) if outcome.succeeded else None

        return self.retry(attempt)  # type: ignore[no-any-return]

    def delete_meter(self, name: str) -> int:
        """Raises `NotFound`, and `Conflict` while an ACL names it."""
        for listed in self.store.list(keys.ACLS)[1]:
            acl = decoded(Acl, listed)
            if acl is not None and any(rule.meter == name for rule in acl.parsed):
                raise Conflict(f"meter {name} is in use by ACL {acl.name}")
        entry = self.store.get(keys.meter(name))
        old = decoded(Meter, entry) if entry else None
        return self.delete_record("meter", name, keys.meter(name), keys.claim_meter_id(old.meter_id) if old else None)


def _free(claims: dict[int, Entry]) -> int:
    for number in range(METER_ID_FIRST, METER_ID_LAST + 1):
        if number not in claims:
            return number
    raise Exhausted(f"no meter id is left in {METER_ID_FIRST}..{METER_ID_LAST}")
