"""Narrows lists to one tenant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated

from fastapi import Query

from specs.model.network import Network
from specs.model.tenant import DEFAULT, Tenant
from warren.errors import NotFound

TenantQuery = Annotated[str, Query(description="Only what belongs to the networks of this tenant; empty: of all.")]


class Narrowed:
    """What belongs to a tenant; without a name, everything. Raises `NotFound` for a tenant that does not exist."""

    def __init__(self, tenant: str, tenants: Mapping[str, Tenant], networks: Iterable[Network]) -> None:
        self._all = not tenant
        if tenant and tenant != DEFAULT and tenant not in tenants:
            raise NotFound("tenant", tenant)
        mine = [network for network in networks if tenant and (network.tenant or DEFAULT) == tenant]
        self._references = {reference for network in mine for reference in network.references}

    def has(self, *networks: str) -> bool:
        """Whether one of these networks, by id or name, is the tenant's."""
        return self._all or not self._references.isdisjoint(networks)
