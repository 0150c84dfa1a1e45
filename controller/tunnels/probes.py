"""Tunnel probes: a small packet and one of full size go to every VTEP that this host uses, by each profile by which it does; the switch there sends
them back.
No I/O, no clock: times are seconds of a clock that only goes forward. controller/apps/tunnels.py sends and receives.

    Ethernet: ANSWER or PROBE MAC, ours, type 0x88b5 (IEEE 802, local experiments); then run (8 bytes), number (8 bytes), zeros
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline.protocols import mac_bytes
from pipeline.tables import PROBE_MAC

EVERY_S = 1.0  # between two probes of a peer; longer where there are many peers
BUDGET = 100.0  # probes a second at most, of all peers
MISSED = 3  # after so many probes in a row without an answer, the tunnel is broken
STALL_S = 0.7  # when this process was stopped for so long, missing answers say nothing about the tunnel
OUTSIDE = 20 + 8 + 8  # bytes of IPv4, UDP and VXLAN round the probe's own Ethernet frame
LONGER = 20  # bytes by which the header of IPv6 is longer
NONE: Mapping[str, int] = {}
SMALL, FULL = 0, 1  # kinds of probes

_HEAD = struct.Struct("!6s6sH8sQ")
_ETH_TYPE = 0x88B5
SMALLEST = 60  # bytes


class Health(NamedTuple):
    """The health of a tunnel: whether small and full-size packets come back, and the last round trip in seconds."""

    up: bool
    mtu_ok: bool
    rtt_s: float | None

    @property
    def word(self) -> str:
        """up, down, or mtu: large packets are lost."""
        return "down" if not self.up else "up" if self.mtu_ok else "mtu"


def tunnel_report(words: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    """A host's report of its tunnels, from the state of each by host and profile: how many hosts it probes, for each that is not reached as it
    should be the worst state, and in which profile it has which."""
    profiles: dict[str, dict[str, str]] = {}
    for (host, profile), word in sorted(words.items()):
        if word != "up":
            profiles.setdefault(host, {})[profile] = word
    broken = {host: min(states.values()) for host, states in profiles.items()}  # "down" is worse than "mtu"
    return {"known": len({host for host, _ in words}), "broken": broken, "profiles": profiles}


class ProbeTarget(NamedTuple):
    """A VTEP, and the number of the tunnel profile by which it is probed."""

    vtep: str
    profile: int = 0


class Probe(NamedTuple):
    """A frame to send."""

    target: ProbeTarget
    frame: bytes


@dataclass(slots=True)
class _Peer:
    due: float
    waiting: tuple[list[int], list[int]] = field(
        default_factory=lambda: ([], [])
    )  # by kind: the numbers of probes without an answer, in order
    good: list[bool | None] = field(default_factory=lambda: [None, None])  # None: unknown
    rtt_s: float | None = None


class Prober:
    """Probes the tunnels of one host. `run` are 8 bytes that tell this process's probes from those of an earlier one."""

    def __init__(self, run: bytes) -> None:
        self._run = run
        self._peers: dict[ProbeTarget, _Peer] = {}
        self._number = 0
        self._waiting: dict[int, tuple[ProbeTarget, int, float]] = {}  # number -> target, kind, time of sending
        self._now: float | None = None
        self._largest = SMALLEST  # over IPv4
        self._encrypted_mtu = NONE

    def set_targets(
        self, targets: Collection[ProbeTarget], underlay_mtu: int, now: float, encrypted_mtu: Mapping[str, int] = NONE
    ) -> None:
        """Probe these targets from now on, and no others. `underlay_mtu` (bytes) is what full-size packets must fit; `encrypted_mtu` that of
        VTEPs in encrypted tunnels."""
        self._largest, self._encrypted_mtu = underlay_mtu - OUTSIDE, encrypted_mtu
        self._peers = {target: self._peers.get(target) or _Peer(now) for target in sorted(targets)}
        self._waiting = {number: waiting for number, waiting in self._waiting.items() if waiting[0] in self._peers}

    def forget(self) -> None:
        """The switch is gone: the health of no tunnel is known."""
        self._peers, self._waiting, self._now = {}, {}, None

    def tick(self, now: float) -> list[Probe]:
        """The probes to send now. Call it several times a second."""
        if self._now is not None and now - self._now > STALL_S:
            self._waiting.clear()
            for peer in self._peers.values():
                peer.waiting = ([], [])
        self._now = now
        every_s = max(EVERY_S, 2 * len(self._peers) / BUDGET)
        probes: list[Probe] = []
        for target, peer in self._peers.items():
            if len(probes) >= BUDGET / 2:
                break  # the others with the next tick
            if now < peer.due:
                continue
            peer.due = max(peer.due + every_s, now + every_s / 2)
            for kind in (SMALL, FULL):
                if len(peer.waiting[kind]) >= MISSED:
                    peer.good[kind] = False
                    self._waiting.pop(peer.waiting[kind].pop(0), None)
                self._number += 1
                self._waiting[self._number] = (target, kind, now)
                peer.waiting[kind].append(self._number)
                probes.append(Probe(target, self._frame(self._number, self._size(kind, target.vtep))))
        return probes

    def _size(self, kind: int, vtep: str) -> int:
        largest = self._encrypted_mtu[vtep] - OUTSIDE if vtep in self._encrypted_mtu else self._largest
        return SMALLEST if kind == SMALL else max(SMALLEST, largest - (LONGER if ":" in vtep else 0))

    def _frame(self, number: int, size: int) -> bytes:
        mac = mac_bytes(PROBE_MAC)
        return _HEAD.pack(mac, mac, _ETH_TYPE, self._run, number).ljust(size, b"\0")

    def heard(self, frame: bytes, now: float) -> bool:
        """Take an answer. Returns whether one was waited for."""
        if len(frame) < _HEAD.size:
            return False
        _, _, eth_type, run, number = _HEAD.unpack_from(frame)
        if eth_type != _ETH_TYPE or run != self._run:
            return False
        target, kind, sent_at = self._waiting.pop(number, (ProbeTarget(""), SMALL, now))
        peer = self._peers.get(target)
        if peer is None:
            return False
        for older in peer.waiting[kind]:
            if older < number:
                self._waiting.pop(older, None)
        peer.waiting[kind][:] = [newer for newer in peer.waiting[kind] if newer > number]
        peer.good[kind] = True
        if kind == SMALL:
            peer.rtt_s = now - sent_at
        return True

    def health(self) -> dict[ProbeTarget, Health]:
        """The health of the tunnels of which something is known."""
        health: dict[ProbeTarget, Health] = {}
        for target, peer in self._peers.items():
            small, full = peer.good
            if small is not None and (full is not None or not small):
                health[target] = Health(small, small and bool(full), peer.rtt_s if small else None)
        return health
