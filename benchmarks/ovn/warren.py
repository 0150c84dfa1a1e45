"""Warren's side."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.attach import AgentConnection
from benchmarks.laboratory import ETCD, HOSTS, Laboratory, pss
from benchmarks.ovn.flows import FlowMonitor
from benchmarks.ovn.side import NETWORK, REMOTE, Sample, Watch, ping_once, pinging, processor_ms, rules
from tools.lab import run
from tools.lab.plan import LabPlan, container_netns


class WarrenSide:
    """A laboratory of two hosts with etcd, controllers and agents."""

    name = "Warren"

    def __init__(self, plan: LabPlan) -> None:
        self.plan = plan
        run.up(plan)
        self.lab = Laboratory(plan)
        self.h1 = plan.hosts[0]
        self._apply(rules(0), networks=[{"name": NETWORK["name"], "default_acl": "bench"}])
        self.lab.container("near", "h1")
        self.target = self.lab.container("far", "h2")["target_veth_ip"].split("/")[0]
        self.lab.settle()
        command = run.in_netns(
            plan.netns, sys.executable, "-m", "benchmarks.seed", ETCD, "changes", self.lab.network["id"], str(HOSTS)
        )
        self.writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.monitor = FlowMonitor(self.h1.directory, "br-warren")

    def end(self) -> None:
        """End what is not the laboratory's."""
        self.monitor.end()
        self.writer.kill()
        self.writer.wait()

    def seed(self, upto: int) -> None:
        """Let the network have so many endpoints that are records only."""
        self.lab.seed(upto, HOSTS)

    def attach(self, number: int) -> Sample:
        """POST /endpoints until the answer; then the first ping."""
        netns = container_netns(self.plan.name, f"one{number}")
        run.sh("ip", "netns", "add", netns)
        agent = AgentConnection(str(self.h1.socket))
        agent.connect()
        parameters = {"ns_handle_path": f"/run/netns/{netns}", "set_addr": True, "move_veth": True}
        body = {"network_id": self.lab.network["id"], "activate": True, "activate_params": parameters}
        watch = Watch(self.pids())
        endpoint = agent.post("/endpoints", body)["endpoint"]
        sample = {"up": watch.ms(), "installed": watch.ms(), "processor": watch.processor_ms()}
        ping_once(netns, self.target)
        sample["ping"] = watch.ms()
        agent.close()
        run.api(self.h1, "DELETE", f"/endpoints/{endpoint['id']}")
        run.sh("ip", "netns", "del", netns)
        self.lab.settle()
        return sample

    def remote(self, number: int) -> list[float]:
        """From the transaction in etcd that writes or deletes the records that the other host's agent and controller would write."""
        return [self._written(command, REMOTE + number) for command in ("put", "delete")]

    def _written(self, *words: object) -> float:
        """Milliseconds from a transaction in etcd until the last flow of h1 has changed."""
        assert self.writer.stdin is not None
        assert self.writer.stdout is not None
        self.writer.stdin.write(" ".join(map(str, words)) + "\n")
        self.writer.stdin.flush()
        milliseconds = self.monitor.complete(float(self.writer.stdout.readline()))
        self.lab.settle()
        return milliseconds

    def rule(self, number: int) -> Sample:
        """From the transaction in etcd that writes the ACL; from POST /apply of the ACL."""
        written = self._written("acl", json.dumps(_acl(rules(2 * number + 1))))
        began = time.monotonic()
        self._apply(rules(2 * number + 2))
        sample = {"written": written, "requested": self.monitor.complete(began)}
        self.lab.settle()
        return sample

    def _apply(self, new: list[dict[str, object]], **sections: object) -> None:
        run.api(self.h1, "POST", "/apply", document=json.dumps({"acls": [_acl(new)], **sections}))

    def restart(self) -> Sample:
        """From the start of the process until it reports that its switch has the newest revision, one that it has not seen before."""
        with pinging(run.netns_of(self.plan, "near"), self.target) as ended:
            run.stop(self.plan, "h1", "controller")
            self._apply(rules(0))
            self._apply(rules(1))
            began = time.monotonic()
            run.start(self.plan, "h1", "controller")
            self._until_current()
            seconds = time.monotonic() - began
            controller, child, _ = map(int, self.lab.processes(self.h1))
            return {"current": seconds, "processor": (processor_ms(controller) + processor_ms(child)) / 1000, "lost": ended()}

    def _until_current(self) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            hosts = run.api(self.plan.hosts[1], "GET", "/hosts", timeout_s=30)["hosts"]
            if next(host for host in hosts if host["name"] == "h1")["current"]:
                return
            time.sleep(0.01)
        raise run.LabError("h1's controller is not current within 120 s")

    def memory(self) -> Sample:
        """Bytes of its processes."""
        controller, child, agent = map(pss, self.lab.processes(self.h1))
        return {"host": controller + child + agent, "central": pss(str(run.pid_of(self.plan, "", "etcd")))}

    def pids(self) -> list[int]:
        """etcd, and of each host controller, child, agent and Open vSwitch."""
        pids = [run.pid_of(self.plan, "", "etcd")]
        for host in self.plan.hosts:
            pids += [run.pid_of(self.plan, host.name, name) for name in host.processes]
        running = [pid for pid in pids if pid is not None]
        return [*running, *(child for pid in running for child in _children(pid))]

    def flows(self) -> int:
        """How many flows h1 has."""
        return len(self.lab.ofctl(self.h1, "--no-stats", "dump-flows", "br-warren").splitlines())


def _acl(new: list[dict[str, object]]) -> dict[str, object]:
    return {"name": "bench", "rules": [{"rule": rule} for rule in new]}


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
