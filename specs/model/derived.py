"""Names of interfaces and MAC addresses that are computed from an endpoint's record and not stored. Pure."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from pipeline.protocols import mac_bytes, mac_text

VETH_PREFIX = "wv"
_LINK = re.compile(r"wv[0-9a-f]{12}|wp[0-9a-f]{12}|w[cfg][0-9a-f]{10}|w[mt]\d+|warren-.*|vxlan-warren")


def veth_name(endpoint_id: str) -> str:
    """The name of the interface of an endpoint on the host."""
    return VETH_PREFIX + hashlib.sha256(endpoint_id.encode()).hexdigest()[:12]


def is_link_name(name: str) -> bool:
    """Whether an interface of that name is, or may be, Warren's own."""
    return _LINK.fullmatch(name) is not None


def veth_mac(veth: str) -> str:
    """The MAC of the interface on the host. It never appears in the network, and is the same each time that the interface is created."""
    return mac_text(b"\xfe" + hashlib.sha256(veth.encode()).digest()[:5])


def default_mac(endpoint_id: str, v4: IPv4Address | None, v6: IPv6Address | None) -> str:
    """The MAC of an endpoint that states none: locally administered, and unique in the network because the address is. A container that
    comes back with the same address has the same MAC, so the neighbour caches of others stay valid."""
    if v4 is not None:
        prefix, tail = 0x0257, v4.packed
    elif v6 is not None:
        prefix, tail = 0x0258, v6.packed[-4:]
    else:
        prefix, tail = 0x0259, hashlib.sha256(endpoint_id.encode()).digest()[:4]
    return mac_text(prefix.to_bytes(2, "big") + tail)


def link_local(mac: str) -> IPv6Address:
    """The link-local address that the kernel derives from a MAC (modified EUI-64, RFC 4291 appendix A)."""
    raw = mac_bytes(mac)
    return IPv6Address(b"\xfe\x80" + bytes(6) + bytes([raw[0] ^ 2]) + raw[1:3] + b"\xff\xfe" + raw[3:])


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkNames:
    """Names that no two hosts share: hosts of a laboratory have one directory of namespaces, and one of wireguard-go's sockets."""

    netns: str
    near: str  # the host's end of the veth pair
    far: str
    wireguard: str  # the interfaces of ciphers, in the namespace
    ipsec: str


def link_names(machine: str, host: str) -> LinkNames:
    """The names for a host on a machine."""
    digest = hashlib.sha256(f"{machine}/{host}".encode()).hexdigest()[:10]
    return LinkNames(
        netns=f"warren-{digest}",
        near=f"wc{digest}",
        far=f"wf{digest}",
        wireguard=f"wg{digest}",
        ipsec=f"wi{digest}",
    )
