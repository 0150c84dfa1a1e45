"""Probes the tunnels of this host: sends probes by packet-out and takes those that come back. Part of the overlay
application; controller/tunnels/probes.py decides."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from typing import Any

from controller.framework.runtime import hub
from controller.openflow import messages
from controller.tunnels.probes import Health, Prober
from pipeline.flow import Output, Set
from pipeline.tables import PROBE_VNI

log = logging.getLogger("warren.tunnels")

TICK_S = 0.25
AIM_S = 2.0
DEFAULT_MTU = 1500


class Tunnels:
    """`overlay` is the application: its session sends, and its reconciler knows which VTEPs are in use."""

    def __init__(self, overlay: Any) -> None:
        self._overlay = overlay
        self._prober = Prober(os.urandom(8))
        self._words: dict[str, str] = {}  # host -> state in the last report
        self._hosts: dict[str, str] = {}  # VTEP -> name of the host
        self._aimed_at = 0.0

    def run(self) -> None:
        """Probe for ever: the body of a green thread."""
        while True:
            hub.sleep(TICK_S)
            self._tick(time.monotonic())

    def _tick(self, now: float) -> None:
        session, index = self._overlay.session, self._overlay.reconciler.index
        if session is None or not self._overlay.connected or index.tunnel_ofport is None:
            self._prober.forget()
        else:
            if now - self._aimed_at > AIM_S:
                self._aimed_at = now
                used = {vtep for network in index.networks.values() for vtep in network.vteps}
                used |= {session.vtep for session in index.sessions.values() if session.vtep is not None}
                used = {vtep for vtep in used if ":" not in vtep}  # the flows, too, use tunnels over IPv4 only
                hosts = index.snapshot.hosts.values()
                self._hosts = {str(host.vtep): host.name for host in hosts}
                self._prober.set_targets(used, min((host.underlay_mtu for host in hosts), default=DEFAULT_MTU), now)
            for probe in self._prober.tick(now):
                way = (Set("tunnel_id", PROBE_VNI), Set("tun_ipv4_dst", probe.vtep), Output(index.tunnel_ofport))
                session.datapath.send(messages.packet_out(probe.frame, way, messages.PROBE_XID))
        words = {host: health.word for host, health in self.health().items()}
        if words != self._words:
            for host, word in words.items():
                if word != self._words.get(host, "up"):
                    log.info("tunnel.changed peer=%s state=%s", host, word)
            self._words = words
            self._overlay.status_changed()

    def heard(self, frame: bytes) -> None:
        """A probe has come back."""
        self._prober.heard(frame, time.monotonic())

    def health(self) -> dict[str, Health]:
        """The health of tunnels by host (by VTEP where no host has it)."""
        return {self._hosts.get(vtep, vtep): health for vtep, health in self._prober.health().items()}

    def report(self) -> Mapping[str, Any]:
        """For the host's status: the number of probed tunnels, and the broken ones."""
        return {"known": len(self._words), "broken": {h: word for h, word in sorted(self._words.items()) if word != "up"}}
