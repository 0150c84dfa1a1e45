"""Loaded by `ryu-manager controller.apps.overlay controller.apps.gauge`: polls the switch in the manner of FAUCET's Gauge and serves
Prometheus, with the controller's own figures beside it.

WARREN_GAUGE (default 127.0.0.1:9303) and WARREN_METRICS (127.0.0.1:9302) say where, an empty text: nowhere; WARREN_GAUGE_S how often the switch is
asked (10 seconds); WARREN_GAUGE_FILE gets every answer as a line of JSON.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

import eventlet
import eventlet.wsgi
from prometheus_client import CollectorRegistry, make_wsgi_app
from ryu.base import app_manager
from ryu.controller import ofp_event
from ryu.controller.handler import DEAD_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from ryu.lib import hub

from controller import wire
from controller.metrics import Gauge, MeterNumbers, Numbers, Place, Polled, PortState
from pipeline.tables import Table
from specs.settings import settings

log = logging.getLogger("warren.gauge")

UNKNOWN = 2**64 - 1  # a counter that the switch does not keep
PORT_NAMES = {wire.ofp.OFPP_LOCAL: "LOCAL", wire.ofp.OFPP_CONTROLLER: "CONTROLLER"}


class GaugeApp(app_manager.RyuApp):  # type: ignore[misc]
    """Polls the switch of this process."""

    OFP_VERSIONS = [wire.VERSION]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.polled = Polled(name=settings(os.environ).host)
        self.every_s = float(os.environ.get("WARREN_GAUGE_S", "10"))
        self.file = os.environ.get("WARREN_GAUGE_FILE")
        self.datapath: Any = None
        self.flow_xid = 0
        self.rules: dict[str, tuple[int, int]] = {}

    def start(self) -> None:
        """Called by ryu-manager once the app stands."""
        super().start()
        registry = CollectorRegistry()
        registry.register(Gauge(self.polled, self._places))  # type: ignore[arg-type]
        self.threads.append(hub.spawn(self._poll))
        for variable, default, served in (
            ("WARREN_GAUGE", "127.0.0.1:9303", registry),
            ("WARREN_METRICS", "127.0.0.1:9302", None),
        ):
            where = os.environ.get(variable, default)
            overlay = self._overlay()
            if served is None and overlay is not None:
                served = overlay.metrics.registry
            if where and served is not None:
                self.threads.append(hub.spawn(self._serve, variable, where, served))

    def _serve(self, variable: str, where: str, registry: CollectorRegistry) -> None:
        host, _, port = where.rpartition(":")
        try:
            listener = eventlet.listen((host.strip("[]"), int(port)))
        except (OSError, ValueError) as error:
            log.error("metrics.refused %s=%s reason=%s", variable, where, error)
            return
        eventlet.wsgi.server(listener, make_wsgi_app(registry), log_output=False)

    # ---- asking ---------------------------------------------------------------------------------------------------------

    def _poll(self) -> None:
        while True:
            if self.datapath is not None:
                for asked in wire.statistics_requests(self.datapath):
                    self.datapath.send_msg(asked)
                request: Any = wire.acl_flow_stats_request(self.datapath)
                self.datapath.send_msg(request)
                self.flow_xid, self.rules = request.xid, {}
            hub.sleep(self.every_s)

    @set_ev_cls(ofp_event.EventOFPStateChange, [MAIN_DISPATCHER, DEAD_DISPATCHER])
    def _state_change(self, event: Any) -> None:
        if event.state == MAIN_DISPATCHER:
            self.datapath, self.polled.dpid, self.polled.connected = event.datapath, event.datapath.id, True
        elif event.datapath is self.datapath:
            self.datapath, self.polled.connected = None, False

    # ---- answers --------------------------------------------------------------------------------------------------------

    @set_ev_cls(ofp_event.EventOFPPortStatsReply, MAIN_DISPATCHER)
    def _ports(self, event: Any) -> None:
        found = {s.port_no: Numbers(*(_known(getattr(s, name)) for name in Numbers._fields)) for s in event.msg.body}
        self.polled.ports = {**(self.polled.ports if event.msg.flags else {}), **found}

    @set_ev_cls(ofp_event.EventOFPPortDescStatsReply, MAIN_DISPATCHER)
    def _port_states(self, event: Any) -> None:
        found: dict[int, PortState] = {}
        for port in event.msg.body:
            speeds = [(p.curr_speed, p.max_speed) for p in port.properties if hasattr(p, "curr_speed")] or [(0, 0)]
            name = PORT_NAMES.get(port.port_no) or port.name.decode(errors="replace")
            found[port.port_no] = PortState(name, port.state, *speeds[0])
        self.polled.states = found

    @set_ev_cls(ofp_event.EventOFPTableStatsReply, MAIN_DISPATCHER)
    def _tables(self, event: Any) -> None:
        names = {int(table): table.name for table in Table}
        counts = {s.table_id: s.active_count for s in event.msg.body if s.active_count or s.table_id in names}
        self.polled.tables = {names.get(number, str(number)): count for number, count in sorted(counts.items())}

    @set_ev_cls(ofp_event.EventOFPMeterStatsReply, MAIN_DISPATCHER)
    def _meters(self, event: Any) -> None:
        self.polled.meters = {
            m.meter_id: MeterNumbers(
                m.flow_count, m.packet_in_count, m.byte_in_count, sum(b.packet_band_count for b in m.band_stats),
                sum(b.byte_band_count for b in m.band_stats),
            )
            for m in event.msg.body
        }  # fmt: skip

    @set_ev_cls(ofp_event.EventOFPFlowStatsReply, MAIN_DISPATCHER)
    def _flows(self, event: Any) -> None:
        """Only the answer to our own question: the overlay asks too."""
        overlay = self._overlay()
        if event.msg.xid != self.flow_xid or overlay is None:
            return
        for stat in event.msg.body:
            flow = overlay.reconciler.flows.get(stat.cookie)
            if flow is not None and flow.origin.kind == "acl":
                packets, octets = self.rules.get(flow.origin.name, (0, 0))
                self.rules[flow.origin.name] = packets + stat.packets, octets + stat.octets
        if not event.msg.flags & wire.ofp.OFPMPF_REPLY_MORE:
            self.polled.rules = self.rules
            if self.file:
                with Path(self.file).open("a") as file:
                    file.write(self.polled.line(time.time()) + "\n")

    def _overlay(self) -> Any:
        return app_manager.lookup_service_brick("Overlay")

    def _places(self) -> dict[int, Place]:
        """Whose the ports are: names of network and endpoint."""
        overlay = self._overlay()
        if overlay is None:
            return {}
        index, found = overlay.reconciler.index, {}
        for endpoint_id, ofport in dict(index.ports).items():
            endpoint = index.snapshot.endpoints.get(endpoint_id)
            if endpoint is not None:
                network = index.snapshot.networks.get(endpoint.network_id)
                found[ofport] = Place(network.name if network is not None else endpoint.network_id, endpoint.name or endpoint.id)
        return found


def _known(value: int) -> int:
    return 0 if value == UNKNOWN else int(value)
