"""The metadata of an instance as values: its interfaces (`Nic`), and where it runs (`Location`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from types import MappingProxyType
from typing import Any

from warren.errors import Invalid

AnyAddress = IPv4Address | IPv6Address
AnyInterface = IPv4Interface | IPv6Interface
AnyNetwork = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicAddress:
    """An address that the cloud translates 1:1 to a private one."""

    public: AnyAddress
    private: AnyAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class Nic:
    """An interface of the instance. `addresses` begin with the primary one; `subnets` are on its link, `prefixes` are delegated to it.
    Without an IPv6 gateway, the gateway of router advertisements is used. Without an MTU, the link keeps its own."""

    mac: str
    addresses: tuple[AnyInterface, ...]
    subnets: tuple[AnyNetwork, ...] = ()
    prefixes: tuple[AnyNetwork, ...] = ()
    gateway4: IPv4Address | None = None
    gateway6: IPv6Address | None = None
    mtu: int | None = None
    public: tuple[PublicAddress, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Where an instance runs: its cloud, region and VPC (Azure: resource group)."""

    cloud: str
    region: str
    vpc: str

    @property
    def site(self) -> str:
        """Return the name of the site: hosts of one site reach each other by their private addresses."""
        return "/".join(part for part in (self.cloud, self.region, self.vpc) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """One reading of a metadata service. `system` and `network` are what the REST API serves, `links` the document of each NIC by its MAC,
    `identity` EC2's signed documents by their names."""

    nics: tuple[Nic, ...]
    location: Location
    system: Any
    network: Any
    links: Mapping[str, Any]
    identity: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


def checked(nics: tuple[Nic, ...], path: str) -> tuple[Nic, ...]:
    """Return the NICs. Raises `Invalid` if there are none, one has no addresses, or two have one MAC: no cloud gives such a document."""
    if not nics:
        raise Invalid(path, [], "at least one interface")
    for number, nic in enumerate(nics):
        if not nic.addresses:
            raise Invalid(f"{path}[{number}]", nic.mac, "an interface with an address")
        for address in nic.addresses:
            if address.is_link_local:  # such as that of the metadata service itself
                raise Invalid(f"{path}[{number}]", str(address.ip), "addresses that are not link-local")
    macs = [nic.mac for nic in nics]
    for mac in macs:
        if macs.count(mac) > 1:
            raise Invalid(path, mac, "interfaces with different MACs")
    return nics
