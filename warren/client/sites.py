"""Sites, and the encrypted tunnels between them."""

from __future__ import annotations

from dataclasses import dataclass

from warren.client.calls import Operation, delete, get, path, post, stated
from warren.client.results import Result, all_of


@dataclass(frozen=True, kw_only=True)
class Site(Result):
    """A site, with the names of its hosts. `underlay_mtu` is in bytes."""

    name: str = ""
    underlay_mtu: int | None = None
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class EncryptedTunnel(Result):
    """The encrypted tunnel to a peer. `reason` says why it is not up; `handshake_age_s` is how long ago its keys were agreed upon; `received` and
    `sent` are in bytes, for IPsec since then."""

    peer: str = ""
    cipher: str = "wireguard"
    up: bool = False
    reason: str | None = None
    handshake_age_s: int | None = None
    received: int = 0
    sent: int = 0


def sites() -> Operation[tuple[Site, ...]]:
    """All sites, with their hosts."""
    return all_of(Site, (yield get("/sites")), "sites")


def put_site(name: str, *, underlay_mtu: int | None = None) -> Operation[Site]:
    """Create a site, or change one. `underlay_mtu` is the largest packet (bytes) of the network between its hosts."""
    return Site.of((yield post("/sites", stated(name=name, underlay_mtu=underlay_mtu))).get("site"))


def delete_site(name: str) -> Operation[None]:
    """Delete a site that no host is in."""
    yield delete(path("sites", name))


def encryption(host: str) -> Operation[tuple[EncryptedTunnel, ...]]:
    """The encrypted tunnels of a host."""
    return all_of(EncryptedTunnel, (yield get(path("hosts", host, "encryption"))), "pairs")


def dropped(host: str) -> Operation[dict[str, int]]:
    """How many tunnel packets in clear text the guard of a host has dropped, by direction: received, sent."""
    return dict((yield get(path("hosts", host, "encryption"))).get("dropped") or {})


def rotate_secrets(pair: tuple[str, str] | None = None) -> Operation[tuple[tuple[str, str], ...]]:
    """Give two hosts another secret for their tunnel, or all pairs of hosts; return the pairs. No packet is lost."""
    rotated = (yield post("/encryption/rotate", stated(pair=pair))).get("rotated") or ()
    return tuple((str(first), str(second)) for first, second in rotated)
