"""The reconciler of one host: events in, effects out, no I/O, no clock.

    store ──┐                                                ┌── Commit(session, plan)
    ports ──┼──> Index ──> units ──> desired ⊖ installed ────┤
    switch ─┘            (compile)     (64-bit cookies)      └── Report(state of endpoints, revision)

Nothing is committed before the store's first full read, the switch's ports and the switch's read-back are all in.
One bundle is in flight at a time; events and answers carry the session of the switch connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from controller.announcements import changed_endpoints, planned
from controller.compiler.compile import Program
from controller.difference import difference
from controller.events import (
    Announce,
    AskReadBack,
    Audit,
    BundleRefused,
    Commit,
    Committed,
    Connected,
    Disconnected,
    DropMeters,
    Effect,
    EndpointState,
    Event,
    KeyState,
    Phase,
    PlannedFlow,
    PortsRead,
    ReadBack,
    Report,
    StoreChanged,
    StoreLeft,
    StoreRead,
)
from controller.offered import Offered
from controller.units import NOTHING, FlowRefusal, Footprint, Unit, compile_unit, footprint, is_watched, touched_units
from intent.incremental.index import Index
from pipeline.flow import Flow, Group, SwitchMeter, is_our_group, is_our_meter, is_ours
from specs import keys
from specs.lineage import StoreOrigin, continues
from specs.snapshot import Problem

UNITS_AT_ONCE = 200  # compiled between two pauses: some 20 ms


def _no_pause() -> None:
    """The pause of a caller that has nothing else to do."""


@dataclass(slots=True)
class Reconciler:
    """The state; `step` is the only way to change it. `pause` is called now and then in a step that compiles much: while it takes seconds,
    the switch must get its answers. `pack` makes the message that adds a flow."""

    host: str
    pause: Callable[[], None] = _no_pause
    pack: Callable[[Flow], Any] = lambda flow: flow
    index: Index = field(init=False)
    phase: Phase = Phase.DOWN
    session: int = 0
    store_read: bool = False
    ports_read: bool = False
    origin: StoreOrigin | None = None  # where the store that is in the index comes from
    held: str | None = None  # why a store that was read is not taken
    revision: int = 0  # the newest revision of the store that was read
    applied: int = 0  # the newest revision of the store that is committed
    drift: int = 0  # flows and groups that audits repaired
    _drifted: int = 0  # flows and groups that the last audit found missing or superfluous, until they are repaired
    strays: int = 0  # those of them that were superfluous; the others were missing
    refused: dict[int, FlowRefusal] = field(default_factory=dict)
    flows: dict[int, Unit] = field(default_factory=dict)  # desired: cookie -> the unit that the flow is of
    watched: dict[int, Flow] = field(default_factory=dict)  # those of them that the switch tells of, by cookie
    groups: dict[int, Group] = field(default_factory=dict)
    meters: dict[int, SwitchMeter] = field(default_factory=dict)
    installed: set[int] = field(default_factory=set)
    installed_groups: set[int] = field(default_factory=set)
    installed_meters: dict[int, SwitchMeter] = field(default_factory=dict)
    _metered: dict[int, set[Unit]] = field(default_factory=dict)  # meter -> units that use it
    _changed_meters: set[int] = field(default_factory=set)
    _units: dict[Unit, Footprint] = field(default_factory=dict)
    _compiled: dict[int, PlannedFlow] = field(
        default_factory=dict
    )  # flows to install that need not be compiled again for the next plan
    _changed: set[int] = field(default_factory=set)  # cookies that may differ between desired and installed
    _changed_groups: set[int] = field(default_factory=set)
    _modified: dict[str, int] = field(default_factory=dict)  # key -> mod revision, of all that is in the index
    _to_report: set[str] = field(default_factory=set)
    _was_local: set[str] = field(default_factory=set)  # endpoints with a report in the store
    _in_flight: Commit | None = None
    _in_flight_revision: int = 0
    _in_flight_reports: set[str] = field(default_factory=set)
    _reported: int = -1
    _audit_due: bool = False
    _offered: Offered | None = None  # a full read of the store that is not taken yet
    _plugged: frozenset[str] = frozenset()  # endpoints with a port on the switch

    def __post_init__(self) -> None:
        self.index = Index(self.host)

    def step(self, event: Event) -> list[Effect]:
        """Take one event. Returns what is to be done now."""
        match event:
            case StoreRead() | StoreChanged() | StoreLeft():
                self._take_store(event)
            case PortsRead(ports, tunnel, uplink, interfaces, encrypted):
                self._take_ports(ports)
                self.index.tunnels.set_default(tunnel)
                self.index.set_uplink(uplink)
                self.index.set_interfaces(interfaces)
                self.index.set_encrypted(encrypted)
            case Connected(session):
                self._abandon_flight()
                self.session, self.phase = session, Phase.READING
                self._reported = -1
                return [AskReadBack(session)]
            case Disconnected(session) if session == self.session:
                self._abandon_flight()
                self.phase = Phase.DOWN
                self._to_report |= self._in_flight_reports
                self._in_flight_reports = set()
            case ReadBack(session, cookies, groups, meters) if session == self.session and self.phase is Phase.READING:
                self._take_read_back(cookies, groups, meters)
            case Committed(session) if session == self.session and self._in_flight is not None:
                return self._committed() + self._advance()
            case BundleRefused(session, cookies, reason) if session == self.session and self._in_flight is not None:
                return self._take_refusal(cookies, reason)
            case Audit() if self.phase is Phase.READY:
                self.phase, self._audit_due = Phase.READING, True
                return [AskReadBack(self.session)]
        self._consider()
        return self._advance()

    def _abandon_flight(self) -> None:
        """Give up the plan in flight: its flows will be asked for again."""
        if self._in_flight is not None:
            self._compiled.update((flow.cookie, flow) for flow in self._in_flight.flows if flow.cookie in self.flows)
            self._in_flight = None

    # ---- what comes in ----------------------------------------------------------------------------------------------

    def _take_store(self, event: StoreRead | StoreChanged | StoreLeft) -> None:
        if isinstance(event, StoreRead):
            self._offered = Offered(event)
        elif isinstance(event, StoreLeft):
            self._forget(event.networks)
        elif self._offered is not None:
            self._offered.add(event)
        else:
            self.index.followed = event.followed
            self._take(event.entries)
            self.revision = max(self.revision, event.revision)

    def _forget(self, networks: frozenset[str]) -> None:
        """Forget the endpoints of networks that do not concern this host any more."""
        if self._offered is not None:
            self._offered.forget(networks)
        self._take([KeyState(key, None, 0, 0) for key in self._modified if keys.network_of(key) in networks])

    def _consider(self) -> None:
        """Take the store that is offered, unless the host must hold. After a start this needs the ports that the switch has."""
        offered = self._offered
        if offered is None or not (self.store_read or self.ports_read or offered.origin is None):
            return
        self.held = offered.hold(self.host, self.index.snapshot if self.store_read else None, self._plugged)
        if self.held is not None:
            return
        origin = offered.taken_from()
        gone = set(self._modified) - offered.keys()
        if origin is not None and not continues(self.origin, origin):  # another history has other values under the same revisions
            self._to_report |= set(self.index.local_ids())
            self._reported, self._modified = -1, {}
        self.index.followed = offered.followed
        self._take(offered.entries)
        self._take(KeyState(key, None, 0, 0) for key in gone)
        self._was_local |= set(offered.reported)
        self._to_report |= set(offered.reported)
        self.revision, self.origin, self.store_read, self._offered = offered.revision, origin, True, None

    def _take(self, entries: Iterable[KeyState]) -> None:
        for entry in entries:
            if entry.value is None:
                self._modified.pop(entry.key, None)
            elif self._modified.get(entry.key) == entry.modified:
                continue
            else:
                self._modified[entry.key] = entry.modified
            self.index.put(entry.key, entry.value, entry.created)

    def _take_ports(self, ports: dict[str, int]) -> None:
        self.index.set_endpoint_ports(ports)
        self._plugged, self.ports_read = frozenset(ports), True

    def _take_read_back(self, cookies: frozenset[int], groups: frozenset[int], meters: frozenset[SwitchMeter]) -> None:
        self.installed = {cookie for cookie in cookies if is_ours(cookie)}
        self.installed_groups = {group_id for group_id in groups if is_our_group(group_id)}
        self._changed = set(self.flows.keys() ^ self.installed)
        self._changed_groups = set(self.groups.keys() ^ self.installed_groups)
        self.installed_meters = {meter.meter_id: meter for meter in meters if is_our_meter(meter.meter_id)}
        self._changed_meters = self.meters.keys() | self.installed_meters.keys()
        if self._audit_due:
            self.drift += len(self._changed - self.refused.keys()) + len(self._changed_groups)
            self.strays += len(self.installed - self.flows.keys()) + len(self.installed_groups - self.groups.keys())
            self._drifted = len(self._changed - self.refused.keys()) + len(self._changed_groups)
            self._audit_due = False
        else:
            self._to_report |= self._concerned(self.refused)
            self.refused.clear()
        self.phase = Phase.READY

    def _take_refusal(self, cookies: tuple[int, ...], reason: str) -> list[Effect]:
        assert self._in_flight is not None
        origins = {flow.cookie: flow.origin for flow in self._in_flight.flows}
        self.refused.update((cookie, FlowRefusal(origins[cookie], reason)) for cookie in cookies if cookie in origins)
        self._to_report |= self._in_flight_reports | self._concerned(cookies)
        self._in_flight, self._in_flight_reports = None, set()
        self.phase, self._audit_due = Phase.READING, True
        return [AskReadBack(self.session)]

    def _concerned(self, cookies: Iterable[int]) -> set[str]:
        """The local endpoints that these flows are for."""
        return {str(key) for kind, key in self._units_of(cookies) if kind == "endpoint" and key in self.index.local_ids()}

    def _units_of(self, cookies: Iterable[int]) -> set[Unit]:
        return {self.flows[cookie] for cookie in cookies if cookie in self.flows}

    # ---- what goes out ----------------------------------------------------------------------------------------------

    def _advance(self) -> list[Effect]:
        if not (self.store_read and self.ports_read):
            return []
        self._recompile()
        if self.phase is not Phase.READY:
            return []
        plan = self._plan()
        if plan is None:
            return self._report(self._take_reports(), self.revision)
        self.phase, self._in_flight = Phase.COMMITTING, plan
        self._in_flight_revision, self._in_flight_reports = self.revision, self._take_reports()
        return [plan]

    def _recompile(self) -> None:
        delta = self.index.flush()
        touched = touched_units(delta, self.index, beginning=not self._units)
        local = self.index.local_ids()
        self._to_report |= {str(key) for kind, key in touched if kind == "endpoint" and (key in local or key in self._was_local)}
        if self.phase is Phase.READING and not self._units:
            return  # the read-back is about to say which flows need not be kept for the first plan
        for number, unit in enumerate(touched, 1):
            self._replace(unit, compile_unit(unit, self.index))
            if number % UNITS_AT_ONCE == 0:
                self.pause()

    def _replace(self, unit: Unit, program: Program | None) -> None:
        old, new = self._units.pop(unit, NOTHING), NOTHING
        if program is not None:
            new = self._units[unit] = footprint(program)
        self._replace_flows(unit, old.cookies, program.flows if program is not None else ())
        for group in old.groups:
            del self.groups[group.group_id]
        for group in new.groups:
            self.groups[group.group_id] = group
        for meter in old.meters:
            self._metered[meter.meter_id].discard(unit)
        for meter in new.meters:
            self.meters[meter.meter_id] = meter
            self._metered.setdefault(meter.meter_id, set()).add(unit)
        for meter_id in {meter.meter_id for meter in (*old.meters, *new.meters)}:
            self._changed_meters.add(meter_id)
            if not self._metered[meter_id]:
                del self._metered[meter_id], self.meters[meter_id]
        self._changed |= set(old.cookies) ^ set(new.cookies)
        self._changed_groups |= {g.group_id for g in old.groups} ^ {g.group_id for g in new.groups}

    def _replace_flows(self, unit: Unit, old: tuple[int, ...], new: tuple[Flow, ...]) -> None:
        for cookie in old:
            del self.flows[cookie]
            self.watched.pop(cookie, None)
            self._compiled.pop(cookie, None)
        planned_soon = self.phase is not Phase.DOWN or not self.session
        for flow in new:
            self.flows[flow.cookie] = unit
            if is_watched(flow):
                self.watched[flow.cookie] = flow
            if planned_soon and flow.cookie not in self.installed:
                self._compiled[flow.cookie] = planned(flow, self.pack)

    def _plan(self) -> Commit | None:
        missing = [cookie for cookie in self._changed if cookie in self.flows and cookie not in self.installed]
        deletes = tuple(cookie for cookie in self._changed if cookie not in self.flows and cookie in self.installed)
        groups, group_deletes = difference(self._changed_groups, self.groups, self.installed_groups)
        meters, meter_deletes = difference(sorted(self._changed_meters), self.meters, self.installed_meters)
        plan = Commit(
            session=self.session,
            groups=groups,
            flows=self._compile_again(cookie for cookie in missing if cookie not in self.refused),
            deletes=deletes,
            group_deletes=group_deletes,
            meters=meters,
            meter_changes=self._meter_changes(),
            meter_deletes=meter_deletes,
        )
        self._changed, self._changed_groups, self._changed_meters, self._compiled = set(), set(), set(), {}
        return plan or None

    def _compile_again(self, cookies: Iterable[int]) -> tuple[PlannedFlow, ...]:
        """The flows with these cookies, by unit. Units whose flows are not at hand are compiled again."""
        needed = set(cookies)
        for unit in self._units_of(needed - self._compiled.keys()):
            program = compile_unit(unit, self.index)
            assert program is not None, unit
            self._compiled.update((flow.cookie, planned(flow, self.pack)) for flow in program.flows if flow.cookie in needed)
        return tuple(self._compiled[cookie] for cookie in needed)

    def _meter_changes(self) -> tuple[SwitchMeter, ...]:
        both = [m for m in sorted(self._changed_meters) if m in self.meters and m in self.installed_meters]
        return tuple(self.meters[m] for m in both if self.meters[m] != self.installed_meters[m])

    def _committed(self) -> list[Effect]:
        plan = self._in_flight
        assert plan is not None
        self.installed |= {flow.cookie for flow in plan.flows}
        self.installed -= set(plan.deletes)
        self.installed_groups |= {group.group_id for group in plan.groups}
        self.installed_groups -= set(plan.group_deletes)
        self.installed_meters.update((meter.meter_id, meter) for meter in (*plan.meters, *plan.meter_changes))
        drop: list[Effect] = [DropMeters(self.session, plan.meter_deletes)] if plan.meter_deletes else []
        for meter_id in plan.meter_deletes:
            del self.installed_meters[meter_id]
        reports, self._in_flight_reports = self._in_flight_reports, set()
        self._in_flight, self.phase, self._drifted = None, Phase.READY, 0
        changed = changed_endpoints(plan.flows, self.index)
        announce: list[Effect] = [Announce(changed)] if changed else []
        return drop + self._report(reports, self._in_flight_revision) + announce

    def _take_reports(self) -> set[str]:
        reports, self._to_report = self._to_report, set()
        return reports

    def _report(self, endpoint_ids: set[str], revision: int) -> list[Effect]:
        self.applied = revision
        states = tuple(state for e in sorted(endpoint_ids) if (state := self._state(e)) is not None)
        if not states and revision == self._reported:
            return []
        self._reported = revision
        return [Report(revision, states)]

    def _state(self, endpoint_id: str) -> EndpointState | None:
        endpoint = self.index.snapshot.endpoints.get(endpoint_id)
        if endpoint is None or endpoint.host != self.host or not endpoint.active:
            self._was_local.discard(endpoint_id)
            return EndpointState(endpoint_id, None, None, 0)
        self._was_local.add(endpoint_id)
        revision = self._modified.get(keys.endpoint(endpoint.network_id, endpoint_id), 0)
        reason = self.index.problem_of(endpoint_id)
        if reason is None and endpoint_id in self.index.endpoints:
            cookies = self._units["endpoint", endpoint_id].cookies
            reason = next((self.refused[cookie].reason for cookie in cookies if cookie in self.refused), None)
            if reason is None:
                return EndpointState(endpoint_id, "up", None, revision)
        if reason is not None:
            return EndpointState(endpoint_id, "closed", reason, revision)
        return EndpointState(endpoint_id, "waiting", "its port is not on the bridge yet", revision)

    def states(self) -> dict[str, int]:
        """How many active endpoints of this host are up, closed, waiting."""
        counts = {"up": 0, "closed": 0, "waiting": 0}
        for endpoint_id in self.index.local_ids():
            state = self._state(endpoint_id)
            if state is not None and state.state is not None:
                counts[state.state] += 1
        return counts

    def problems(self) -> tuple[Problem, ...]:
        """What is wrong in the specs, or was refused by the switch, sorted."""
        problems = set(self.index.problems())
        if self.held is not None:
            problems.add(Problem("etcd", self.held))
        for cookie, refusal in self.refused.items():
            if cookie in self.flows:
                problems.add(Problem(str(refusal.origin), f"the switch refuses its flow: {refusal.reason}"))
        if self._drifted:
            problems.add(
                Problem("switch", f"{self._drifted} flows or groups were changed by somebody else; they are being repaired")
            )
        return tuple(sorted(problems))
