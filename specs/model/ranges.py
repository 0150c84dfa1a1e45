"""Ranges that no network can have, and why. Pure.

They are checked where a network is created, not where its record is read: a network that an earlier version has accepted goes on. The blocks are those
of RFC 6890 that hosts and routers treat apart from other unicast addresses; documentation, benchmark and shared addresses work as any other.
"""

from __future__ import annotations

from ipaddress import ip_network

from pipeline.protocols import IpNetwork
from specs.model.network import Network
from warren.errors import Invalid

WIDEST = {4: 8, 6: 16}  # the shortest prefix length of a range
_EXAMPLES = {4: "10.0.0.0/24", 6: "fd00:1::/64"}
_BLOCKS: tuple[tuple[str, str], ...] = (
    ("0.0.0.0/8", "means this network, and no host answers to it (RFC 791)"),
    ("127.0.0.0/8", "is loopback: packets with it never leave a host (RFC 1122)"),
    ("169.254.0.0/16", "is link-local: hosts take such addresses by themselves, and nothing routes them (RFC 3927)"),
    ("224.0.0.0/4", "is multicast (RFC 5771)"),
    ("240.0.0.0/4", "is reserved, with the broadcast address at its end: most hosts drop packets with it (RFC 1112)"),
    ("::/8", "is reserved: unspecified, loopback, IPv4-mapped and translated addresses (RFC 4291, RFC 6052)"),
    ("100::/64", "is for packets to discard (RFC 6666)"),
    ("fe80::/10", "is link-local: every interface has such addresses, and nothing routes them (RFC 4291)"),
    ("ff00::/8", "is multicast (RFC 4291)"),
)
UNUSABLE: tuple[tuple[IpNetwork, str], ...] = tuple((ip_network(block), reason) for block, reason in _BLOCKS)


def unusable(value: IpNetwork) -> str | None:
    """Why no network can have this range; None if one can."""
    for block, reason in UNUSABLE:
        if block.version == value.version and block.overlaps(value):
            return f"{block} {reason}"
    if value.prefixlen < WIDEST[value.version]:
        return f"wider than /{WIDEST[value.version]}"
    return None


def check_range(value: IpNetwork, path: str) -> None:
    """Raises `Invalid` if no network can have this range."""
    if (reason := unusable(value)) is not None:
        raise Invalid(path, str(value), f"a range such as {_EXAMPLES[value.version]}, which containers can use: {reason}")


def check_ranges(network: Network, path: str) -> None:
    """Raises `Invalid` if the network has a range that none can have."""
    for field, value in (("ip_range", network.ip_range), ("ipv6_range", network.ipv6_range)):
        if value is not None:
            check_range(value, f"{path}.{field}")
