"""Writes tenants."""

from __future__ import annotations

from typing import Any

from specs import keys
from specs.model.base import decode
from specs.model.tenant import Tenant
from specs.store.writer import Writer


class TenantWriter(Writer):
    """The tenants of a store."""

    def put_tenant(self, draft: dict[str, Any]) -> tuple[Tenant, int]:
        """Create or change a tenant; returns it with the revision. Raises `Invalid`."""
        tenant = decode(Tenant, draft, "tenant")
        return self.put_record(keys.tenant(tenant.name), tenant)

    def delete_tenant(self, name: str) -> int:
        """Raises `NotFound`."""
        return self.delete_record("tenant", name, keys.tenant(name))
