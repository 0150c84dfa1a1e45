"""Judges whether encrypted tunnels work: peers send something every few seconds (`KEEPALIVE_S`), so the tunnel to a silent peer is down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.encryption.tunnels import PairTunnel
from agent.linux.wireguard import KEEPALIVE_S
from intent.sites import EncryptedPair

SILENT_S = 5.0 * KEEPALIVE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class PairState:
    """The state of an encrypted tunnel. `reason` says why it is not up; `handshake_age_s` is how long ago the keys were agreed upon, None if they
    never were."""

    peer: str
    cipher: str
    up: bool
    reason: str | None
    handshake_age_s: int | None
    received: int
    sent: int


class PairHealth:
    """Judges the tunnels from what was received since the last reading. `clock` returns seconds, and only goes forward."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._heard: dict[EncryptedPair, tuple[int, float]] = {}  # bytes received, and when the number last changed

    def silent(self, cipher: str) -> frozenset[str]:
        """Return the peers of a cipher that have sent nothing for too long."""
        now = self._clock()
        return frozenset(pair.peer for pair, (_, at) in self._heard.items() if pair.cipher == cipher and now - at > SILENT_S)

    def states(
        self, pairs: Mapping[str, EncryptedPair], tunnels: Mapping[str, PairTunnel], secrets: Mapping[str, str]
    ) -> tuple[PairState, ...]:
        """Return the state of each wanted tunnel, from the tunnels as they are; both by their mark. `secrets` are by peer."""
        self._heard = {pair: heard for pair, heard in self._heard.items() if pair in pairs.values()}
        return tuple(
            self._state(pair, tunnels.get(mark, PairTunnel()), pair.peer in secrets) for mark, pair in sorted(pairs.items())
        )

    def _state(self, pair: EncryptedPair, tunnel: PairTunnel, has_secret: bool) -> PairState:
        reason = self._reason(pair, tunnel) if has_secret else "the two hosts have no secret yet"
        return PairState(
            peer=pair.peer,
            cipher=pair.cipher,
            up=reason is None,
            reason=reason,
            handshake_age_s=tunnel.age_s,
            received=tunnel.received,
            sent=tunnel.sent,
        )

    def _reason(self, pair: EncryptedPair, tunnel: PairTunnel) -> str | None:
        received, at = self._heard.get(pair, (-1, 0.0))
        if received != tunnel.received:
            at = self._clock()
            self._heard[pair] = tunnel.received, at
        if tunnel.reason is not None:
            return tunnel.reason
        return f"nothing comes back from {pair.endpoint}" if self._clock() - at > SILENT_S else None
