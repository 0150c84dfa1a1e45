"""Probes the tunnels of this host: sends probes by packet-out and receives those that come back. Part of the overlay
application; controller/tunnels/probes.py decides what to send and what the answers mean."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from controller.framework.runtime import hub
from controller.tunnels.probes import Health, Prober
from intent.incremental.index import Index
from intent.sites import encrypted_mtus
from pipeline.flow import Action, Output, Set
from pipeline.tables import PROBE_VNI
from pipeline.tunnels import to_vtep
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
        self._words: dict[str, str] = {}  # host -> state in the last report
        self._hosts: dict[str, str] = {}  # VTEP -> name of the host
        self._targets_set_at = 0.0

    def step(self) -> None:
        """Wait for the next tick, and send the probes that are due."""
        hub.sleep(TICK_S)
        self._tick(time.monotonic())

    def _tick(self, now: float) -> None:
        index = self._index()
        if not self._connected() or (tunnel := index.tunnels.ofports.get(0)) is None:
            self._prober.forget()
        else:
            if now - self._targets_set_at > TARGETS_S:
                self._targets_set_at = now
                used = {vtep for network in index.networks.values() for vtep in network.vteps}
                used |= {session.vtep for session in index.sessions.values() if session.vtep is not None}
                hosts, sites, profiles = index.snapshot.hosts.values(), index.snapshot.sites, index.snapshot.profiles
                local = index.snapshot.hosts.get(index.host)
                self._hosts = {
                    str(end): host.name for host in hosts for end in (host.tunnel_address, host.vtep) if end is not None
                }
                smallest = min((inside_mtu(host, sites) for host in hosts), default=DEFAULT_MTU)
                self._prober.set_targets(used, smallest, now, encrypted_mtus(local, hosts, sites, profiles))
            for probe in self._prober.tick(now):
                actions = (Set("tunnel_id", PROBE_VNI), to_vtep(probe.vtep), Output(tunnel))
                self._send(probe.frame, actions)
        words = {host: health.word for host, health in self.health().items()}
        if words != self._words:
            for host, word in words.items():
                if word != self._words.get(host, "up"):
                    log.info("tunnel.changed peer=%s state=%s", host, word)
            self._words = words
            self._on_change()

    def on_answer(self, frame: bytes) -> None:
        """Take a probe that came back."""
        self._prober.heard(frame, time.monotonic())

    def health(self) -> dict[str, Health]:
        """Return the health of tunnels by host, or by VTEP when no host has it."""
        return {self._hosts.get(vtep, vtep): health for vtep, health in self._prober.health().items()}

    def report(self) -> Mapping[str, Any]:
        """Return the part of the host's status: the number of probed tunnels, and the broken ones."""
        return {"known": len(self._words), "broken": {h: word for h, word in sorted(self._words.items()) if word != "up"}}
