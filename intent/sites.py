"""Paths between hosts: plain inside a site, encrypted between sites; the address that each pair uses, and the packets that fit. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from specs.model.host import Host
from specs.model.network import Network
from specs.model.site import Site
from specs.paths import NO_SITES, link_mtu, paths_mtu

WIREGUARD = "wireguard"  # ciphers


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


def encrypted_mtus(local: Host | None, hosts: Iterable[Host]) -> dict[str, int]:
    """The largest packet (bytes, with its own IP header) in the encrypted tunnel to each host of another site, by its tunnel address."""
    if local is None:
        return {}
    others = [host for host in hosts if crosses(host, local) and host.tunnel_address is not None]
    return {str(host.tunnel_address): min(link_mtu(host), link_mtu(local)) for host in others}


def endpoint_mtu(hosts: Iterable[Host], network: Network, sites: Mapping[str, Site] = NO_SITES) -> int:
    """The largest MTU (bytes) of an endpoint that fits every path between hosts; a network may ask for less."""
    fits = paths_mtu(hosts, sites)
    return min(fits, network.mtu) if network.mtu else fits
