"""Writes ACLs."""

from __future__ import annotations

from typing import Any

from specs import keys
from specs.model.acl import Acl
from specs.model.base import Record, decode
from specs.model.endpoint import Endpoint
from specs.model.host import Host
from specs.model.network import Network
from specs.model.tenant import Tenant
from specs.store.values import Get
from specs.store.writer import Writer, decoded
from warren.errors import Conflict


class AclWriter(Writer):
    """The ACLs of a store."""

    def acls(self) -> list[Acl]:
        """All ACLs; malformed records are left out."""
        return [acl for entry in self.store.list(keys.ACLS)[1] if (acl := decoded(Acl, entry)) is not None]

    def put_acl(self, draft: dict[str, Any]) -> tuple[Acl, int]:
        """Create an ACL or replace its rules; returns it with the revision. Raises `Invalid`."""
        acl = decode(Acl, draft, "acl")
        return self.put_record(keys.acl(acl.name), acl)

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
        return self.delete_record("acl", name, keys.acl(name))


def named_by(record: Record) -> set[str]:
    """The ACLs that a record names."""
    lists = (getattr(record, field, None) or () for field in ("acls", "default_acl", "vlan_out_acl", "nat_acl"))
    return {reference.rpartition(":")[2] for names in lists for reference in names}
