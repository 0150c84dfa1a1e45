"""The size of packets that the paths between hosts carry: inside a site, and encrypted. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address

from specs.ciphers import WIREGUARD, encrypted_mtu
from specs.model.host import Host
from specs.model.profile import BUILT_IN, Profile
from specs.model.site import Site

VXLAN_OVER_IPV4 = 20 + 8 + 8 + 14  # IPv4, UDP, VXLAN (RFC 7348), inner Ethernet: bytes
VXLAN_OVER_IPV6 = 40 + 8 + 8 + 14
INNER_TAG = 4  # room for one VLAN tag inside
DEFAULT_MTU = 1500
NO_SITES: Mapping[str, Site] = {}


def link_mtu(local: Host, cipher: str = WIREGUARD) -> int:
    """The MTU (bytes) of a host's interface for encrypted tunnels."""
    address = local.outside.address if local.outside is not None else local.vtep
    return encrypted_mtu(cipher, local.outside_mtu or DEFAULT_MTU, address)


def inside_mtu(host: Host, sites: Mapping[str, Site] = NO_SITES) -> int:
    """The largest packet (bytes) of a host inside its site."""
    site = sites.get(host.site or "")
    return min(host.underlay_mtu, site.underlay_mtu) if site is not None and site.underlay_mtu else host.underlay_mtu


def inside_encrypted_mtu(host: Host, cipher: str, sites: Mapping[str, Site] = NO_SITES) -> int:
    """The largest packet (bytes) that a cipher carries for a host inside its site."""
    return encrypted_mtu(cipher, inside_mtu(host, sites), host.vtep)


def vxlan_header(address: IPv4Address | IPv6Address) -> int:
    """The bytes that VXLAN to an address puts round an endpoint's packet, without tags."""
    return VXLAN_OVER_IPV4 if address.version == 4 else VXLAN_OVER_IPV6


def _fits(hosts: Iterable[Host], sites: Mapping[str, Site], profile: Profile) -> list[int]:
    """What the paths of each of the profile's hosts leave to endpoints. Costs what the hosts are, not their pairs."""
    members = [host for host in hosts if profile.has(host)]
    always = profile.encryption == "always"
    fits = [
        inside_encrypted_mtu(host, profile.cipher, sites) - VXLAN_OVER_IPV4
        if always
        else inside_mtu(host, sites) - vxlan_header(host.vtep)
        for host in members
    ]
    if always or (profile.encryption == "auto" and len({host.site for host in members}) > 1):
        fits += [link_mtu(host, profile.cipher) - VXLAN_OVER_IPV4 for host in members if host.outside is not None]
    return [size - INNER_TAG for size in fits]


def paths_mtu(hosts: Iterable[Host], sites: Mapping[str, Site] = NO_SITES, profile: Profile = BUILT_IN) -> int:
    """The MTU (bytes) that the worst path between the hosts of a profile leaves to endpoints."""
    worst = min(_fits(hosts, sites, profile), default=DEFAULT_MTU - VXLAN_OVER_IPV4 - INNER_TAG)
    return worst if profile.mtu == "auto" else min(worst, profile.mtu)


def largest_mtu(hosts: Iterable[Host], sites: Mapping[str, Site], profile: Profile) -> int | None:
    """The MTU (bytes) that the best path of a profile leaves to endpoints; None before it has a host."""
    return max(_fits(hosts, sites, profile), default=None)
