"""Tenants. Pure."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from specs.model.base import AclNames, Item, Name, Record


class Tenant(Record):
    """Settings of all networks of a tenant. The only tenant is `default`."""

    name: Annotated[str, Field(pattern="^default$")]
    acls: AclNames = ()
    created_at: str | None = None


class TenantItem(Item):
    """Settings of all networks."""

    name: Name
    acls: AclNames = ()
