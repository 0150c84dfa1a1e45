"""Derives the lease of an endpoint from the specs. The server has no other state, so every host, and a restarted controller,
gives the same lease."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_interface
from typing import Any

from intent.gateway import GATEWAY_MAC
from intent.sites import endpoint_mtu
from specs.model.derived import link_local
from specs.model.dhcp import SERVER4, Boot, DhcpRoute
from specs.model.endpoint import Endpoint
from specs.model.network import Network
from specs.snapshot import Snapshot

SERVER_MAC = GATEWAY_MAC
SERVER6 = link_local(SERVER_MAC)


@dataclass(frozen=True, slots=True)
class DhcpLease:
    """The lease of an endpoint. Addresses have the prefix length of their range. `server4` is the server's identity; `router4` and
    `router6` say whether the network has a way out; `mtu` is in bytes, `lease_s` in seconds."""

    mac: str
    ipv4: IPv4Interface | None
    ipv6: IPv6Interface | None
    server4: IPv4Address
    router4: IPv4Address | None
    router6: bool
    mtu: int
    lease_s: int
    name: str = ""
    domain: str = ""
    dns4: tuple[IPv4Address, ...] = ()
    dns6: tuple[IPv6Address, ...] = ()
    routes: tuple[DhcpRoute, ...] = ()
    boot: Boot | None = None
    ntp: tuple[IPv4Address, ...] = ()
    search: tuple[str, ...] = ()

    @property
    def searched(self) -> tuple[str, ...]:
        """The search domains: those of the network, else the client's own domain."""
        return self.search or (self.domain,)


def lease_of(snapshot: Snapshot, endpoint_id: str) -> DhcpLease | None:
    """The lease of an endpoint; None where its network has no DHCP."""
    endpoint = snapshot.endpoints.get(endpoint_id)
    network = snapshot.networks.get(endpoint.network_id) if endpoint is not None else None
    if endpoint is None or network is None or not network.dhcp:
        return None
    return lease(endpoint, network, endpoint_mtu(snapshot, network))


def lease(endpoint: Endpoint, network: Network, mtu: int) -> DhcpLease:
    """The lease of an endpoint of a network whose MTU is `mtu` bytes."""
    gated = network.mode != "flat"
    router4 = network.gateway.ip if gated and network.gateway is not None else None
    return DhcpLease(
        mac=endpoint.mac_address,
        ipv4=_in_range(endpoint.ipv4_address, network.ip_range),
        ipv6=_in_range(endpoint.ipv6_address, network.ipv6_range),
        server4=router4 or SERVER4,
        router4=router4,
        router6=gated and network.ipv6_gateway is not None,
        mtu=mtu,
        lease_s=network.lease_s(endpoint.ipv4_address),
        name=(endpoint.name or "").replace("_", "-").strip("-."),
        domain=network.domain or "",
        dns4=tuple(a for a in network.name_servers if isinstance(a, IPv4Address)),
        dns6=tuple(a for a in network.name_servers if isinstance(a, IPv6Address)),
        routes=network.dhcp_routes,
        boot=network.boot,
        ntp=network.ntp,
        search=network.search,
    )


def _in_range(address: Any, network_range: Any) -> Any:
    if address is None or network_range is None:
        return None
    return ip_interface(f"{address}/{network_range.prefixlen}")
