"""`make demo`: the main job of Warren on one machine, in under two minutes: three hosts, two networks with the same subnet,
six containers, packets, a trace, and controllers killed under a running ping. Leaves nothing behind (or everything: --keep)."""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tools.lab import run
from tools.lab.plan import LabPlan

console = Console()
SUBNET = "10.0.0.0/24"
CONTAINERS = (
    ("web", "h1", "amber"), ("app", "h2", "amber"), ("db", "h3", "amber"),
    ("red", "h1", "blue"), ("green", "h2", "blue"), ("gold", "h3", "blue"),
)  # fmt: skip
REACHED_S = 60.0


class Demo:
    """One run; every step is shown and checked."""

    def __init__(self, plan: LabPlan) -> None:
        self.plan = plan
        self.address: dict[str, str] = {}
        self.failures: list[str] = []

    def warren(self, *words: str) -> None:
        """Show and run a `warren` command."""
        console.print(f"\n[bold]$ warren {' '.join(words)}[/bold]")
        done = subprocess.run([str(Path(sys.executable).with_name("warren")), "--lab", self.plan.name, *words])
        self.expect(done.returncode == 0, f"warren {' '.join(words)} failed")

    def expect(self, held: bool, what: str) -> bool:
        """Record a failure unless `held`; returns `held`."""
        if not held:
            self.failures.append(what)
        return held

    def step(self, title: str, work: Callable[[], None]) -> None:
        """A titled part of the demo."""
        console.rule(f"[bold]{title}")
        work()

    def inside(self, container: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a container."""
        return subprocess.run(
            run.in_netns(run.netns_of(self.plan, container), *command), capture_output=True, text=True
        )  # fmt: skip

    def reaches(self, container: str, address: str) -> bool:
        """Whether pings are answered, at last: on a busy machine, another host's controller hears of a new container later."""
        deadline = time.monotonic() + REACHED_S
        while self.inside(container, "ping", "-c2", "-i0.1", "-W1", address).returncode:
            if time.monotonic() > deadline:
                return False
        return True

    def containers(self) -> None:
        """Two networks with one subnet, six containers."""
        for network in ("amber", "blue"):
            self.warren("network", "create", network, "--ip-range", SUBNET)
        table = Table("container", "host", "network", "address", "MAC", "made and attached in")
        with console.status("plugging containers in"):
            for name, host, network in CONTAINERS:
                started = time.monotonic()
                endpoint = run.container(self.plan, name, host, network)
                self.address[name] = endpoint["target_veth_ip"].split("/")[0]
                took = f"{(time.monotonic() - started) * 1000:.0f} ms"
                table.add_row(name, host, network, endpoint["target_veth_ip"], endpoint["target_veth_mac"], took)
        console.print(table)

    def pings(self) -> None:
        """Containers of one network reach each other, and none of the other network. The subnets are the same, so the address decides nothing:
        a container of the other network that were reachable would answer for its own address."""
        table = Table("from", "to", "hosts", "within", "answer")
        where = {name: (host, network) for name, host, network in CONTAINERS}
        for source in ("web", "red"):
            for target in [n for n, _, network in CONTAINERS if network == where[source][1] and n != source]:
                reached = self.reaches(source, self.address[target])
                self.expect(reached, f"{source} does not reach {target}")
                hosts = f"{where[source][0]} -> {where[target][0]}"
                table.add_row(source, target, hosts, where[source][1], "[green]yes[/]" if reached else "[red]NO[/]")
        console.print(table)

    def isolation(self) -> None:
        """An address that only the other network has is not there; web's own twin in blue never sees web's packets."""
        extra = run.container(self.plan, "only", "h2", "blue", ipv4_address="10.0.0.77")
        address = extra["target_veth_ip"].split("/")[0]
        from_blue = self.reaches("red", address)
        from_amber = self.inside("web", "ping", "-c1", "-W1", address).returncode == 0
        self.expect(from_blue, "red does not reach its own network")
        self.expect(not from_amber, "web reaches into the other network")
        table = Table("from", "to", "answer", "as it should be")
        table.add_row(
            "red (blue)", f"{address} (blue)", "yes" if from_blue else "no", "[green]yes[/]" if from_blue else "[red]NO[/]"
        )
        table.add_row(
            "web (amber)", f"{address} (blue)", "yes" if from_amber else "no", "[red]NO[/]" if from_amber else "[green]yes[/]"
        )
        console.print(table)

    def transfer(self) -> None:
        """TCP across hosts."""
        server = subprocess.Popen(
            run.in_netns(run.netns_of(self.plan, "db"), "iperf3", "-s", "-1"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(0.5)
        result = self.inside("web", "iperf3", "-c", self.address["db"], "-n", "50M", "-f", "m")
        server.terminate()
        server.wait()
        rates = re.search(r"([\d.]+) MBytes\s+([\d.]+) Mbits/sec.*receiver", result.stdout)
        if self.expect(rates is not None, f"the TCP transfer failed: {result.stderr.strip()}"):
            assert rates is not None
            console.print(f"web (h1) -> db (h3): {rates[1]} MB over VXLAN at {rates[2]} Mbit/s")

    def restart(self) -> None:
        """All controllers killed under a running ping, then started again."""
        count = 600
        ping = subprocess.Popen(
            run.in_netns(run.netns_of(self.plan, "web"), "ping", "-q", "-i0.01", f"-c{count}", self.address["db"]),
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        time.sleep(0.5)
        for host in self.plan.hosts:
            run.stop(self.plan, host.name, "controller", signal.SIGKILL)
            console.print(f"killed the controller of {host.name}")
        time.sleep(1)
        for host in self.plan.hosts:
            run.start(self.plan, host.name, "controller")
            console.print(f"started the controller of {host.name}")
        output = ping.communicate()[0]
        lost = re.search(r"(\d+) packets transmitted, (\d+) received", output)
        if self.expect(lost is not None and lost[1] == lost[2] == str(count), f"packets were lost: {output.strip()}"):
            console.print(f"[green]{count} of {count} echoes came back: nothing lost[/]")
        run.wait_until_up(self.plan)


def main() -> int:
    """Runs the demo; 0 when everything held."""
    arguments = argparse.ArgumentParser(prog="tools.lab.demo", description="The main job of Warren, shown on this machine.")
    arguments.add_argument("--keep", action="store_true", help="leave the laboratory up to play with")
    arguments.add_argument("--lab", default="demo", help="the laboratory's name")
    options = arguments.parse_args()
    plan = LabPlan(options.lab, 3)
    demo, began = Demo(plan), time.monotonic()
    kept = False
    try:
        console.rule("[bold]three hosts")
        with console.status("starting") as status:
            run.up(plan, lambda what: status.update(f"starting: {what}"))
        console.print(f"up after {time.monotonic() - began:.1f} s: a switch, a controller and an agent on each host, one etcd")
        demo.step("two networks with the same subnet, six containers", demo.containers)
        demo.step("pings within each network, across hosts", demo.pings)
        demo.step("and none between them", demo.isolation)
        demo.step("a TCP transfer", demo.transfer)
        demo.step("why does a packet get there?", lambda: demo.warren("trace", "web", "db", "--tcp", "5432"))
        demo.step("controllers die under a running ping", demo.restart)
        demo.step("how are the hosts?", lambda: demo.warren("status"))
        kept = options.keep and not demo.failures
    except run.LabError as error:
        demo.failures.append(str(error))
    finally:
        if not kept:
            run.down(plan.name)
    for failure in demo.failures:
        console.print(f"[red]FAILED: {failure}[/]")
    console.rule(f"[bold]{'done' if not demo.failures else 'failed'} after {time.monotonic() - began:.0f} s")
    if kept:
        console.print(
            "The laboratory is up. Try:\n"
            "  .venv/bin/warren endpoint list\n  .venv/bin/warren trace web db --icmp\n  .venv/bin/warren flows h1\n"
            "  .venv/bin/warren lab exec web --lab demo -- ping -c3 10.0.0.3\n  .venv/bin/warren lab down --lab demo"
        )
    else:
        console.print("Nothing is left behind. Try next:\n  make demo KEEP=1          leaves the laboratory up to play with\n"
                      "  .venv/bin/warren --help    what else there is")  # fmt: skip
    return 1 if demo.failures else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
