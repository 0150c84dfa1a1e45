"""Writing ACLs, meters, tenants and mirror sessions: records that are known by their names alone."""

from __future__ import annotations

from typing import Any

from specs import keys
from specs.model.host import Host
from specs.model.mirror import CAPTURE_PREFIX, Mirror
from specs.model.records import (
    METER_ID_FIRST,
    METER_ID_LAST,
    VNI_FIRST,
    VNI_LAST,
    Acl,
    Endpoint,
    Meter,
    Network,
    Record,
    Tenant,
    decode,
    now,
)
from specs.store import bitmap as pools
from specs.store.etcd import Compare, Delete, Entry, Get, Operation, Put, Unchanged
from specs.store.pool import Pool
from specs.store.writer import Writer, decoded
from warren.errors import Conflict, Exhausted, Invalid, NotFound


class Rulebooks(Writer):
    """The ACLs, meters, tenants and mirror sessions of a store."""

    def acls(self) -> list[Acl]:
        """All ACLs; malformed records are left out."""
        return [acl for entry in self.store.list(keys.ACLS)[1] if (acl := decoded(Acl, entry)) is not None]

    def meters(self) -> list[Meter]:
        """All meters; malformed records are left out."""
        return [meter for entry in self.store.list(keys.METERS)[1] if (meter := decoded(Meter, entry)) is not None]

    def put_acl(self, draft: dict[str, Any]) -> tuple[Acl, int]:
        """Create an ACL or replace its rules; returns it with the revision. Raises `Invalid`."""
        acl = decode(Acl, draft, "acl")
        return self._put(keys.acl(acl.name), acl)

    def delete_acl(self, name: str) -> int:
        """Raises `NotFound`, and `Conflict` while something names it: without it those ports would be closed."""
        kinds: tuple[tuple[str, type[Record]], ...] = (
            (keys.ENDPOINTS, Endpoint),
            (keys.NETWORKS, Network),
            (keys.HOSTS, Host),
            (keys.TENANTS, Tenant),
        )
        read = self.store.txn((), [Get(prefix, prefix=True) for prefix, _ in kinds])
        for entries, (_, kind) in zip(read.found, kinds, strict=True):
            for record in (decoded(kind, entry) for entry in entries):
                if record is not None and name in named_by(record):
                    called = getattr(record, "name", None) or getattr(record, "id", "")
                    raise Conflict(f"ACL {name} is in use by {kind.__name__.lower()} {called}")
        return self._delete("acl", name, keys.acl(name))

    def put_tenant(self, draft: dict[str, Any]) -> tuple[Tenant, int]:
        """Create or change a tenant; returns it with the revision. Raises `Invalid`."""
        tenant = decode(Tenant, draft, "tenant")
        return self._put(keys.tenant(tenant.name), tenant)

    def delete_tenant(self, name: str) -> int:
        """Raises `NotFound`."""
        return self._delete("tenant", name, keys.tenant(name))

    def put_meter(self, draft: dict[str, Any]) -> tuple[Meter, int]:
        """Create or change a meter; without `meter_id` it keeps its own or gets the lowest free one. Returns it with the revision.
        Raises `Invalid`, `Conflict` (the id is another's), `Exhausted`."""
        wanted = draft.get("meter_id")
        name = decode(Meter, {**draft, "meter_id": METER_ID_FIRST if wanted is None else wanted}, "meter").name

        def attempt() -> tuple[Meter, int] | None:
            read = self.store.txn((), (Get(keys.meter(name)), Get(keys.claim_meter_id_prefix(), prefix=True)))
            entry = read.found[0][0] if read.found[0] else None
            old = decoded(Meter, entry) if entry else None
            claims = {int(claim.key.rpartition("/")[2]): claim for claim in read.found[1]}
            number = wanted if wanted is not None else old.meter_id if old else _free(claims)
            if number in claims and claims[number].value != name:
                raise Conflict(f"meter id {number} belongs to meter {claims[number].value}")
            new = _dated(decode(Meter, {**draft, "meter_id": number}, "meter"), old)
            if old == new:
                return new, entry.mod_revision  # type: ignore[union-attr]
            claim = keys.claim_meter_id(number)
            compares: list[Compare] = [Unchanged(keys.meter(name), entry.mod_revision if entry else 0)]
            compares.append(Unchanged(claim, claims[number].mod_revision if number in claims else 0))
            changes: list[Operation] = [Put(keys.meter(name), new.encode()), Put(claim, name)]
            if old is not None and old.meter_id != number:
                changes.append(Delete(keys.claim_meter_id(old.meter_id)))
            outcome = self.commit(compares, changes)
            return (new, outcome.revision) if outcome.succeeded else None

        return self.retry(attempt)  # type: ignore[no-any-return]

    def delete_meter(self, name: str) -> int:
        """Raises `NotFound`, and `Conflict` while an ACL names it."""
        for acl in self.acls():
            if any(rule.meter == name for rule in acl.parsed):
                raise Conflict(f"meter {name} is in use by ACL {acl.name}")
        entry = self.store.get(keys.meter(name))
        old = decoded(Meter, entry) if entry else None
        return self._delete("meter", name, keys.meter(name), keys.claim_meter_id(old.meter_id) if old else None)

    def put_mirror(self, draft: dict[str, Any]) -> tuple[Mirror, int]:
        """Create or change a mirror session; it keeps its VNI, or gets the lowest free one. Returns it with the revision.
        Raises `Invalid`, `Exhausted`."""
        name = decode(Mirror, {**draft, "vni": 1}, "mirror").name
        if name.startswith(CAPTURE_PREFIX):
            raise Invalid("mirror.name", name, f"a name that does not begin with {CAPTURE_PREFIX} (those are of warren capture)")

        def attempt() -> tuple[Mirror, int] | None:
            read = self.store.txn((), (Get(keys.mirror(name)), Get(keys.pool_vni(), prefix=True)))
            entry = read.found[0][0] if read.found[0] else None
            old = decoded(Mirror, entry) if entry else None
            pool = Pool.read(keys.pool_vni(), read.found[1])
            vni = old.vni if old else pools.lowest_free(pool.blocks, VNI_FIRST, VNI_LAST)
            if vni is None:
                raise Exhausted(f"no VNI is left in {VNI_FIRST}..{VNI_LAST}")
            new = _dated(decode(Mirror, {**draft, "vni": vni}, "mirror"), old)
            if old == new:
                return new, entry.mod_revision  # type: ignore[union-attr]
            if old is None:
                pool.take(vni)
            compares = [Unchanged(keys.mirror(name), entry.mod_revision if entry else 0), *pool.compares()]
            outcome = self.commit(compares, [Put(keys.mirror(name), new.encode()), *pool.puts()])
            return (new, outcome.revision) if outcome.succeeded else None

        return self.retry(attempt)  # type: ignore[no-any-return]

    def delete_mirror(self, name: str) -> int:
        """Raises `NotFound`."""

        def attempt() -> int | None:
            read = self.store.txn((), (Get(keys.mirror(name)), Get(keys.pool_vni(), prefix=True)))
            if not read.found[0]:
                raise NotFound("mirror", name)
            entry = read.found[0][0]
            old, pool = decoded(Mirror, entry), Pool.read(keys.pool_vni(), read.found[1])
            if old is not None:
                pool.give_back(old.vni)
            compares = [Unchanged(entry.key, entry.mod_revision), *pool.compares()]
            outcome = self.commit(compares, [Delete(entry.key), *pool.puts()])
            return outcome.revision if outcome.succeeded else None

        return self.retry(attempt)  # type: ignore[no-any-return]

    # ---- both ways --------------------------------------------------------------------------------------------------

    def _put(self, key: str, record: Any) -> tuple[Any, int]:
        def attempt() -> tuple[Any, int] | None:
            entry = self.store.get(key)
            old = decoded(type(record), entry) if entry else None
            new = _dated(record, old)
            if entry is not None and old == new:
                return new, entry.mod_revision
            outcome = self.commit([Unchanged(key, entry.mod_revision if entry else 0)], [Put(key, new.encode())])
            return (new, outcome.revision) if outcome.succeeded else None

        return self.retry(attempt)  # type: ignore[no-any-return]

    def _delete(self, kind: str, name: str, key: str, claim: str | None = None) -> int:
        def attempt() -> int | None:
            entry = self.store.get(key)
            if entry is None:
                raise NotFound(kind, name)
            changes: list[Operation] = [Delete(each) for each in (key, claim) if each]
            outcome = self.commit([Unchanged(key, entry.mod_revision)], changes)
            return outcome.revision if outcome.succeeded else None

        return self.retry(attempt)  # type: ignore[no-any-return]


def named_by(record: Record) -> set[str]:
    """The ACLs that a record names."""
    lists = (getattr(record, field, None) or () for field in ("acls", "default_acl", "vlan_out_acl", "nat_acl"))
    return {reference.rpartition(":")[2] for names in lists for reference in names}


def _dated(record: Any, old: Any) -> Any:
    """With the time at which it was first written."""
    return record.model_copy(update={"created_at": (old and old.created_at) or record.created_at or now()})


def _free(claims: dict[int, Entry]) -> int:
    for number in range(METER_ID_FIRST, METER_ID_LAST + 1):
        if number not in claims:
            return number
    raise Exhausted(f"no meter id is left in {METER_ID_FIRST}..{METER_ID_LAST}")
