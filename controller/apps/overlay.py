"""The controller: `ryu-manager controller.apps.overlay`. A thin shim: news from Ryu, etcd and OVSDB become events of the
reconciler, and its effects become messages. All state is in the reconciler; one green thread is its only writer."""

# ruff: noqa: E402
from __future__ import annotations

import logging
import os
import queue
import time
from collections import deque
from dataclasses import asdict
from typing import Any

from controller.apps.store_feed import StoreFeed, start_early, store_event
from controller.openflow.flow_stats import read_cookies_only

start_early()  # before the imports below, which take as long as it takes to read etcd

from controller import garbage
from controller.apps.announcer import Announcer
from controller.apps.bridge import IntegrationBridge
from controller.apps.tunnels import Tunnels
from controller.dhcp.server import Dhcp
from controller.events import (
    Announce,
    AskReadBack,
    Audit,
    Commit,
    Committed,
    Connected,
    Disconnected,
    DropMeters,
    Effect,
    Event,
    PortsRead,
    ReadBack,
    Report,
    StoreChanged,
    StoreRead,
)
from controller.framework.runtime import (
    CONFIG_DISPATCHER,
    DEAD_DISPATCHER,
    MAIN_DISPATCHER,
    RyuApp,
    cfg,
    hub,
    listen_on_loopback,
    ofp_event,
    set_ev_cls,
)
from controller.framework.start import begin
from controller.loops import Loops
from controller.openflow import messages
from controller.openflow.icmp import complaint
from controller.openflow.packet_log import Limiter, describe
from controller.openflow.session import SwitchSession
from controller.reconcile import Phase, Reconciler
from controller.telemetry.metrics import ControllerMetrics
from pipeline.flow import Action, Flow, Output, Resubmit, Set
from pipeline.tables import ORIGIN_ANSWER, REG_NETWORK, REG_ORIGIN, Table
from warren.exposure import exposure, log_exposure
from warren.memory import give_back

log = logging.getLogger("warren.overlay")
listen_on_loopback()  # ryu-manager loads this module before it opens the listener

FEED = "feed of the specs"
DHCP_QUESTIONS_LIMIT = 512  # DHCP packets that may wait for an answer at once
ADVERTISED_AT_ONCE = 50  # ports in a row, before other green threads get their turn
KINDS = {
    Table.ROUTE: "ttl",
    Table.MTU_CHECK: "large",
    Table.DHCP: "dhcp",
}  # what it means that a flow of this table sends a packet to the controller


class Overlay(RyuApp):
    """Programs the integration bridge of one host from the specs in etcd."""

    OFP_VERSIONS = [messages.VERSION]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        read_cookies_only()
        self.settings = begin(lambda: self.feed.reload())
        self.resync_s = float(os.environ.get("WARREN_RESYNC_S", "30"))
        self.reconciler = Reconciler(self.settings.host, _pause, messages.add_flow)
        self.session: SwitchSession | None = None
        self.sessions = 0
        self.inbox: Any = hub.Queue()
        self.feed = StoreFeed(self._feed_started, self._feed_news)
        self.loops = Loops(self._status_changed, hub.sleep)
        self.last_status: dict[str, Any] = {}
        self.limiter, self.tellers = Limiter(), Limiter()
        self.tunnels = Tunnels(lambda: self.reconciler.index, lambda: self.connected, self._send_probe, self._status_changed)
        self.advertise_s = float(os.environ.get("WARREN_ADVERTISE_S", "600"))
        self.dhcp_questions: Any = hub.Queue(DHCP_QUESTIONS_LIMIT)
        openflow = "whoever reaches it can play a switch: OpenFlow is"
        line = exposure("--ofp-listen-host", openflow, cfg.CONF.ofp_listen_host, "leave the option out")
        self.exposed = log_exposure(log, line, trusted=self.settings.trusted_network)
        self.metrics = ControllerMetrics(self._figures)
        self.dhcp = Dhcp(lambda: self.reconciler.index, self.metrics, self._labels, self._send_out)
        self.announcer = Announcer(lambda: self.reconciler.index, self._send_out)
        self.arrived: deque[tuple[int, float]] = deque()  # revisions on their way to the switch, and when they came from etcd

    def _labels(self) -> tuple[str, str]:
        return f"{self.session.datapath.id if self.session else 0:#x}", self.settings.host

    def _figures(self) -> dict[str, Any]:
        """The figures that controller/telemetry/metrics.py asks for."""
        r = self.reconciler
        return {
            "dpid": self.session.datapath.id if self.session else 0, "name": self.settings.host,
            "connected": self.connected, "seen": r.revision, "applied": r.applied, "flows": len(r.flows),
            "refused": len(r.refused), "drift": r.drift, "strays": r.strays, "problems": len(r.problems()), "endpoints": r.states(),
            "tunnels": self.tunnels.health(), "connections": self.bridge.connections(),
        }  # fmt: skip

    def start(self) -> None:
        """Called by ryu-manager once the application is instantiated."""
        super().start()
        controller = f"tcp:127.0.0.1:{_listen_port()}"
        self.bridge = IntegrationBridge(self.settings, controller, lambda: self.reconciler, self._post, self._status_changed)
        self.bridge.connect()
        for name, step in (
            ("reconciler", self._consume), (FEED, self.feed.run), ("bridge", self.bridge.step),
            ("audit", self._audit), ("router advertisements", self._advertise), ("tunnels", self.tunnels.step),
        ):  # fmt: skip
            self.threads.append(hub.spawn(self.loops.repeat, name, step))
        # without a pause, because otherwise one container could keep DHCP and announcements from all others
        for name, step in (("DHCP", self._answer), ("announcements", self.announcer.step)):
            self.threads.append(hub.spawn(self.loops.repeat, name, step, pause=False))

    # ---- the one consumer -----------------------------------------------------------------------------------------

    def _consume(self) -> None:
        """Take an event. Return once the specs are read, so that after a failure the problem stays until they were read again."""
        while True:
            try:
                self._take(self.inbox.get())
            except Exception:
                self._start_over()
                raise
            if self.reconciler.store_read or self.reconciler.held is not None:
                return

    def _take(self, event: Event) -> None:
        if isinstance(event, StoreChanged):
            self.arrived.append((event.revision, event.at))
        with garbage.paused():
            for effect in self.reconciler.step(event):
                self._carry_out(effect)
        if isinstance(event, StoreRead | StoreChanged):
            self.bridge.wake(full_read=isinstance(event, StoreRead))
            if isinstance(event, StoreRead) or self.reconciler.held is not None:
                self._status_changed()
        # two watches may tell of one revision: what is in flight is timed when it is committed
        if isinstance(event, Committed) or (isinstance(event, StoreChanged) and self.reconciler.phase is not Phase.COMMITTING):
            self._clock(self.reconciler.applied, isinstance(event, Committed))
        if isinstance(event, (Connected, Disconnected, PortsRead, ReadBack, Committed)):  # problems may have changed
            self._status_changed()

    def _start_over(self) -> None:
        """Read the specs and the switch again, because the reconciler's state may be half changed. Flows stay meanwhile."""
        drift, strays = self.reconciler.drift, self.reconciler.strays
        self.reconciler = Reconciler(self.settings.host, _pause, messages.add_flow, drift=drift, strays=strays)
        self.arrived.clear()
        self.feed.restart()
        if self.session is not None:
            self.session.datapath.close()

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case AskReadBack(session) if self.session is not None and self.session.number == session:
                self.session.ask_read_back(effect)
            case Commit(session=session) if self.session is not None and self.session.number == session:
                self.metrics.flow_messages.labels(*self._labels()).inc(len(effect.flows) + len(effect.deletes))
                self.session.commit(effect)
            case DropMeters(session=session) if self.session is not None and self.session.number == session:
                self.session.drop_meters(effect)
            case Announce(endpoint_ids):
                self.announcer.announce(endpoint_ids)
            case Report(revision, endpoints):
                self._report(revision, endpoints)

    def _clock(self, applied: int, committed: bool) -> None:
        """Log how long the revisions applied now took, from etcd's event to the switch's answer."""
        while self.arrived and self.arrived[0][0] <= applied:
            revision, at = self.arrived.popleft()
            if committed:
                took_s = time.monotonic() - at
                self.metrics.change.labels(*self._labels()).observe(took_s)
                self.metrics.reload_warm.labels(*self._labels()).inc()
                log.info("revision.applied revision=%d ms=%.2f", revision, took_s * 1000)

    def _report(self, revision: int, endpoints: tuple[Any, ...]) -> None:
        state = self.reconciler
        status = {
            "revision": revision,
            "connected": self.connected,
            "flows": len(state.flows),
            "drift": state.drift,
            "tunnels": self.tunnels.report(),
            "problems": [
                *self.exposed,
                *self.bridge.problems(),
                *self.loops.problems(),
                *(list(problem) for problem in state.problems()[:100]),
            ],
        }
        if not endpoints and status == self.last_status:
            return
        self.last_status = status
        if state.origin is not None and state.held is None:
            status = {**status, "origin": asdict(state.origin)}
        self.feed.send({**status, "endpoints": [list(state) for state in endpoints]})

    @property
    def connected(self) -> bool:
        """Whether the switch is connected."""
        return self.reconciler.phase is not Phase.DOWN

    def _status_changed(self) -> None:
        """Publish the status: a part of it that is not the reconciler's has changed."""
        self._report(self.reconciler.applied, ())

    def _post(self, event: Event) -> None:
        self.inbox.put(event)

    def _audit(self) -> None:
        hub.sleep(self.resync_s)
        give_back()
        self._post(Audit())

    # ---- etcd, through the child ------------------------------------------------------------------------------------

    def _feed_started(self) -> None:
        """Tell a new child the status; a message to an earlier one may be lost."""
        self.last_status = {}
        self._status_changed()

    def _feed_news(self, message: dict[str, Any]) -> None:
        if message["type"] == "down":
            log.info("etcd.down reason=%s", message["reason"])
            return
        if message["type"] == "refused":
            log.info("controller.refused reason=%s", message["reason"])
            return
        event = store_event(message)
        if isinstance(event, StoreRead):
            log.info("etcd.read revision=%d entries=%d", event.revision, len(event.entries))
        elif isinstance(event, StoreChanged):
            self.metrics.reload_requests.inc()
        self._post(event)
        self.loops.works(FEED)

    # ---- OpenFlow ---------------------------------------------------------------------------------------------------

    @set_ev_cls(ofp_event.EventOFPStateChange, [MAIN_DISPATCHER, DEAD_DISPATCHER])
    def _state_change(self, event: Any) -> None:
        datapath = event.datapath
        if event.state == MAIN_DISPATCHER:
            self.sessions += 1
            self.session = SwitchSession(self.sessions, datapath, self._post)
            datapath.warren_session = self.session
            self.metrics.connected(*self._labels())
            log.info("datapath.connected dpid=%016x session=%d", datapath.id, self.sessions)
            self._post(Connected(self.sessions))
        elif (session := getattr(datapath, "warren_session", None)) is not None:
            log.info("datapath.disconnected dpid=%016x session=%d", datapath.id, session.number)
            session.end()
            self.metrics.disconnections.labels(*self._labels()).inc()
            self._post(Disconnected(session.number))

    @set_ev_cls(ofp_event.EventOFPFlowStatsReply, MAIN_DISPATCHER)
    def _flow_stats(self, event: Any) -> None:
        message = event.msg
        more = bool(message.flags & messages.ofp.OFPMPF_REPLY_MORE)
        message.datapath.warren_session.flow_stats(message.xid, message.body, more)

    @set_ev_cls(ofp_event.EventOFPGroupDescStatsReply, MAIN_DISPATCHER)
    def _group_stats(self, event: Any) -> None:
        message = event.msg
        message.datapath.warren_session.group_stats(message.body, bool(message.flags & messages.ofp.OFPMPF_REPLY_MORE))

    @set_ev_cls(ofp_event.EventOFPMeterConfigStatsReply, MAIN_DISPATCHER)
    def _meter_stats(self, event: Any) -> None:
        message = event.msg
        message.datapath.warren_session.meter_stats(message.body, bool(message.flags & messages.ofp.OFPMPF_REPLY_MORE))

    @set_ev_cls(ofp_event.EventOFPPacketIn, MAIN_DISPATCHER)
    def _packet_in(self, event: Any) -> None:
        """A packet from the switch: a rule with `log: true` matched it, it cannot go on from its gateway, an endpoint asks
        by DHCP, or a probe of a tunnel has come back."""
        labels = self._labels()
        with self.metrics.packet_in_seconds.labels(*labels).time():
            self.metrics.packet_ins.labels(*labels).inc()
            flow = self.reconciler.watched.get(event.msg.cookie)
            kind = self._kind(flow)
            self.metrics.packet_kinds.labels(*labels, kind).inc()
            if kind == "probe":
                self.tunnels.on_answer(bytes(event.msg.data))
            elif flow is not None and kind == "acl":
                self._hit(flow, event)
            elif flow is not None and kind in ("ttl", "large"):
                self._stranded(flow, event.msg)
            elif flow is not None and kind == "dhcp":
                self._queue_dhcp(flow.origin.name, bytes(event.msg.data))

    def _kind(self, flow: Flow | None) -> str:
        if flow is None:
            return "other"
        return flow.origin.kind if flow.origin.kind in ("probe", "acl") else KINDS.get(flow.table, "other")

    def _stranded(self, flow: Flow, message: Any) -> None:
        """A packet's TTL has expired at a gateway, or it is too large for the network that it goes to: tell its sender, at
        most 10 times a second per port."""
        frame, port = bytes(message.data), message.match["in_port"]
        network = self.reconciler.index.networks.get(flow.origin.name)
        if network is None or network.gateway is None or self.tellers.allow(str(port), time.monotonic()) is None:
            return
        if (answer := complaint(frame, network.gateway, network.routes, flow.table is Table.MTU_CHECK)) is not None:
            back = (
                Set(REG_NETWORK, network.vni),
                Set(REG_ORIGIN, ORIGIN_ANSWER),
                Resubmit(Table.MIRROR),
            )  # as for pings in route.py
            if self.session is not None:
                self.session.datapath.send(messages.packet_out(answer, back, in_port=port))

    def _hit(self, flow: Flow, event: Any) -> None:
        left_out = self.limiter.allow(flow.origin.name, time.monotonic())
        if left_out is not None:
            packet = describe(bytes(event.msg.data))
            log.info("acl.hit rule=%s left_out=%d packet=%s", flow.origin.name, left_out, packet)

    def _queue_dhcp(self, endpoint_id: str, frame: bytes) -> None:
        """Queue a DHCP packet: a green thread of its own answers, so that bundles come first."""
        try:
            self.dhcp_questions.put_nowait((endpoint_id, frame))
        except queue.Full:
            self.metrics.dhcp_ignored.labels(*self._labels(), "overload").inc()

    def _answer(self) -> None:
        endpoint_id, frame = self.dhcp_questions.get()
        try:
            self.dhcp.answer(endpoint_id, frame)
        except Exception:
            log.error("dhcp.failed endpoint=%s frame=%s", endpoint_id, frame.hex())
            raise
        finally:
            hub.sleep(0)

    def _advertise(self) -> None:
        """Send router advertisements again: hosts forget a router that is silent for long (RFC 4861, 6.3.5)."""
        hub.sleep(self.advertise_s)
        for count, _ in enumerate(self.dhcp.advertise(), 1):
            if count % ADVERTISED_AT_ONCE == 0:
                hub.sleep(0.1)

    def _send_out(self, ofport: int, frame: bytes) -> None:
        if self.session is not None:
            self.session.datapath.send(messages.packet_out(frame, (Output(ofport),)))

    def _send_probe(self, frame: bytes, actions: tuple[Action, ...]) -> None:
        if self.session is not None:
            self.session.datapath.send(messages.packet_out(frame, actions, messages.PROBE_XID))

    @set_ev_cls(ofp_event.EventOFPBundleCtrlMsg, MAIN_DISPATCHER)
    def _bundle(self, event: Any) -> None:
        session = event.msg.datapath.warren_session
        session.bundle_reply(event.msg.type)
        if event.msg.type == messages.ofp.OFPBCT_COMMIT_REPLY and session.bundle_seconds is not None:
            self.metrics.bundle.labels(*self._labels()).observe(session.bundle_seconds)

    @set_ev_cls(ofp_event.EventOFPErrorMsg, [CONFIG_DISPATCHER, MAIN_DISPATCHER])
    def _error(self, event: Any) -> None:
        message = event.msg
        session = getattr(message.datapath, "warren_session", None)
        if session is not None and message.xid == messages.PROBE_XID:
            log.info("probe.refused type=%d code=%d", message.type, message.code)  # the bundle in flight did not cause this
        elif session is not None:
            self.metrics.errors.labels(*self._labels()).inc()
            session.error(message.type, message.code, bytes(message.data or b""))


def _pause() -> None:
    """Let other green threads run: the switch closes a connection whose probes are not answered for ten seconds."""
    hub.sleep(0)


def _listen_port() -> int:
    """The port on which this ryu-manager listens for switches."""
    return int(cfg.CONF.ofp_tcp_listen_port or 6653)
