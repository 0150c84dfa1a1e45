"""The ciphers of encrypted tunnels, and what IPsec leaves of a packet. Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

WIREGUARD, IPSEC = "wireguard", "ipsec"
IPV4_HEADER, IPV6_HEADER = 20, 40
ESP_HEADERS = 8 + 8 + 8 + 16  # UDP, ESP, the initialization vector and the tag of AES-GCM: bytes
ESP_ALIGN, ESP_TRAILER = 4, 2
LIBIPSEC_MTU = 1400  # strongSwan's ESP in userspace takes no larger packets


def ipsec_mtu(outside_mtu: int, outside: IPv4Address | IPv6Address) -> int:
    """The MTU (bytes) of the interface for IPsec on a host with this outside address."""
    room = outside_mtu - (IPV4_HEADER if outside.version == 4 else IPV6_HEADER) - ESP_HEADERS
    return min(LIBIPSEC_MTU, room // ESP_ALIGN * ESP_ALIGN - ESP_TRAILER)
