"""Many containers started and killed at once on two engines."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.audit import settled
from tests.e2e.conftest import World
from tests.e2e.docker import cleaned
from tests.waiting import LIMIT_S, eventually
from tools.lab import run
from tools.lab.engine import IMAGE, LabEngine

MANY = int(os.environ.get("WARREN_TEST_CONTAINERS", "25"))  # on each of two hosts
FIRST_WORDS = "ping -c 3 -W 2 {target} >/dev/null || exit 1; exec sleep 3600"


@pytest.fixture
def shared(world: World, engines: list[LabEngine]) -> Iterator[str]:
    """A network of both engines."""
    with cleaned(world, *engines):
        run.api(world.plan.hosts[0], "POST", "/networks", name="crowd", ip_range="10.33.0.0/24")
        for engine in engines:
            engine.docker("network", "create", "-d", engine.driver, "--ipam-driver", engine.driver, "--ipam-opt", "warren.network=crowd",
                          "-o", "warren.network=crowd", "crowd")  # fmt: skip
        yield "crowd"


def doing(engine: LabEngine, names: list[str]) -> set[str]:
    """What the containers' first processes are at; "" for one that has ended."""
    pids = [container["State"]["Pid"] for container in engine.inspect(*names)]
    return {Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0] if pid else "" for pid in pids}


def test_many_start_at_once_and_are_killed_at_once(world: World, engines: list[LabEngine], shared: str) -> None:
    """Each has an address of its own and reaches the other host in its first words; killed, they leave nothing."""
    targets = [engine.run("target", shared) for engine in engines]
    settled(world, engines)
    names = [f"many{number}" for number in range(MANY)]
    started = [
        subprocess.Popen(engine.command("run", "-d", "--name", name, "--network", shared, IMAGE, "sh", "-c",
                                        FIRST_WORDS.format(target=target)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for name in names for engine, target in zip(engines, reversed(targets), strict=True)
    ]  # fmt: skip
    errors = [process.communicate(timeout=5 * LIMIT_S)[1].decode() for process in started]
    assert [text for process, text in zip(started, errors, strict=True) if process.returncode] == []

    for engine in engines:
        eventually(lambda engine=engine: doing(engine, names) == {"sleep"})
    addresses = [c["NetworkSettings"]["Networks"][shared]["IPAddress"] for engine in engines for c in engine.inspect(*names)]
    assert len(set(addresses)) == 2 * MANY
    assert not set(addresses) & set(targets)
    settled(world, engines)
    for engine in engines:
        engine.docker("kill", *names)
    settled(world, engines)
    left = run.api(world.plan.hosts[0], "GET", "/endpoints")["endpoints"]
    assert {e["target_veth_ip"].split("/")[0] for e in left if e["labels"].get("docker.endpoint")} == set(targets)
