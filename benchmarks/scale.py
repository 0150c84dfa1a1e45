"""What a host pays for networks that it does not have: memory, restart, attach, one change and a storm of unrelated changes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.attach import attach, change
from benchmarks.laboratory import Laboratory, pss
from tools.lab import run

MIB = 1 << 20
TICKS_S = os.sysconf("SC_CLK_TCK")
RATE, STORM_S = 100, 10  # changes a second, and for how long
RESTARTS = 3
GROWN = "memory of the controller and its child, grown"
IDLE = "processor share of a host, no change"
STORM = f"processor share of a host, {RATE} unrelated changes a second"


class Figure(NamedTuple):
    """The unit of a figure, and its goal: a limit, or a limit of its ratio to the figure of the network alone."""

    unit: str
    goal: str = ""
    limit: float | None = None


FIGURES = {
    GROWN: Figure("MiB", "limit", 140),
    "memory of the agent, grown": Figure("MiB", "limit", 110),
    "restart of the controller until current": Figure("s", "limit", 5),
    "memory of the controller and its child, restarted": Figure("MiB", "limit", 140),
    "memory of the agent, restarted": Figure("MiB", "limit", 110),
    "attach until the answer": Figure("ms", "ratio", 1.15),
    "etcd event until bundle committed": Figure("ms", "ratio", 1.15),
    IDLE: Figure("%"),
    STORM: Figure("%"),
}

Figures = dict[str, list[float]]


def both(lab: Laboratory, networks: int, endpoints: int, hosts: int, rounds: int) -> tuple[Figures, Figures]:
    """The figures of h1 with its network alone, and with all networks."""
    lab.container("near", "h1")
    target = lab.container("far", "h2")["target_veth_ip"].split("/")[0]
    lab.seed(endpoints, hosts)
    storm = ("storm", networks, endpoints, hosts, RATE, STORM_S)
    alone = _figures(lab, rounds, target)
    lab.seeding("networks", 1, networks, endpoints, hosts)
    lab.settle()
    crowded = _figures(lab, rounds, target)
    if networks > 1:
        crowded[STORM] = _share(lab, lambda: lab.seeding(*storm))
    return alone, crowded


def _figures(lab: Laboratory, rounds: int, target: str) -> Figures:
    """The values of every figure but the storm's."""
    grown = _memory(lab)
    restarts = [_restart_s(lab) for _ in range(RESTARTS)]
    run.restart(lab.plan, "h1", "agent")
    lab.settle()
    attached = attach(lab, rounds, target)["answer"]
    changed = change(lab, rounds)
    idle = _share(lab, lambda: time.sleep(STORM_S))
    return dict(zip(FIGURES, (*grown, restarts, *_memory(lab), attached, changed, idle), strict=False))


def _memory(lab: Laboratory) -> tuple[list[float], list[float]]:
    """MiB of the controller with its child, and of the agent."""
    controller, child, agent = (pss(pid) / MIB for pid in lab.processes(lab.plan.hosts[0]))
    return [controller + child], [agent]


def _restart_s(lab: Laboratory) -> float:
    """Seconds from the start of h1's controller until it reports that its switch has the newest revision."""
    run.stop(lab.plan, "h1", "controller")
    _until(lab, current=False)
    began = time.monotonic()
    run.start(lab.plan, "h1", "controller")
    _until(lab, current=True)
    return time.monotonic() - began


def _until(lab: Laboratory, current: bool) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        hosts = run.api(lab.plan.hosts[1], "GET", "/hosts", timeout_s=30)["hosts"]
        if next(host for host in hosts if host["name"] == "h1")["current"] == current:
            return
        time.sleep(0.05)
    raise run.LabError("h1's controller is not current within 120 s" if current else "h1's controller does not end")


def _share(lab: Laboratory, work: Callable[[], object]) -> list[float]:
    """The share of one processor, in percent, that h1's three processes take while something goes on."""
    pids = lab.processes(lab.plan.hosts[0])
    began, before = time.monotonic(), sum(map(_cpu_s, pids))
    work()
    return [100 * (sum(map(_cpu_s, pids)) - before) / (time.monotonic() - began)]


def _cpu_s(pid: str) -> float:
    """Processor seconds of a process (proc(5): utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_S
