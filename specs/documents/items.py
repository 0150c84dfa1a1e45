"""The items of a document, one class a section. Pure."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import field_validator, model_validator

from acl.language import canonical, parse_rule
from specs.model.host import HostFields
from specs.model.mirror import Matches, Mirror, SnapLength, Source, Target
from specs.model.records import (
    AclNames,
    Address,
    EndpointFields,
    Item,
    MeterBurst,
    MeterId,
    MeterRate,
    Mtu,
    Name,
    NetworkFields,
    Vlan,
)
from specs.model.router import RouterItem
from specs.model.service import ServiceItem


class HostItem(HostFields, Item):
    """A host. Agents register their own hosts, so documents seldom need any."""

    name: Name
    vtep: Address
    api: str | None = None
    underlay_mtu: Mtu = 1500


class NetworkItem(NetworkFields, Item):
    """A network; without `vxlan_vni` one is allocated."""

    name: Name


class _Placement(Item):
    id: Name | None = None
    name: Name | None = None
    network: Name
    host: Name
    netns: str | None = None
    active: bool = True


class EndpointItem(EndpointFields, _Placement):
    """An endpoint; `network` is a name or an id. Addresses, MAC and OpenFlow port are allocated unless the document states them."""


class AclItem(Item):
    """An ACL, as a list item or as FAUCET's NAME: RULES."""

    name: Name
    rules: tuple[dict[str, Any], ...]
    description: str = ""

    @field_validator("rules", mode="before")
    @classmethod
    def _canonical(cls, value: Any) -> Any:
        rules = canonical(value, "rules")
        for number, rule in enumerate(rules):
            parse_rule(rule, f"rules[{number}]")
        return rules


class MeterItem(Item):
    """A meter; without `meter_id` one is allocated."""

    name: Name
    meter_id: MeterId | None = None
    rate: MeterRate
    burst: MeterBurst = 0
    packets: bool = False


class TenantItem(Item):
    """Settings of all networks."""

    name: Name
    acls: AclNames = ()


class MirrorItem(Item):
    """A mirror session; without `vni` one is allocated."""

    name: Name
    sources: tuple[Source, ...]
    direction: Literal["in", "out", "both"] = "both"
    match: Matches = None
    snap: SnapLength | None = None
    to: Target
    vlan: Vlan | None = None
    active: bool = True

    @model_validator(mode="after")
    def _valid_as_a_mirror(self) -> MirrorItem:
        Mirror(**self.model_dump(), vni=1)
        return self


SECTIONS: dict[str, type[Item]] = {
    "tenants": TenantItem,
    "meters": MeterItem,
    "acls": AclItem,
    "mirrors": MirrorItem,
    "hosts": HostItem,
    "networks": NetworkItem,
    "endpoints": EndpointItem,
    "routers": RouterItem,
    "services": ServiceItem,
}
