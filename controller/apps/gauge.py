"""The gauge application, loaded by `ryu-manager controller.apps.overlay controller.apps.gauge`: polls the switch in the
manner of FAUCET's Gauge and serves Prometheus, with the controller's own figures. The settings are in warren/settings.py and
docs/metrics.md.

Everything runs in green threads of the controller's process. A scrape reads what was polled and asks no switch.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import eventlet
import eventlet.wsgi
from prometheus_client import CollectorRegistry, GCCollector, Info, PlatformCollector, ProcessCollector, make_wsgi_app
from prometheus_client import Gauge as Value

from controller.framework.runtime import (
    DEAD_DISPATCHER,
    MAIN_DISPATCHER,
    RyuApp,
    cfg,
    hub,
    lookup_service_brick,
    ofp_event,
    set_ev_cls,
)
from controller.framework.start import on_hangup, or_exit
from controller.loops import Loops
from controller.openflow import messages
from controller.telemetry import sinks
from controller.telemetry.counters import Answers, Parts, Reading, Totals
from controller.telemetry.metrics import Faucet, Gauge
from controller.telemetry.switch_stats import Description, MeterNumbers, Numbers, Place, Polled, PortState
from pipeline.tables import Table
from specs.model.tenant import DEFAULT
from warren.exposure import exposure, log_exposure
from warren.settings import gauge_settings, settings

log = logging.getLogger("warren.gauge")

UNKNOWN = 2**64 - 1  # a counter that the switch does not keep
PORT_NAMES = {messages.ofp.OFPP_LOCAL: "LOCAL", messages.ofp.OFPP_CONTROLLER: "CONTROLLER"}
COUNTED = ("acl", "spoof", "pipeline")  # features whose flows are polled: rules of ACLs, and flows that drop
INFLUX_TIMEOUT_S = 5.0


class GaugeApp(RyuApp):  # type: ignore[misc]
    """Polls the switch of this process."""

    OFP_VERSIONS = [messages.VERSION]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.settings = or_exit(lambda: gauge_settings(os.environ))
        on_hangup(lambda: None)
        self.polled = Polled(name=or_exit(lambda: settings(os.environ)).host)
        self.parts = Parts()
        self.rules, self.drops, self.groups, self.networks, self.spoofed = Totals(), Totals(), Totals(), Totals(), Totals()
        self.datapath: Any = None
        self.flow_answers = Answers()
        self.asked_at = self.asked_before = time.monotonic()
        self.failing: set[str] = set()  # sinks whose failure is logged already

    def start(self) -> None:
        """Called by ryu-manager once the application is instantiated."""
        super().start()
        gauge = CollectorRegistry()
        gauge.register(Gauge(self.polled, self._places, self._tenants, lambda: hub.sleep(0)))  # type: ignore[arg-type]
        self.threads.append(hub.spawn(self._serve, "WARREN_GAUGE", self.settings.gauge, gauge))
        overlay = self._overlay()
        loops = Loops(lambda: None, hub.sleep) if overlay is None else overlay.loops
        self.threads.append(hub.spawn(loops.repeat, "gauge", self._poll))
        if overlay is not None:
            registry = overlay.metrics.registry
            registry.register(Faucet(self.polled, self._places))
            _about_the_process(registry)
            self.threads.append(hub.spawn(self._serve, "WARREN_METRICS", self.settings.metrics, registry))

    def _serve(self, variable: str, where: str, registry: CollectorRegistry) -> None:
        if not where:
            return
        host, _, port = where.rpartition(":")
        try:
            family = eventlet.green.socket.AF_INET6 if ":" in host else eventlet.green.socket.AF_INET
            listener = eventlet.listen((host.strip("[]"), int(port)), family)
        except (OSError, ValueError) as error:
            log.error("metrics.refused %s=%s reason=%s", variable, where, error)
            return
        line = exposure(variable, "whoever reaches it reads all figures: metrics are", host.strip("[]"), "listen on 127.0.0.1")
        exposed = log_exposure(log, line, trusted=settings(os.environ).trusted_network)
        if exposed and (overlay := self._overlay()) is not None:
            overlay.exposed += exposed
        eventlet.wsgi.server(listener, make_wsgi_app(registry), log_output=False)

    # ---- asking ---------------------------------------------------------------------------------------------------------

    def _poll(self) -> None:
        if self.datapath is not None:
            self._request(self.datapath)
        hub.sleep(self.settings.every_s)

    def _request(self, datapath: Any) -> None:
        self.asked_before, self.asked_at = self.asked_at, time.monotonic()
        for request in messages.statistics_requests(datapath):
            datapath.send_msg(request)
        questions: list[Any] = [messages.flow_counts_request(datapath, feature) for feature in COUNTED]
        for question in questions:
            datapath.send_msg(question)
        self.flow_answers.expect(question.xid for question in questions)

    @set_ev_cls(ofp_event.EventOFPStateChange, [MAIN_DISPATCHER, DEAD_DISPATCHER])
    def _state_change(self, event: Any) -> None:
        if event.state == MAIN_DISPATCHER:
            self.parts.clear()
            self.datapath, self.polled.dpid, self.polled.connected = event.datapath, event.datapath.id, True
            event.datapath.send_msg(messages.description_request(event.datapath))
        elif event.datapath is self.datapath:
            self.datapath, self.polled.connected = None, False

    # ---- answers --------------------------------------------------------------------------------------------------------

    def _whole(self, event: Any) -> list[Any] | None:
        """The whole answer, once all of its parts have arrived."""
        return self.parts.take(event.msg.xid, event.msg.body, bool(event.msg.flags & messages.ofp.OFPMPF_REPLY_MORE))

    @set_ev_cls(ofp_event.EventOFPDescStatsReply, MAIN_DISPATCHER)
    def _description(self, event: Any) -> None:
        texts = (getattr(event.msg.body, name) for name in Description._fields)
        self.polled.description = Description(*(text.rstrip(b"\0").decode(errors="replace") for text in texts))

    @set_ev_cls(ofp_event.EventOFPPortStatsReply, MAIN_DISPATCHER)
    def _ports(self, event: Any) -> None:
        if (body := self._whole(event)) is None:
            return
        self.polled.ports = {s.port_no: Numbers(*(_zero_if_unknown(getattr(s, name)) for name in Numbers._fields)) for s in body}
        age_s, ports, places = {s.port_no: s.duration_sec for s in body}, self.polled.ports, self._places()
        self.networks.take(
            (Reading((n, place.endpoint), place.network, ports[n][:4], age_s[n]) for n, place in places.items() if n in ports),
            self._since(),
        )
        self.polled.networks = dict(self.networks.totals)

    @set_ev_cls(ofp_event.EventOFPPortDescStatsReply, MAIN_DISPATCHER)
    def _port_states(self, event: Any) -> None:
        if (body := self._whole(event)) is not None:
            before = self.polled.states
            added = messages.ofp.OFPPR_ADD
            self.polled.states = {
                port.port_no: _port_state(port, before[port.port_no].reason if port.port_no in before else added) for port in body
            }

    @set_ev_cls(ofp_event.EventOFPPortStatus, MAIN_DISPATCHER)
    def _port_status(self, event: Any) -> None:
        """A port has come, gone or changed, possibly between two polls."""
        port, reason = event.msg.desc, event.msg.reason
        if reason == messages.ofp.OFPPR_DELETE:
            self.polled.states = {n: state for n, state in self.polled.states.items() if n != port.port_no}
        else:
            self.polled.states = {**self.polled.states, port.port_no: _port_state(port, reason)}

    @set_ev_cls(ofp_event.EventOFPTableStatsReply, MAIN_DISPATCHER)
    def _tables(self, event: Any) -> None:
        if (body := self._whole(event)) is not None:
            names = {int(table): table.name for table in Table}
            counts = {s.table_id: s.active_count for s in body if s.active_count or s.table_id in names}
            self.polled.tables = {names.get(number, str(number)): count for number, count in sorted(counts.items())}

    @set_ev_cls(ofp_event.EventOFPMeterStatsReply, MAIN_DISPATCHER)
    def _meters(self, event: Any) -> None:
        if (body := self._whole(event)) is not None:
            self.polled.meters = {
                m.meter_id: MeterNumbers(
                    m.flow_count, m.packet_in_count, m.byte_in_count, sum(b.packet_band_count for b in m.band_stats),
                    sum(b.byte_band_count for b in m.band_stats),
                )
                for m in body
            }  # fmt: skip

    @set_ev_cls(ofp_event.EventOFPGroupStatsReply, MAIN_DISPATCHER)
    def _group_counts(self, event: Any) -> None:
        body, overlay = self._whole(event), self._overlay()
        if body is None or overlay is None:
            return
        groups, names = overlay.reconciler.groups, self._names()
        with_origin = ((s, groups[s.group_id].origin) for s in body if s.group_id in groups)
        self.groups.take(
            (
                Reading(s.group_id, f"{origin.kind}/{names(origin.name)}", (s.packet_count, s.byte_count), s.duration_sec)
                for s, origin in with_origin
            ),
            self._since(),
        )
        self.polled.groups = dict(self.groups.totals)

    @set_ev_cls(ofp_event.EventOFPFlowStatsReply, MAIN_DISPATCHER)
    def _flows(self, event: Any) -> None:
        """Takes the answers to our own questions alone, because the overlay asks, too. The last of them completes a poll."""
        message, overlay = event.msg, self._overlay()
        stats = self.flow_answers.take(message.xid, message.body, bool(message.flags & messages.ofp.OFPMPF_REPLY_MORE))
        if stats is None or overlay is None:
            return
        flows = overlay.reconciler.watched
        with_flow = [(flow, stat) for part in stats for stat in part.counters() if (flow := flows.get(stat.cookie)) is not None]
        rules = ((flow.origin.name, stat) for flow, stat in with_flow if flow.origin.kind == "acl")
        drops = ((flow.table.name, stat) for flow, stat in with_flow if not flow.actions)
        refused = (
            (self._place(flow.origin.name), s) for flow, s in with_flow if flow.table is Table.SPOOF_GUARD and not flow.actions
        )
        spoofed = ((f"{place.network}/{place.endpoint}", stat) for place, stat in refused if place is not None)
        for tally, pairs in ((self.rules, rules), (self.drops, drops), (self.spoofed, spoofed)):
            tally.take((Reading(s.cookie, key, (s.packets, s.octets), s.duration_s) for key, s in pairs), self._since())
        self.polled.rules, self.polled.drops = dict(self.rules.totals), dict(self.drops.totals)
        self.polled.spoofed = dict(self.spoofed.totals)
        self._write(time.time())

    def _since(self) -> float:
        """Seconds since the poll before this one."""
        return time.monotonic() - self.asked_before

    # ---- other sinks ----------------------------------------------------------------------------------------------------

    def _write(self, now: float) -> None:
        to = self.settings
        if to.json_file:
            self._append(to.json_file, [sinks.json_line(self.polled, now)])
        if to.text_file:
            self._append(to.text_file, sinks.tab_lines(self.polled, now))
        if to.influx_url:
            hub.spawn(self._write_influx, "\n".join(sinks.influx_lines(self.polled, self._places(), now)))

    def _append(self, path: str, lines: Iterable[str]) -> None:
        """Append to a file, opened each time: after somebody has moved it away, a new one begins."""
        try:
            with Path(path).open("a") as file:
                file.writelines(f"{line}\n" for line in lines)
            self._worked(path)
        except OSError as error:
            self._failed(path, error)

    def _write_influx(self, lines: str) -> None:
        """Write to /write?db=NAME of InfluxDB 1 or /api/v2/write?org=...&bucket=... of 2. What cannot be written is lost."""
        from eventlet.green.urllib import request  # its sockets yield to other green threads

        url = str(self.settings.influx_url)
        header = {"Authorization": f"Token {self.settings.influx_token}"} if self.settings.influx_token else {}
        try:
            post = request.Request(url, data=lines.encode(), headers=header, method="POST")
            request.urlopen(post, timeout=INFLUX_TIMEOUT_S).close()
            self._worked("InfluxDB")
        except (OSError, ValueError) as error:
            self._failed("InfluxDB", error)

    def _failed(self, sink: str, error: Exception) -> None:
        if sink not in self.failing:  # once for each outage
            log.warning("sink.failed sink=%s reason=%s", sink, error)
            self.failing.add(sink)

    def _worked(self, sink: str) -> None:
        if sink in self.failing:
            log.info("sink.works sink=%s", sink)
            self.failing.remove(sink)

    # ---- whose it is ----------------------------------------------------------------------------------------------------

    def _overlay(self) -> Any:
        return lookup_service_brick("Overlay")

    def _names(self) -> Callable[[str], str]:
        """Ids of networks to names; other words stay as they are."""
        networks = self._overlay().reconciler.index.snapshot.networks
        return lambda name: networks[name].name if name in networks else name

    def _places(self) -> dict[int, Place]:
        """The network and endpoint that each port belongs to, by name."""
        overlay = self._overlay()
        if overlay is None:
            return {}
        ports = dict(overlay.reconciler.index.ports)
        return {ofport: place for endpoint_id, ofport in ports.items() if (place := self._place(endpoint_id)) is not None}

    def _place(self, endpoint_id: str) -> Place | None:
        """The network and the name of an endpoint."""
        state = self._overlay().reconciler.index.snapshot
        endpoint = state.endpoints.get(endpoint_id)
        if endpoint is None:
            return None
        network, name = state.networks.get(endpoint.network_id), endpoint.name or endpoint.id
        return Place(endpoint.network_id, name) if network is None else Place(network.name, name, network.tenant or DEFAULT)

    def _tenants(self) -> dict[str, str]:
        """The tenants of networks, by name."""
        overlay = self._overlay()
        networks = overlay.reconciler.index.snapshot.networks.values() if overlay is not None else ()
        return {network.name: network.tenant or DEFAULT for network in networks}


def _zero_if_unknown(value: int) -> int:
    return 0 if value == UNKNOWN else int(value)


def _port_state(port: Any, reason: int) -> PortState:
    speeds = [(p.curr_speed, p.max_speed) for p in port.properties if hasattr(p, "curr_speed")] or [(0, 0)]
    name = PORT_NAMES.get(port.port_no) or port.name.rstrip(b"\0").decode(errors="replace")
    up = not port.state & messages.ofp.OFPPS_LINK_DOWN and not port.config & messages.ofp.OFPPC_PORT_DOWN
    return PortState(name, port.state, *speeds[0], reason, up)


def _about_the_process(registry: CollectorRegistry) -> None:
    """FAUCET's metrics about its process and about Ryu."""
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)  # type: ignore[operator]
    Info("warren", "The controller's version", registry=registry).info({"version": version("warren")})
    pbr = Value("faucet_pbr_version", "The controller's version, under FAUCET's name", ["version"], registry=registry)
    pbr.labels(version("warren")).set(1)
    ryu = Value("ryu_config", "Ryu's settings", ["param"], registry=registry)
    for name in ("echo_request_interval", "maximum_unreplied_echo_requests"):
        ryu.labels(name).set(getattr(cfg.CONF, name))
