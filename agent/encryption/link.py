"""What the encrypted tunnels of a host stand on, as a value: what is wanted, what is there, and how the two differ. Pure.

br-crypto (or the interface itself)    in the host's namespace; has the tunnel address, from which the switch sends VXLAN
   |  wc...  veth  wf...
warren-...                             a namespace without any way out but WireGuard: answers ARP for all tunnel addresses,
   |  wg...                            so whatever becomes of WireGuard, no packet leaves in clear text
the outside interface                  WireGuard's UDP socket is in the host's namespace
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from agent.linux.wireguard import WireguardDevice, WireguardPeer
from intent.sites import DEFAULT_MTU, EncryptedPair, link_mtu
from specs.model.derived import LinkNames
from specs.model.host import Host
from specs.model.site import TUNNEL_RANGE

BRIDGE = "br-crypto"  # where the switch's datapath is in userspace


@dataclass(frozen=True, slots=True, kw_only=True)
class CryptoLink:
    """The wanted state. `mtu` (bytes) is that of WireGuard's interface; `userspace` says where the switch's datapath is."""

    names: LinkNames
    address: IPv4Address
    mtu: int
    port: int
    private_key: str = field(repr=False)
    userspace: bool
    peers: Mapping[str, WireguardPeer]  # by public key

    @property
    def holder(self) -> str:
        """The interface with the tunnel address."""
        return BRIDGE if self.userspace else self.names.near

    @property
    def holder_address(self) -> str:
        """The tunnel address with its prefix length: all tunnel addresses are on the link, so the switch asks for their MACs."""
        return f"{self.address}/{TUNNEL_RANGE.prefixlen}"

    @property
    def outer_mtu(self) -> int:
        """The MTU of the interfaces before WireGuard's. The switch sends nothing that is larger than WireGuard's allows."""
        return max(DEFAULT_MTU, self.mtu)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkInterface:
    """An interface as it is: MTU in bytes, addresses with prefix length, prefixes of routes by it, kernel settings by name."""

    up: bool
    mtu: int
    addresses: frozenset[str] = frozenset()
    routes: frozenset[str] = frozenset()
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkReading:
    """What is there. None: it does not exist."""

    netns: bool = False
    near: LinkInterface | None = None
    far: LinkInterface | None = None
    bridged: bool = False  # the bridge exists and has the veth's end
    holder: LinkInterface | None = None
    wireguard: LinkInterface | None = None
    device: WireguardDevice | None = None


NO_SETTINGS: Mapping[str, str] = {}
FAR_SETTINGS = {"proxy_arp": "1", "rp_filter": "0", "forwarding": "1"}
WIREGUARD_SETTINGS = {"rp_filter": "0", "forwarding": "1"}
NEAR_SETTINGS = {"arp_ignore": "8"}  # the kernel would answer ARP with the veth's MAC, and packets would pass by the bridge
RANGE = str(TUNNEL_RANGE)


def differences(link: CryptoLink, reading: LinkReading, configured: Mapping[str, str]) -> list[tuple[str, str]]:
    """How a reading differs from the link, as (part, phrase), in the order in which parts are repaired. `configured` are the endpoints that
    were set last, by public key: a peer may have moved to another one since."""
    names = link.names
    if not reading.netns:
        return [("netns", f"namespace {names.netns} does not exist")]
    if reading.near is None or reading.far is None:
        return [("veth", f"interface {names.near if reading.near is None else names.far} does not exist")]
    lines = [("near", text) for text in _near(link, reading.near)]
    if link.userspace and not reading.bridged:
        lines.append(("bridge", f"bridge {BRIDGE} with port {names.near} does not exist"))
    elif reading.holder is not None:
        lines += [
            ("holder", text) for text in _nic(link.holder, reading.holder, link.outer_mtu, addresses=(link.holder_address,))
        ]
    to_host = (f"{link.address}/32",)
    lines += [("far", text) for text in _nic(names.far, reading.far, link.outer_mtu, routes=to_host, settings=FAR_SETTINGS)]
    if reading.wireguard is None or reading.device is None:
        return [*lines, ("wireguard", f"interface {names.wireguard} does not exist, or WireGuard does not answer for it")]
    lines += [
        ("device", text)
        for text in _nic(names.wireguard, reading.wireguard, link.mtu, routes=(RANGE,), settings=WIREGUARD_SETTINGS)
    ]
    if (reading.device.private_key, reading.device.port) != (link.private_key, link.port):
        lines.append(("device", f"{names.wireguard} has another key or port"))
    return lines + [("peers", text) for text in peer_differences(link, reading.device, configured)]


def _near(link: CryptoLink, nic: LinkInterface) -> Iterator[str]:
    """How the host's end of the veth pair differs; where the kernel forwards, it has the tunnel address, which is compared as the holder's."""
    if link.userspace:
        return _nic(link.names.near, nic, link.outer_mtu, settings=NEAR_SETTINGS)
    return _nic(link.names.near, nic, link.outer_mtu, addresses=nic.addresses)


def _nic(
    name: str,
    nic: LinkInterface,
    mtu: int,
    *,
    addresses: Collection[str] = (),
    routes: Collection[str] = (),
    settings: Mapping[str, str] = NO_SETTINGS,
) -> Iterator[str]:
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


def peer_differences(link: CryptoLink, device: WireguardDevice, configured: Mapping[str, str]) -> Iterator[str]:
    """How the peers differ. A peer that has moved keeps the endpoint that it moved to."""
    for key in sorted(changed_peers(link, device, configured)):
        yield f"peer {link.peers[key].allowed} is not configured as wanted"
    for key in sorted(device.peers.keys() - link.peers.keys()):
        yield f"peer {device.peers[key][0].allowed} is nobody's"


def changed_peers(link: CryptoLink, device: WireguardDevice, configured: Mapping[str, str]) -> list[str]:
    """The public keys of peers that are to be set."""
    changed = []
    for key, peer in link.peers.items():
        current = device.peers[key][0] if key in device.peers else None
        same = current is not None and (current.secret, current.allowed) == (peer.secret, peer.allowed)
        if not same or configured.get(key, current.endpoint if current else None) != peer.endpoint:
            changed.append(key)
    return changed


def wanted_link(
    local: Host,
    pairs: Mapping[str, EncryptedPair],
    secrets: Mapping[str, str],
    *,
    names: LinkNames,
    private_key: str,
    userspace: bool,
) -> CryptoLink | None:
    """The link of a host; None for one that has no outside. A pair without a secret gets no peer yet."""
    if local.outside is None or local.tunnel_address is None:
        return None
    peers = (
        WireguardPeer(
            public_key=pair.public_key, secret=secrets[name], endpoint=pair.endpoint, allowed=f"{pair.tunnel_address}/32"
        )
        for name, pair in pairs.items()
        if name in secrets
    )
    return CryptoLink(
        names=names,
        address=local.tunnel_address,
        mtu=link_mtu(local),
        port=local.outside.port,
        private_key=private_key,
        userspace=userspace,
        peers={peer.public_key: peer for peer in peers},
    )
