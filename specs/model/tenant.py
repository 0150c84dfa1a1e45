"""Tenants: who owns which VNIs and VLAN ids, and the ACLs of all of a tenant's networks. Pure.

tenants: [{name: acme, vni: "5000-5099,7000", vlan: "100-199", max_networks: 20}]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator

from specs.model.base import VNI_FIRST, VNI_LAST, AclNames, Item, Name, Record, Whole
from specs.model.names import DEFAULT
from specs.model.network import Network
from specs.model.number_ranges import Span, VlanRanges, VniRanges, contains, overlap, spans, without
from warren.errors import Conflict, Invalid

NetworksLimit = Annotated[Whole, Field(ge=0, le=1_000_000)]


class TenantFields(BaseModel):
    """The fields that a document, a request and the record of a tenant share."""

    name: Name
    vni: VniRanges | None = None
    vlan: VlanRanges | None = None
    max_networks: NetworksLimit | None = None
    acls: AclNames = ()

    @model_validator(mode="after")
    def _the_default_has_the_rest(self) -> Self:
        if self.name == DEFAULT and (self.vni or self.vlan or self.max_networks is not None):
            raise ValueError("vni, vlan and max_networks only of other tenants: default has what is delegated to nobody")
        return self


class Tenant(TenantFields, Record):
    """A tenant. `vni` and `vlan` are the ranges that only its networks use; without them it has no numbers of its own, and shares those of
    `default`. `acls` apply to what its endpoints send, after their own; those of `default` to all, last."""

    created_at: str | None = None

    @property
    def vnis(self) -> tuple[Span, ...]:
        """Its VNIs."""
        return spans(self.vni or "")

    @property
    def vlans(self) -> tuple[Span, ...]:
        """Its VLAN ids."""
        return spans(self.vlan or "")


class TenantItem(TenantFields, Item):
    """A tenant in a document."""


@dataclass(frozen=True, slots=True)
class Governing:
    """The ACLs of a network's tenant, and behind them those of `default`."""

    acls: tuple[str, ...]


def governing(network: Network, tenants: Mapping[str, Tenant]) -> Governing:
    """The ACLs of tenants that apply to a network's endpoints."""
    names = dict.fromkeys((network.tenant or DEFAULT, DEFAULT))
    return Governing(tuple(acl for name in names if name in tenants for acl in tenants[name].acls))


def free_vnis(tenant: Tenant | None, tenants: Iterable[Tenant]) -> list[Span]:
    """The ranges that an automatic VNI comes from: the tenant's, or all that are delegated to nobody."""
    if tenant is not None and tenant.vni:
        return list(tenant.vnis)
    return without([(VNI_FIRST, VNI_LAST)], [span for other in tenants for span in other.vnis])


def check_network(network: Network, vni: int, tenants: Mapping[str, Tenant]) -> None:
    """Raises `Invalid` or `Conflict` if a number of a network is not its tenant's to use."""
    tenant = tenants.get(network.tenant or DEFAULT)
    for field, number, kind in (("vxlan_vni", vni, "vni"), ("vlan", network.vlan, "vlan")):
        if number is None:
            continue
        word = "VNI" if kind == "vni" else "VLAN id"
        text = getattr(tenant, kind, None)
        if text and not contains(spans(text), number):
            raise Invalid(f"network.{field}", number, f"a {word} of tenant {network.tenant}: {text}")
        for other in tenants.values():
            if other.name != (network.tenant or DEFAULT) and contains(spans(getattr(other, kind) or ""), number):
                problem = f"{word} {number} is delegated to tenant {other.name}, which has {getattr(other, kind)}"
                raise Conflict(problem, field=field, holder=other.name)


def check_tenant(tenant: Tenant, tenants: Iterable[Tenant], networks: Iterable[Network]) -> None:
    """Raises `Conflict` if a tenant's ranges overlap another's, or if networks exist that its ranges or its limit would not allow."""
    for other in tenants:
        for word, mine, others in (("VNI", tenant.vnis, other.vnis), ("VLAN ids", tenant.vlans, other.vlans)):
            common = overlap(mine, others) if other.name != tenant.name else None
            if common is not None:
                text = f"{common[0]}-{common[1]}" if common[0] != common[1] else str(common[0])
                raise Conflict(f"tenant {tenant.name}: {word} {text} {'are' if common[0] != common[1] else 'is'} of tenant {other.name}",
                               field="vni" if word == "VNI" else "vlan", holder=other.name)  # fmt: skip
    owned = 0
    for network in networks:
        own = network.tenant == tenant.name
        owned += own
        for field, number, ranges in (("vni", network.vxlan_vni, tenant.vni), ("vlan", network.vlan, tenant.vlan)):
            inside = number is not None and contains(spans(ranges or ""), number)
            if ranges and number is not None and inside != own:
                reason = f"outside {ranges}" if own else f"inside {ranges}, and is not the tenant's"
                raise Conflict(
                    f"tenant {tenant.name}: network {network.name} has {field} {number}, {reason}",
                    field=field,
                    holder=network.name,
                )
    if tenant.max_networks is not None and owned > tenant.max_networks:
        raise Conflict(f"tenant {tenant.name}: it has {owned} networks, more than {tenant.max_networks}", field="max_networks")
