"""Probes the tunnels of this host: sends probes by packet-out and receives those that come back. Part of the overlay
application; controller/tunnels/probes.py decides what to send and what the answers mean."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from controller.framework.runtime import hub
from controller.tunnels.probes import Health, Prober, ProbeTarget, tunnel_report
from intent.incremental.index import Index
from intent.sites import encrypted_mtus
from pipeline.flow import Action, Output, Set
from pipeline.tables import PROBE_VNI
from pipeline.tunnels import profile_number, to_vtep
from specs.model.profile import all_profiles
from specs.paths import DEFAULT_MTU, inside_mtu

log = logging.getLogger("warren.tunnels")

TICK_S = 0.25
TARGETS_S = 2.0


class Tunnels:
    """Probes the VTEPs that the index in use names. `send` sends a frame with actions; `connected` says whether the switch is
    there to do so. `on_change` is called when the report has changed."""

    def __init__(
        self,
        index: Callable[[], Index],
        connected: Callable[[], bool],
        send: Callable[[bytes, tuple[Action, ...]], None],
        on_change: Callable[[], None],
    ) -> None:
        self._index, self._connected, self._send, self._on_change = index, connected, send, on_change
        self._prober = Prober(os.urandom(8))
        self._words: dict[tuple[str, str], str] = {}  # (host, profile) -> state in the last report
        self._profiles: dict[int, str] = {}  # number -> name
        self._hosts: dict[str, str] = {}  # VTEP -> name of the host
        self._targets_set_at = 0.0

    def step(self) -> None:
        """Wait for the next tick, and send the probes that are due."""
        hub.sleep(TICK_S)
        self._tick(time.monotonic())

    def _tick(self, now: float) -> None:
        index = self._index()
        ofports = index.tunnels.ofports
        if not self._connected() or not ofports:
            self._prober.forget()
        else:
            if now - self._targets_set_at > TARGETS_S:
                self._targets_set_at = now
                self._set_targets(index, now)
            for probe in self._prober.tick(now):
                if (tunnel := ofports.get(probe.target.profile)) is not None:
                    self._send(probe.frame, (Set("tunnel_id", PROBE_VNI), to_vtep(probe.target.vtep), Output(tunnel)))
        words = {path: health.word for path, health in self.health().items()}
        if words != self._words:
            for path, word in words.items():
                if word != self._words.get(path, "up"):
                    log.info("tunnel.changed peer=%s profile=%s state=%s", *path, word)
            self._words = words
            self._on_change()

    def _set_targets(self, index: Index, now: float) -> None:
        used = {ProbeTarget(vtep, profile_number(network.vni)) for network in index.networks.values() for vtep in network.vteps}
        used |= {ProbeTarget(session.vtep) for session in index.sessions.values() if session.vtep is not None}
        hosts, sites, profiles = index.snapshot.hosts.values(), index.snapshot.sites, index.snapshot.profiles
        self._hosts = {str(end): host.name for host in hosts for end in (host.tunnel_address, host.vtep) if end is not None}
        self._profiles = {profile.number: profile.name for profile in all_profiles(profiles)}
        reached = {target for target in used if target.profile in index.tunnels.ofports}
        smallest = min((inside_mtu(host, sites) for host in hosts), default=DEFAULT_MTU)
        encrypted = encrypted_mtus(index.snapshot.hosts.get(index.host), hosts, sites, profiles)
        self._prober.set_targets(reached, smallest, now, encrypted)

    def on_answer(self, frame: bytes) -> None:
        """Take a probe that came back."""
        self._prober.heard(frame, time.monotonic())

    def health(self) -> dict[tuple[str, str], Health]:
        """Return the health of tunnels by host and profile; by VTEP when no host has it, by number when no profile does."""
        return {
            (self._hosts.get(vtep, vtep), self._profiles.get(profile, str(profile))): health
            for (vtep, profile), health in self._prober.health().items()
        }

    def report(self) -> Mapping[str, Any]:
        """Return the part of the host's status."""
        return tunnel_report(self._words)
