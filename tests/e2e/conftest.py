"""Fixtures for end-to-end tests: one laboratory of three hosts for the whole run. At its end it checks that installed flows equal the full
recompute, that no log has a WARN, and that nothing is left behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import eventually, patiently
from tools.lab import engine, run
from tools.lab.machine import PATIENCE, kernel_datapath
from tools.lab.plan import HostPlan, LabPlan


class World:
    """The laboratory, its networks and containers."""

    def __init__(self, plan: LabPlan) -> None:
        self.plan = plan
        self.address: dict[str, str] = {}
        self.ipv6: dict[str, str] = {}
        self.mac: dict[str, str] = {}

    def container(self, name: str, host: str, network: str) -> None:
        """Create a container and attach it to a network."""
        endpoint = run.container(self.plan, name, host, network)
        self.address[name], self.mac[name] = endpoint["target_veth_ip"].split("/")[0], endpoint["target_veth_mac"]
        shown = self.inside(name, "ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "global").stdout
        self.ipv6[name] = re.search(r"inet6 (\S+)/", shown)[1]  # type: ignore[index]

    @contextmanager
    def temporary(self, name: str, host: str, network: str, **fields: Any) -> Iterator[dict[str, Any]]:
        """A container's endpoint on a network, for a while: files share the laboratory, and may run in any order."""
        netns = run.container_netns(self.plan.name, name)
        fresh = not Path(f"/run/netns/{netns}").exists()
        endpoint = run.container(self.plan, name, host, network, **fields)
        try:
            yield endpoint
        finally:
            run.api(self.plan.host(host), "DELETE", f"/endpoints/{endpoint['id']}")  # type: ignore[arg-type]
            if fresh:
                run.sh("ip", "netns", "del", netns)

    def command(self, name: str, *command: str) -> tuple[str, ...]:
        """The words that run a command in a container or on a host."""
        return run.in_netns(run.netns_of(self.plan, name), *command)

    def inside(self, name: str, *command: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command in a container or a host."""
        return subprocess.run(self.command(name, *command), capture_output=True, text=True, timeout=timeout)

    def background(self, name: str, *command: str) -> subprocess.Popen[str]:
        """Start a command in a container or a host."""
        return subprocess.Popen(self.command(name, *command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def reaches(self, source: str, address: str, count: int = 2) -> bool:
        """Whether pings are answered, however busy the machine is."""
        return patiently(lambda: self.pings(source, address, count))

    def pings(self, source: str, address: str, count: int = 2) -> bool:
        """Whether one of these pings is answered within a second: for what must not be reached, and for a condition that is waited for."""
        ping = ("ping", "-c", str(count), "-i", "0.1", "-W", f"{PATIENCE:g}", address)
        return self.inside(source, *ping).returncode == 0

    def apply(self, **sections: Any) -> list[dict[str, Any]]:
        """Apply a document and wait for the hosts; where the kernel forwards, also until what it has kept of older flows is gone."""
        body = {"document": json.dumps(sections), "wait_s": 20}
        answer = run.api(self.plan.hosts[0], "POST", "/apply", timeout_s=40, **body)
        assert answer["late"] == []
        for host in self.plan.hosts if kernel_datapath() else ():
            run.sh("ovs-appctl", "-t", f"{host.directory}/ovs-vswitchd.ctl", "revalidator/wait")
        changes: list[dict[str, Any]] = answer["changes"]
        return changes

    def ofctl(self, host: str, *words: str) -> str:
        """ovs-ofctl on a host."""
        directory = str(self.plan.host(host).directory)  # type: ignore[union-attr]
        done = subprocess.run(
            ["ovs-ofctl", "-O", "OpenFlow14", *words], capture_output=True, text=True, env={**os.environ, "OVS_RUNDIR": directory}
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def cookies(self, host: str) -> dict[str, float]:
        """Cookie to duration (seconds) of all flows of a host."""
        dump = self.ofctl(host, "dump-flows", "br-warren")
        return {c: float(d) for c, d in re.findall(r"cookie=(0x[0-9a-f]+), duration=([\d.]+)s", dump)}


def clean(host: HostPlan) -> bool:
    """Whether `warren check` finds nothing; the agent looks at gateways every two seconds."""
    report = run.api(host, "GET", f"/hosts/{host.name}/check")
    assert not any(report[kind] for kind in ("missing", "unexpected", "differences")), report
    return True


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    if os.geteuid():
        pytest.skip("needs root")
    plan = LabPlan("e" + uuid.uuid4().hex[:4], 3)
    run.up(plan)
    try:
        world = World(plan)
        for network in ("amber", "blue"):
            data = {"name": network, "ip_range": "10.0.0.0/24", "ipv6_range": "fd00::/64"}
            run.api(plan.hosts[0], "POST", "/networks", **data)
        for name, host, network in (
            ("web", "h1", "amber"), ("app", "h1", "amber"), ("db", "h2", "amber"),
            ("red", "h1", "blue"), ("green", "h2", "blue"),
        ):  # fmt: skip
            world.container(name, host, network)
        yield world
        run.wait_until_up(plan)
        for host in plan.hosts:
            eventually(lambda host=host: clean(host))  # type: ignore[misc]
        complaints = [line for host in plan.hosts for line in complaints_of(host.directory)]
    finally:
        run.down(plan.name)
    assert complaints == []
    assert not plan.directory.exists()
    assert f"{plan.name}-" not in subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    assert subprocess.run(["pgrep", "-f", f"/{plan.name}/"], capture_output=True, text=True).stdout == ""


@pytest.fixture(scope="session")
def engines(world: World) -> Iterator[list[engine.LabEngine]]:
    """A Docker engine on h1, whose containers outlive it, and one on h2, whose containers do not."""
    if not engine.available():
        pytest.skip("needs docker.io and busybox-static")
    with engine.engines(world.plan, ("h1", "h2"), live_restore=("h1",)) as started:
        yield started


@pytest.fixture(scope="session")
def newer(world: World) -> Iterator[engine.LabEngine]:
    """A Docker engine of today on h3, whose containers do not outlive it."""
    if not engine.newer_available():
        pytest.skip("needs scripts/install-engine")
    with engine.engines(world.plan, ("h3",), programs=engine.NEWER) as started:
        yield started[0]


def complaints_of(directory: Path) -> list[str]:
    """WARN and ERROR lines in Warren's logs."""
    complaints = []
    for name in ("controller", "agent"):
        lines = (directory / f"{name}.log").read_text(errors="replace").splitlines()
        for number, line in enumerate(lines):
            if line.startswith("Traceback"):
                complaints.append(f"{name}: " + "\n".join(lines[max(0, number - 2) : number + 40]))
            elif re.search(r"\b(WARN|WARNING|ERROR|CRITICAL|Traceback)\b", line):
                complaints.append(f"{name}: {line}")
    return complaints
