"""The ciphers of encrypted tunnels, and what they leave of a packet. Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

WIREGUARD, IPSEC = "wireguard", "ipsec"
WIREGUARD_HEADERS = 40 + 8 + 32  # IPv6 (IPv4 leaves 20 bytes unused), UDP, WireGuard's header and tag: bytes
IPV4_HEADER, IPV6_HEADER = 20, 40
ESP_HEADERS = 8 + 8 + 8 + 16  # UDP, ESP, the initialization vector and the tag of AES-GCM: bytes
ESP_ALIGN, ESP_TRAILER = 4, 2
LIBIPSEC_MTU = 1400  # strongSwan's ESP in userspace takes no larger packets


def encrypted_mtu(cipher: str, outer_mtu: int, outside: IPv4Address | IPv6Address) -> int:
    """The largest packet (bytes) that a cipher carries over a path with this MTU from this address."""
    if cipher == WIREGUARD:
        return outer_mtu - WIREGUARD_HEADERS
    room = outer_mtu - (IPV4_HEADER if outside.version == 4 else IPV6_HEADER) - ESP_HEADERS
    return min(LIBIPSEC_MTU, room // ESP_ALIGN * ESP_ALIGN - ESP_TRAILER)
