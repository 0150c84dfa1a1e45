"""Both sides in turns, at one size after the other, and what the figures come to."""

from __future__ import annotations

import statistics
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks.ovn.ovn_side import OvnSide
from benchmarks.ovn.programs import Programs
from benchmarks.ovn.side import Side
from benchmarks.ovn.warren import WarrenSide
from tools.lab import run
from tools.lab.plan import LabPlan

RESTARTS = 3
MIB = 1 << 20
ATTACH = {
    "installed": "attach until the flows are in",
    "up": "attach until the answer, or until OVN says that the port is up",
    "ping": "attach until a ping has crossed hosts",
    "processor": "attach, processor time of all processes",
}
REMOTE = "one remote endpoint"
RULE = {"written": "one rule of the ACL, from the database on", "requested": "one rule of the ACL, from the client's request on"}
RESTART = {
    "current": "controller restarted, until current",
    "processor": "controller restarted, its processor time",
    "lost": "controller restarted, packets lost",
}
MEMORY = {
    "host": "memory: controller with child and agent, or ovn-controller",
    "central": "memory: etcd, or northd and two ovsdb-servers",
}
FLOWS = "flows of the host"
UNITS = {
    **dict.fromkeys((*ATTACH.values(), REMOTE, *RULE.values()), "ms"), RESTART["current"]: "s", RESTART["processor"]: "s", RESTART["lost"]: "packets",
    **dict.fromkeys(MEMORY.values(), "MiB"), FLOWS: "flows",
}  # fmt: skip

SideFigures = dict[str, list[float]]  # of one side, by what was measured


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One figure of both sides: the medians' ratio is Warren's to OVN's, None where OVN's is 0."""

    what: str
    unit: str
    warren: tuple[float, ...]
    ovn: tuple[float, ...]

    @property
    def ratio(self) -> float | None:
        """Warren's median divided by OVN's."""
        theirs = statistics.median(self.ovn)
        return statistics.median(self.warren) / theirs if theirs else None


def compared(warren: SideFigures, ovn: SideFigures) -> list[Comparison]:
    """The figures that both sides have, in the order of `UNITS`."""
    return [
        Comparison(what=what, unit=unit, warren=tuple(warren[what]), ovn=tuple(ovn[what]))
        for what, unit in UNITS.items()
        if warren.get(what) and ovn.get(what)
    ]


@contextmanager
def both_sides(programs: Programs) -> Iterator[tuple[WarrenSide, OvnSide]]:
    """Warren's side and OVN's, up side by side; gone at the end, half-made ones too."""
    tag = uuid.uuid4().hex[:4]
    plans = LabPlan(f"w{tag}", 2), LabPlan(f"o{tag}", 2)
    with ExitStack() as stack:
        for plan in plans:
            stack.callback(run.down, plan.name)
        warren = WarrenSide(plans[0])
        stack.callback(warren.end)
        ovn = OvnSide(plans[1], programs)
        stack.callback(ovn.end)
        yield warren, ovn


def turns(sides: Sequence[Side], sizes: Sequence[int], rounds: int) -> Iterator[tuple[int, list[SideFigures]]]:
    """The figures of each side at each size."""
    for place, size in enumerate(sizes):
        figures = [defaultdict[str, list[float]](list) for _ in sides]
        both = list(zip(sides, figures, strict=True))
        for side in sides:
            side.seed(size)
        for turn in range(rounds):
            for side, values in both if turn % 2 else reversed(both):
                _one_turn(side, values, place * rounds + turn)
        for turn in range(RESTARTS):
            for side, values in both if turn % 2 else reversed(both):
                for name, figure in side.restart().items():
                    values[RESTART[name]].append(figure)
        for side, values in both:
            values[FLOWS] = [float(side.flows())]
            for name, figure in side.memory().items():
                values[MEMORY[name]] = [figure / MIB]
        yield size, [dict(values) for values in figures]


def _one_turn(side: Side, values: SideFigures, number: int) -> None:
    for name, figure in side.attach(number).items():
        values[ATTACH[name]].append(figure)
    values[REMOTE] += side.remote(number)
    for name, figure in side.rule(number).items():
        values[RULE[name]].append(figure)
