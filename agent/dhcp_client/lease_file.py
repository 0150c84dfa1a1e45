"""Parses the lease file written by udhcpc-hook. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, ip_address, ip_network

from warren.errors import Invalid

HELD = ("bound", "renew")
LOST = {
    "nak": "the DHCP server has taken its address back (NAK)",
    "deconfig": "its lease ran out, no DHCP server has answered",
    "leasefail": "no DHCP server answers",
}
EVERYWHERE = "default"

LeaseRoute = tuple[str, str]  # (destination range or EVERYWHERE, next hop)


@dataclass(frozen=True, slots=True)
class ReportedLease:
    """A lease. `address` is None when there is no lease (any more); `reason` says why. `lease_s` is its duration in seconds."""

    address: IPv4Interface | None
    routes: tuple[LeaseRoute, ...] = ()
    lease_s: int = 0
    reason: str = ""


def parse(text: str) -> ReportedLease:
    """Parse the lines of a lease file. Raises `Invalid` for an address that no endpoint can have, and for lines that are no
    lease."""
    variables = dict(line.partition("=")[::2] for line in text.splitlines())
    event = variables.get("event", "")
    if event not in HELD:
        return ReportedLease(None, reason=LOST.get(event, f"its DHCP client says {event!r}"))
    try:
        address = IPv4Interface(f"{variables['ip']}/{variables.get('mask') or _prefix_length(variables)}")
        if address.network.prefixlen == 0 or not _usable(address.ip):
            raise ValueError
        return ReportedLease(address, _routes(variables, address), int(variables.get("lease") or 0))
    except (ValueError, KeyError):
        raise Invalid(
            "DHCP lease", f"{variables.get('ip', '')}/{variables.get('mask', '')}", "a unicast IPv4 address with a mask"
        ) from None


def _prefix_length(variables: dict[str, str]) -> int:
    """Return the length of the prefix if the server tells no mask: 24, or less if the router is further away. Without one nobody on the
    network could be reached."""
    address, router = (
        int(IPv4Address(text)) for text in (variables["ip"], (variables.get("router") or variables["ip"]).split()[0])
    )
    return min(24, 32 - (address ^ router).bit_length())


def _usable(address: IPv4Address) -> bool:
    """Whether an interface can have the address: no group, no loopback, nothing reserved (RFC 6890), no self-assigned one."""
    return not (
        address.is_multicast or address.is_loopback or address.is_reserved or address.is_unspecified or address.is_link_local
    )


def _routes(variables: dict[str, str], address: IPv4Interface) -> tuple[LeaseRoute, ...]:
    """Option 121 replaces the router option (RFC 3442); a next hop 0.0.0.0 means on-link."""
    words = variables.get("staticroutes", "").split()
    if not words:
        routers = variables.get("router", "").split()
        return ((EVERYWHERE, str(IPv4Address(routers[0]))),) if routers else ()
    routes: list[LeaseRoute] = []
    for to, via in zip(words[::2], words[1::2], strict=True):
        network, next_hop = ip_network(to, strict=False), ip_address(via)
        if network == address.network or next_hop == address.ip:
            continue  # the route exists with the address
        routes.append((EVERYWHERE if network.prefixlen == 0 else str(network), str(next_hop)))
    return tuple(routes)
