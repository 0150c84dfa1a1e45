"""Reconciles the bridge of this host in OVSDB, and reads its ports from there. Part of the overlay application."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

from controller.events import PortsRead
from controller.framework.runtime import hub
from controller.reconcile import Reconciler
from ovsdb.client import Ovsdb
from ovsdb.control import ZoneLimit, appctl, datapath, zone_limits
from ovsdb.rows import AS_CHOSEN, UPLINK_PORT, Port, interface_ports, mirror_ports, present, resolver_port
from ovsdb.tunnels import profile_ports
from pipeline.tunnels import TUNNEL_PORT
from specs.model.tenant import DEFAULT
from warren.errors import Unavailable, WarrenError
from warren.settings import Settings

log = logging.getLogger("warren.overlay")

INTERVAL_S = 2.0  # OVSDB sends no notification when an interface appears or vanishes


class IntegrationBridge:
    """Reconciles the bridge in a green thread. `reconciler` returns who holds the specs, which name the wanted ports; `post` gets the
    ports that exist; `on_change` is called when `problem` has changed. `controller` is the address for the switch to connect to."""

    def __init__(
        self,
        settings: Settings,
        controller: str,
        reconciler: Callable[[], Reconciler],
        post: Callable[[PortsRead], None],
        on_change: Callable[[], None],
    ) -> None:
        self.problem: str | None = None  # why the bridge is not as wanted
        self._on_problem = on_change
        self._controller, self._reconciler, self._post = controller, reconciler, post
        self._name, self._host = settings.bridge, settings.host
        self._changed = hub.Event()
        self._more: tuple[Port, ...] = ()  # the ports wanted at the last turn, besides those of every bridge
        self._lent: dict[str, str] = {}  # by port that somebody added to the bridge by hand: its network
        self._ovsdb = Ovsdb(settings.ovsdb, on_change=self._on_change)

    def connect(self) -> None:
        """Start the client of OVSDB."""
        self._ovsdb.connect()

    def step(self) -> None:
        """Reconcile once, then wait until something has changed."""
        self._changed.clear()
        try:
            self._reconcile()
            self._report(None)
        except WarrenError as error:
            self._report(error)
        self._changed.wait(timeout=INTERVAL_S)

    def connections(self) -> dict[tuple[str, str], ZoneLimit]:
        """Return the connections that the datapath tracks, by network name and tenant; nothing if the switch is another machine's."""
        try:
            zones = zone_limits(appctl("dpctl/ct-get-limits", datapath(self._ovsdb, self._name)))
        except WarrenError:
            return {}
        index = self._reconciler().index
        networks = [
            (index.snapshot.networks[n.id], n.zone or (n.gateway.zone if n.gateway else 0)) for n in index.networks.values()
        ]
        return {(record.name, record.tenant or DEFAULT): zones[zone] for record, zone in networks if zone in zones}

    def problems(self) -> list[list[str]]:
        """Return why the bridge is not as wanted, for `warren status`."""
        return [] if self.problem is None else [["bridge", self.problem]]

    def _report(self, error: WarrenError | None) -> None:
        problem = None if error is None else str(error)
        if problem != self.problem:
            if isinstance(error, Unavailable):  # a busy ovs-vswitchd, which is asked again; `warren status` says so meanwhile
                log.info("ovsdb.waits reason=%s", problem)
            elif problem is not None:
                log.error("ovsdb.refused reason=%s", problem)
            self.problem = problem
            self._on_problem()

    def wake(self, full_read: bool) -> None:
        """Reconcile soon if the wanted ports have changed, or after a full read of the specs."""
        if full_read or self._desired_ports() != self._more:
            self._changed.set()

    def _reconcile(self) -> None:
        """Reconcile the bridge. An existing one is left alone until etcd was read, which tells the wanted ports."""
        self._more = self._desired_ports()
        if not self._ovsdb.connected:
            return
        if self._reconciler().store_read or self._ovsdb.observed().bridge(self._name) is None:
            existing = present(self._more, {interface: number for number, interface in socket.if_nameindex()})
            record = self._reconciler().index.snapshot.hosts.get(self._host)
            settings = (record.bridge if record is not None else None) or AS_CHOSEN
            self._ovsdb.ensure_bridge(self._name, self._controller, self._host, more=existing, settings=settings)
        marked = [port.name for port in self._ovsdb.observed().ports.values() if port.lent]
        self._lent = self._ovsdb.on_bridge(self._name, marked)
        self._publish_ports()

    def _on_change(self, what: set[str]) -> None:
        if "ports" in what and self._ovsdb.connected:
            self._publish_ports()
        self._changed.set()

    def _publish_ports(self) -> None:
        ofport, others = self._ovsdb.ofport, self._ovsdb.ofports(self._desired_ports(), self._lent)
        endpoints = dict(self._ovsdb.ports_of_endpoints())
        self._post(PortsRead(endpoints, ofport(TUNNEL_PORT), ofport(UPLINK_PORT), others, self._ovsdb.encrypted()))

    def _desired_ports(self) -> tuple[Port, ...]:
        """Return the ports that the specs name, besides those of every bridge. An endpoint's interface may be a mirror
        session's target, too."""
        index = self._reconciler().index
        interfaces = index.bindings.requested_interfaces()
        targets = mirror_ports(index.snapshot.copied.values(), self._host)
        tunnels = profile_ports(index.snapshot.profiles, index.snapshot.hosts.get(self._host))
        return (
            resolver_port(),
            *tunnels,
            *interface_ports(interfaces),
            *(port for port in targets if port.name not in interfaces),
        )
