"""Who a host is: a cloned machine, a renamed one, one that is gone, and an etcd that was restored or emptied. No veth, flow or row goes
until an administrator says so."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from specs import keys
from tests.e2e.conftest import World
from tests.waiting import eventually
from tools.lab import run
from tools.lab.plan import LabPlan, Process


@pytest.fixture(scope="module")
def lab() -> Iterator[World]:
    """A laboratory of its own: these tests replace its etcd and stop its hosts."""
    if os.geteuid():
        pytest.skip("needs root")
    plan = LabPlan("i" + uuid.uuid4().hex[:4], 2)
    run.up(plan)
    try:
        world = World(plan)
        run.api(plan.hosts[0], "POST", "/networks", name="amber", ip_range="10.0.0.0/24", ipv6_range="fd00::/64")
        world.container("web", "h1", "amber")
        world.container("db", "h2", "amber")
        yield world
    finally:
        run.down(plan.name)


def etcdctl(world: World, *words: str) -> str:
    command = run.in_netns(world.plan.netns, "etcdctl", "--endpoints=http://198.18.1.1:2379", *words)
    return subprocess.run(command, env={**os.environ, "ETCDCTL_API": "3"}, capture_output=True, text=True, check=True).stdout


def status(world: World, by: int = 0) -> list[dict[str, Any]]:
    """All hosts, as a host's agent shows them; none while that agent starts."""
    try:
        return list(run.api(world.plan.hosts[by], "GET", "/status")["hosts"])
    except (httpx.HTTPError, run.LabError):
        return []


def problems(world: World, host: str, by: int = 0) -> list[str]:
    hosts = {each["name"]: each for each in status(world, by)}
    return list(hosts[host]["problems"]) if host in hosts else []


def until_told(world: World, host: str, *words: str, by: int = 0) -> str:
    """Wait until a line of the host's status has all these words; return it."""
    lines: list[str] = []

    def reported() -> bool:
        lines[:] = [line for line in problems(world, host, by) if all(word in line for word in words)]
        if not lines:
            raise AssertionError(f"{host}: {words} not in {problems(world, host, by)}")
        return True

    eventually(reported)
    return lines[0]


def until_healthy(world: World, *hosts: str) -> None:
    def healthy() -> bool:
        hosts_by_name = {each["name"]: each for each in status(world)}
        return all(
            (host := hosts_by_name.get(name)) is not None and host["agent"] == "alive" and host["connected"] and host["current"]
            for name in hosts
        )

    eventually(healthy)


Standing = tuple[list[str], list[str], list[str]]


def standing(world: World, host: str) -> Standing:
    """What must not go: the veths, the flows and the ports of a host."""
    links = world.inside(host, "ip", "-o", "link").stdout
    veths = sorted(line.split(":")[1].split("@")[0].strip() for line in links.splitlines() if ": wv" in line)
    directory = world.plan.host(host).directory  # type: ignore[union-attr]
    ports = run.sh("ovs-vsctl", f"--db=unix:{directory}/db.sock", "list-ports", "br-warren").split()
    return veths, sorted(world.cookies(host)), sorted(ports)


def process(world: World, host: str, name: str, **settings: str) -> Process:
    """A process of a host with other settings."""
    planned = world.plan.host(host).process(name)  # type: ignore[union-attr]
    return dataclasses.replace(planned, environment=(*planned.environment, *settings.items()))


def start(world: World, host: str, planned: Process) -> None:
    run.start_process(world.plan, host, planned)


def replace_etcd(world: World, backup: str | None) -> None:
    """Restart etcd on a backup, or on nothing."""
    plan = world.plan
    run.stop(plan, "h1", "etcd", signal.SIGKILL)
    shutil.rmtree(plan.directory / "etcd")
    if backup is not None:
        shutil.copytree(plan.directory / backup, plan.directory / "etcd")
    run.start(plan, "h1", "etcd")


def back_up_etcd(world: World, name: str) -> None:
    plan = world.plan
    run.stop(plan, "h1", "etcd", signal.SIGKILL)
    shutil.copytree(plan.directory / "etcd", plan.directory / name)
    run.start(plan, "h1", "etcd")


def test_a_host_record_that_somebody_changes_is_put_right_and_told(lab: World) -> None:
    until_healthy(lab, "h1", "h2")
    key = f"/warren/{keys.host('h1')}"
    right = etcdctl(lab, "get", "--print-value-only", key).strip()
    etcdctl(lab, "put", key, right.replace("198.18.0.11", "198.18.0.12"))
    eventually(lambda: etcdctl(lab, "get", "--print-value-only", key).strip() == right)
    until_told(lab, "h1", "somebody changed this host's record", "198.18.0.12")
    etcdctl(lab, "del", key)
    eventually(lambda: "198.18.0.11" in etcdctl(lab, "get", "--print-value-only", key))
    assert etcdctl(lab, "get", "--print-value-only", f"/warren/{keys.claim_host_vtep('198.18.0.12')}").strip() == "h2"
    eventually(lambda: lab.pings("web", lab.address["db"]))


def test_a_clone_of_a_living_agent_is_refused_and_both_statuses_say_so(lab: World) -> None:
    """The clone runs on h2's network, with h1's name: it changes nothing, and serves nothing."""
    until_healthy(lab, "h1", "h2")
    directory = lab.plan.directory / "clone"
    directory.mkdir()
    before = [standing(lab, host) for host in ("h1", "h2")]
    clone = process(
        lab, "h2", "agent", WARREN_HOST="h1", WARREN_VTEP="198.18.0.12", WARREN_SOCKET=f"{directory}/agent.sock",
        WARREN_HTTP="198.18.1.12:9998", WARREN_API="http://198.18.1.12:9998", WARREN_DOCKER_SOCKET="", WARREN_RUN=str(directory),
    )  # fmt: skip
    clone = dataclasses.replace(clone, name="clone", log=directory / "agent.log")
    start(lab, "h2", clone)
    try:
        line = until_told(lab, "h1", "wants to be host h1 and is refused", "198.18.0.12")
        assert f"{lab.plan.name}-h2" in line, "the machine id of the clone"
        eventually(lambda: "host.not_registered reason=host h1 is machine" in clone.log.read_text())
        assert "198.18.0.11" in etcdctl(lab, "get", "--print-value-only", f"/warren/{keys.host('h1')}")
        assert [standing(lab, host) for host in ("h1", "h2")] == before
        assert lab.reaches("web", lab.address["db"])
    finally:
        run.stop_process(lab.plan, "h2", "clone")
    eventually(lambda: not any("wants to be host" in line for line in problems(lab, "h1")))


@contextmanager
def restarted_as(lab: World, **settings: str) -> Iterator[Standing]:
    """While it lasts, agent and controller of h2 run with other settings; what stood on h2 before. Afterwards its cables stand as they did."""
    until_healthy(lab, "h1", "h2")
    before = standing(lab, "h2")
    for name in ("agent", "controller"):
        run.stop(lab.plan, "h2", name)
    for name in ("controller", "agent"):
        start(lab, "h2", process(lab, "h2", name, **settings))
    try:
        yield before
    finally:
        for name in ("agent", "controller"):
            run.stop(lab.plan, "h2", name)
    for name in ("controller", "agent"):
        start(lab, "h2", process(lab, "h2", name))
    until_healthy(lab, "h1", "h2")
    assert standing(lab, "h2")[0] == before[0]


def test_a_renamed_host_keeps_everything_until_its_former_name_is_removed(lab: World) -> None:
    with restarted_as(lab, WARREN_HOST="renamed") as before:
        until_told(lab, "h2", "wants to be host renamed", "WARREN_HOST=h2", "warren host remove h2")
        eventually(lambda: "etcd.read" in (lab.plan.host("h2").directory / "controller.log").read_text())  # type: ignore[union-attr]
        until_told(lab, "h2", "refused")
        assert standing(lab, "h2") == before
        assert lab.reaches("web", lab.address["db"])


def test_a_host_with_a_new_name_and_a_new_vtep_keeps_everything_too(lab: World) -> None:
    """Nothing in etcd contradicts such a host: what is plugged in says that the machine was another one."""
    with restarted_as(lab, WARREN_HOST="moved", WARREN_VTEP="198.18.0.77") as before:
        log = lab.plan.host("h2").directory / "agent.log"  # type: ignore[union-attr]
        eventually(lambda: "belong to host h2" in log.read_text())
        assert standing(lab, "h2") == before
        assert lab.reaches("web", lab.address["db"])


def test_another_machine_takes_the_name_of_a_dead_host_over(lab: World) -> None:
    """As docs/operating.md says: it is started with the name, and the status says so. What is plugged in stays plugged in."""
    until_healthy(lab, "h1", "h2")
    before = standing(lab, "h2")
    for name in ("agent", "controller"):
        run.stop(lab.plan, "h2", name, signal.SIGKILL)
    for name in ("controller", "agent"):
        start(lab, "h2", process(lab, "h2", name, WARREN_MACHINE_ID="0123456789abcdef0123456789abcdef"))
    until_told(lab, "h2", "machine 0123456789abcdef0123456789abcdef", "has taken this host's name over")
    until_healthy(lab, "h1", "h2")
    assert standing(lab, "h2")[0] == before[0]
    eventually(lambda: lab.reaches("web", lab.address["db"]))
    for name in ("agent", "controller"):
        run.stop(lab.plan, "h2", name)
    for name in ("controller", "agent"):
        start(lab, "h2", process(lab, "h2", name))
    until_healthy(lab, "h1", "h2")


@pytest.mark.parametrize("backup", ["early", None])
def test_an_etcd_that_lost_what_runs_changes_nothing_until_it_is_accepted_or_restored(lab: World, backup: str | None) -> None:
    """`early` is a backup from before the second network existed; None: etcd comes back empty. Every process is restarted meanwhile."""
    until_healthy(lab, "h1", "h2")
    back_up_etcd(lab, f"early-{backup}")
    until_healthy(lab, "h1", "h2")
    name = f"late{backup or ''}"
    run.api(lab.plan.hosts[0], "POST", "/networks", name=name, ip_range="10.9.0.0/24", ipv6_range="fd09::/64")
    for host in ("h1", "h2"):
        lab.container(f"{name}{host}", host, name)
    whole = f"whole-{backup}"
    back_up_etcd(lab, whole)
    until_healthy(lab, "h1", "h2")
    before = [standing(lab, host) for host in ("h1", "h2")]

    replace_etcd(lab, f"early-{backup}" if backup else None)
    for host in ("h1", "h2"):
        until_told(lab, host, "warren etcd accept", f"network {name}" if backup else "no networks")
    for host in ("h1", "h2"):
        for process_name in ("agent", "controller"):
            run.stop(lab.plan, host, process_name, signal.SIGKILL)
            start(lab, host, process(lab, host, process_name))
    for host in ("h1", "h2"):
        until_told(lab, host, "warren etcd accept", "interface wv")
        until_told(lab, host, "warren etcd accept", "endpoint ")
    assert [standing(lab, host) for host in ("h1", "h2")] == before
    assert lab.reaches(f"{name}h1", lab.address[f"{name}h2"])
    assert lab.reaches("web", lab.address["db"])

    replace_etcd(lab, whole)  # a newer backup is found
    eventually(lambda: status(lab) and not any("etcd accept" in line for host in ("h1", "h2") for line in problems(lab, host)))
    until_healthy(lab, "h1", "h2")
    assert [standing(lab, host)[0] for host in ("h1", "h2")] == [veths for veths, _, _ in before]
    assert lab.reaches(f"{name}h1", lab.address[f"{name}h2"])

    replace_etcd(lab, f"early-{backup}" if backup else None)
    for host in ("h1", "h2"):
        until_told(lab, host, "warren etcd accept")
    run.api(lab.plan.hosts[0], "POST", "/etcd/accept")
    left = 1 if backup else 0
    eventually(lambda: [len(standing(lab, host)[0]) for host in ("h1", "h2")] == [left, left])
    until_healthy(lab, "h1", "h2")


def test_a_host_that_is_gone_for_good_is_removed_with_all_that_it_held(lab: World) -> None:
    until_healthy(lab, "h1", "h2")
    if not any(n["name"] == "crimson" for n in run.api(lab.plan.hosts[0], "GET", "/networks")["networks"]):
        run.api(lab.plan.hosts[0], "POST", "/networks", name="crimson", ip_range="10.7.0.0/24", ipv6_range="fd07::/64")
    for name in ("gone", "goner"):
        lab.container(name, "h2", "crimson")
    first = lab.plan.hosts[0]
    with pytest.raises(run.LabError, match="the agent and the controller of host h2 live"):
        run.api(first, "DELETE", "/hosts/h2")
    for name in ("agent", "controller"):
        run.stop(lab.plan, "h2", name)
    with pytest.raises(run.LabError, match="warren endpoint delete --force gone"):
        run.api(first, "DELETE", "/endpoints/crimson/gone?hostname=h2")
    run.api(first, "DELETE", "/endpoints/crimson/gone?hostname=h2&force=true")
    removed: list[str] = run.api(first, "DELETE", "/hosts/h2?dry_run=true")["removed"]
    assert any("endpoint goner" in line for line in removed)
    assert run.api(first, "DELETE", "/hosts/h2")["removed"] == removed
    left: Any = etcdctl(lab, "get", "--prefix", "--keys-only", "/warren/")
    assert "h2" not in left.replace("/", " ").split(), left
    lab.container("heir", "h1", "crimson")
    assert lab.address["heir"] == lab.address["gone"], "the address is free"
    for name in ("controller", "agent"):
        start(lab, "h2", process(lab, "h2", name))
    until_healthy(lab, "h1", "h2")
    eventually(lambda: standing(lab, "h2")[0] == [])
