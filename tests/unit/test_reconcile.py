"""The reconciler against a switch that holds whole flows: whatever happens in whatever order, the switch ends up with what
a full recompute of the snapshot says, and an unchanged switch is never touched."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from controller.compile import compile_view
from controller.reconcile import (
    AskReadBack,
    Audit,
    Commit,
    Committed,
    Connected,
    Disconnected,
    Effect,
    Entry,
    Event,
    PortsRead,
    ReadBack,
    Reconciler,
    Refused,
    Report,
    StoreChanged,
    StoreRead,
)
from pipeline.flow import Flow, Group
from specs.snapshot import snapshot
from specs.view import view
from tests.unit import worlds


class Switch:
    """Holds flows as OpenFlow does: one per table, priority and match; a group's end takes the flows that use it."""

    def __init__(self) -> None:
        self.flows: dict[tuple[object, ...], tuple[Flow, int]] = {}
        self.groups: dict[int, Group] = {}
        self.writes = 0

    def commit(self, plan: Commit) -> None:
        for group in plan.groups:
            assert group.group_id not in self.groups, "adding a group that is there is refused"
            self.groups[group.group_id] = group
        for flow in plan.flows:
            for action in flow.actions:
                if type(action).__name__ == "ToGroup":
                    assert action.group_id in self.groups, "a flow may only use a group that is there"
            self.flows[flow.table, flow.priority, flow.match] = (flow, flow.cookie)
        for cookie in plan.deletes:
            self.flows = {k: v for k, v in self.flows.items() if v[1] != cookie}
        for group_id in plan.group_deletes:
            self.groups.pop(group_id, None)
            self.flows = {k: v for k, v in self.flows.items() if not uses(v[0], group_id)}
        self.writes += 1

    def cookies(self) -> frozenset[int]:
        return frozenset(cookie for _, cookie in self.flows.values())


def uses(flow: Flow, group_id: int) -> bool:
    return any(getattr(action, "group_id", None) == group_id for action in flow.actions)


class World(RuleBasedStateMachine):
    """etcd, the ports and the switch change in any order; messages to and from the switch wait in queues."""

    def __init__(self) -> None:
        super().__init__()
        self.switch = Switch()
        self.store: dict[str, tuple[str, int, int]] = {}
        self.revision = 1
        self.ports: dict[str, int] = {}
        self.tunnel: int | None = 65279
        self.session = 0
        self.reported: dict[str, str] = {}
        self.start_controller()

    def start_controller(self) -> None:
        self.reconciler = Reconciler("h1")
        self.up = False
        self.answers: list[Event] = []
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
        for write in (worlds.host("h1", "198.18.0.11"), worlds.host("h2", "198.18.0.12"), worlds.network("amber", 7)):
            self.write(write)

    def write(self, entry: tuple[str, str | None]) -> Entry:
        key, value = entry
        self.revision += 1
        if value is None:
            self.store.pop(key, None)
            return Entry(key, None, 0, self.revision)
        created = self.store[key][1] if key in self.store else self.revision
        self.store[key] = (value, created, self.revision)
        return Entry(key, value, created, self.revision)

    @rule(entries=st.lists(worlds.writes, min_size=1, max_size=4))
    def change(self, entries: list[tuple[str, str]]) -> None:
        changes = tuple(self.write(entry) for entry in entries)
        if self.reconciler.store_read:
            self.post(StoreChanged(changes, self.revision))

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        if self.store:
            change = self.write((data.draw(st.sampled_from(sorted(self.store))), None))
            if self.reconciler.store_read:
                self.post(StoreChanged((change,), self.revision))

    @rule(
        ports=st.dictionaries(st.sampled_from(worlds.ENDPOINTS), st.integers(1, 4)),
        tunnel=st.sampled_from((65279, 65279, 9, None)),
    )
    def plug(self, ports: dict[str, int], tunnel: int | None) -> None:
        self.ports, self.tunnel = ports, tunnel
        if self.reconciler.ports_read:
            self.post(PortsRead(dict(ports), tunnel))

    @rule()
    def read_ports(self) -> None:
        self.post(PortsRead(dict(self.ports), self.tunnel))

    @rule()
    def read_store(self) -> None:
        entries = tuple(Entry(k, v, c, m) for k, (v, c, m) in self.store.items())
        self.post(StoreRead(entries, self.revision, tuple(self.reported)))

    @rule(wiped=st.booleans())
    def connect(self, wiped: bool) -> None:
        if self.up:
            self.post(Disconnected(self.session))
        if wiped:
            self.switch = Switch()
        self.session += 1
        self.up, self.orders = True, []
        self.post(Connected(self.session))

    @rule()
    def disconnect(self) -> None:
        if self.up:
            self.up, self.orders = False, []
            self.post(Disconnected(self.session))

    @rule()
    def restart_controller(self) -> None:
        self.start_controller()

    @rule(fails=st.sampled_from((False, False, False, True)))
    def switch_works(self, fails: bool) -> None:
        """The switch carries one order out; its answer may come late, even after the session's end."""
        if not self.orders:
            return
        order = self.orders.pop(0)
        if isinstance(order, AskReadBack):
            self.answers.append(ReadBack(order.session, self.switch.cookies(), frozenset(self.switch.groups)))
        elif fails and isinstance(order, Commit) and order.flows:
            self.answers.append(Refused(order.session, (order.flows[0].cookie,), "refused by the test"))
        elif isinstance(order, Commit):
            self.switch.commit(order)
            self.answers.append(Committed(order.session))

    @rule()
    def answer(self) -> None:
        if self.answers:
            self.post(self.answers.pop(0))

    @rule()
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
            self.answer()
        raise AssertionError("the reconciler does not come to rest")

    @invariant()
    def incremental_view_is_the_full_view(self) -> None:
        r = self.reconciler
        if r.store_read and r.ports_read:
            assert r.index.view() == self.full_view()

    def full_view(self):  # type: ignore[no-untyped-def]
        full = snapshot((key, value, created) for key, (value, created, _) in self.store.items())
        return view(full, "h1", self.ports, self.tunnel)

    @rule()
    def comes_to_rest(self) -> None:
        self.read_store()
        self.read_ports()
        if not self.up:
            self.connect(wiped=False)
        self.drain()
        self.connect(wiped=False)  # forgets refusals
        self.drain()
        wanted = compile_view(self.full_view())
        assert {flow for flow, _ in self.switch.flows.values()} == set(wanted.flows)
        assert set(self.switch.groups.values()) == set(wanted.groups)
        here = {e.id: e for e in self.full_view().endpoints if e.ofport is not None}
        assert {e for e, state in self.reported.items() if state == "up"} == set(here)
        writes = self.switch.writes
        self.restart_controller()
        self.read_store()
        self.read_ports()
        self.connect(wiped=False)
        self.drain()
        assert self.switch.writes == writes, "an unchanged switch was written to after a restart"


World.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestReconciler = World.TestCase
