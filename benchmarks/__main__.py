"""`python -m benchmarks`: measures, prints a table and writes benchmarks/results.json. Needs root; some minutes."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.apply import applied
from benchmarks.attach import attach, bare_ports, cables, change
from benchmarks.coldstart import cold_start
from benchmarks.connections import connections
from benchmarks.docker import KINDS, starts
from benchmarks.flood import CONNECTIONS, LIMIT, flood
from benchmarks.laboratory import Laboratory, laboratory
from benchmarks.mirror import measure as mirrored
from benchmarks.ovn.programs import programs
from benchmarks.ovn.turns import both_sides, compared, turns
from benchmarks.policy import measure as bulk
from benchmarks.scale import FIGURES, IDLE, STORM, both
from benchmarks.throughput import PATHS, throughput
from benchmarks.underlay import ADDRESSES, NICS, underlay
from tools.lab import engine
from tools.lab.plan import CLOUDS
from tools.lab.run import LabError

console = Console(width=None if sys.stdout.isatty() else 120)
RESULTS = Path(__file__).with_name("results.json")
SAND_MS = 63.0  # SAND's answer to POST /endpoints at 10 endpoints, on a machine of the same kind
MIB = 1 << 20
READY = 4  # preallocated endpoints a host
TRACKED = 10_000  # connections of one endpoint
APPLIED = 5000  # endpoints of one document
PORTS = 500  # of a host with many


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkOptions:
    """How often and how large: `sizes` are the endpoints of the one network of most suites, `networks`, `endpoints` and `hosts` are of `scale`."""

    rounds: int
    sizes: tuple[int, ...]
    networks: int
    endpoints: int
    hosts: int
    ovn_folder: Path
    ovn_suite: str


class Measured:
    """The rows of the table: subject, figures, and the figures they are compared with."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.suite = ""

    def add(self, what: str, values: list[float], unit: str, goal: str = "", held: bool | None = None) -> float:
        """One row; returns the median."""
        ordered = sorted(values)
        median = statistics.median(ordered)
        row = {
            "suite": self.suite,
            "what": what,
            "median": median,
            "p95": ordered[int(0.95 * (len(ordered) - 1))],
            "max": ordered[-1],
        }
        self.rows.append({**row, "rounds": len(ordered), "unit": unit, "goal": goal, "held": held})
        console.print(f"  {what}: {median:.2f} {unit}")
        return median

    def goal(self, goal: str, held: bool) -> None:
        """State the goal of the last row, and whether it is met."""
        self.rows[-1].update(goal=goal, held=held)

    def table(self) -> Table:
        """The table for the terminal."""
        table = Table("what", "median", "95 %", "max", "rounds", "goal")
        for column in table.columns[1:5]:
            column.justify = "right"
        for row in self.rows:
            mark = {True: "[green]held[/green] ", False: "[red]missed[/red] ", None: ""}[row["held"]]
            figures = (f"{row[name]:.2f}" for name in ("median", "p95", "max"))
            table.add_row(f"{row['what']}, {row['unit']}", *figures, str(row["rounds"]), mark + row["goal"])
        return table


def overlay(measured: Measured, options: BenchmarkOptions) -> None:
    """Attach, change, memory and cold start of a network that grows."""
    with console.status("a laboratory of two hosts"), laboratory() as lab:
        lab.container("near", "h1")
        target = lab.container("far", "h2")["target_veth_ip"].split("/")[0]
        measured.add("ip link add of a veth, whole process", cables(lab, options.rounds)["made in its place"], "ms")
        measured.add("ovs-vsctl add-port, whole process", bare_ports(lab, options.rounds), "ms")
        medians: dict[str, list[float]] = {"answer": [], "ping": [], "change": []}
        for size in options.sizes:
            lab.seed(size)
            attached = attach(lab, options.rounds, target)
            medians["answer"].append(measured.add(f"attach until the answer, {size} endpoints", attached["answer"], "ms"))
            medians["ping"].append(measured.add(f"attach until a ping has crossed, {size} endpoints", attached["ping"], "ms"))
            changes = change(lab, options.rounds)
            medians["change"].append(measured.add(f"etcd event until bundle committed, {size} endpoints", changes, "ms"))
        _ratios(measured, medians, options.sizes)
        memory = [lab.controller_memory(host) / MIB for host in lab.plan.hosts]
        measured.add(f"controller and its child, memory, {options.sizes[-1]} endpoints", memory, "MiB")
        measured.goal("< 250 MiB", max(memory) < 250)
        _cold(measured, lab)


def _ratios(measured: Measured, medians: dict[str, list[float]], sizes: tuple[int, ...]) -> None:
    for what, name in (("answer", "attach until the answer"), ("ping", "attach until a ping has crossed")):
        ratio = medians[what][-1] / medians[what][0]
        measured.add(f"{name}: {sizes[-1]} against {sizes[0]} endpoints", [ratio], "x")
        measured.goal("<= 1.3", ratio <= 1.3)
    measured.add("attach until the answer, against SAND at 10 endpoints", [medians["answer"][-1] / SAND_MS], "x")
    measured.goal("< 1", medians["answer"][-1] < SAND_MS)
    measured.add("etcd event until bundle committed", [medians["change"][-1]], "ms")
    measured.goal("< 5 ms", medians["change"][-1] < 5)


def _cold(measured: Measured, lab: Laboratory) -> None:
    for number in range(1, 200):
        lab.container(f"local{number}", "h1")
    started = cold_start(lab, 3)
    flows = int(started["flows"][-1])
    measured.add(f"cold start, {flows} flows: ovs-ofctl --bundle add-flows", started["ovs-ofctl"], "ms")
    measured.add(f"cold start, {flows} flows: connected until all are in", started["connected"], "ms")
    measured.add(f"cold start, {flows} flows: process started until all are in", started["process"], "ms")
    ratio = statistics.median(started["connected"]) / statistics.median(started["ovs-ofctl"])
    measured.add("cold start against ovs-ofctl", [ratio], "x")
    measured.goal("<= 3", ratio <= 3)


def policy(measured: Measured, options: BenchmarkOptions) -> None:
    """ACLs in bulk, beside FAUCET where it is installed."""
    with console.status("1000 ACLs of 50 rules on 2000 ports"), laboratory(1) as lab:
        loaded = bulk(lab, 1000, 2000, min(options.rounds, 20))
    flows = loaded["flows"]
    measured.add(f"faucet.yaml until the switch holds its {flows} ACL flows", [loaded["import_s"]], "s")
    changed = measured.add("one rule of them changed, etcd event until bundle committed", loaded["change_ms"], "ms")
    measured.goal("< 20 ms", changed < 20)
    if loaded["faucet"] is None:
        console.print("  FAUCET is not installed (tests/differential/install): not compared")
        return
    faucet = loaded["faucet"]
    measured.add(f"FAUCET: the same file until its {faucet['flows']} flow messages stand", [faucet["total_s"]], "s")
    measured.add("FAUCET: the same rule changed, reload", [faucet["reload_s"] * 1000], "ms")
    measured.add("import against FAUCET's", [loaded["import_s"] / faucet["total_s"]], "x")
    measured.add("one rule against FAUCET's reload", [changed / (faucet["reload_s"] * 1000)], "x")


def through(measured: Measured, options: BenchmarkOptions) -> None:
    """TCP between containers and to the outside, beside a bare bridge and Linux bridges."""
    with console.status("three ways between two hosts and to the outside"), laboratory() as lab:
        rates = throughput(lab, min(options.rounds, 9))
    names = {
        "warren": "Warren",
        "normal": "bare bridge, one NORMAL flow",
        "kernel": "Linux bridge, kernel VXLAN",
        "single": "Linux bridge, a packet at a time",
    }
    for (kind, path), values in sorted(rates.items(), key=lambda item: PATHS.index(item[0][1])):
        measured.add(f"TCP, {path}: {names[kind]}", values, "Mbit/s")
    for path in PATHS:
        for kind in ("normal", "kernel", "single"):
            ratios = [mine / theirs for mine, theirs in zip(rates["warren", path], rates[kind, path], strict=True)]
            ratio = measured.add(f"TCP, {path}: Warren against {names[kind]}", ratios, "x")
            if kind == "normal" and path != "outside":
                measured.goal(">= 0.9", ratio >= 0.9)


def mirrors(measured: Measured, options: BenchmarkOptions) -> None:
    """Mirrored TCP beside TCP that is not."""
    with console.status("a laboratory of three hosts"), laboratory(3) as lab:
        for way, pairs in mirrored(lab, min(options.rounds, 5)).items():
            measured.add(f"TCP {way}: without", pairs["off"], "Mbit/s")
            measured.add(f"TCP {way}: mirrored", pairs["on"], "Mbit/s")
            ratio = statistics.median(on / off for off, on in zip(pairs["off"], pairs["on"], strict=True))
            measured.add(f"TCP {way}: mirrored against without", [ratio], "x")
            measured.goal(">= 0.8", ratio >= 0.8)
            cost = statistics.median(pairs["on_cpu"]) / statistics.median(pairs["off_cpu"])
            measured.add(f"TCP {way}: processor time of the copying switch for each byte, mirrored against without", [cost], "x")


def docker(measured: Measured, options: BenchmarkOptions) -> None:
    """`docker run` with Warren, with the engine's own bridge, and without a network, in turn."""
    if not engine.available():
        console.print("  docker.io and busybox-static are not installed: not measured")
        return
    with console.status("an engine on one of two hosts"), laboratory() as lab:
        lab.seed(options.sizes[min(2, len(options.sizes) - 1)])
        durations = starts(lab, options.rounds)
    for kind in KINDS:
        measured.add(f"docker run, network {kind}", durations[kind], "ms")
    none = statistics.median(durations["none"])
    over = {kind: [ms - none for ms in durations[kind]] for kind in ("bridge", "warren")}
    measured.add("docker run with the bridge, more than without a network", over["bridge"], "ms")
    measured.add("docker run with Warren, more than without a network", over["warren"], "ms")
    pairs = [w - b for b, w in zip(over["bridge"], over["warren"], strict=True)]
    measured.add("docker run with Warren, more than with the bridge", pairs, "ms")
    for option, goal in (("", 15), (", -p", 20)):
        more = statistics.median(durations[f"warren{option}"]) - statistics.median(durations[f"bridge{option}"])
        measured.add(f"docker run{option}, median with Warren, more than with the bridge", [more], "ms")
        measured.goal(f"<= {goal} ms", more <= goal)
    ready = [p - w for p, w in zip(durations["warren, preallocated"], durations["warren"], strict=True)]
    measured.add("docker run with Warren, preallocated, more than made when it is asked for", ready, "ms")
    for kind in KINDS:
        measured.add(f"docker rm -f, network {kind}", durations[f"rm {kind}"], "ms")


def preallocated(measured: Measured, options: BenchmarkOptions) -> None:
    """Attach with and without endpoints kept ready, on a host with few ports and with many."""
    with console.status("a laboratory of two hosts"), laboratory() as lab:
        for what, values in cables(lab, options.rounds).items():
            measured.add(f"a cable, {what}", values, "ms")
        lab.container("near", "h1")
        target = lab.container("far", "h2")["target_veth_ip"].split("/")[0]
        for ports in (1, PORTS):
            for number in range(1, ports):
                lab.container(f"local{number}", "h1")
            lab.preallocate(0)
            without = attach(lab, options.rounds, target)
            lab.preallocate(READY)
            ready = attach(lab, options.rounds, target, lambda: lab.until_ready(READY))
            for way, name in (("answer", "attach until the answer"), ("ping", "attach until a ping has crossed")):
                where = f"{name}, {ports} port{'s' if ports > 1 else ''} on the host"
                plain = measured.add(f"{where}, made when it is asked for", without[way], "ms")
                quick = measured.add(f"{where}, preallocated", ready[way], "ms")
                measured.add(f"{where}: preallocated against made", [quick / plain], "x")


def scale(measured: Measured, options: BenchmarkOptions) -> None:
    """A host that has one of many networks, beside the same host when there is no other network."""
    networks, endpoints = options.networks, options.endpoints
    with console.status(f"{networks} networks of {endpoints} endpoints"), laboratory() as lab:
        alone, crowded = both(lab, networks, endpoints, options.hosts, options.rounds)
    cases = (("its network alone", alone), (f"{networks} networks of {endpoints}", crowded))
    for name, (unit, goal, limit) in FIGURES.items():
        medians = [measured.add(f"{name}, {case}", f[name], unit) for case, f in cases if name in f]
        if goal == "ratio":
            measured.add(f"{name}, against its network alone", [medians[1] / medians[0]], "x")
            measured.goal(f"<= {limit}", medians[1] / medians[0] <= limit)
        elif limit is not None:
            measured.goal(f"<= {limit:g} {unit}", medians[1] <= limit)
    if STORM in crowded:
        cost = statistics.median(crowded[STORM]) - statistics.median(crowded[IDLE])
        measured.add("processor share of a host, a storm of unrelated changes less none", [cost], "%")
        measured.goal("< 2 %", cost < 2)


def floods(measured: Measured, options: BenchmarkOptions) -> None:
    """One network's connections while another network floods."""
    calm: list[float] = []
    for limit, name in ((None, "no limit"), (LIMIT, f"a limit of {LIMIT}")):
        with console.status(f"a flood of {CONNECTIONS} connections, {name}"), laboratory(1) as lab:
            before, during, kept = flood(lab, limit)
        calm += before
        measured.add(f"a connection of another network while {CONNECTIONS} are opened, {name}", during, "ms")
        measured.add(f"kept of the {CONNECTIONS}, {name}", [float(kept)], "connections")
        if limit is not None:
            measured.goal(f"<= {limit}", kept <= limit)
    measured.add("a connection of another network, nobody else there", calm, "ms")


def tracked(measured: Measured, options: BenchmarkOptions) -> None:
    """Endpoints with many tracked connections."""
    with console.status(f"endpoints with {TRACKED} connections"), laboratory(1) as lab:
        figures = connections(lab, TRACKED, max(3, options.rounds // 10))
    idle = measured.add("delete an endpoint without connections", figures["delete idle"], "ms")
    busy = measured.add(f"delete an endpoint with {TRACKED} connections", figures["delete busy"], "ms")
    measured.add("delete: with connections against without", [busy / idle], "x")
    measured.add(f"from the deletion until its {TRACKED} connections are gone", figures["gone"], "ms")
    measured.add(f"from a change of the ACL until {TRACKED} connections that it forbids are gone", figures["rule"], "ms")


def apply(measured: Measured, options: BenchmarkOptions) -> None:
    """A document of many endpoints."""
    with console.status(f"a document of {APPLIED} endpoints"), laboratory() as lab:
        for what, seconds in applied(lab, APPLIED, max(1, options.rounds // 10)).items():
            median = measured.add(f"warren apply of {APPLIED} endpoints, {what}", seconds, "s")
            measured.goal("< 10 s", median < 10)


def clouds(measured: Measured, options: BenchmarkOptions) -> None:
    """warren-underlay on an instance with many NICs and addresses, in the dialect of each cloud."""
    for cloud in CLOUDS:
        with console.status(f"{cloud}: {NICS} NICs with {ADDRESSES} addresses each"):
            figures = underlay(cloud, max(1, options.rounds // 10))
        where = f"{cloud}, {NICS} NICs with {ADDRESSES} addresses each"
        measured.add(f"{where}: start of the process until all addresses are there", figures["until right"], "s")
        measured.add(
            f"{where}: start of the process over what an earlier one left, until its first reading", figures["restart"], "s"
        )
        measured.add(f"{where}: processor time of a refresh without a change", figures["refresh"], "ms")
        measured.add(f"{where}: requests of the first reading", figures["first requests"], "requests")
        measured.add(f"{where}: requests of a refresh", figures["requests"], "requests")
        memory = measured.add(f"{where}: memory", figures["memory"], "MiB")
        measured.goal("<= 60 MiB", memory <= 60)


def beside_ovn(measured: Measured, options: BenchmarkOptions) -> None:
    """Warren and OVN in turns."""
    with console.status(f"OVN of Debian {options.ovn_suite}"):
        unpacked = programs(options.ovn_folder, options.ovn_suite)
    console.print(f"  OVN {unpacked.version}; load average {os.getloadavg()[0]:.1f}")
    with console.status("a laboratory of each"), both_sides(unpacked) as sides:
        for size, (warren, ovn) in turns(sides, options.sizes, options.rounds):
            for figure in compared(warren, ovn):
                what = f"{figure.what}, {size} endpoints"
                measured.add(f"{what}: Warren", list(figure.warren), figure.unit)
                measured.add(f"{what}: OVN {unpacked.version}", list(figure.ovn), figure.unit)
                if figure.ratio is not None:
                    measured.add(f"{what}: Warren against OVN", [figure.ratio], "x")
            measured.add(f"load average of the machine, {size} endpoints", [os.getloadavg()[0]], "processes")


SUITES: dict[str, Callable[[Measured, BenchmarkOptions], None]] = {
    "overlay": overlay,
    "policy": policy,
    "throughput": through,
    "mirror": mirrors,
    "docker": docker,
    "preallocate": preallocated,
    "flood": floods,
    "connections": tracked,
    "scale": scale,
    "apply": apply,
    "underlay": clouds,
    "ovn": beside_ovn,
}
NAMED = ("ovn",)  # fetches packages: measured only when it is named


def _numbers(text: str) -> tuple[int, ...]:
    """The value of --sizes."""
    try:
        return tuple(int(size) for size in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected numbers with commas between") from None


def main() -> None:
    """Entry of the command."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument(
        "suites", nargs="*", default=[suite for suite in SUITES if suite not in NAMED], metavar="SUITE",
        help=f"of: {', '.join(SUITES)} (default: all but {', '.join(NAMED)})",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=30, help="of everything that is quick (default: 30)")
    parser.add_argument(
        "--sizes", type=_numbers, default="10,100,1000,10000", help="endpoints that exist (default: 10,100,1000,10000)"
    )
    parser.add_argument("--networks", type=int, default=1000, help="of `scale`: networks that exist (default: 1000)")
    parser.add_argument("--endpoints", type=int, default=100, help="of `scale`: endpoints of each network (default: 100)")
    parser.add_argument("--hosts", type=int, default=50, help="of `scale`: hosts that the other endpoints are on (default: 50)")
    parser.add_argument(
        "--ovn-folder", type=Path, default=Path("/var/tmp/warren-ovn"), help="of `ovn`: where Debian's OVN is unpacked and kept"
    )
    parser.add_argument("--ovn-suite", default="sid", help="of `ovn`: the release of Debian that it is from (default: sid)")
    arguments = parser.parse_args()
    if unknown := [suite for suite in arguments.suites if suite not in SUITES]:
        parser.error(f"SUITE {unknown[0]}: expected one of {', '.join(SUITES)}")
    options = BenchmarkOptions(
        rounds=arguments.rounds,
        sizes=arguments.sizes,
        networks=arguments.networks,
        endpoints=arguments.endpoints,
        hosts=arguments.hosts,
        ovn_folder=arguments.ovn_folder,
        ovn_suite=arguments.ovn_suite,
    )
    measured = Measured()
    for suite in arguments.suites:
        measured.suite = suite
        try:
            SUITES[suite](measured, options)
        except LabError as error:
            sys.exit(f"python -m benchmarks {suite}: {error}")
    console.print(measured.table())
    machine = {"machine": platform.machine(), "python": platform.python_version(), "kernel": platform.release()}
    # a suite alone leaves the others' figures as they were
    others = [row for row in json.loads(RESULTS.read_text())["rows"] if row["suite"] not in arguments.suites]
    RESULTS.write_text(json.dumps({**machine, "rows": others + measured.rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
