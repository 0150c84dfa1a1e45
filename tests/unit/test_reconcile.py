"""The reconciler against a simulated switch: after any events in any order the switch holds what a full recompute gives, and an unchanged
switch is never written to."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from controller.compiler.compile import compile_view
from controller.events import (
    AskReadBack,
    Audit,
    BundleRefused,
    Commit,
    Committed,
    Connected,
    Disconnected,
    DropMeters,
    Effect,
    Event,
    KeyState,
    PortsRead,
    ReadBack,
    Report,
    StoreChanged,
    StoreRead,
)
from controller.reconcile import Reconciler
from intent.history import standing
from intent.recompute import view
from pipeline.flow import Flow, Group, SwitchMeter, UseMeter
from specs.snapshot import snapshot
from specs.store.values import Entry as StoreEntry
from tests.depth import examples
from tests.unit import worlds

STRANGER = 0xABC


class Switch:
    """Holds flows as OpenFlow does: one per table, priority and match; a group's end takes the flows that use it."""

    def __init__(self) -> None:
        self.flows: dict[tuple[object, ...], tuple[Flow, int]] = {}
        self.groups: dict[int, Group] = {}
        self.meters: dict[int, SwitchMeter] = {}
        self.writes = 0

    def commit(self, plan: Commit) -> None:
        for meter in plan.meters:
            assert meter.meter_id not in self.meters, "adding a meter that is there is refused"
            self.meters[meter.meter_id] = meter
        for meter in plan.meter_changes:
            assert meter.meter_id in self.meters, "changing a meter that is not there is refused"
            self.meters[meter.meter_id] = meter
        for group in plan.groups:
            assert group.group_id not in self.groups, "adding a group that is there is refused"
            self.groups[group.group_id] = group
        for flow in (planned.message for planned in plan.flows):
            for action in flow.actions:
                if type(action).__name__ == "ToGroup":
                    assert action.group_id in self.groups, "a flow may only use a group that is there"
                if isinstance(action, UseMeter):
                    assert action.meter_id in self.meters, "a flow may only use a meter that is there"
            self.flows[flow.table, flow.priority, flow.match] = (flow, flow.cookie)
        assert STRANGER not in plan.deletes
        for cookie in plan.deletes:
            self.flows = {k: v for k, v in self.flows.items() if v[1] != cookie}
        for group_id in plan.group_deletes:
            self.groups.pop(group_id, None)
            self.flows = {k: v for k, v in self.flows.items() if not uses(v[0], group_id)}
        self.writes += 1

    def drop(self, meter_id: int) -> None:
        """A meter's end takes the flows that use it."""
        del self.meters[meter_id]
        self.flows = {k: v for k, v in self.flows.items() if UseMeter(meter_id) not in v[0].actions}

    def cookies(self) -> frozenset[int]:
        return frozenset(cookie for _, cookie in self.flows.values()) | {STRANGER}


def uses(flow: Flow, group_id: int) -> bool:
    return any(getattr(action, "group_id", None) == group_id for action in flow.actions)


class World(RuleBasedStateMachine):
    """etcd, the ports and the switch change in any order; messages to and from the switch wait in queues."""

    def __init__(self) -> None:
        super().__init__()
        self.switch = Switch()
        self.store: dict[str, list[StoreEntry]] = {}  # all that a key has been since it was created
        self.past: list[tuple[str, str | None]] = []
        self.revision = 1
        self.ports: dict[str, int] = {}
        self.tunnel: int | None = 65279
        self.uplink: int | None = 65278
        self.interfaces: dict[str, int] = {}
        self.session = 0
        self.reported: dict[str, str] = {}
        self.start_controller()

    def start_controller(self) -> None:
        self.reconciler = Reconciler("h1")
        self.up = False
        self.watching = False  # what changes is told at once
        self.answers: list[ReadBack | Committed | BundleRefused] = []
        self.orders: list[Effect] = []

    def post(self, event: Event) -> None:
        for effect in self.reconciler.step(event):
            if isinstance(effect, Report):
                for state in effect.endpoints:
                    if state.state is None:
                        self.reported.pop(state.id, None)
                    else:
                        self.reported[state.id] = state.state
            else:
                self.orders.append(effect)

    @initialize()
    def begin(self) -> None:
        for write in worlds.BEGINNING:
            self.write(write)
        self.ports = {"e0": 1, "e3": 2}
        self.read_store()
        self.read_ports()
        self.connect(wiped=False)
        self.drain()

    @rule(kind=st.sampled_from(("connect", "wipe", "disconnect", "restart", "read", "lose", "tamper")))
    def trouble(self, kind: str) -> None:
        """Rarer than change: most of the time all three are there."""
        match kind:
            case "connect" | "wipe":
                self.connect(wiped=kind == "wipe")
            case "disconnect":
                self.disconnect()
            case "restart":
                self.start_controller()
            case "read":
                self.read_store()
            case "lose":
                self.lose_the_watch()
            case "tamper":
                self.tamper()

    def write(self, entry: tuple[str, str | None]) -> KeyState:
        key, value = entry
        self.revision += 1
        if value is None:
            self.store.pop(key, None)
            return KeyState(key, None, 0, self.revision)
        self.past.append((key, value))
        created = self.store[key][0].create_revision if key in self.store else self.revision
        self.store.setdefault(key, []).append(StoreEntry(key, value, created, self.revision))
        return KeyState(key, value, created, self.revision)

    @rule(entries=st.one_of(st.lists(worlds.writes, min_size=1, max_size=4), worlds.quarrels))
    def change(self, entries: list[tuple[str, str | None]]) -> None:
        changes = tuple(self.write(entry) for entry in entries)
        if self.watching:
            self.post(StoreChanged(changes, self.revision))

    @rule(data=st.data())
    def come_back(self, data: st.DataObject) -> None:
        """What was there before is there again, exactly."""
        self.change([data.draw(st.sampled_from(self.past[-8:]))])

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        if self.store:
            change = self.write((data.draw(st.sampled_from(sorted(self.store))), None))
            if self.watching:
                self.post(StoreChanged((change,), self.revision))

    @rule(
        ports=worlds.ports,
        tunnel=st.sampled_from((65279, 65279, 9, None)),
        uplink=st.sampled_from((65278, 65278, None)),
    )
    def plug(self, ports: dict[str, int], tunnel: int | None, uplink: int | None) -> None:
        self.ports, self.tunnel, self.uplink = ports, tunnel, uplink
        self.interfaces = {} if uplink is None else {"tap0": 900}
        if self.reconciler.ports_read:
            self.post(PortsRead(dict(ports), tunnel, uplink, self.interfaces))

    @rule()
    def read_ports(self) -> None:
        self.post(PortsRead(dict(self.ports), self.tunnel, self.uplink, self.interfaces))

    def read_store(self) -> None:
        def before(entry: StoreEntry) -> StoreEntry | None:
            return next((e for e in reversed(self.store[entry.key]) if e.mod_revision < entry.mod_revision), None)

        current = standing((past[-1] for past in self.store.values()), before)
        entries = tuple(KeyState(e.key, e.value, e.create_revision, e.mod_revision) for e in current)
        self.watching = True
        self.post(StoreRead(entries, self.revision, tuple(self.reported)))

    def lose_the_watch(self) -> None:
        """etcd is away or has compacted: what changes until the next full read is not told."""
        self.watching = False

    def connect(self, wiped: bool) -> None:
        if self.up:
            self.post(Disconnected(self.session))
        if wiped:
            self.switch = Switch()
        self.session += 1
        self.up, self.orders = True, []
        self.post(Connected(self.session))

    def disconnect(self) -> None:
        if self.up:
            self.up, self.orders = False, []
            self.post(Disconnected(self.session))

    @rule(fails=st.sampled_from((False, False, False, True)))
    def switch_works(self, fails: bool) -> None:
        """The switch carries one order out; its answer may come late, even after the session's end."""
        if not self.orders:
            return
        order = self.orders.pop(0)
        if isinstance(order, AskReadBack):
            held = (self.switch.cookies(), frozenset(self.switch.groups), frozenset(self.switch.meters.values()))
            self.answers.append(ReadBack(order.session, *held))
        elif isinstance(order, DropMeters):
            for meter_id in order.meter_ids:
                self.switch.drop(meter_id)
        elif fails and isinstance(order, Commit) and order.flows:
            self.answers.append(BundleRefused(order.session, (order.flows[0].cookie,), "refused by the test"))
        elif isinstance(order, Commit):
            self.switch.commit(order)
            self.answers.append(Committed(order.session))

    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        """The answers of a session come in order; those of a dead one may come after those of the next."""
        if self.answers:
            session = data.draw(st.sampled_from(sorted({answer.session for answer in self.answers})))
            self.take(session)

    def take(self, session: int) -> None:
        answer = next(answer for answer in self.answers if answer.session == session)
        self.answers.remove(answer)
        self.post(answer)

    @rule()
    def all_is_quiet(self) -> None:
        self.drain()

    def tamper(self) -> None:
        """Somebody deletes a flow by hand; the audit finds out."""
        if self.switch.flows and not self.orders and not self.answers:
            self.switch.flows.pop(min(self.switch.flows, key=repr))
            self.post(Audit())

    def drain(self) -> None:
        for _ in range(50):
            if not self.orders and not self.answers:
                return
            self.switch_works(fails=False)
            if self.answers:
                self.take(self.answers[0].session)
        raise AssertionError("the reconciler does not come to rest")

    @invariant()
    def incremental_view_is_the_full_view(self) -> None:
        r = self.reconciler
        if self.watching and r.ports_read:
            assert r.index.view() == self.full_view()

    def full_view(self):  # type: ignore[no-untyped-def]
        full = snapshot((e.key, e.value, e.create_revision) for past in self.store.values() for e in past)
        return view(full, "h1", self.ports, self.tunnel, self.uplink, self.interfaces)

    @rule(order=st.permutations(("store", "ports", "switch")))
    def comes_to_rest(self, order: list[str]) -> None:
        self.read_store()
        self.read_ports()
        if not self.up:
            self.connect(wiped=False)
        self.drain()
        if self.reconciler.refused:  # a new connection forgets them; it also hides mistakes, hence not always
            self.connect(wiped=False)
            self.drain()
        desired = compile_view(self.full_view())
        assert {flow for flow, _ in self.switch.flows.values()} == set(desired.flows)
        assert set(self.switch.groups.values()) == set(desired.groups)
        assert set(self.switch.meters.values()) == set(desired.meters)
        local = {e.id: e for e in self.full_view().endpoints if e.ofport is not None}
        assert {e for e, state in self.reported.items() if state == "up"} == set(local)
        writes = self.switch.writes
        self.start_controller()
        for what in order:
            if what == "store":
                self.read_store()
            elif what == "ports":
                self.read_ports()
            else:
                self.connect(wiped=False)
            self.drain()
        assert self.switch.writes == writes, "an unchanged switch was written to after a restart"


World.TestCase.settings = settings(max_examples=examples(400), stateful_step_count=50)
TestReconciler = World.TestCase


def test_a_late_answer_of_an_old_session_does_not_hide_a_refusal() -> None:
    """The first connection's "committed" comes late, while the second one's bundle is under way, which is then refused."""
    reconciler = Reconciler("h1")
    entries = tuple(KeyState(key, value, n, n) for n, (key, value) in enumerate(worlds.BEGINNING, 1) if value)
    reconciler.step(StoreRead(entries, 20))
    reconciler.step(PortsRead({"e0": 1}, 9))
    for session in (1, 2):
        reconciler.step(Connected(session))
        (commit,) = reconciler.step(ReadBack(session, frozenset(), frozenset()))
        assert isinstance(commit, Commit)
    assert reconciler.step(Committed(1)) == []
    assert reconciler.step(BundleRefused(2, (commit.flows[0].cookie,), "refused by the test")) == [AskReadBack(2)]


def test_keys_deleted_while_the_feed_was_down_go_with_the_next_full_read() -> None:
    reconciler = Reconciler("h1")
    entries = tuple(KeyState(key, value, n, n) for n, (key, value) in enumerate(worlds.BEGINNING, 1) if value)
    reconciler.step(StoreRead(entries, 20))
    reconciler.step(PortsRead({"e0": 1, "e3": 2}, 9))
    assert {"e0", "e3"} <= reconciler.index.endpoints.keys()
    left = tuple(entry for entry in entries if not entry.key.endswith("/e3"))
    reconciler.step(StoreRead(left, 21))
    assert "e3" not in reconciler.index.endpoints
    assert "e0" in reconciler.index.endpoints
    reconciler.step(StoreRead(entries, 22))
    assert "e3" in reconciler.index.endpoints, "what is there again is taken again"


def test_reports_in_flight_when_the_switch_disconnects_are_sent_after_the_next_connection() -> None:
    """The first bundle landed, but its answer was lost with the connection: the endpoint's state must be reported all the same."""
    reconciler = Reconciler("h1")
    entries = tuple(KeyState(key, value, n, n) for n, (key, value) in enumerate(worlds.BEGINNING, 1) if value)
    reconciler.step(StoreRead(entries, 20))
    reconciler.step(PortsRead({"e0": 1}, 9))
    reconciler.step(Connected(1))
    (commit,) = reconciler.step(ReadBack(1, frozenset(), frozenset()))
    assert isinstance(commit, Commit)
    assert reconciler.step(Disconnected(1)) == []
    reconciler.step(Connected(2))
    cookies, groups = (flow.cookie for flow in commit.flows), (group.group_id for group in commit.groups)
    (report,) = reconciler.step(ReadBack(2, frozenset(cookies), frozenset(groups), frozenset(commit.meters)))
    assert isinstance(report, Report)
    assert {(state.id, state.state) for state in report.endpoints} >= {("e0", "up")}
