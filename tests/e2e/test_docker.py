"""The Docker driver with real engines on two hosts: networks, addresses, ACLs, published ports, crashes."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.audit import settled
from tests.e2e.conftest import World
from tests.e2e.docker import cleaned
from tests.waiting import eventually
from tools.lab import run
from tools.lab.engine import LabEngine


@pytest.fixture(scope="module", autouse=True)
def networks(world: World, engines: list[LabEngine]) -> Iterator[None]:
    """`net`, SAND's way: both engines name the same Warren network, and share its addresses; `made`, dovesnap's way: one engine describes it.
    Containers on both, which stay. At the end nothing is left of the engines' networks."""
    with cleaned(world, *engines):
        run.api(world.plan.hosts[0], "POST", "/networks", name="shared", ip_range="10.31.0.0/24")
        world.apply(acls={"mute": [{"dl_type": 0x806, "actions": {"allow": 1}}]})
        for engine in engines:
            engine.docker("network", "create", "-d", engine.driver, "--ipam-driver", engine.driver, "--ipam-opt", "warren.network=shared",
                          "--subnet", "10.31.0.0/24", "-o", "warren.network=shared", "net")  # fmt: skip
        engines[0].run("one", "net", "--label", "role=web")
        engines[1].run("other", "net")
        engines[0].docker("network", "create", "-d", engines[0].driver, "--ipam-driver", engines[0].driver, "--subnet", "10.32.0.0/24",
                          "-o", "ovs.bridge.mode=nat", "-o", "ovs.bridge.dpid=0x1", "made")  # fmt: skip
        engines[0].run("server", "made", "-p", "18080:80")
        engines[0].docker("exec", "server", "sh", "-c", "mkdir -p /tmp/w; echo hello > /tmp/w/index.html; httpd -p 80 -h /tmp/w")
        engines[0].run("client", "made")
        yield
    assert docked(world) == []
    assert not [n for n in run.api(world.plan.hosts[0], "GET", "/networks")["networks"] if "docker.network" in n["labels"]]


@pytest.fixture(autouse=True)
def _those_that_stay(world: World, engines: list[LabEngine]) -> Iterator[None]:
    """After every test the engines have the containers and networks of before, and their agents run."""
    before = [(engine.docker("ps", "-aq").split(), engine.networks()) for engine in engines]
    yield
    for engine, (containers, networks) in zip(engines, before, strict=True):
        run.start(world.plan, engine.host, "agent")
        if extra := set(engine.docker("ps", "-aq").split()) - set(containers):
            engine.docker("rm", "-f", *extra)
        if extra := set(engine.networks()) - set(networks):
            engine.docker("network", "rm", *extra)


def docked(world: World) -> list[str]:
    """Endpoints that Docker has."""
    endpoints = run.api(world.plan.hosts[0], "GET", "/endpoints")["endpoints"]
    return [e["id"] for e in endpoints if "docker.endpoint" in e["labels"]]


def test_one_network_by_name_on_two_hosts(world: World, engines: list[LabEngine]) -> None:
    one, other = engines[0].address("one", "net"), engines[1].address("other", "net")
    assert {one, other} == {"10.31.0.2", "10.31.0.3"}
    assert engines[0].reaches("one", other)
    assert engines[1].reaches("other", one)
    assert engines[0].run("fixed", "net", "--ip", "10.31.0.77", "--mac-address", "0e:99:00:00:00:07") == "10.31.0.77"
    assert "0e:99:00:00:00:07" in engines[0].docker("exec", "fixed", "ip", "link", "show", "eth0")
    assert "is taken by" in engines[1].refused("run", "--network", "net", "--ip", "10.31.0.77", "busybox", "sleep", "1")
    endpoint = run.api(world.plan.hosts[0], "GET", "/endpoints/one")["endpoint"]
    assert (endpoint["labels"]["role"], endpoint["hostname"], endpoint["target_veth_ip"]) == ("web", "h1", "10.31.0.2/24")
    engines[0].docker("restart", "-t", "0", "one")
    assert engines[0].reaches("one", other)


def test_a_network_that_docker_describes(world: World, engines: list[LabEngine]) -> None:
    """On one host: mode nat, the gateway, a published port, an ACL by option."""
    engine = engines[0]
    served = engine.address("server", "made")
    assert engine.reaches("client", served)
    assert engine.reaches("client", "10.32.0.1")
    url = "http://198.18.0.11:18080/index.html"
    eventually(lambda: world.inside("h1", "curl", "-s", "-m", "2", url).stdout == "hello\n")
    assert "published by" in engine.refused("run", "--network", "made", "-p", "18080:80", "busybox", "sleep", "1")
    engine.run("mute", "made", "--label", "warren.acl=mute")
    assert not engine.pings("mute", served)
    assert "expected" in engine.refused("network", "create", "-d", engine.driver, "-o", "ovs.bridge.mode=bridge", "bad")
    assert "expected" in engine.refused("network", "create", "-d", engine.driver, "-o", "warren.colour=red", "bad")


def test_connect_disconnect_and_kill(world: World, engines: list[LabEngine]) -> None:
    engine = engines[0]
    before = set(docked(world))
    engine.run("two", "net")
    engine.docker("network", "connect", "made", "two")
    assert len(set(docked(world)) - before) == 2
    assert engine.reaches("two", engine.address("client", "made"))
    engine.docker("network", "disconnect", "made", "two")
    assert len(set(docked(world)) - before) == 1
    pid = json.loads(engine.docker("inspect", "two"))[0]["State"]["Pid"]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: set(docked(world)) == before)


def named(world: World, engine: LabEngine, docker_name: str) -> str:
    """The name of the Warren network that an engine's network is."""
    docker_id = engine.docker("network", "inspect", "-f", "{{.Id}}", docker_name).strip()
    networks = run.api(world.plan.hosts[0], "GET", "/networks")["networks"]
    return next(n["name"] for n in networks if n["labels"].get("docker.network") == docker_id)  # type: ignore[no-any-return]


def test_networks_bear_the_names_that_their_users_gave(world: World, engines: list[LabEngine]) -> None:
    """Also when an agent was away at first; a second network of that name, of another engine, gets its host's name, too."""
    for engine, name in zip(engines, ("yours", "yours-h2"), strict=True):
        engine.docker("network", "create", "-d", engine.driver, "yours")
        eventually(lambda engine=engine, name=name: named(world, engine, "yours") == name)  # type: ignore[misc]
    engines[0].docker("network", "create", "-d", engines[0].driver, "-o", "warren.name=mine", "other")
    assert named(world, engines[0], "other") == "mine"
    engines[0].docker("network", "create", "-d", engines[0].driver, "late")
    run.restart(world.plan, "h1", "agent", signal.SIGKILL)
    eventually(lambda: named(world, engines[0], "late") == "late")
    for engine, names in zip(engines, (("yours", "other", "late"), ("yours",)), strict=True):
        engine.docker("network", "rm", *names)
    eventually(
        lambda: (
            not {"yours", "yours-h2", "mine", "late"}
            & {n["name"] for n in run.api(world.plan.hosts[0], "GET", "/networks")["networks"]}
        )
    )


def test_a_container_does_not_join_two_networks_with_common_addresses(world: World, engines: list[LabEngine]) -> None:
    """Neither while it runs nor at its start, when the engine has not made its namespace yet."""
    engine = engines[0]
    create = ("network", "create", "-d", engine.driver, "--ipam-driver", engine.driver)
    engine.docker(*create, "--subnet", "10.32.0.128/25", "common")
    refusal = engine.refused("network", "connect", "common", "client")
    assert "(10.32.0.128/25) overlaps network " in refusal
    assert engine.reaches("client", engine.address("server", "made"))
    engine.docker("create", "--name", "both", "--network", "made", "busybox", "sleep", "600")
    engine.docker("network", "connect", "common", "both")
    assert "overlaps network " in engine.refused("start", "both")
    engine.docker("network", "disconnect", "common", "both")
    engine.docker("start", "both")
    assert engine.reaches("both", engine.address("server", "made"))


def test_an_agent_and_an_engine_that_start_again(world: World, engines: list[LabEngine]) -> None:
    engine, other = engines
    before = set(docked(world))
    run.restart(world.plan, "h1", "agent", signal.SIGKILL)
    run.wait_until_up(world.plan)
    assert engine.reaches("one", other.address("other", "net"))
    assert set(docked(world)) == before
    engine.stop_daemon()
    engine.start_daemon()
    assert engine.reaches("one", other.address("other", "net"))
    engine.run("late", "net")
    assert engine.reaches("late", other.address("other", "net"))


class Deaf(http.server.BaseHTTPRequestHandler):
    """A driver that says yes to everything and does nothing; the engine does not keep its connections."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: Any) -> None:
        pass


def test_endpoints_that_docker_removes_while_the_agent_is_away_are_removed_later(
    world: World, engines: list[LabEngine], tmp_path: Path
) -> None:
    """A container and a network. The engine told somebody else (nobody at all would make it wait for a minute)."""
    engine = engines[0]
    before = set(docked(world))
    engine.docker("network", "create", "-d", engine.driver, "--ipam-driver", engine.driver, "--subnet", "10.41.0.0/24", "brief")
    engine.run("brief", "net")
    run.stop(world.plan, "h1", "agent", signal.SIGKILL)
    agents = engine.link.readlink()
    with socketserver.ThreadingUnixStreamServer(str(tmp_path / "deaf.sock"), Deaf) as deaf:
        threading.Thread(target=deaf.serve_forever, daemon=True).start()
        engine.link.unlink()
        engine.link.symlink_to(tmp_path / "deaf.sock")
        try:
            engine.docker("rm", "-f", "brief")
            engine.docker("network", "rm", "brief")
        finally:
            engine.link.unlink()
            engine.link.symlink_to(agents)
            deaf.shutdown()
    run.start(world.plan, "h1", "agent")
    assert len(set(docked(world)) - before) == 1
    eventually(lambda: set(docked(world)) == before)
    settled(world, engines, 15)
    assert engine.reaches("one", engines[1].address("other", "net"))
