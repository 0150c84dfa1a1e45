"""The published port of a container whose networks come and go: it is at the one that leads outside, as with Docker's bridge, on both engines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.conftest import World
from tests.e2e.docker import cleaned
from tests.waiting import eventually
from tools.lab import run
from tools.lab.engine import LabEngine

SERVE = ("httpd", "-f", "-p", "80", "-h", "/etc")
PORT = 18091


@pytest.fixture(params=["engines", "newer"])
def engine(request: pytest.FixtureRequest, world: World) -> Iterator[LabEngine]:
    """An engine of yesterday, and one of today, with two networks that lead outside."""
    fixture = request.getfixturevalue(request.param)
    engine: LabEngine = fixture[0] if isinstance(fixture, list) else fixture
    with cleaned(world, engine):
        for name, subnet in (("alpha", "10.91.0.0/24"), ("zulu", "10.92.0.0/24")):
            engine.docker("network", "create", "-d", engine.driver, "--subnet", subnet, "-o", "warren.mode=nat", name)
        yield engine


def publishers(world: World, engine: LabEngine) -> list[str]:
    """The networks on which endpoints of the host publish the port."""
    endpoints = run.api(world.plan.hosts[0], "GET", f"/endpoints?hostname={engine.host}")["endpoints"]
    return sorted(e["target_veth_ip"].rpartition(".")[0] for e in endpoints for way in e["publish"] if way["host_port"] == PORT)


def test_the_port_stays_while_networks_come_and_go(world: World, engine: LabEngine) -> None:
    host = world.plan.host(engine.host)
    assert host is not None

    def answers() -> bool:
        return world.inside(engine.host, "curl", "-s", "-m", "2", f"http://{host.vtep}:{PORT}/hostname").stdout != ""

    engine.run("web", "zulu", "-p", f"{PORT}:80", command=SERVE)
    eventually(answers)
    for words in (
        ("connect", "alpha"),
        ("disconnect", "zulu"),
        ("connect", "zulu"),
        ("disconnect", "alpha"),
        ("connect", "alpha"),
    ):
        engine.docker("network", *words, "web")
        eventually(answers)
        assert len(publishers(world, engine)) == 1, words
    engine.docker("restart", "-t", "0", "web")
    eventually(answers)
    assert len(publishers(world, engine)) == 1
    for name in ("alpha", "zulu"):
        engine.docker("network", "disconnect", name, "web")
    assert publishers(world, engine) == []
    assert not answers()
    engine.run("next", "alpha", "-p", f"{PORT}:80", command=SERVE)
    eventually(answers)
    assert publishers(world, engine) == ["10.91.0"]
    assert "published by" in engine.refused("run", "--network", "zulu", "-p", f"{PORT}:80", "busybox", "sleep", "1")
