"""Networks. Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network, ip_interface
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from pipeline.protocols import IpNetwork
from pipeline.tunnels import network_number
from specs.model.admin import AdminOverlay, check_admin
from specs.model.base import AclNames, Flag, Item, Labels, Mtu, Name, Record, Vlan, Vni, Whole, require_text
from specs.model.dhcp import DhcpFields, check_dhcp
from specs.model.names import NetworkName, names_of, with_tenant
from specs.model.profile import PROFILES_LIMIT, ProfileName
from specs.model.reservations import AddressPool, Reservation, check_reservations
from warren.errors import MISSING, Invalid

TITLE_LIMIT = 4096
RELATED_BIT = 1 << 23  # a network's second VNI is its own with this bit flipped (intent/views.py)


def _v4_range(value: IPv4Network) -> IPv4Network:
    if value.prefixlen > 30 or value.network_address.is_multicast or value.network_address.is_loopback:
        raise ValueError("a unicast IPv4 range of at least four addresses, such as 10.0.0.0/24")
    return value


def _v6_range(value: IPv6Network) -> IPv6Network:
    if value.prefixlen > 126 or value.network_address.is_multicast or value.network_address.is_link_local:
        raise ValueError("a unicast IPv6 range of at least four addresses, such as fd00:1::/64")
    return value


Range4 = Annotated[IPv4Network, BeforeValidator(require_text), AfterValidator(_v4_range)]
Range6 = Annotated[IPv6Network, BeforeValidator(require_text), AfterValidator(_v6_range)]
Cidr4 = Annotated[IPv4Interface, BeforeValidator(require_text)]
Cidr6 = Annotated[IPv6Interface, BeforeValidator(require_text)]
HostAccessLevel = Literal["none", "dns", "all"]
CtLimit = Annotated[Whole, Field(ge=1, le=3_000_000)]  # the default limit of the userspace datapath for all zones together


class NetworkFields(DhcpFields):
    """The fields that a document, a request and the record of a network share."""

    id: Name | None = None
    name: NetworkName | None = None
    title: Annotated[str, Field(max_length=TITLE_LIMIT)] | None = None
    tenant: Name | None = None
    profile: ProfileName = None
    type: str = "overlay"
    vxlan_vni: Vni | None = None
    ip_range: Range4 | None = None
    gateway: Cidr4 | None = None
    ipv6_range: Range6 | None = None
    ipv6_gateway: Cidr6 | None = None
    mtu: Mtu | None = None
    vlan: Vlan | None = None
    vlan_transparent: Flag = False
    mode: Literal["flat", "nat", "routed"] = "flat"
    default_acl: AclNames = ()
    vlan_out_acl: AclNames = ()
    nat_acl: AclNames = ()
    ct_limit: CtLimit | None = None
    host_access: HostAccessLevel = "none"
    preallocate: Annotated[Whole, Field(ge=0, le=256)] = 0
    dns_server: Flag = False
    labels_required: Flag = True
    labels: Labels = {}
    admin: AdminOverlay | None = None

    @model_validator(mode="before")
    @classmethod
    def _tenant_of_the_name(cls, data: Any) -> Any:
        return with_tenant(data)


class Network(NetworkFields, Record):
    """An isolated layer 2 network. `host_access` is what its endpoints reach of the cluster's machines by the gateway, besides
    published ports: nothing, name servers, or everything. `gateway` and `ipv6_gateway` are addresses with prefix length, inside the range.
    `title` is the name that SAND's client gave, if that is no unique name: free text, which names nothing. `tenant` owns it; None is `default`. `profile` says how its tunnel packets travel (None is `default`), and
    `profile_number` is that profile's. `labels_required` closes endpoints until their labels are known. With
    `dns_server` each host answers questions for the names of its endpoints at the gateway's addresses (agent/names/). `admin` makes it the admin
    overlay (specs/model/admin.py)."""

    id: Name
    name: NetworkName
    type: str = Field(default="overlay", pattern="^overlay$")
    vxlan_vni: Vni
    profile_number: Annotated[Whole, Field(ge=0, le=PROFILES_LIMIT)] = 0
    created_at: str | None = None

    def data(self) -> dict[str, Any]:
        """As JSON data. Fields that came later are left out where they say nothing: agents of an earlier version refuse fields that they do not know."""
        left_out = {
            name
            for name in ("dns_server", "ntp", "search", "reservations", "dhcp_pool", "profile_number", "admin")
            if not getattr(self, name)
        }
        return {name: value for name, value in super().data().items() if name not in left_out}

    @model_validator(mode="after")
    def _gateways_inside(self) -> Network:
        _check_gateway("gateway", self.gateway, "ip_range", self.ip_range)
        _check_gateway("ipv6_gateway", self.ipv6_gateway, "ipv6_range", self.ipv6_range)
        check_dhcp(self, self.ip_range, self.mode)
        gateways = [gateway.ip for gateway in self.gateways]
        check_reservations(self.reservations, self.dhcp_pool, (self.ip_range, self.ipv6_range), gateways)
        self._check_admin()
        if self.has_gateway_mac and self.ip_range is None and self.ipv6_range is None:
            reason = "dhcp" if self.dhcp else "dns_server" if self.dns_server else f"mode {self.mode}"
            raise Invalid("ip_range", MISSING, f"{reason} needs ip_range or ipv6_range")
        return self

    def _check_admin(self) -> None:
        if self.admin is None:
            return
        if self.ip_range is None and self.ipv6_range is None:
            raise Invalid("ip_range", MISSING, "the admin overlay needs ip_range or ipv6_range")
        for name in ("dhcp", "dns_server", "preallocate", "vlan_transparent", "gateway", "ipv6_gateway"):
            if value := getattr(self, name):
                shown = value if isinstance(value, str | bool | int) else str(value)
                raise Invalid(name, shown, "nothing on the admin overlay: hosts alone are on it, and none is a router")
        if self.mode != "flat":
            raise Invalid("mode", self.mode, "flat, as the admin overlay is")
        check_admin(self.admin, (self.ip_range, self.ipv6_range))

    @property
    def number(self) -> int:
        """What packets carry of their network inside a switch: its VNI, and above it the number of its profile."""
        return network_number(self.profile_number, self.vxlan_vni)

    @property
    def references(self) -> tuple[str, ...]:
        """What finds it: its id and its names."""
        return self.id, *names_of(self.name, self.tenant)

    @property
    def gateways(self) -> tuple[IPv4Interface | IPv6Interface, ...]:
        """The gateway's addresses, IPv4 first. A network in mode `flat` reserves them, too."""
        return tuple(gateway for gateway in (self.gateway, self.ipv6_gateway) if gateway is not None)

    def reservation(self, mac: str | None, *addresses: IPv4Address | IPv6Address | None) -> Reservation | None:
        """The reservation for a MAC; without one, that of the first of these addresses that is reserved."""
        if mac is not None:
            return next((each for each in self.reservations if each.mac == mac), None)
        return next((each for each in self.reservations if set(addresses) & set(each.addresses)), None)

    def lease_s(self, address: IPv4Address | None) -> int:
        """How many seconds a DHCP lease of an address lasts."""
        pool = self.dhcp_pool
        return pool.lease_s if isinstance(pool, AddressPool) and address in pool else self.dhcp_lease_s

    @property
    def has_gateway_mac(self) -> bool:
        """Whether the gateway's MAC is a neighbour of its endpoints: as gateway, DHCP server or name server."""
        return self.mode != "flat" or self.answers or self.dns_server

    @property
    def name_servers(self) -> tuple[IPv4Address | IPv6Address, ...]:
        """The name servers that endpoints are offered: those of `dns`, else the network's own."""
        return self.dns or (tuple(gateway.ip for gateway in self.gateways) if self.dns_server else ())


def _check_gateway(
    field: str, gateway: IPv4Interface | IPv6Interface | None, range_field: str, network: IPv4Network | IPv6Network | None
) -> None:
    if gateway is None:
        return
    if network is None:
        raise Invalid(range_field, MISSING, f"{field} needs one")
    if gateway.ip not in network or gateway.ip == network.network_address or gateway.network != network:
        example = f"{network.network_address + 1}/{network.prefixlen}"
        raise Invalid(field, str(gateway), f"a host address of {network} with its prefix length, such as {example}")
    if network.version == 4 and gateway.ip == network.broadcast_address:
        raise Invalid(field, str(gateway), f"not the broadcast address of {network}")


def default_gateways(network: Network) -> dict[str, str]:
    """The gateways that the spec does not state: the first host address of each range. The admin overlay has none."""
    gateways: dict[str, str] = {}
    if network.admin is not None:
        return gateways
    ranges: tuple[tuple[str, Any, IpNetwork | None], ...] = (
        ("gateway", network.gateway, network.ip_range),
        ("ipv6_gateway", network.ipv6_gateway, network.ipv6_range),
    )
    for name, gateway, network_range in ranges:
        if gateway is None and network_range is not None:
            gateways[name] = str(ip_interface(f"{network_range.network_address + 1}/{network_range.prefixlen}"))
    return gateways


class NetworkItem(NetworkFields, Item):
    """A network; without `vxlan_vni` one is allocated."""

    name: NetworkName
