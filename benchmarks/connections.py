"""Endpoints whose addresses have many tracked connections: what deleting one costs, and what a change of the ACL costs."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from collections.abc import Callable

from benchmarks.laboratory import Laboratory, inside
from tools.lab import run

PORT = 7000
FIRST_SOURCE_PORT = 20_000
SENDING_S = 0.0002  # between two datagrams: the userspace datapath's socket is not overrun


def connections(lab: Laboratory, number: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of every round: deleting an endpoint without connections, and one with `number`; until the latter's are gone;
    and, after a change of an ACL that ends `number` connections, until they are gone."""
    _apply(
        lab,
        acls={"requests": _rules(PORT)},
        networks=[{"name": "tracked", "ip_range": "10.66.0.0/24", "default_acl": "requests"}],
    )
    durations: dict[str, list[float]] = {"delete idle": [], "delete busy": [], "gone": [], "rule": []}
    run.container(lab.plan, "client", "h1", "tracked")
    for _ in range(rounds):
        _server(lab)
        durations["delete idle"].append(_timed(lambda: _delete(lab, "server")))
        fill(lab, number, _server(lab))
        began = time.monotonic()
        durations["delete busy"].append(_timed(lambda: _delete(lab, "server")))
        _until_gone(lab)
        durations["gone"].append((time.monotonic() - began) * 1000)
        fill(lab, number, _server(lab))
        began = time.monotonic()
        _apply(lab, acls={"requests": _rules(PORT + 1)})
        _until_gone(lab)
        durations["rule"].append((time.monotonic() - began) * 1000)
        _apply(lab, acls={"requests": _rules(PORT)})
        _delete(lab, "server")
    return durations


def fill(lab: Laboratory, number: int, address: str) -> None:
    """Begin that many connections from the client to the server."""

    def send() -> None:
        for source_port in range(FIRST_SOURCE_PORT, FIRST_SOURCE_PORT + number):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.bind(("0.0.0.0", source_port))
                sender.sendto(b"x", (address, PORT))
            time.sleep(SENDING_S)

    _until(lambda: tracked(lab) == 0)
    inside(run.netns_of(lab.plan, "client"), send)
    if tracked(lab) < number * 0.95:
        raise run.LabError(f"{tracked(lab)} of {number} connections are tracked")


def tracked(lab: Laboratory) -> int:
    """How many UDP connections the datapath of h1 tracks."""
    control = f"{lab.plan.hosts[0].directory}/ovs-vswitchd.ctl"
    text = subprocess.run(
        ["ovs-appctl", "-t", control, "dpctl/dump-conntrack"], capture_output=True, text=True, check=True
    ).stdout
    return len(re.findall(rf"^udp,.*dport={PORT}\),reply", text, re.M))


def _rules(port: int) -> list[dict[str, object]]:
    return [{"proto": "udp", "udp_dst": port, "allow_related": True}]


def _apply(lab: Laboratory, **sections: object) -> None:
    run.api(lab.plan.hosts[0], "POST", "/apply", document=json.dumps(sections), wait_s=20, timeout_s=40)


def _server(lab: Laboratory) -> str:
    return str(run.container(lab.plan, "server", "h1", "tracked")["target_veth_ip"]).split("/")[0]


def _delete(lab: Laboratory, name: str) -> None:
    endpoint = run.api(lab.plan.hosts[0], "GET", f"/endpoints/{name}")["endpoint"]
    run.api(lab.plan.hosts[0], "DELETE", f"/endpoints/{endpoint['id']}")


def _until_gone(lab: Laboratory) -> None:
    _until(lambda: tracked(lab) == 0)


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        if time.monotonic() > deadline:
            raise run.LabError("the connections do not end")
        time.sleep(0.02)


def _timed(work: Callable[[], None]) -> float:
    began = time.monotonic()
    work()
    return (time.monotonic() - began) * 1000
