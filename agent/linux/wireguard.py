"""Runs wg(8), and makes WireGuard's interfaces: the kernel's where it has them, wireguard-go's otherwise."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from agent.linux.command import run
from warren.errors import Unavailable

KEEPALIVE_S = 5  # how often each side sends something: it shows that the tunnel works, and keeps NAT entries alive
SOCKETS = Path("/var/run/wireguard")  # wireguard-go's, for all namespaces
STDIN = "/proc/self/fd/0"  # not every machine has /dev/stdin, a link to this path


@dataclass(frozen=True, slots=True, kw_only=True)
class WireguardPeer:
    """A peer as it is configured. `allowed` is its address inside the tunnel, `secret` the pre-shared key."""

    public_key: str
    secret: str = field(repr=False)
    endpoint: str
    allowed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The traffic of a peer: time of the last handshake (seconds since 1970; 0: there was none), bytes received and sent."""

    handshake_at: int = 0
    received: int = 0
    sent: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WireguardDevice:
    """WireGuard's side of an interface: its keys, its port, and its peers with their traffic, by public key."""

    private_key: str = field(repr=False)
    port: int
    peers: dict[str, tuple[WireguardPeer, Traffic]]


def key_of(path: Path) -> str:
    """Return the private key in a file that only its owner reads; make it if there is none. Raises `Unavailable`."""
    try:
        if not path.exists():
            key = run("wg", "genkey")
            path.parent.mkdir(parents=True, exist_ok=True)
            new = path.with_suffix(".new")
            with contextlib.suppress(FileNotFoundError):
                new.unlink()
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(key)
            new.rename(path)
        return path.read_text().strip()
    except OSError as error:
        raise Unavailable(str(path), error.strerror or str(error)) from None


def public_key(private_key: str) -> str:
    """Return the public key that belongs to a private one. Raises `Unavailable`."""
    return run("wg", "pubkey", text=f"{private_key}\n").strip()


def make(interface: str) -> None:
    """Make an interface in this namespace, where its UDP socket stays wherever the interface goes. Raises `Unavailable`."""
    try:
        run("ip", "link", "add", interface, "type", "wireguard")
    except Unavailable:
        (SOCKETS / f"{interface}.sock").unlink(missing_ok=True)
        run("wireguard-go", interface)


def device(netns: str, interface: str) -> WireguardDevice | None:
    """Return the configuration of an interface and its peers' traffic; None if WireGuard does not answer for it."""
    try:
        first, *rest = run("wg", "show", interface, "dump", netns=netns).splitlines()
    except (Unavailable, ValueError):
        return None
    private_key, _, port, _ = first.split("\t")
    peers: dict[str, tuple[WireguardPeer, Traffic]] = {}
    for line in rest:
        key, secret, endpoint, allowed, handshake_at, received, sent, _ = line.split("\t")
        peer = WireguardPeer(public_key=key, secret=secret, endpoint=endpoint, allowed=allowed)
        peers[key] = peer, Traffic(handshake_at=int(handshake_at), received=int(received), sent=int(sent))
    return WireguardDevice(private_key=private_key, port=int(port), peers=peers)


def configure(netns: str, interface: str, key_file: Path, port: int) -> None:
    """Set the private key and the port. Raises `Unavailable`."""
    run("wg", "set", interface, "private-key", str(key_file), "listen-port", str(port), netns=netns)


def change_peers(netns: str, interface: str, remove: Iterable[str], put: Iterable[WireguardPeer]) -> None:
    """Remove peers by public key, and add or change some. The others keep their sessions. Raises `Unavailable`."""
    for key in remove:
        run("wg", "set", interface, "peer", key, "remove", netns=netns)
    for peer in put:
        words = ["peer", peer.public_key, "preshared-key", STDIN, "endpoint", peer.endpoint]
        words += ["persistent-keepalive", str(KEEPALIVE_S), "allowed-ips", peer.allowed]
        run("wg", "set", interface, *words, netns=netns, text=f"{peer.secret}\n")
