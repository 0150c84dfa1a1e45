"""Kills engines, agents, controllers and etcd at random times during container starts and stops; afterwards everything has an owner.

WARREN_TEST_SEED is the seed of the first round, WARREN_TEST_ROUNDS the number of rounds."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.audit import settled
from tests.e2e.conftest import World
from tests.e2e.docker import cleaned
from tests.waiting import eventually
from tools.lab import run
from tools.lab.engine import IMAGE, LabEngine
from tools.lab.plan import HostPlan

ROUNDS = int(os.environ.get("WARREN_TEST_ROUNDS", "3"))
SEED = int(os.environ.get("WARREN_TEST_SEED", "1"))
OPERATIONS = 5  # of each engine in each round
NETWORKS = ("storm", "gale")


@pytest.fixture(scope="module")
def storm(world: World, engines: list[LabEngine]) -> Iterator[list[LabEngine]]:
    """Two networks of both engines: one that Warren has, one that Docker describes."""
    with cleaned(world, *engines):
        run.api(world.plan.hosts[0], "POST", "/networks", name="storm", ip_range="10.35.0.0/24")
        for engine in engines:
            engine.docker("network", "create", "-d", engine.driver, "--ipam-driver", engine.driver, "--ipam-opt", "warren.network=storm",
                          "-o", "warren.network=storm", "storm")  # fmt: skip
            engine.docker("network", "create", "-d", engine.driver, "--ipam-driver", engine.driver, "--subnet", "10.36.0.0/24",
                          "-o", "warren.mode=nat", "gale")  # fmt: skip
            engine.run("rock", "storm", "--restart", "always")
        yield engines


@pytest.mark.parametrize("seed", range(SEED, SEED + ROUNDS))
def test_a_round_of_kills(world: World, storm: list[LabEngine], seed: int) -> None:
    """What was killed comes back; then Docker and Warren agree, all containers have their connection, and all goes away."""
    chance = random.Random(seed)
    with ThreadPoolExecutor(32) as pool:
        work = [pool.submit(_containers, engine, chance.randrange(1 << 30)) for engine in storm]
        kills = [pool.submit(_kill, world, storm, *kill) for kill in _plan(chance)]
        for done in [*kills, *work]:
            done.result()
    run.wait_until_up(world.plan)
    settled(world, storm)
    for engine in storm:
        engine.run("fresh", "storm")
    for engine, other in (storm, reversed(storm)):
        address = other.address("rock", "storm")
        for container in engine.inspect(*engine.docker("ps", "-q").split()):
            name = container["Name"].strip("/")
            if "storm" in container["NetworkSettings"]["Networks"]:
                assert engine.reaches(name, address), f"{name} of {engine.host} does not reach {other.host}"
    for engine in storm:
        engine.docker(
            "rm", "-f", *(name for name in engine.docker("ps", "-a", "--format", "{{.Names}}").split() if name != "rock")
        )
        engine.try_docker("network", "rm", "breeze")
    settled(world, storm)


def test_a_host_that_starts_again(world: World, storm: list[LabEngine]) -> None:
    """Everything on h2 dies at once, cables and switch too. Containers that Docker starts again have their connection, others leave nothing."""
    engine, host = storm[1], world.plan.hosts[1]
    engine.run("mortal", "storm")
    engine.stop_daemon(signal.SIGKILL)
    engine.end_containers()
    for process in ("agent", "controller", "ovs", "ovsdb"):
        run.stop(world.plan, host.name, process, signal.SIGKILL)
    for veth in re.findall(r"^\d+: (wv[0-9a-f]{12})@", world.inside(host.name, "ip", "-o", "link", "show").stdout, re.M):
        run.sh("ip", "-n", host.netns, "link", "del", veth, check=False)
    for process in ("ovsdb", "ovs"):
        run.start(world.plan, host.name, process)
    eventually(lambda: has_address(host))
    for process in ("controller", "agent"):
        run.start(world.plan, host.name, process)
    engine.start_daemon()
    run.wait_until_up(world.plan)
    settled(world, storm)
    assert [container["State"]["Running"] for container in engine.inspect("rock", "mortal")] == [True, False]
    eventually(lambda: engine.pings("rock", storm[0].address("rock", "storm")))
    engine.docker("rm", "mortal")


def _plan(chance: random.Random) -> list[tuple[str, str, float, float]]:
    """What is killed when, and how long it is away: (host, process, at, for)."""
    kinds = chance.sample(("dockerd", "agent", "controller", "etcd"), chance.choice((1, 2, 4)))
    kills = []
    for kind in kinds:
        for host in ("h1",) if kind == "etcd" else chance.choice((("h1",), ("h2",), ("h1", "h2"))):
            kills.append((host, kind, chance.uniform(0, 1.5), chance.choice((0.0, chance.uniform(0, 2)))))
    return kills


def _kill(world: World, engines: list[LabEngine], host: str, process: str, at: float, away: float) -> None:
    time.sleep(at)  # the time is the test's input
    if process == "dockerd":
        engine = next(engine for engine in engines if engine.host == host)
        engine.stop_daemon(signal.SIGKILL)
        time.sleep(away)
        engine.start_daemon()
    else:
        run.stop(world.plan, host, process, signal.SIGKILL)
        time.sleep(away)
        run.start(world.plan, host, process)


def _containers(engine: LabEngine, seed: int) -> None:
    """Starts, stops, kills, connects and removes containers in parallel; whether that works is not asked."""
    chance = random.Random(seed)
    with ThreadPoolExecutor(OPERATIONS + 1) as pool:
        for number in range(OPERATIONS):
            pool.submit(_life, engine, f"r{number}", chance.choice(NETWORKS), [chance.random() for _ in range(4)])
        pool.submit(_network, engine, [chance.random() for _ in range(2)])


def _network(engine: LabEngine, dice: list[float]) -> None:
    """A network that comes and goes."""
    time.sleep(dice[0])
    engine.try_docker("network", "create", "-d", engine.driver, "--ipam-driver", engine.driver, "-o", "warren.mode=nat", "breeze")
    time.sleep(dice[1])
    engine.try_docker("network", "rm", "breeze")


def _life(engine: LabEngine, name: str, network: str, dice: list[float]) -> None:
    time.sleep(dice[0])
    restart = ("--restart", "always") if dice[1] < 0.3 else ()
    port = ("-p", f"{19000 + int(name[1:])}:80") if network == "gale" and dice[1] > 0.5 else ()
    engine.try_docker("run", "-d", "--name", name, "--network", network, *restart, *port, IMAGE, "sleep", "3600")
    other = next(n for n in NETWORKS if n != network)
    lives: tuple[tuple[Any, ...], ...] = (
        (), ("kill", name), ("rm", "-f", name), ("restart", "-t", "0", name), ("network", "connect", other, name), ("stop", "-t", "0", name)
    )  # fmt: skip
    for die in dice[2:]:
        if words := lives[int(die * len(lives))]:
            engine.try_docker(*words)


def has_address(host: HostPlan) -> bool:
    """Whether the underlay is there again."""
    try:
        run.underlay(host)
    except run.LabError:
        return False
    return True
