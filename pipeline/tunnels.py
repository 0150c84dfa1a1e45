"""The fields of tunnel packets that hold the address of the other host, by its version of IP; and the tunnel's UDP ports."""

from __future__ import annotations

from pipeline.flow import Set, Value

VXLAN_UDP_PORT = 4789  # RFC 7348
# Where hosts take tunnel packets: no container may send there (see route.py and agent/gateway/rules.py).
UDP_PORTS = (VXLAN_UDP_PORT,)


def to_vtep(vtep: str) -> Set:
    """The action that makes a VTEP the destination."""
    return Set("tun_ipv6_dst" if ":" in vtep else "tun_ipv4_dst", vtep)


def from_vtep(vtep: str) -> dict[str, Value]:
    """The match on packets that a VTEP has sent."""
    return {"tun_ipv6_src" if ":" in vtep else "tun_ipv4_src": vtep}
