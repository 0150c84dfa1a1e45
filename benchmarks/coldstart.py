"""An empty switch until it holds everything, against ovs-ofctl putting the same flows in as one bundle."""

from __future__ import annotations

import re
import time
from datetime import datetime

from benchmarks.laboratory import Laboratory
from tools.lab import run


def cold_start(laboratory: Laboratory, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of every round: Warren from the OpenFlow connection on, Warren from the start of its process on, and
    ovs-ofctl (whole process)."""
    plan, host = laboratory.plan, laboratory.plan.hosts[0]
    log = host.directory / "controller.log"
    measured: dict[str, list[float]] = {"connected": [], "process": [], "ovs-ofctl": [], "flows": []}
    for _ in range(rounds):
        run.stop(plan, host.name, "controller")
        flows = laboratory.ofctl(host, "--no-stats", "dump-flows", "br-warren")
        groups = laboratory.ofctl(host, "dump-groups", "br-warren")
        _empty(laboratory)
        start, began = log.stat().st_size, time.time()
        run.start(plan, host.name, "controller")
        connected, committed = _wait(log, start)
        measured["connected"].append((committed - connected) * 1000)
        measured["process"].append((committed - began) * 1000)
        run.stop(plan, host.name, "controller")
        _empty(laboratory)
        laboratory.ofctl(host, "add-groups", "br-warren", "-", text="\n".join(groups.splitlines()[1:]))
        began = time.monotonic()
        laboratory.ofctl(host, "--bundle", "add-flows", "br-warren", "-", text=flows)
        measured["ovs-ofctl"].append((time.monotonic() - began) * 1000)
        measured["flows"].append(float(len(flows.splitlines())))
        run.start(plan, host.name, "controller")
        laboratory.settle()
    return measured


def _empty(laboratory: Laboratory) -> None:
    host = laboratory.plan.hosts[0]
    laboratory.ofctl(host, "del-flows", "br-warren")
    laboratory.ofctl(host, "del-groups", "br-warren")


_LINE = r"^(\S+ [\d:,]+) INFO \S+ "


def _wait(log, start: int) -> tuple[float, float]:  # type: ignore[no-untyped-def]
    """When the switch had connected, and when the bundle that filled it was in (seconds since the epoch)."""
    for _ in range(600):
        with log.open() as lines:
            lines.seek(start)
            text = lines.read()
        connected = re.search(_LINE + r"datapath\.connected", text, re.M)
        committed = re.search(_LINE + r"bundle\.committed adds=\d{4,}", text, re.M)
        if connected and committed:
            return _time(connected[1]), _time(committed[1])
        time.sleep(0.1)
    raise run.LabError("the switch was not filled within 60 s")


def _time(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S,%f").timestamp()
