"""Whether encrypted tunnels work: peers send something every few seconds (`KEEPALIVE_S`), so a silent one is down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.linux.wireguard import KEEPALIVE_S, Traffic, WireguardDevice
from intent.sites import EncryptedPair

SILENT_S = 5.0 * KEEPALIVE_S
HANDSHAKE_LIMIT_S = 190.0  # WireGuard ends a session after 180 s


@dataclass(frozen=True, slots=True, kw_only=True)
class PairState:
    """An encrypted tunnel as it is. `reason` says why it is not up; `handshake_age_s` is None before the first handshake."""

    peer: str
    up: bool
    reason: str | None
    handshake_age_s: int | None
    received: int
    sent: int


class PairHealth:
    """Judges the tunnels from what was received since the last reading. `clock` returns seconds, and only goes forward."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._heard: dict[str, tuple[int, float]] = {}  # public key -> bytes received, and when the number last grew

    def states(
        self, wanted: Mapping[str, EncryptedPair], device: WireguardDevice | None, now: float, secrets: Mapping[str, str]
    ) -> tuple[PairState, ...]:
        """Return the states of the wanted tunnels. `now` is the time in seconds since 1970."""
        keys = {pair.public_key for pair in wanted.values()}
        self._heard = {key: heard for key, heard in self._heard.items() if key in keys}
        return tuple(self._state(pair, device, now, name in secrets) for name, pair in sorted(wanted.items()))

    def _state(self, pair: EncryptedPair, device: WireguardDevice | None, now: float, has_secret: bool) -> PairState:
        traffic = Traffic()
        if device is not None and pair.public_key in device.peers:
            traffic = device.peers[pair.public_key][1]
        age_s = max(0, int(now - traffic.handshake_at)) if traffic.handshake_at else None
        reason = self._reason(pair, device, traffic, age_s, has_secret)
        return PairState(
            peer=pair.peer,
            up=reason is None,
            reason=reason,
            handshake_age_s=age_s,
            received=traffic.received,
            sent=traffic.sent,
        )

    def _reason(
        self, pair: EncryptedPair, device: WireguardDevice | None, traffic: Traffic, age_s: int | None, has_secret: bool
    ) -> str | None:
        if device is None:
            return "WireGuard does not run on this host"
        if not has_secret:
            return "the two hosts have no secret yet"
        received, at = self._heard.get(pair.public_key, (-1, 0.0))
        if received != traffic.received:
            at = self._clock()
            self._heard[pair.public_key] = traffic.received, at
        if age_s is None or age_s > HANDSHAKE_LIMIT_S:
            return f"no handshake with {pair.endpoint} (is its UDP port open, and does it run? do both have the same keys?)"
        if self._clock() - at > SILENT_S:
            return f"nothing comes back from {pair.endpoint}"
        return None
