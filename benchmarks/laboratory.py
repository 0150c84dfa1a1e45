"""A laboratory to measure in: two hosts, one network of which most endpoints are specs only."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tools.lab import run
from tools.lab.plan import HostPlan, LabPlan

T = TypeVar("T")
CLONE_NEWNET = 0x40000000
ETCD = "http://198.18.1.1:2379"
HOSTS = 50  # that the endpoints are on which are specs only


class Laboratory:
    """Hosts h1 and h2 and the network `bench`."""

    def __init__(self, plan: LabPlan) -> None:
        self.plan = plan
        ranges = {"ip_range": "10.64.0.0/15", "ipv6_range": "fd00::/64"}
        self.network = run.api(plan.hosts[0], "POST", "/networks", name="bench", **ranges)["network"]
        self.seeded = 0

    def seed(self, upto: int, hosts: int = HOSTS) -> None:
        """Let the network have that many endpoints that are specs only, and wait until both hosts have taken them in."""
        self.seeding("endpoints", self.network["id"], self.seeded, upto, hosts)
        self.seeded = upto
        self.settle()

    def seeding(self, *words: object) -> str:
        """Run benchmarks/seed.py beside etcd; returns what it prints."""
        command = [sys.executable, "-m", "benchmarks.seed", ETCD, *map(str, words)]
        return subprocess.run(run.in_netns(self.plan.netns, *command), check=True, capture_output=True, text=True).stdout

    def settle(self) -> None:
        """Wait until both hosts have applied the wanted revision."""
        deadline = threading.Event()
        for _ in range(600):
            hosts = run.api(self.plan.hosts[0], "GET", "/status", timeout_s=30)["hosts"]
            real = [host for host in hosts if host["name"] in {h.name for h in self.plan.hosts}]
            if len(real) == self.plan.size and all(h["current"] for h in real):
                return
            deadline.wait(0.1)
        raise run.LabError("the hosts do not catch up")

    def preallocate(self, number: int) -> None:
        """Let every host preallocate that many endpoints."""
        document = f"{{networks: [{{name: bench, preallocate: {number}}}]}}"
        run.api(self.plan.hosts[0], "POST", "/apply", document=document)

    def until_ready(self, number: int) -> None:
        """Wait until h1 has them."""
        path = "/endpoints?spares=true&states=true&hostname=h1"
        while sum(e["spare"] and e["state"] == "up" for e in run.api(self.plan.hosts[0], "GET", path)["endpoints"]) < number:
            threading.Event().wait(0.02)

    def container(self, name: str, host: str) -> dict:  # type: ignore[type-arg]
        """A container of the network."""
        return run.container(self.plan, name, host, self.network["id"])

    def ofctl(self, host: HostPlan, *words: str, text: str | None = None) -> str:
        """ovs-ofctl on a host."""
        environment = {**os.environ, "OVS_RUNDIR": str(host.directory)}
        command = ["ovs-ofctl", "-O", "OpenFlow14", *words]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, input=text)
        if done.returncode:
            raise run.LabError(f"{' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def controller_memory(self, host: HostPlan) -> int:
        """Proportional set size of the controller and of its child, in bytes."""
        return sum(pss(process) for process in self.processes(host)[:2])

    def processes(self, host: HostPlan) -> tuple[str, str, str]:
        """The process ids of a host's controller, of the controller's child, and of its agent."""
        controller, agent = (run.pid_of(self.plan, host.name, name) for name in ("controller", "agent"))
        (child,) = Path(f"/proc/{controller}/task/{controller}/children").read_text().split()
        return str(controller), child, str(agent)


def pss(pid: str) -> int:
    """The proportional set size of a process, in bytes."""
    line = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
    return int(line[1]) * 1024 if line else 0


@contextmanager
def laboratory(hosts: int = 2) -> Iterator[Laboratory]:
    """A laboratory, gone at the end."""
    plan = LabPlan("b" + uuid.uuid4().hex[:4], hosts)
    run.up(plan)
    try:
        yield Laboratory(plan)
    finally:
        run.down(plan.name)


def inside(netns: str, work: Callable[[], T]) -> T:
    """What `work` returns, run in a thread of its own inside a network namespace."""
    result: list[T] = []
    failure: list[BaseException] = []

    def enter() -> None:
        try:
            with open(f"/run/netns/{netns}") as handle:
                if ctypes.CDLL(None, use_errno=True).setns(handle.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), f"setns {netns}")
            result.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]
