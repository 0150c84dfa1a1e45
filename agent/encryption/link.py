"""The interfaces and the namespace that carry a host's encrypted tunnels: the wanted state, a reading, and their differences. Pure.

br-crypto (or the interface itself)    in the host's namespace; has the tunnel address, from which the switch sends VXLAN
   |  wc...  veth  wf...
warren-...                             a namespace without any way out but the interfaces of ciphers: answers ARP for all
   |  wg... (wireguard.py)             tunnel addresses, so that no packet leaves in clear text whatever happens to the ciphers
the outside interface                  the ciphers' UDP sockets are in the host's namespace
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from pipeline.tunnels import TUNNEL_RANGE
from specs.model.derived import LinkNames
from specs.model.host import Host
from specs.paths import DEFAULT_MTU, link_mtu

BRIDGE = "br-crypto"  # where the switch's datapath is in userspace


@dataclass(frozen=True, slots=True, kw_only=True)
class CryptoLink:
    """The wanted state. `outer_mtu` (bytes) is the MTU of the interfaces between switch and ciphers: the switch sends no larger packet.
    `userspace` says whether the switch's datapath is in userspace."""

    names: LinkNames
    address: IPv4Address
    outer_mtu: int
    userspace: bool

    @property
    def holder(self) -> str:
        """The interface with the tunnel address."""
        return BRIDGE if self.userspace else self.names.near

    @property
    def holder_address(self) -> str:
        """The tunnel address with its prefix length: all tunnel addresses are on the link, so the switch asks for their MACs."""
        return f"{self.address}/{TUNNEL_RANGE.prefixlen}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkInterface:
    """An interface as it was read: MTU in bytes, addresses with prefix length, prefixes of routes by it, kernel settings by name."""

    up: bool
    mtu: int
    addresses: frozenset[str] = frozenset()
    routes: frozenset[str] = frozenset()
    settings: Mapping[str, str] = field(default_factory=dict)


def interface_of_values(values: Mapping[str, object] | None) -> LinkInterface | None:
    """An interface from what `agent.linux.cryptolink.read` returns."""
    return LinkInterface(**values) if values is not None else None  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkReading:
    """The link as it was read. None: it does not exist."""

    netns: bool = False
    near: LinkInterface | None = None
    far: LinkInterface | None = None
    bridged: bool = False  # the bridge exists and has the veth's end
    holder: LinkInterface | None = None


NO_SETTINGS: Mapping[str, str] = {}
FAR_SETTINGS = {"proxy_arp": "1", "rp_filter": "0", "forwarding": "1"}
TUNNEL_SETTINGS = {"rp_filter": "0", "forwarding": "1"}  # of the interfaces of ciphers
NEAR_SETTINGS = {"arp_ignore": "8"}  # the kernel would answer ARP with the veth's MAC, and packets would pass by the bridge
RANGE = str(TUNNEL_RANGE)


def differences(link: CryptoLink, reading: LinkReading) -> list[tuple[str, str]]:
    """How a reading differs from the link, as (part, phrase), in the order in which parts are repaired."""
    names = link.names
    if not reading.netns:
        return [("netns", f"namespace {names.netns} does not exist")]
    if reading.near is None or reading.far is None:
        return [("veth", f"interface {names.near if reading.near is None else names.far} does not exist")]
    lines = [("near", text) for text in _near(link, reading.near)]
    if link.userspace and not reading.bridged:
        lines.append(("bridge", f"bridge {BRIDGE} with port {names.near} does not exist"))
    elif reading.holder is not None:
        texts = nic_differences(link.holder, reading.holder, link.outer_mtu, addresses=(link.holder_address,))
        lines += [("holder", text) for text in texts]
    to_host = (f"{link.address}/32",)
    texts = nic_differences(names.far, reading.far, link.outer_mtu, routes=to_host, settings=FAR_SETTINGS)
    return lines + [("far", text) for text in texts]


def _near(link: CryptoLink, nic: LinkInterface) -> Iterator[str]:
    """How the host's end of the veth pair differs. On the kernel's datapath it has the tunnel address, which is compared as the holder's."""
    if link.userspace:
        return nic_differences(link.names.near, nic, link.outer_mtu, settings=NEAR_SETTINGS)
    return nic_differences(link.names.near, nic, link.outer_mtu, addresses=nic.addresses)


def nic_differences(
    name: str,
    nic: LinkInterface,
    mtu: int,
    *,
    addresses: Collection[str] = (),
    routes: Collection[str] = (),
    settings: Mapping[str, str] = NO_SETTINGS,
) -> Iterator[str]:
    """How an interface differs: it should have exactly these addresses, and at least these routes."""
    if not nic.up:
        yield f"{name} is down"
    if nic.mtu != mtu:
        yield f"{name} has MTU {nic.mtu} instead of {mtu}"
    if nic.addresses != set(addresses):
        yield f"{name} has {', '.join(sorted(nic.addresses)) or 'no address'} instead of {', '.join(addresses) or 'none'}"
    for prefix in sorted(set(routes) - nic.routes):
        yield f"there is no route to {prefix} by {name}"
    for setting, value in settings.items():
        if nic.settings.get(setting) != value:
            yield f"{name} has {setting} {nic.settings.get(setting)} instead of {value}"


def wanted_link(local: Host, *, names: LinkNames, userspace: bool) -> CryptoLink | None:
    """The wanted link of a host; None if the host has no outside address."""
    if local.outside is None or local.tunnel_address is None:
        return None
    outer_mtu = max(DEFAULT_MTU, link_mtu(local))
    return CryptoLink(names=names, address=local.tunnel_address, outer_mtu=outer_mtu, userspace=userspace)
