"""A container that opens 100 000 connections to the outside, and how long another network's connections take meanwhile."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

from benchmarks.laboratory import Laboratory
from tools.lab import run

INET = "192.0.2.9"
CONNECTIONS, LIMIT = 100_000, 20_000
SERVE = """
import socket
s = socket.create_server(("", 7000), backlog=128)
print("ready", flush=True)
while True: s.accept()[0].close()
"""
# the milliseconds that each connection takes, until its input ends
CONNECT = """
import select, socket, sys, time
print("ready", flush=True)
took = []
while not select.select([sys.stdin], [], [], 0.01)[0]:
    began = time.monotonic()
    try:
        with socket.create_connection((sys.argv[1], 7000), 5) as s: s.recv(1)
    except OSError: pass
    took.append((time.monotonic() - began) * 1000)
print(*took)
"""
UNLIMITED = 3_000_000  # what all networks share in the userspace datapath
FLOOD = """
import socket, sys
sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(4)]
for number in range(int(sys.argv[2])):
    try: sockets[number % 4].sendto(b"flood", (sys.argv[1], 10000 + number // 4))
    except OSError: pass
"""


def flood(lab: Laboratory, limit: int | None) -> tuple[list[float], list[float], int]:
    """Connect times (ms) of the quiet network before and during the flood, and the connections kept for the wild one."""
    host, inet = lab.plan.hosts[0], f"{lab.plan.name}-inet"
    networks = [{"name": name, "ip_range": "10.66.0.0/24", "mode": "nat", "ct_limit": UNLIMITED} for name in ("wild", "quiet")]
    networks[0]["ct_limit"] = limit or UNLIMITED
    run.api(host, "POST", "/apply", timeout_s=40, document=json.dumps({"networks": networks}), wait_s=20)
    for name in ("wild", "quiet"):
        run.container(lab.plan, f"c{name}", host.name, name)
    run.sh("ip", "netns", "add", inet)
    try:
        run.sh("ip", "-n", host.netns, "link", "add", "up0", "type", "veth", "peer", "name", "up0", "netns", inet)
        for netns, address in ((host.netns, "192.0.2.1/24"), (inet, f"{INET}/24")):
            run.sh("ip", "-n", netns, "addr", "add", address, "dev", "up0")
            run.sh("ip", "-n", netns, "link", "set", "up0", "up")
        with _python(inet, SERVE) as server:
            calm = _connects(lab, ("sleep", "3"))
            flooding = run.in_netns(run.netns_of(lab.plan, "cwild"), sys.executable, "-c", FLOOD, INET, str(CONNECTIONS))
            flooded = _connects(lab, flooding)
            server.kill()
        return calm, flooded, _kept(lab)
    finally:
        run.sh("ip", "netns", "del", inet)


def _python(netns: str, program: str, *words: str) -> subprocess.Popen[str]:
    command = run.in_netns(netns, sys.executable, "-c", program, *words)
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def _connects(lab: Laboratory, meanwhile: tuple[str, ...]) -> list[float]:
    asking = _python(run.netns_of(lab.plan, "cquiet"), CONNECT, INET)
    subprocess.run(meanwhile, check=True)
    return [float(took) for took in asking.communicate("end")[0].split()]


def _kept(lab: Laboratory) -> int:
    """The number of connections that the switch tracks in the wild network's zone."""
    networks = run.api(lab.plan.hosts[0], "GET", "/networks")["networks"]
    zone = next(network["vxlan_vni"] for network in networks if network["name"] == "wild")
    directory = lab.plan.hosts[0].directory
    command = ["ovs-appctl", "-t", f"{directory}/ovs-vswitchd.ctl", "dpctl/ct-stats-show", f"zone={zone}"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OVS_RUNDIR": str(directory)}, check=True)
    total = re.search(r"Total: (\d+)", done.stdout)
    return int(total[1]) if total else 0
