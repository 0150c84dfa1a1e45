"""The veth pair of an endpoint as values: the desired state, the state that was read, and their differences. Pure.

Only values that Warren set are compared: link state, MTU, MAC, name, addresses, default routes, checksum offload. Additions
of the container's owner (addresses, routes, another default route, a smaller MTU) are no difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_address
from typing import NamedTuple

IPV6_LEAST_MTU = 1280  # bytes (RFC 8200, 5): below it the kernel takes IPv6 off the interface, with its addresses
ROUTE_PROTOCOL = 0x57  # rtm_protocol of Warren's routes: the mark by which it knows them (87 in ip-route(8))
IPInterface = IPv4Interface | IPv6Interface


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """The desired state of a pair. The host's end is named `veth`; the far end is in `netns`.

    `netns` None leaves the far end where it is: in the host's namespace, or where an engine has moved it. `interface` None
    takes the next free ethN. `gateways` become default routes unless one exists; `routes` are (destination, next hop or None).
    `mtu` is in bytes. `enable_ipv6` is for an interface that obtains its IPv6 address by itself. `offload_off` makes the
    far end compute its checksums in software, which the userspace datapath needs. Without `mac_at_far_end` the machine with the MAC
    may be behind further interfaces.
    """

    veth: str
    netns: str | None = None
    interface: str | None = None
    mac: str
    mtu: int
    addresses: tuple[IPInterface, ...] = ()
    gateways: tuple[str, ...] = ()
    routes: tuple[tuple[str, str | None], ...] = ()
    offload_off: bool = False
    mac_at_far_end: bool = True
    enable_ipv6: bool = False

    @property
    def ipv6(self) -> bool:
        """Return whether the far end needs IPv6."""
        return self.enable_ipv6 or any(address.version == 6 for address in self.addresses)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One end of a pair. `peer` is the index of the other end, `peer_nsid` the id of its namespace seen from the host's, or
    None if it is in the same namespace (IFLA_LINK and IFLA_LINK_NETNSID of rtnetlink(7))."""

    index: int
    name: str
    mac: str
    mtu: int
    up: bool
    peer: int | None = None
    peer_nsid: int | None = None


class DefaultRoute(NamedTuple):
    """A default route in a namespace, by whatever interface. `ours`: Warren made it for this far end."""

    version: int  # of IP
    gateway: str | None
    ours: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """The state that was read inside the namespace."""

    addresses: frozenset[IPInterface] = frozenset()
    default_routes: frozenset[DefaultRoute] = frozenset()
    offload: bool = False
    ipv6_off: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A pair as it was read: its two ends, None for one that does not exist or is in another namespace. Without `inside` the
    namespace was not entered."""

    host: Link | None = None
    far: Link | None = None
    inside: Inside | None = None


def differences(desired: Desired, pair: Pair) -> tuple[str, ...]:
    """Return the changes that `plug` would have to make, a phrase each."""
    return tuple(_differences(desired, pair))


def _differences(desired: Desired, pair: Pair) -> Iterator[str]:
    host, far = pair.host, pair.far
    if host is None:
        yield f"interface {desired.veth} does not exist"
        return
    if not host.up:
        yield f"interface {host.name} is down"
    if host.mtu != desired.mtu:
        yield f"interface {host.name} has MTU {host.mtu} instead of {desired.mtu}"
    if far is None:
        yield f"the far end of {host.name} is not in {desired.netns or 'any namespace'}"
        return
    yield from _of_far_end(desired, host, far)
    if pair.inside is not None:
        yield from _of_inside(desired, far.name, pair.inside)


def _of_far_end(desired: Desired, host: Link, far: Link) -> Iterator[str]:
    if desired.netns is not None:
        if desired.interface not in (None, far.name):
            yield f"interface {desired.interface} is named {far.name}"
        if far.mac != desired.mac:
            yield f"interface {far.name} has MAC {far.mac} instead of {desired.mac}"
    if not far.up and not waits_for_its_engine(desired, far):
        yield f"interface {far.name} in the container is down"
    if not mtu_fits(desired, host.mtu, far.mtu):
        yield f"interface {far.name} in the container has MTU {far.mtu} instead of {desired.mtu}"


def _of_inside(desired: Desired, name: str, inside: Inside) -> Iterator[str]:
    if desired.ipv6 and inside.ipv6_off:
        yield f"IPv6 is off on {name} (disable_ipv6)"
    for address in desired.addresses:
        if address not in inside.addresses:
            yield f"address {address} is missing on {name}"
    for route in stale_routes(desired, inside):
        yield f"the default route by {route.gateway} is Warren's and no longer wanted"
    for gateway in desired.gateways:
        if ip_address(gateway).version not in {route.version for route in inside.default_routes}:
            yield f"the default route by {gateway} is missing"
    if desired.offload_off and inside.offload:
        yield f"checksum offload of {name} is on"


def stale_routes(desired: Desired, inside: Inside) -> list[DefaultRoute]:
    """Return Warren's default routes by gateways that the network no longer has."""
    return sorted(route for route in inside.default_routes if route.ours and route.gateway not in desired.gateways)


def waits_for_its_engine(desired: Desired, far: Link) -> bool:
    """Return whether an engine has yet to move and rename the far end. Older kernels rename no interface that is up, so it
    must stay down until then."""
    return desired.netns is None and far.name == desired.interface


def mtu_fits(desired: Desired, host_mtu: int, far_mtu: int) -> bool:
    """Return whether the MTU of the far end may stay. Its owner may have lowered it: then it differs from the MTU of the
    host's end, to which Warren sets both."""
    if far_mtu == desired.mtu:
        return True
    lowered = far_mtu < desired.mtu and far_mtu != host_mtu
    return lowered and not (desired.ipv6 and far_mtu < IPV6_LEAST_MTU <= desired.mtu)
