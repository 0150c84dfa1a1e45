"""Paths between hosts: plain inside a site, encrypted between sites; the address that each pair uses, and the packets that fit. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from specs.ciphers import IPSEC, WIREGUARD
from specs.model.host import Host
from specs.model.network import Network
from specs.model.site import Site, socket_text
from specs.paths import NO_SITES, link_mtu, paths_mtu


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
    """An encrypted tunnel as the specs want it: the peer, its address in the tunnel, the addresses of both ends of the path and the peer's UDP
    port there, and its public key for WireGuard."""

    peer: str
    cipher: str = WIREGUARD
    tunnel_address: IPv4Address
    source: IPv4Address | IPv6Address
    target: IPv4Address | IPv6Address
    port: int
    public_key: str | None = None

    @property
    def endpoint(self) -> str:
        """Where the peer is reached."""
        return socket_text(self.target, self.port)


def pairs(local: Host, hosts: Mapping[str, Host], cipher: str = WIREGUARD) -> tuple[dict[str, EncryptedPair], dict[str, str]]:
    """The encrypted tunnels of a host, by peer, and why others cannot be, by peer."""
    complete: dict[str, EncryptedPair] = {}
    lacking: dict[str, str] = {}
    for name, host in sorted(hosts.items()):
        if name == local.name or not crosses(host, local):
            continue
        reason = _lacks(local, cipher) or _lacks(host, cipher)
        if reason is not None:
            lacking[name] = reason
        elif local.outside and host.outside and host.tunnel_address:
            complete[name] = EncryptedPair(
                peer=name,
                cipher=cipher,
                tunnel_address=host.tunnel_address,
                source=local.outside.address,
                target=host.outside.reached,
                port=host.outside.port if cipher == WIREGUARD else host.outside.ipsec_port,
                public_key=host.public_key,
            )
    return complete, lacking


def _lacks(host: Host, cipher: str) -> str | None:
    if host.outside is None:
        return f"host {host.name} has no outside address"
    has_key = host.public_key or cipher == IPSEC  # which authenticates by the secret of the pair
    return None if has_key and host.tunnel_address else f"host {host.name} has published no key"


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
