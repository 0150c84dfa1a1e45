"""TCP that is mirrored beside the same TCP that is not, in turns, for each place where the copies may go.

Between two containers of one host and of two. The analyser is a container or an interface that nobody reads: what is measured is the switch. A third
host or a collector to which copies go would have a machine of its own, at the end of a wire that a network card feeds. Here all share two cores, so
during a transfer such copies end where they have left h1's card: at the other end of its veth."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.laboratory import Laboratory
from tools.lab import run
from tools.lab.machine import PATIENCE

SECONDS = 1.5
COLLECTOR = "198.18.0.99"  # an address of the underlay itself
PORT = 5201


def targets(laboratory: Laboratory) -> dict[str, dict[str, str]]:
    """The targets of copies, by their names in the table."""
    return {
        "a container of the same host": {"network": "eyes", "endpoint": "eye1"},
        "a container of a third host": {"network": "eyes", "endpoint": "eye3"},
        "an interface of the same host": {"host": "h1", "interface": "tap0"},
        "an interface of a third host": {"host": "h3", "interface": "tap0"},
        "a collector by GRE": {"gre": COLLECTOR},
    }


def measure(laboratory: Laboratory, rounds: int) -> dict[str, dict[str, list[float]]]:
    """By way and target: Mbit/s without and with the mirror (`off`, `on`), and seconds of processor time that the switch of h1 took for each
    gigabyte (`off_cpu`, `on_cpu`), in the order in which they were measured."""
    plan = laboratory.plan
    run.api(plan.hosts[0], "POST", "/networks", name="eyes", ip_range="10.99.0.0/24")
    for name, host in (("eye1", "h1"), ("eye3", "h3")):
        run.container(plan, name, host, "eyes")
    for host in ("h1", "h3"):
        run.sh("ip", "-n", f"{plan.name}-{host}", "link", "add", "tap0", "type", "veth", "peer", "name", "tap1")
        for name in ("tap0", "tap1"):
            run.sh("ip", "-n", f"{plan.name}-{host}", "link", "set", name, "up")
    run.sh("ip", "-n", plan.netns, "addr", "add", f"{COLLECTOR}/24", "dev", "under")
    laboratory.container("sender", "h1")
    measured: dict[str, dict[str, list[float]]] = {}
    for way, host in (("on one host", "h1"), ("across hosts", "h2")):
        receiver = f"receiver-{host}"
        address = laboratory.container(receiver, host)["target_veth_ip"].split("/")[0]
        with _server(laboratory, receiver):
            _transfer(laboratory, address, 1.0)
            for called, to in targets(laboratory).items():
                pairs: dict[str, list[float]] = {"off": [], "on": [], "off_cpu": [], "on_cpu": []}
                for _ in range(rounds):
                    with _wire(laboratory):
                        _measured(laboratory, address, pairs, "off")
                    with _session(laboratory, to), _wire(laboratory):
                        _measured(laboratory, address, pairs, "on")
                measured[f"{way}, copies to {called}"] = pairs
    return measured


@contextmanager
def _session(laboratory: Laboratory, to: dict[str, Any]) -> Iterator[None]:
    """The sender's packets are copied, both ways."""
    body = {"name": "bench", "sources": [{"network": laboratory.network["id"], "endpoint": "sender"}], "to": to}
    host = laboratory.plan.hosts[0]
    run.api(host, "POST", "/mirrors", **body)
    try:
        laboratory.settle()
        deadline = time.monotonic() + 10 * PATIENCE
        while "mirror/bench" in json.dumps(run.api(host, "GET", "/status")):  # its port is not there yet
            if time.monotonic() > deadline:
                raise run.LabError(f"no copies to {to}")
            time.sleep(0.05)
        yield
    finally:
        run.api(host, "DELETE", "/mirrors/bench")
        laboratory.settle()


@contextmanager
def _wire(laboratory: Laboratory) -> Iterator[None]:
    """Drop the copies that h1 sends to h3 and to the collector once they have left h1, so that receiving them costs nothing here."""
    netns, elsewhere = laboratory.plan.netns, f"{laboratory.plan.hosts[2].vtep}, {COLLECTOR}"
    chain = "add chain netdev wire in { type filter hook ingress device u1 priority 0; }"
    drop = f"add rule netdev wire in ip daddr {{ {elsewhere} }} drop"
    run.sh(*run.in_netns(netns, "nft", f"add table netdev wire; {chain}; {drop}"))
    try:
        yield
    finally:
        run.sh(*run.in_netns(netns, "nft", "delete table netdev wire"))


@contextmanager
def _server(laboratory: Laboratory, name: str) -> Iterator[None]:
    netns = run.netns_of(laboratory.plan, name)
    server = subprocess.Popen(
        run.in_netns(netns, "iperf3", "-s", "-p", str(PORT)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


def _measured(laboratory: Laboratory, address: str, pairs: dict[str, list[float]], which: str) -> None:
    began = _cpu_s(laboratory)
    speed = _transfer(laboratory, address, SECONDS)
    pairs[which].append(speed)
    pairs[f"{which}_cpu"].append((_cpu_s(laboratory) - began) / (speed * SECONDS / 8000))


def _cpu_s(laboratory: Laboratory) -> float:
    """Processor time of the switch of h1 so far, in user and kernel (proc(5), utime and stime)."""
    pid = run.pid_of(laboratory.plan, "h1", "ovs")
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _transfer(laboratory: Laboratory, address: str, seconds: float) -> float:
    """Throughput at the receiver in Mbit/s."""
    netns = run.netns_of(laboratory.plan, "sender")
    command = run.in_netns(netns, "iperf3", "-J", "-c", address, "-p", str(PORT), "-t", str(seconds), "--connect-timeout", "5000")
    for _ in range(20):
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30)
        report = json.loads(done.stdout or "{}")
        if "error" not in report and done.returncode == 0:
            return float(report["end"]["sum_received"]["bits_per_second"]) / 1e6
        time.sleep(0.2)  # the server is still at the transfer before this one, or just starts
    raise run.LabError(f"iperf3: {report.get('error')}")
