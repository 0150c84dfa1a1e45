"""Sites: places whose hosts reach each other directly. Hosts of different sites reach each other encrypted, over the outside. Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Annotated

from pydantic import BaseModel, Field

from specs.model.base import Address, IfName, Item, Mtu, Name, NestedValue, Record, Whole
from warren.errors import Invalid

WIREGUARD_PORT = 51820
IPSEC_PORT = 4500  # of IKE, and of ESP in UDP (RFC 3948)
UdpPortNumber = Annotated[Whole, Field(ge=1, le=65_535)]


class SiteFields(BaseModel):
    """The fields that a document, a request and the record of a site share."""

    underlay_mtu: Mtu | None = None


class Site(SiteFields, Record):
    """A site; `underlay_mtu` (bytes) is the largest packet of the network between its hosts, if it is smaller than the hosts know."""

    name: Name
    created_at: str | None = None


class SiteItem(SiteFields, Item):
    """A site, in a document."""

    name: Name


def socket_text(address: IPv4Address | IPv6Address, port: int) -> str:
    """An address with a port, as a URL would have it."""
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


class OutsideAddress(NestedValue):
    """How hosts of other sites reach a host: `address` is on its `interface` (without one, on that which has the address), `public` is the
    address that others see if it is translated on the way, `port` is WireGuard's UDP port, `ipsec_port` that of IPsec."""

    address: Address
    interface: IfName | None = None
    public: Address | None = None
    port: UdpPortNumber = WIREGUARD_PORT
    ipsec_port: UdpPortNumber = IPSEC_PORT

    @property
    def reached(self) -> IPv4Address | IPv6Address:
        """The address that peers send to."""
        return self.public or self.address

    @property
    def endpoint(self) -> str:
        """Where peers send WireGuard's packets to, as wg(8) writes it."""
        return socket_text(self.reached, self.port)


EXPECTED = "ADDRESS[@INTERFACE][,public=ADDRESS][,port=NUMBER][,ipsec_port=NUMBER], such as 192.0.2.1@eth1,public=203.0.113.9"


def parse_outside(text: str, path: str) -> OutsideAddress:
    """An outside address as settings and commands write it. Raises `Invalid`."""
    first, *rest = (word.strip() for word in text.split(","))
    address, at, interface = first.partition("@")
    fields: dict[str, object] = {"address": address, **({"interface": interface} if at else {})}
    for word in rest:
        name, _, value = word.partition("=")
        if name not in ("public", "port", "ipsec_port"):
            raise Invalid(path, text, EXPECTED)
        fields[name] = int(value) if name != "public" and value.isascii() and value.isdigit() else value
    try:
        return OutsideAddress.model_validate(fields)
    except ValueError:
        raise Invalid(path, text, EXPECTED) from None
