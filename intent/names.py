"""Name servers: how packets get from an endpoint to its host's resolver and back. Pure.

Endpoints ask at the gateway's address. The switch replaces that address by one that stands for the network, and the resolver knows by it which
network a question comes from, however many networks have the endpoint's own address. The sender stays as it is, and the answer finds its way
by both addresses. The resolver has a network namespace of its own (agent/names/namespace.py), so these addresses meet no others:
127.0.0.0/8 and 100::/104, in which no network can be (specs/store/networks.py), have one for each conntrack zone, and each network has its zone.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from pipeline.protocols import IpAddress
from specs.model.network import Network

PREFIX4 = IPv4Network("127.0.0.0/8")
PREFIX6 = IPv6Network("100::/104")
ZONE_MASK = (1 << 24) - 1
PORT = 53


@dataclass(frozen=True, slots=True, kw_only=True)
class NameServer:
    """The name server of a network on one host: the OpenFlow port to the resolver, the network's zone, and the addresses at which endpoints ask."""

    port: int
    zone: int
    ipv4: IPv4Address | None
    ipv6: IPv6Address | None


def name_server(network: Network, resolver: int | None, zone: int) -> NameServer | None:
    """The name server of a network; None if it has none, or the host no resolver (yet)."""
    if not network.dns_server or resolver is None:
        return None
    ipv4, ipv6 = network.gateway, network.ipv6_gateway
    return NameServer(port=resolver, zone=zone, ipv4=ipv4.ip if ipv4 else None, ipv6=ipv6.ip if ipv6 else None)


def inner4(zone: int) -> IPv4Address:
    """The IPv4 address that stands for a network in the resolver's namespace."""
    return PREFIX4[zone]


def inner6(zone: int) -> IPv6Address:
    """The IPv6 address that stands for a network in the resolver's namespace."""
    return PREFIX6[zone]


def zone_of(address: IpAddress) -> int:
    """The conntrack zone of the network that an address of the resolver's namespace stands for."""
    return int(address) & ZONE_MASK
