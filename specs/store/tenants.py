"""Writes tenants. Their ranges are disjoint, and all networks keep to them: both are checked in the transaction that writes."""

from __future__ import annotations

from typing import Any

from specs import keys
from specs.model.base import decode
from specs.model.network import Network
from specs.model.tenant import Tenant, check_tenant
from specs.store.values import Compare, Delete, Entry, Get, Put, Unchanged
from specs.store.writer import Writer, dated, decoded
from warren.errors import Conflict, NotFound


def revision(entries: list[Entry] | tuple[Entry, ...]) -> int:
    """The revision of a key that was read, 0 if it does not exist."""
    return entries[0].mod_revision if entries else 0


def tenants_of(entries: Any) -> dict[str, Tenant]:
    """The tenants of a read; malformed records are left out."""
    tenants = (decoded(Tenant, entry) for entry in entries)
    return {tenant.name: tenant for tenant in tenants if tenant is not None}


class TenantWriter(Writer):
    """The tenants of a store."""

    def tenants(self) -> list[Tenant]:
        """All tenants; malformed records are left out."""
        return list(tenants_of(self.store.list(keys.TENANTS)[1]).values())

    def put_tenant(self, draft: dict[str, Any]) -> tuple[Tenant, int]:
        """Create or change a tenant; returns it with the revision. Raises `Invalid`, and `Conflict` for ranges that others use."""
        tenant = decode(Tenant, draft, "tenant")

        def attempt() -> tuple[Tenant, int] | None:
            old, tenants, networks, compares = self._read_tenants(tenant.name)
            new = dated(tenant, old and decoded(Tenant, old))
            if old is not None and decoded(Tenant, old) == new:
                return new, old.mod_revision
            check_tenant(new, tenants.values(), networks)
            outcome = self.commit(compares, [Put(keys.tenant(new.name), new.encode()), Put(keys.claim_tenants(), new.name)])
            return (new, outcome.revision) if outcome.succeeded else None

        return self.retry(attempt)  # type: ignore[no-any-return]

    def delete_tenant(self, name: str) -> int:
        """Raises `NotFound`, and `Conflict` while networks are the tenant's. Returns the revision."""

        def attempt() -> int | None:
            old, _, networks, compares = self._read_tenants(name)
            if old is None:
                raise NotFound("tenant", name)
            owned = [network.name for network in networks if network.tenant == name]
            if owned:
                raise Conflict(f"tenant {name} has network{'s' * (len(owned) > 1)} {', '.join(sorted(owned)[:5])}")
            outcome = self.commit(compares, [Delete(keys.tenant(name)), Put(keys.claim_tenants(), name)])
            return outcome.revision if outcome.succeeded else None

        return self.retry(attempt)  # type: ignore[no-any-return]

    def _read_tenants(self, name: str) -> tuple[Entry | None, dict[str, Tenant], list[Network], list[Compare]]:
        """The tenant's entry, all tenants and networks, and the compares that hold while none of them is written."""
        prefixes = (keys.TENANTS, keys.NETWORKS)
        reads = [*(Get(prefix, prefix=True) for prefix in prefixes), Get(keys.claim_tenants()), Get(keys.claim_networks())]
        entries, network_entries, claim, made = self.store.txn((), reads).found
        old = next((entry for entry in entries if entry.key == keys.tenant(name)), None)
        networks = [network for entry in network_entries if (network := decoded(Network, entry)) is not None]
        compares: list[Compare] = [
            Unchanged(keys.tenant(name), old.mod_revision if old else 0), Unchanged(keys.claim_tenants(), revision(claim)),
            Unchanged(keys.claim_networks(), revision(made)),
        ]  # fmt: skip
        return old, tenants_of(entries), networks, compares
