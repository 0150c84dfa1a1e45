"""How long one more endpoint takes, from POST /endpoints until the answer and until its first ping has crossed hosts."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

from benchmarks.laboratory import Laboratory, inside
from tools.lab import run
from tools.lab.plan import container_netns

ECHO_EVERY_S = 0.001


def attach(
    laboratory: Laboratory, rounds: int, target: str, between: Callable[[], None] = lambda: None
) -> dict[str, list[float]]:
    """Milliseconds of every round. Each endpoint is deleted again; `between` is called before each."""
    durations: dict[str, list[float]] = {"answer": [], "ping": []}
    host = laboratory.plan.hosts[0]
    agent = AgentConnection(str(host.socket))
    for number in range(rounds):
        netns = container_netns(laboratory.plan.name, f"one{number}")
        run.sh("ip", "netns", "add", netns)
        between()
        body = {
            "network_id": laboratory.network["id"],
            "activate": True,
            "activate_params": {"ns_handle_path": f"/run/netns/{netns}", "set_addr": True, "move_veth": True},
        }
        began = time.monotonic()
        endpoint = agent.post("/endpoints", body)["endpoint"]
        durations["answer"].append((time.monotonic() - began) * 1000)
        inside(netns, lambda: until_answered(target))
        durations["ping"].append((time.monotonic() - began) * 1000)
        run.api(host, "DELETE", f"/endpoints/{endpoint['id']}")
        run.sh("ip", "netns", "del", netns)
    return durations


def cables(laboratory: Laboratory, rounds: int) -> dict[str, list[float]]:
    """Milliseconds that ip(8) takes to make a veth with its far end in a container's namespace, and to move one there that is up."""
    durations: dict[str, list[float]] = {"made in its place": [], "moved there": []}
    host, netns = laboratory.plan.hosts[0].netns, container_netns(laboratory.plan.name, "cables")
    run.sh("ip", "netns", "add", netns)
    for _ in range(rounds):
        for what, far, then in (
            ("made in its place", ("eth9", "netns", netns), ()),
            ("moved there", ("far9",), ("ip", "-n", host, "link", "set", "far9", "netns", netns, "name", "eth9")),
        ):
            began = time.monotonic()
            run.sh("ip", "-n", host, "link", "add", "near9", "type", "veth", "peer", "name", *far)
            if then:
                for end in ("near9", "far9"):
                    run.sh("ip", "-n", host, "link", "set", end, "up")
                began = time.monotonic()
                run.sh(*then)
            durations[what].append((time.monotonic() - began) * 1000)
            run.sh("ip", "-n", host, "link", "del", "near9")
    run.sh("ip", "netns", "del", netns)
    return durations


def bare_ports(laboratory: Laboratory, rounds: int) -> list[float]:
    """Milliseconds that ovs-vsctl(8) takes to put a veth on h1's bridge and to wait for ovs-vswitchd: what no attach can save."""
    host, milliseconds = laboratory.plan.hosts[0], list[float]()
    vsctl = ("ovs-vsctl", f"--db=unix:{host.directory}/db.sock")
    for _ in range(rounds):
        run.sh("ip", "-n", host.netns, "link", "add", "near9", "type", "veth", "peer", "name", "far9")
        for end in ("near9", "far9"):
            run.sh("ip", "-n", host.netns, "link", "set", end, "up")
        began = time.monotonic()
        run.sh(*vsctl, "add-port", "br-warren", "near9")
        milliseconds.append((time.monotonic() - began) * 1000)
        run.sh(*vsctl, "del-port", "br-warren", "near9")
        run.sh("ip", "-n", host.netns, "link", "del", "near9")
    return milliseconds


class AgentConnection(http.client.HTTPConnection):
    """One kept connection to an agent's socket: a client library would take longer than the agent."""

    def __init__(self, path: str) -> None:
        super().__init__("agent")
        self.path = path

    def connect(self) -> None:
        """Connect to the unix socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send a POST and return the answer."""
        self.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = self.getresponse()
        data: dict[str, Any] = json.loads(answer.read())
        if answer.status >= 300:
            raise run.LabError(str(data))
        return data


def until_answered(target: str, limit_s: float = 10) -> None:
    """Send echo requests (RFC 792) until one is answered."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.settimeout(ECHO_EVERY_S)
        ends = time.monotonic() + limit_s
        while time.monotonic() < ends:
            try:
                raw.sendto(_echo(os.getpid() & 0xFFFF), (target, 0))  # waits, too, while the MAC is asked for
                if raw.recv(1500)[20] == 0:
                    return
            except TimeoutError:
                continue
    raise run.LabError(f"no answer from {target}")


def _echo(ident: int) -> bytes:
    message = struct.pack("!BBHHH", 8, 0, 0, ident, 1)
    total = sum(struct.unpack("!4H", message))
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!BBHHH", 8, 0, ~total & 0xFFFF, ident, 1)


def change(laboratory: Laboratory, rounds: int) -> list[float]:
    """Milliseconds from etcd's event to the switch's answer for one remote endpoint that comes or goes, as the controller of
    h1 sees it: h2's endpoint is attached and deleted."""
    host = laboratory.plan.hosts[1]
    log = laboratory.plan.hosts[0].directory / "controller.log"
    start = log.stat().st_size
    for number in range(rounds):
        endpoint = laboratory.container(f"far{number}", host.name)
        run.api(host, "DELETE", f"/endpoints/{endpoint['id']}")
        run.sh("ip", "netns", "del", container_netns(laboratory.plan.name, f"far{number}"))
    laboratory.settle()
    with log.open() as lines:
        lines.seek(start)
        return [float(ms) for ms in re.findall(r"revision\.applied revision=\d+ ms=([\d.]+)", lines.read())]
