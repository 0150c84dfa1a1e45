"""CONNECT into networks of Docker containers, and to those of other hosts."""

from __future__ import annotations

from typing import Any

from tests.e2e.conftest import World
from tests.waiting import eventually
from tools.lab import run
from tools.lab.engine import LabEngine
from warren.client import Client


def page(world: World, host: str, network: str, address: str) -> bytes:
    """A page of a container, by the agent of a host."""
    lab_host = world.plan.host(host)
    assert lab_host is not None
    with Client(f"unix://{lab_host.directory}/agent.sock") as agent, agent.connect(network, address, 80) as tunnel:
        tunnel.sendall(b"GET /index.html HTTP/1.0\r\n\r\n")
        answer = b""
        while data := tunnel.recv(65536):
            answer += data
        return answer.rpartition(b"\r\n\r\n")[2]


def endpoint(world: World, name: str) -> dict[str, Any]:
    answer: dict[str, Any] = run.api(world.plan.hosts[0], "GET", f"/endpoints/{name}")["endpoint"]
    return answer


def test_a_network_of_docker_containers_is_entered_from_every_host(world: World, engines: list[LabEngine]) -> None:
    engine = engines[0]
    engine.docker(
        "network", "create", "-d", engine.driver, "--ipam-driver", engine.driver, "-o", "warren.name=entered", "entered"
    )
    try:
        address = engine.run("entered-web", "entered")
        engine.docker("exec", "entered-web", "sh", "-c", "mkdir -p /tmp/w; echo hello > /tmp/w/index.html; httpd -p 80 -h /tmp/w")
        shown = endpoint(world, "entered-web")
        assert "/netns/" in shown["target_netns_path"]  # the sandbox key, below the exec root of this engine
        for host in ("h1", "h3"):
            assert page(world, host, "entered", address) == b"hello\n"
        run.restart(world.plan, "h1", "agent")  # the sandbox is in the record
        eventually(lambda: page(world, "h1", "entered", address) == b"hello\n")
    finally:
        engine.docker("rm", "-f", "entered-web")
        engine.docker("network", "rm", "entered")
