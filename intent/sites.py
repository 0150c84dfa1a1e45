"""Paths between hosts: plain inside a site, encrypted between sites; the address that each pair uses, and the packets that fit. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from specs.model.host import Host
from specs.model.network import Network
from specs.model.site import Site

VXLAN_OVER_IPV4 = 20 + 8 + 8 + 14  # IPv4, UDP, VXLAN (RFC 7348), inner Ethernet: bytes
VXLAN_OVER_IPV6 = 40 + 8 + 8 + 14
INNER_TAG = 4  # room for one VLAN tag inside
WIREGUARD_HEADERS = 40 + 8 + 32  # IPv6 (IPv4 leaves 20 bytes unused), UDP, WireGuard's header and tag: bytes
DEFAULT_MTU = 1500
WIREGUARD = "wireguard"  # ciphers
NO_SITES: Mapping[str, Site] = {}


def crosses(remote: Host, local: Host | None) -> bool:
    """Whether the path between two hosts leaves their site. Hosts without a site are in one together."""
    return local is not None and remote.site != local.site


def tunnel_end(remote: Host, local: Host | None) -> IPv4Address | IPv6Address | None:
    """The address of `remote` in tunnels from `local`; None where there is no way: a host of another site without an outside address."""
    return remote.tunnel_address if crosses(remote, local) else remote.vtep


def vtep(remote: Host, local: Host | None, encrypted: Container[str]) -> str | None:
    """The address by which `local` reaches `remote` now. None for a host of another site as long as the pair's encryption is not up
    (`encrypted`: names of hosts with which it is): nothing is sent to it, and nothing is taken from it."""
    address = tunnel_end(remote, local)
    return None if address is None or (crosses(remote, local) and remote.name not in encrypted) else str(address)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptedPair:
    """An encrypted tunnel as the specs want it: the peer, its address in the tunnel, where it is reached, and its public key."""

    peer: str
    cipher: str = WIREGUARD
    tunnel_address: IPv4Address
    endpoint: str
    public_key: str


def pairs(local: Host, hosts: Mapping[str, Host]) -> tuple[dict[str, EncryptedPair], dict[str, str]]:
    """The encrypted tunnels of a host, by peer, and why others cannot be, by peer."""
    complete: dict[str, EncryptedPair] = {}
    lacking: dict[str, str] = {}
    for name, host in sorted(hosts.items()):
        if name == local.name or not crosses(host, local):
            continue
        reason = _lacks(local) or _lacks(host)
        if reason is not None:
            lacking[name] = reason
        elif host.outside and host.tunnel_address and host.public_key:
            complete[name] = EncryptedPair(
                peer=name, tunnel_address=host.tunnel_address, endpoint=host.outside.endpoint, public_key=host.public_key
            )
    return complete, lacking


def _lacks(host: Host) -> str | None:
    if host.outside is None:
        return f"host {host.name} has no outside address"
    return None if host.public_key and host.tunnel_address else f"host {host.name} has published no key"


def link_mtu(local: Host) -> int:
    """The MTU (bytes) of a host's interface for encrypted tunnels."""
    return (local.outside_mtu or DEFAULT_MTU) - WIREGUARD_HEADERS


def encrypted_mtus(local: Host | None, hosts: Iterable[Host]) -> dict[str, int]:
    """The largest packet (bytes, with its own IP header) in the encrypted tunnel to each host of another site, by its tunnel address."""
    if local is None:
        return {}
    others = [host for host in hosts if crosses(host, local) and host.tunnel_address is not None]
    return {str(host.tunnel_address): min(link_mtu(host), link_mtu(local)) for host in others}


def inside_mtu(host: Host, sites: Mapping[str, Site] = NO_SITES) -> int:
    """The largest packet (bytes) of a host inside its site."""
    site = sites.get(host.site or "")
    return min(host.underlay_mtu, site.underlay_mtu) if site is not None and site.underlay_mtu else host.underlay_mtu


def paths_mtu(hosts: Iterable[Host], sites: Mapping[str, Site] = NO_SITES) -> int:
    """The MTU (bytes) that the worst path between these hosts leaves to endpoints. Costs what the hosts are, not their pairs."""
    members = list(hosts)
    fits = [inside_mtu(host, sites) - vxlan_header(host.vtep) - INNER_TAG for host in members]
    if len({host.site for host in members}) > 1:
        fits += [link_mtu(host) - VXLAN_OVER_IPV4 - INNER_TAG for host in members if host.outside is not None]
    return min(fits, default=DEFAULT_MTU - VXLAN_OVER_IPV4 - INNER_TAG)


def vxlan_header(address: IPv4Address | IPv6Address) -> int:
    """The bytes that VXLAN to an address puts round an endpoint's packet, without tags."""
    return VXLAN_OVER_IPV4 if address.version == 4 else VXLAN_OVER_IPV6


def endpoint_mtu(hosts: Iterable[Host], network: Network, sites: Mapping[str, Site] = NO_SITES) -> int:
    """The largest MTU (bytes) of an endpoint that fits every path between hosts; a network may ask for less."""
    fits = paths_mtu(hosts, sites)
    return min(fits, network.mtu) if network.mtu else fits
