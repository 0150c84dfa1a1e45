"""Reads fields of metadata documents. A missing or wrong field raises `Invalid` with its path, so that a garbled document changes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface, ip_network
from typing import Any

from underlay.model import AnyAddress, AnyInterface, AnyNetwork
from warren.errors import MISSING, Invalid

_MAC = re.compile(r"[0-9a-f]{12}")
_GROUP_BIT = 0x01
_SHORTEST = {4: 8, 6: 16}  # prefix lengths of the widest ranges


def member(document: Any, path: str, name: str) -> Any:
    """Return a member of an object that must be there."""
    if not isinstance(document, Mapping):
        raise Invalid(path, document, "an object")
    value = document.get(name)
    if value is None:
        raise Invalid(f"{path}.{name}", MISSING, "every instance has it")
    return value


def tree(document: Any, path: str, name: str, *, optional: bool = False) -> Mapping[str, Any]:
    """Return a member that is an object; an empty object for an optional member that is missing."""
    if optional and isinstance(document, Mapping) and document.get(name) is None:
        return {}
    value = member(document, path, name)
    if not isinstance(value, Mapping):
        raise Invalid(f"{path}.{name}", value, "an object")
    return value


def text(document: Any, path: str, name: str, default: str | None = None) -> str:
    """Return a member that is a text; `default` for a missing one."""
    if default is not None and isinstance(document, Mapping) and document.get(name) is None:
        return default
    value = member(document, path, name)
    if not isinstance(value, str):
        raise Invalid(f"{path}.{name}", value, "a text")
    return value


def items(document: Any, path: str, name: str, *, optional: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield the items of a list, each with its path."""
    if optional and isinstance(document, Mapping) and document.get(name) is None:
        return
    value = member(document, path, name)
    if not isinstance(value, list):
        raise Invalid(f"{path}.{name}", value, "a list")
    yield from ((f"{path}.{name}[{number}]", item) for number, item in enumerate(value))


def mac_address(value: Any, path: str) -> str:
    """Return a MAC in lower case with colons, from any of the notations of the clouds."""
    digits = value.lower().replace(":", "").replace("-", "") if isinstance(value, str) else ""
    if not _MAC.fullmatch(digits) or int(digits[:2], 16) & _GROUP_BIT or not int(digits, 16):
        raise Invalid(path, value, "the MAC of an interface, such as 000D3A5D2D66 or 00:0d:3a:5d:2d:66")
    return ":".join(digits[i : i + 2] for i in range(0, 12, 2))


def usable(value: Any, path: str) -> AnyAddress:
    """Return an address that an interface may have."""
    try:
        address = ip_address(value) if isinstance(value, str) else None
    except ValueError:
        address = None
    if address is None or address.is_multicast or address.is_unspecified or address.is_loopback or int(address) == 0xFFFFFFFF:
        raise Invalid(path, value, "an address of an interface")
    if isinstance(address, IPv6Address) and (address.ipv4_mapped is not None or address.scope_id is not None):
        raise Invalid(path, value, "an address of an interface, neither mapped from IPv4 nor with a scope")
    return address


def usable4(value: Any, path: str) -> IPv4Address:
    """Return an IPv4 address that an interface may have."""
    address = usable(value, path)
    if not isinstance(address, IPv4Address):
        raise Invalid(path, value, "an IPv4 address")
    return address


def usable6(value: Any, path: str) -> IPv6Address:
    """Return an IPv6 address that an interface may have."""
    address = usable(value, path)
    if not isinstance(address, IPv6Address):
        raise Invalid(path, value, "an IPv6 address")
    return address


def network(value: Any, path: str) -> AnyNetwork:
    """Return a range of addresses. Raises `Invalid` for one that no cloud gives to an interface: too wide, or with the metadata service in it."""
    try:
        prefix = ip_network(value) if isinstance(value, str) and "/" in value else None
    except ValueError:
        prefix = None
    if (
        prefix is None
        or prefix.prefixlen < _SHORTEST[prefix.version]
        or prefix.is_multicast
        or prefix.is_loopback
        or prefix.is_link_local
    ):
        raise Invalid(path, value, "a range of addresses, such as 10.4.0.0/24")
    return prefix


def within(address: AnyAddress, subnets: tuple[AnyNetwork, ...]) -> AnyInterface:
    """Return an address with the prefix length of its subnet, or as a single address if it is in none."""
    lengths = [subnet.prefixlen for subnet in subnets if address.version == subnet.version and address in subnet]
    return ip_interface((address, lengths[0] if lengths else address.max_prefixlen))


def mtu(value: Any, path: str) -> int | None:
    """Return an MTU in bytes; None for 0, which is unknown."""
    if isinstance(value, bool) or not isinstance(value, int) or (value != 0 and not 1280 <= value <= 65_535):
        raise Invalid(path, value, "an MTU of 1280 to 65535 bytes")
    return value or None
