"""`make demo-sites`: three sites of two hosts on one machine. Containers of all sites reach each other, and the packets between the sites are
captured. Leaves nothing behind (or everything: --keep)."""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys

from tools.lab import run
from tools.lab.demo import Demo, console
from tools.lab.plan import LabPlan
from tools.lab.sites import INTERNET

HOSTS = ("h1", "h2", "h3", "h5")


def main() -> int:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the laboratory up")
    keep = parser.parse_args().keep
    plan = LabPlan("sites", 6, sites=3)
    demo = Demo(plan)
    try:
        with console.status("starting six hosts in three sites"):
            run.up(plan)
        demo.step("three sites, and a network over all of them", lambda: _containers(demo))
        demo.step("packets, and what the outside sees of them", lambda: _packets(demo))
        demo.step("the tunnels of h1", lambda: demo.warren("crypto", "status", "--host", "h1"))
    except run.LabError as error:
        demo.failures.append(str(error))
    finally:
        if not keep:
            run.down(plan.name)
    for failure in demo.failures:
        console.print(f"[red]FAILED: {failure}[/]")
    return 1 if demo.failures else 0


def _containers(demo: Demo) -> None:
    demo.warren("site", "list")
    demo.warren("network", "create", "amber", "--ip-range", "10.0.0.0/24")
    for host in HOSTS:
        endpoint = run.container(demo.plan, f"c{host[1:]}", host, "amber")
        demo.address[host] = endpoint["target_veth_ip"].split("/")[0]


def _packets(demo: Demo) -> None:
    words = run.in_netns(demo.plan.netns, "tcpdump", "--immediate-mode", "-nnqtl", "-i", INTERNET, "udp")
    capture = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in capture.stderr or ():
        if "listening" in line:  # what is sent before is not captured
            break
    for host in HOSTS[1:]:
        answered = demo.reaches("c1", demo.address[host])
        console.print(f"c1 on h1 to c{host[1:]} on {host}: {'answered' if answered else 'no answer'}")
        demo.expect(answered, f"c1 does not reach the container on {host}")
    capture.terminate()
    ports = re.findall(r"^IP \S+?\.(\d+) > \S+?\.(\d+):", capture.communicate()[0], re.MULTILINE)
    only_wireguard = bool(ports) and all("51820" in pair for pair in ports)
    console.print(f"the outside saw {len(ports)} UDP packets; all are WireGuard's: {only_wireguard}")
    demo.expect(only_wireguard, "something else than WireGuard was seen outside")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
