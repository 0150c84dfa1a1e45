"""Parses what `ovs-appctl ofproto/trace` prints: the tables that a packet passes, and where each of its branches ends.

Open vSwitch indents its answer in steps of four. What a table does stands one step to the right of the table. The table that the packet goes
on to stands under it; one that it returns from (the copy for a mirror, a bucket of a group) stands to its right.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from controller.compiler.explain import origin_text, table_name
from pipeline.flow import Flow
from pipeline.tables import Table

COPY = "copy"  # a mirror's copy, which is not the packet
LARGER = "larger"  # what would happen to a packet of a size that check_pkt_larger refuses


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceStep:
    """One table that a packet passed: its name, the flow's text, the spec object that the flow is for, and its actions. `branch` is COPY or
    LARGER where the step is not the packet's own."""

    table: str
    matched: str
    origin: str
    actions: tuple[str, ...] = ()
    branch: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceEnd:
    """Where a branch of a packet ends: `kind` is output, answered (sent back by the switch), controller or drop. `port` is the OpenFlow port
    that it leaves by or was on its way to, `vtep` and `vni` are those of the tunnel. `problem` says why an output sends nothing."""

    kind: str
    table: str
    origin: str
    branch: str = ""
    port: int | None = None
    vtep: str | None = None
    vni: int | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Trace:
    """What one host does with a packet."""

    steps: tuple[TraceStep, ...]
    ends: tuple[TraceEnd, ...]

    @property
    def sent(self) -> tuple[TraceEnd, ...]:
        """Return the outputs of the packet itself."""
        return tuple(end for end in self.ends if end.kind == "output" and not end.branch and not end.problem)

    @property
    def outputs(self) -> tuple[int, ...]:
        """Return the OpenFlow ports by which the packet itself leaves."""
        return tuple(end.port for end in self.sent if end.port is not None)

    @property
    def answered(self) -> bool:
        """Return whether the switch sends it back out of the port by which it came in (ARP, neighbour discovery, pings of a gateway)."""
        return any(end.kind == "answered" for end in self.ends)


_TABLE = re.compile(r"(\d+)\. (.*?)(?:, )?priority (\d+)(?:, cookie (0x[0-9a-f]+))?$")
_MISS = re.compile(r"(\d+)\. No match\.$")
_BRIDGE = re.compile(r'bridge\("(.+)"\)$')
_OUTPUT = re.compile(r"-> output port is (\d+)|output:(\d+)$|output\(port=(\d+)")
_SET = re.compile(r"set_field:(\S+)->(tun_dst|tun_ipv6_dst|tun_id|reg2)$")
_WARNING = re.compile(r">>+ (.*?)(?: <<+)?$")
RETURNING = (Table.NEXT_HOP.name,)  # tables that only set fields: the packet goes on after them
_FORKED = "-> A clone of the packet is forked to recirculate"
# Open vSwitch repeats what is inside of ct(...) as lines of their own
_INSIDE_CT = re.compile(
    r"drop|nat\b.*|set_field:\S+->ct_\w+|move:\S+NXM_NX_CT_\S+|-> NXM_NX_CT_.*|-> A clone.*|-> Sets the packet to an untracked.*"
)


@dataclass(frozen=True, slots=True)
class _Packet:
    """The fields that say where a packet is sent."""

    port: int | None = None
    vtep: str | None = None
    vni: int | None = None

    def with_field(self, name: str, value: str) -> _Packet:
        if name == "reg2":
            return replace(self, port=int(value, 0))
        return replace(self, vni=int(value, 0)) if name == "tun_id" else replace(self, vtep=value)


@dataclass(slots=True)
class _Frame:
    """A table, bucket or bridge that is open: the tables that it goes on to are at `level`, its actions one to the right. `step` is the
    number of the table's step, None on another bridge."""

    level: int
    step: int | None
    branch: str = ""
    restored: _Packet | None = None  # after a bucket the packet is what it was before
    measures: bool = False  # the next table to the right has a packet that is too large


@dataclass(slots=True)
class _Reader:
    """Reads the lines one by one."""

    flows: Mapping[int, Flow]
    names: Mapping[str, str]
    tunnels: frozenset[int]
    mirroring: frozenset[str]
    bridge: str = ""
    frames: list[_Frame] = field(default_factory=list)
    steps: list[TraceStep] = field(default_factory=list)
    ends: dict[int, list[TraceEnd]] = field(default_factory=dict)  # by the step's number
    passed_on: set[int] = field(default_factory=set)  # steps that are not the end of a branch
    packets: list[_Packet] = field(default_factory=list)  # the packet as each step got it
    packet: _Packet = _Packet()
    forks: deque[tuple[_Packet, str]] = field(default_factory=deque)
    in_summary: bool = True
    in_ct: bool = False

    def read(self, line: str) -> None:
        text = line.strip()
        level = (len(line) - len(line.lstrip())) // 4
        if bridge := _BRIDGE.match(text):
            self._open_bridge(bridge[1], level)
        elif text.startswith("Final flow:"):
            self.in_summary = True
        elif not self.in_summary and text and not text.startswith(("---", "thaw", "Resuming from table")):
            self._close(level)
            step = self._step(text)
            if step is not None:
                self._open_table(step, level)
            elif self.frames and self.frames[-1].step is not None:
                self._action(text, self.frames[-1], self.frames[-1].step)

    def _open_bridge(self, name: str, level: int) -> None:
        if self.in_summary:  # the packet enters, or it continues after ct
            self.in_summary, self.in_ct = False, False
            self.bridge = self.bridge or name
            self.packet, branch = self.forks.popleft() if self.forks else (_Packet(), "")
            self.frames = [_Frame(0, -1, branch)]
            return
        self._close(level)
        self.frames.append(_Frame(level + level % 2, None))

    def _close(self, level: int) -> None:
        """Close what a line at this level does not belong to."""
        while self.frames and self.frames[-1].level > level - level % 2:
            frame = self.frames.pop()
            if frame.restored is not None:
                self.packet = frame.restored

    def _step(self, text: str) -> TraceStep | None:
        if columns := _TABLE.match(text):
            table, matched, priority, cookie = columns.groups()
            origin = origin_text(int(cookie, 16) if cookie else 0, self.flows, self.names)
            return TraceStep(table=table_name(int(table)), matched=f"{matched or 'any'} (priority {priority})", origin=origin)
        if missed := _MISS.match(text):
            return TraceStep(table=table_name(int(missed[1])), matched="no match", origin="pipeline/miss")
        return None

    def _open_table(self, step: TraceStep, level: int) -> None:
        parent = self.frames[-1] if self.frames else _Frame(0, -1)
        if parent.step is None:  # of another bridge
            self.frames.append(_Frame(level + level % 2, None))
            return
        branch = parent.branch or (COPY if step.table == Table.COPY.name else LARGER if parent.measures else "")
        parent.measures = False
        if branch == parent.branch:
            self.passed_on.add(parent.step)
        restored = self.packet if branch == LARGER != parent.branch else None
        self.frames.append(_Frame(level + level % 2, len(self.steps), branch, restored))
        self.steps.append(replace(step, branch=branch))
        self.packets.append(self.packet)

    def _action(self, text: str, frame: _Frame, step: int) -> None:
        if step < 0:
            return
        if text.startswith(_FORKED):
            self.forks.append((self.packet, frame.branch))
            self.passed_on.add(step)
        self.in_ct = text.startswith("ct(") or (self.in_ct and _INSIDE_CT.fullmatch(text) is not None)
        if self.in_ct and not text.startswith("ct("):
            return
        self.steps[step] = replace(self.steps[step], actions=(*self.steps[step].actions, text))
        if text.startswith("bucket "):
            self.frames.append(_Frame(frame.level + 2, step, frame.branch, self.packet))
        elif text.startswith("check_pkt_larger"):
            frame.measures = True
        elif assigned := _SET.match(text):
            self.packet = self.packet.with_field(assigned[2], assigned[1])
        else:
            self._end(text, frame, step)

    def _end(self, text: str, frame: _Frame, step: int) -> None:
        """Record where a branch ends, or what is wrong with the last output."""
        ends = self.ends.setdefault(step, [])
        origin = self.steps[step].origin
        if output := _OUTPUT.match(text):
            port = int(output[1] or output[2] or output[3])
            tunnelled = self.packet if port in self.tunnels else _Packet()
            copied = not ends and origin in self.mirroring
            branch = frame.branch or (COPY if copied else "")
            ends.append(self._ended("output", step, branch, replace(tunnelled, port=port)))
        elif text == "IN_PORT":
            ends.append(self._ended("answered", step, frame.branch, _Packet()))
        elif text.startswith("CONTROLLER") and not origin.startswith("acl/"):  # an ACL's only writes a line to the log
            ends.append(self._ended("controller", step, frame.branch, _Packet()))
        elif ends and (warning := _WARNING.match(text)):
            ends[-1] = replace(ends[-1], problem=warning[1])

    def _ended(self, kind: str, step: int, branch: str, packet: _Packet) -> TraceEnd:
        at = self.steps[step]
        return TraceEnd(
            kind=kind, table=at.table, origin=at.origin, branch=branch, port=packet.port, vtep=packet.vtep, vni=packet.vni
        )

    def result(self) -> Trace:
        ends: list[TraceEnd] = []
        for number, step in enumerate(self.steps):
            of_step = self.ends.get(number, [])
            if (
                step.table not in RETURNING
                and number not in self.passed_on
                and not any(end.branch == step.branch for end in of_step)
            ):
                of_step = [*of_step, self._ended("drop", number, step.branch, self.packets[number])]
            ends += of_step
        return Trace(tuple(self.steps), tuple(ends))


def parse_trace(
    text: str, flows: Mapping[int, Flow], names: Mapping[str, str], tunnels: Iterable[int], mirroring: Iterable[str] = ()
) -> Trace:
    """Parse the output of `ovs-appctl ofproto/trace`; it leaves out what other bridges do with a tunnel's packet. `tunnels` are the ports to other
    hosts. `mirroring` has the
    origins of ACL rules with `mirror`: the first output of such a rule is a copy."""
    reader = _Reader(flows, names, frozenset(tunnels), frozenset(mirroring))
    for line in text.splitlines():
        reader.read(line)
    return reader.result()
