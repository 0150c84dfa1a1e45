"""WireGuard's part of the encrypted tunnels: the wanted state, a reading, their differences, and the state of each tunnel. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from agent.encryption.link import RANGE, TUNNEL_SETTINGS, LinkInterface, nic_differences
from agent.encryption.tunnels import Deviation, PairTunnel, TunnelPlan
from agent.linux.cryptolink import in_table
from agent.linux.wireguard import Traffic, WireguardDevice, WireguardPeer
from specs.paths import link_mtu

TABLE = (
    22358  # in the namespace: routes packets to the ports of WireGuard's profiles, where the main table's routes lead to IPsec
)
HANDSHAKE_LIMIT_S = 190.0  # WireGuard ends a session after 180 s


@dataclass(frozen=True, slots=True, kw_only=True)
class WireguardLink:
    """The wanted state: the interface with its MTU (bytes), key and UDP port, and its peers by public key. Packets from the interface `far` to
    the UDP `ports` go by it, although the routes to their hosts lead to another cipher."""

    netns: str
    interface: str
    mtu: int
    port: int
    private_key: str = field(repr=False)
    peers: Mapping[str, WireguardPeer]
    far: str
    ports: frozenset[int] = frozenset()

    @property
    def routes(self) -> tuple[str, ...]:
        """The wanted routes by the interface."""
        return (RANGE, in_table(RANGE, TABLE)) if self.ports else (RANGE,)


@dataclass(frozen=True, slots=True, kw_only=True)
class WireguardReading:
    """WireGuard's part as it was read. None: it does not exist."""

    interface: LinkInterface | None = None
    device: WireguardDevice | None = None
    ports: frozenset[int] = frozenset()


def wanted_wireguard(plan: TunnelPlan, private_key: str) -> WireguardLink:
    """Return the wanted state of WireGuard for a plan. A pair without a secret gets no peer yet."""
    peers = (
        WireguardPeer(
            public_key=pair.public_key, secret=plan.secrets[name], endpoint=pair.endpoint, allowed=f"{pair.tunnel_address}/32"
        )
        for name, pair in plan.pairs.items()
        if name in plan.secrets and pair.public_key is not None
    )
    assert plan.local.outside is not None
    return WireguardLink(
        netns=plan.names.netns,
        interface=plan.names.wireguard,
        mtu=link_mtu(plan.local),
        port=plan.local.outside.port,
        private_key=private_key,
        peers={peer.public_key: peer for peer in peers},
        far=plan.names.far,
        ports=plan.ports,
    )


def differences(link: WireguardLink, reading: WireguardReading, configured: Mapping[str, str]) -> list[Deviation]:
    """How a reading differs, as (part, phrase), in the order in which parts are repaired. `configured` are the endpoints that were set last,
    by public key: a peer may have moved to another one since."""
    name = link.interface
    if reading.interface is None or reading.device is None:
        return [("wireguard", f"interface {name} does not exist, or WireGuard does not answer for it")]
    texts = nic_differences(name, reading.interface, link.mtu, routes=link.routes, settings=TUNNEL_SETTINGS)
    lines = [("device", text) for text in texts]
    if (reading.device.private_key, reading.device.port) != (link.private_key, link.port):
        lines.append(("device", f"{name} has another key or port"))
    lines += [("ports", f"the rule for UDP port {port} is wrong") for port in sorted(link.ports ^ reading.ports)]
    return lines + [("peers", text) for text in peer_differences(link, reading.device, configured)]


def peer_differences(link: WireguardLink, device: WireguardDevice, configured: Mapping[str, str]) -> Iterator[str]:
    """How the peers differ. A peer that has moved keeps the endpoint that it moved to."""
    for key in sorted(changed_peers(link, device, configured)):
        yield f"peer {link.peers[key].allowed} is not configured as wanted"
    for key in sorted(device.peers.keys() - link.peers.keys()):
        yield f"peer {device.peers[key][0].allowed} belongs to no pair of hosts"


def changed_peers(link: WireguardLink, device: WireguardDevice, configured: Mapping[str, str]) -> list[str]:
    """The public keys of peers that must be configured (again)."""
    changed = []
    for key, peer in link.peers.items():
        current = device.peers[key][0] if key in device.peers else None
        same = current is not None and (current.secret, current.allowed) == (peer.secret, peer.allowed)
        if not same or configured.get(key, current.endpoint if current else None) != peer.endpoint:
            changed.append(key)
    return changed


def tunnels(plan: TunnelPlan, device: WireguardDevice | None, now: float) -> dict[str, PairTunnel]:
    """The tunnels by peer. `now` is the time in seconds since 1970."""
    if device is None:
        return {name: PairTunnel(reason="WireGuard does not run on this host") for name in plan.pairs}
    return {
        name: _tunnel(
            pair.endpoint,
            device.peers[pair.public_key][1] if pair.public_key and pair.public_key in device.peers else Traffic(),
            now,
        )
        for name, pair in plan.pairs.items()
    }


def _tunnel(endpoint: str, traffic: Traffic, now: float) -> PairTunnel:
    age_s = max(0, int(now - traffic.handshake_at)) if traffic.handshake_at else None
    up = age_s is not None and age_s <= HANDSHAKE_LIMIT_S
    reason = (
        None
        if up
        else f"no handshake with {endpoint} (is its UDP port open, and is the host up? do both hosts have the same keys?)"
    )
    return PairTunnel(reason=reason, age_s=age_s, received=traffic.received, sent=traffic.sent)
