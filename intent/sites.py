"""Paths between hosts in each tunnel profile: plain or encrypted; the address that each pair uses, and the packets that fit. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from pipeline.tunnels import VXLAN_UDP_PORT, tunnel_port
from specs.ciphers import IPSEC, WIREGUARD
from specs.model.host import Host
from specs.model.network import Network
from specs.model.profile import BUILT_IN, Profile, all_profiles, profile_of
from specs.model.site import Site, socket_text
from specs.paths import NO_SITES, inside_encrypted_mtu, link_mtu, paths_mtu
from specs.snapshot import Snapshot

NO_PROFILES: Mapping[str, Profile] = {}


def crosses(remote: Host, local: Host | None) -> bool:
    """Whether the path between two hosts leaves their site. Hosts without a site are in one together."""
    return local is not None and remote.site != local.site


def is_secured(remote: Host, local: Host | None, profile: Profile) -> bool:
    """Whether a profile wants the path between two hosts encrypted."""
    return profile.encryption == "always" or (profile.encryption == "auto" and crosses(remote, local))


def tunnel_end(remote: Host, local: Host | None, profile: Profile = BUILT_IN) -> IPv4Address | IPv6Address | None:
    """The address of `remote` in a profile's tunnels from `local`; None where there is no way: one of them is not in the profile, a path that is
    to be encrypted has no address for it, or a plain one would leave the site."""
    if not profile.has(remote) or (local is not None and not profile.has(local)):
        return None
    if is_secured(remote, local, profile):
        return remote.tunnel_address
    return None if crosses(remote, local) else remote.vtep


def vtep(remote: Host, local: Host | None, encrypted: Container[str], profile: Profile | None = BUILT_IN) -> str | None:
    """The address by which `local` reaches `remote` now in a profile. None for a path that is to be encrypted as long as the pair's encryption
    is not up (`encrypted` has the `encrypted_mark` of those that are): nothing is sent to it, and nothing is taken from it."""
    address = tunnel_end(remote, local, profile) if profile is not None else None
    if profile is None or address is None:
        return None
    is_up = not is_secured(remote, local, profile) or encrypted_mark(remote.name, profile.cipher) in encrypted
    return str(address) if is_up else None


def encrypted_mark(peer: str, cipher: str) -> str:
    """What the agent tells the controller of an encrypted tunnel that is up: a profile with another cipher must not use it."""
    return peer if cipher == WIREGUARD else f"{peer}/{cipher}"


def marked_host(mark: str) -> str:
    """The host of an `encrypted_mark`."""
    return mark.partition("/")[0]


def addresses(remote: Host, local: Host | None, encrypted: Container[str], profiles: Iterable[Profile]) -> set[str]:
    """The addresses by which `local` reaches `remote` now, in any profile."""
    return {address for profile in profiles if (address := vtep(remote, local, encrypted, profile)) is not None}


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


def pairs(
    local: Host, hosts: Mapping[str, Host], profiles: Mapping[str, Profile] = NO_PROFILES
) -> tuple[dict[str, EncryptedPair], dict[str, str]]:
    """The encrypted tunnels of a host, by their `encrypted_mark`, and why others cannot be, by peer: one for each cipher of the profiles that want
    the path of two hosts encrypted."""
    complete: dict[str, EncryptedPair] = {}
    lacking: dict[str, str] = {}
    members = [profile for profile in all_profiles(profiles) if profile.has(local)]
    for name, host in sorted(hosts.items()):
        secured = [profile for profile in members if profile.has(host) and is_secured(host, local, profile)]
        for cipher in sorted({profile.cipher for profile in secured}) if name != local.name else ():
            reason = _lacks(local, cipher) or _lacks(host, cipher)
            if reason is not None:
                lacking[name] = reason
            elif (pair := _pair(local, host, cipher)) is not None:
                complete[encrypted_mark(name, cipher)] = pair
    return complete, lacking


def _pair(local: Host, host: Host, cipher: str) -> EncryptedPair | None:
    if local.outside is None or host.outside is None or host.tunnel_address is None:
        return None
    inside = not crosses(host, local)
    return EncryptedPair(
        peer=host.name,
        cipher=cipher,
        tunnel_address=host.tunnel_address,
        source=local.vtep if inside else local.outside.address,
        target=host.vtep if inside else host.outside.reached,
        port=host.outside.port if cipher == WIREGUARD else host.outside.ipsec_port,
        public_key=host.public_key,
    )


def _lacks(host: Host, cipher: str) -> str | None:
    if host.outside is None:
        return f"host {host.name} has no outside address"
    has_key = host.public_key or cipher == IPSEC  # which authenticates by the secret of the pair
    return None if has_key and host.tunnel_address else f"host {host.name} has published no key"


def without_path(local: Host, hosts: Mapping[str, Host], profiles: Mapping[str, Profile]) -> Iterator[str]:
    """Which hosts a profile has no path to because it is never encrypted, a line each."""
    for profile in all_profiles(profiles):
        for name, host in sorted(hosts.items()) if profile.encryption == "never" and profile.has(local) else ():
            if profile.has(host) and crosses(host, local):
                yield f"profile {profile.name}: no path to host {name} of site {host.site or 'none'}, because encryption is never"


def encrypted_mtus(
    local: Host | None,
    hosts: Iterable[Host],
    sites: Mapping[str, Site] = NO_SITES,
    profiles: Mapping[str, Profile] = NO_PROFILES,
) -> dict[str, int]:
    """The largest packet (bytes, with its own IP header) in the encrypted tunnel to each host, by any cipher in use, by its tunnel address."""
    if local is None:
        return {}
    ciphers = {profile.cipher for profile in all_profiles(profiles)}
    mtus: dict[str, int] = {}
    for host in hosts:
        if host.name != local.name and host.tunnel_address is not None:
            ends = [(end, cipher) for end in (host, local) for cipher in ciphers]
            fits = [link_mtu(end, cipher) for end, cipher in ends]
            fits += [] if crosses(host, local) else [inside_encrypted_mtu(end, cipher, sites) for end, cipher in ends]
            mtus[str(host.tunnel_address)] = min(fits)
    return mtus


def endpoint_mtu(snapshot: Snapshot, network: Network) -> int:
    """The largest MTU (bytes) of an endpoint that fits every path between the hosts of its network's profile; a network may ask for less."""
    profile = profile_of(network.profile, snapshot.profiles) or BUILT_IN
    fits = paths_mtu(snapshot.hosts.values(), snapshot.sites, profile)
    return min(fits, network.mtu) if network.mtu else fits


def tunnel_ofports(default: int | None, profiles: Mapping[str, Profile], interfaces: Mapping[str, int]) -> dict[int, int]:
    """The OpenFlow ports to other hosts, by the number of their profile. `interfaces` are ports by name."""
    ofports = {profile.number: interfaces.get(tunnel_port(profile.number)) for profile in all_profiles(profiles)} | {0: default}
    return {number: ofport for number, ofport in ofports.items() if ofport is not None}


def tunnel_udp_ports(profiles: Mapping[str, Profile]) -> frozenset[int]:
    """The UDP ports of profiles; that of VXLAN is nobody else's in any case."""
    return frozenset(profile.port for profile in all_profiles(profiles)) - {VXLAN_UDP_PORT}
