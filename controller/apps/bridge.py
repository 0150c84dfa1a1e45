"""Reconciles the bridge of this host in OVSDB, and reads its ports from there. Part of the overlay application."""

from __future__ import annotations

import logging
import socket
from typing import Any

from controller.events import PortsRead
from controller.framework.runtime import hub
from ovsdb.client import Ovsdb
from ovsdb.rows import AS_CHOSEN, TUNNEL_PORT, UPLINK_PORT, Port, interface_ports, mirror_ports, present
from warren.errors import WarrenError

log = logging.getLogger("warren.overlay")

LOOK_S = 2.0  # OVSDB tells nothing when an interface appears or vanishes


class IntegrationBridge:
    """`overlay` is the application: its reconciler knows which ports are wanted, and takes those that exist. `controller` is
    the address for the switch to connect to."""

    def __init__(self, overlay: Any, controller: str) -> None:
        self._overlay, self._controller = overlay, controller
        self._name, self._host = overlay.settings.bridge, overlay.settings.host
        self._changed = hub.Event()
        self._more: tuple[Port, ...] = ()  # the ports wanted last, beside those of every bridge
        self._lent: dict[str, str] = {}  # ports that somebody has added to the bridge by hand for a network
        self._ovsdb = Ovsdb(overlay.settings.ovsdb, on_change=self._news)

    def run(self) -> None:
        """Reconcile for ever: the body of a green thread."""
        self._ovsdb.connect()
        told = ""
        while True:
            self._changed.clear()
            try:
                self._keep()
                told = ""
            except WarrenError as error:
                if str(error) != told:
                    told = str(error)
                    log.error("ovsdb.refused reason=%s", error)
            self._changed.wait(timeout=LOOK_S)

    def look(self, anew: bool) -> None:
        """The specs have changed; `anew`: all of them were read."""
        if anew or self._wanted() != self._more:
            self._changed.set()

    def _keep(self) -> None:
        """Reconcile the bridge. One that exists is left alone until etcd has been read, because only then is it known which
        ports are wanted."""
        self._more = self._wanted()
        if not self._ovsdb.connected:
            return
        if self._overlay.reconciler.store_read or self._ovsdb.observed().bridge(self._name) is None:
            there = present(self._more, {interface: number for number, interface in socket.if_nameindex()})
            record = self._overlay.reconciler.index.snapshot.hosts.get(self._host)
            settings = (record.bridge if record is not None else None) or AS_CHOSEN
            self._ovsdb.ensure_bridge(self._name, self._controller, self._host, more=there, settings=settings)
        marked = [port.name for port in self._ovsdb.observed().ports.values() if port.lent]
        self._lent = self._ovsdb.on_bridge(self._name, marked)
        self._tell_ports()

    def _news(self, what: set[str]) -> None:
        if "ports" in what and self._ovsdb.connected:
            self._tell_ports()
        self._changed.set()

    def _tell_ports(self) -> None:
        ofport, others = self._ovsdb.ofport, self._ovsdb.ofports(self._wanted(), self._lent)
        endpoints = dict(self._ovsdb.ports_of_endpoints())
        self._overlay.inbox.put(PortsRead(endpoints, ofport(TUNNEL_PORT), ofport(UPLINK_PORT), others))

    def _wanted(self) -> tuple[Port, ...]:
        """The ports that the specs name, beside those of every bridge. An endpoint's interface may be a mirror session's
        target, too."""
        index = self._overlay.reconciler.index
        wanted = index.bindings.requested_interfaces()
        targets = mirror_ports(index.snapshot.copied.values(), self._host)
        return (*interface_ports(wanted), *(port for port in targets if port.name not in wanted))
