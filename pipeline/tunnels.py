"""The fields of tunnel packets that hold the address of the other host, by its version of IP; and the tunnel's UDP ports."""

from __future__ import annotations

from functools import cache
from hashlib import blake2b
from ipaddress import IPv4Address, IPv4Network, ip_address

from pipeline.flow import Set, Value

VXLAN_UDP_PORT = 4789  # RFC 7348
VNI_BITS = 24
TUNNEL_RANGE = IPv4Network("100.125.0.0/16")  # of hosts' addresses for encrypted tunnels; shared address space, RFC 6598
TUNNEL_PORT = (
    "vxlan-warren"  # the interface of the bridge to other hosts; those of other profiles than `default` have a number behind it
)


TO_TUNNEL_ADDRESS: dict[str, Value] = {"tun_ipv4_dst": (str(TUNNEL_RANGE.network_address), str(TUNNEL_RANGE.netmask))}


def network_number(profile: int, vni: int) -> int:
    """What packets carry of their network inside a switch (REG_NETWORK): the VNI, and above it the number of the tunnel profile, so that
    networks of two profiles may have one VNI."""
    return profile << VNI_BITS | vni


def profile_number(number: int) -> int:
    """The number of the profile of a network's number."""
    return number >> VNI_BITS


def tunnel_port(profile: int) -> str:
    """The interface by which the packets of a profile's networks come and go; `profile` is its number."""
    return f"{TUNNEL_PORT}{profile or ''}"


def vni_of(number: int) -> int:
    """The VNI of a network's number: what tunnel packets carry."""
    return number & (1 << VNI_BITS) - 1


def to_vtep(vtep: str) -> Set:
    """The action that makes a VTEP the destination."""
    return Set("tun_ipv6_dst" if ":" in vtep else "tun_ipv4_dst", vtep)


def from_vtep(vtep: str) -> dict[str, Value]:
    """The match on packets that a VTEP has sent. What comes from a tunnel address must have come to one, too: anybody in the site can write
    it as the sender of a packet in clear text, which then comes to the host's address there."""
    sender: dict[str, Value] = {"tun_ipv6_src" if ":" in vtep else "tun_ipv4_src": vtep}
    return sender | TO_TUNNEL_ADDRESS if _is_tunnel_address(vtep) else sender


@cache
def _is_tunnel_address(vtep: str) -> bool:
    return ip_address(vtep) in TUNNEL_RANGE


def vtep_number(vtep: str) -> int:
    """The 32 bits that a connection's label keeps of a VTEP: an IPv4 address itself, a digest of an IPv6 address."""
    address = ip_address(vtep)
    return (
        int(address)
        if isinstance(address, IPv4Address)
        else int.from_bytes(blake2b(address.packed, digest_size=4).digest(), "big")
    )
