"""TCP through Warren's pipeline, through a bare Open vSwitch bridge with its one NORMAL flow, and through Linux bridges with the
kernel's VXLAN: between two containers of one host, of two hosts, and to the outside through NAT. One laboratory, in turns.

Warren and the bare bridge share the hosts' ovs-vswitchd, its datapath and underlay; the Linux bridges have a veth of their
own, once with the segmentation offload that they come with, once without ("single"), a packet at a time as the userspace datapath, where
Open vSwitch is not in the kernel.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import defaultdict
from typing import NamedTuple

from benchmarks.laboratory import Laboratory
from tools.lab import run
from tools.lab.machine import kernel_datapath
from tools.lab.plan import HostPlan

SECONDS = 2
KEY, KERNEL_PORT = 99, 4790
INET = "192.0.2.9"
MTU = 1446  # Warren's, over an underlay of 1500
PATHS = ("one host", "two hosts", "outside")
KINDS = ("warren", "normal", "kernel", "single")


class Way(NamedTuple):
    """Between two namespaces, to an address of the second."""

    source: str
    target: str
    address: str


class Ground:
    """All of them, built in one laboratory; they go with its namespaces."""

    def __init__(self, lab: Laboratory) -> None:
        self.lab, self.name = lab, lab.plan.name
        self.h1, self.h2 = lab.plan.hosts
        self.inet = f"{self.name}-inet"
        self.ways: dict[tuple[str, str], Way] = {}
        self.made = [self.inet]
        self._outside()
        self._warren()
        self._plain()
        self._kernel()

    def end(self) -> None:
        """Remove the namespaces that the laboratory does not know."""
        for netns in self.made:
            run.sh("ip", "netns", "del", netns, check=False)

    def _outside(self) -> None:
        up = ("link", "add", "up0", "type", "veth", "peer", "name", "up0", "netns", self.inet)
        run.sh("ip", "netns", "add", self.inet)
        run.sh("ip", "-n", self.h1.netns, *up)
        for netns, address in ((self.h1.netns, "192.0.2.1/24"), (self.inet, f"{INET}/24")):
            run.sh("ip", "-n", netns, "addr", "add", address, "dev", "up0")
            run.sh("ip", "-n", netns, "link", "set", "up0", "up")

    def _warren(self) -> None:
        document = {"networks": [{"name": "out", "ip_range": "10.66.0.0/24", "mode": "nat"}]}
        run.api(self.h1, "POST", "/apply", document=json.dumps(document))
        for name, host in (("wa", "h1"), ("wb", "h1"), ("wc", "h2")):
            address = self.lab.container(name, host)["target_veth_ip"].split("/")[0]
            if name != "wa":
                self._way("warren", "one host" if host == "h1" else "two hosts", "wa", name, address)
        run.container(self.lab.plan, "wo", "h1", "out")
        self._way("warren", "outside", "wo", self.inet, INET)

    def _way(self, kind: str, path: str, source: str, target: str, address: str) -> None:
        names = [name if name == self.inet else run.netns_of(self.lab.plan, name) for name in (source, target)]
        self.ways[kind, path] = Way(*names, address)

    def _plain(self) -> None:
        kind = "system" if kernel_datapath() else "netdev"
        for host, other in ((self.h1, self.h2), (self.h2, self.h1)):
            _vsctl(host, "add-br", "br-plain", "--", "set", "bridge", "br-plain", f"datapath_type={kind}")
            options = (f"options:remote_ip={other.vtep}", f"options:key={KEY}")
            _vsctl(host, "add-port", "br-plain", "vx-plain", "--", "set", "interface", "vx-plain", "type=vxlan", *options)
        for host, name, address in ((self.h1, "pa", "10.70.0.1"), (self.h1, "pb", "10.70.0.2"), (self.h2, "pc", "10.70.0.3")):
            self._namespace(host, name, f"{address}/24", MTU)
            # as Warren's agent does: the userspace datapath cannot sum up what senders leave to their hardware
            if kind == "netdev":
                self._sums(name)
            _vsctl(host, "add-port", "br-plain", name)
        self._gate("normal", "br-plain", "10.70.0", "pa", "pb", "pc")

    def _kernel(self) -> None:
        link = ("link", "add", "ku0", "type", "veth", "peer", "name", "ku0", "netns", self.h2.netns)
        run.sh("ip", "-n", self.h1.netns, *link)
        for number, host in enumerate((self.h1, self.h2), 1):
            remote = f"10.99.0.{3 - number}"
            vxlan = ("type", "vxlan", "id", str(KEY), "local", f"10.99.0.{number}", "remote", remote, "dstport", str(KERNEL_PORT))
            for words in (
                ("addr", "add", f"10.99.0.{number}/24", "dev", "ku0"), ("link", "set", "ku0", "up"),
                ("link", "add", "kbr", "type", "bridge"), ("link", "add", "kvx", *vxlan), ("link", "set", "kvx", "master", "kbr"),
                ("link", "set", "kvx", "up"), ("link", "set", "kbr", "up"),
            ):  # fmt: skip
                run.sh("ip", "-n", host.netns, *words)
        for kind, prefix, names in (("kernel", "10.71.0", ("ka", "kb", "kc")), ("single", "10.72.0", ("la", "lb", "lc"))):
            for number, (host, name) in enumerate(zip((self.h1, self.h1, self.h2), names, strict=True), 1):
                self._namespace(host, name, f"{prefix}.{number}/24", MTU)
                run.sh("ip", "-n", host.netns, "link", "set", name, "master", "kbr")
                if kind == "single":
                    self._sums(name)
            self._gate(kind, "kbr", prefix, *names)

    def _sums(self, name: str) -> None:
        """No checksum and so no segmentation offload."""
        run.sh(*run.in_netns(self._ns(name), "ethtool", "-K", "eth0", "tx", "off"))

    def _ns(self, name: str) -> str:
        return run.netns_of(self.lab.plan, name)

    def _namespace(self, host: HostPlan, name: str, address: str, mtu: int) -> None:
        netns = f"{self.name}-c-{name}"
        run.sh("ip", "netns", "add", netns)
        self.made.append(netns)
        run.sh("ip", "-n", host.netns, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", netns)
        for where, words in (
            (netns, ("addr", "add", address, "dev", "eth0")), (netns, ("link", "set", "eth0", "mtu", str(mtu), "up")),
            (host.netns, ("link", "set", name, "mtu", str(mtu), "up")),
        ):  # fmt: skip
            run.sh("ip", "-n", where, *words)

    def _gate(self, kind: str, bridge: str, prefix: str, first: str, near: str, far: str) -> None:
        """The bridge's own interface on h1 is the gateway; the host masquerades."""
        run.sh("ip", "-n", self.h1.netns, "addr", "add", f"{prefix}.254/24", "dev", bridge)
        run.sh("ip", "-n", self.h1.netns, "link", "set", bridge, "mtu", str(MTU), "up")
        run.sh("ip", "-n", self._ns(first), "route", "add", "default", "via", f"{prefix}.254")
        rules = f"table ip {kind} {{ chain post {{ type nat hook postrouting priority 100; ip saddr {prefix}.0/24 oifname up0 masquerade; }}; }}"
        run.sh(*run.in_netns(self.h1.netns, "nft", rules))
        self._way(kind, "one host", first, near, f"{prefix}.2")
        self._way(kind, "two hosts", first, far, f"{prefix}.3")
        self._way(kind, "outside", first, self.inet, INET)


def throughput(lab: Laboratory, rounds: int) -> dict[tuple[str, str], list[float]]:
    """Mbit/s by kind and path, a round after the other."""
    ground = Ground(lab)
    rates: dict[tuple[str, str], list[float]] = defaultdict(list)
    try:
        for path in PATHS:
            for kind in KINDS:
                _megabits(ground.ways[kind, path], 1)  # addresses learnt, caches filled
            for _ in range(rounds):
                for kind in KINDS:
                    rates[kind, path].append(_megabits(ground.ways[kind, path], SECONDS))
    finally:
        ground.end()
    return dict(rates)


def _megabits(way: Way, seconds: int) -> float:
    command = run.in_netns(way.target, "iperf3", "-s", "-1", "--forceflush")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            while "listening" not in server.stdout.readline():
                pass
            client = run.in_netns(way.source, "iperf3", "-c", way.address, "-t", str(seconds), "-J")
            done = subprocess.run(client, capture_output=True, text=True, timeout=seconds + 30, check=False)
            if done.returncode:
                raise run.LabError(f"iperf3 to {way.address}: {json.loads(done.stdout).get('error', done.stderr)}")
            return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]) / 1e6
        finally:
            server.kill()


def _vsctl(host: HostPlan, *words: str) -> None:
    environment = {**os.environ, "OVS_RUNDIR": str(host.directory)}
    done = subprocess.run(
        ["ovs-vsctl", f"--db=unix:{host.directory}/db.sock", *words], capture_output=True, text=True, env=environment, timeout=20
    )
    if done.returncode:
        raise run.LabError(f"ovs-vsctl {' '.join(words)}: {done.stderr.strip()}")
