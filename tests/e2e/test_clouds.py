"""Three hosts in three clouds: the overlay between them comes from metadata alone, and follows it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import World, clean
from tests.e2e.sites import WAIT_S, laboratory
from tests.e2e.test_sites import captured, is_up
from tests.waiting import eventually
from tools.lab import clouds, run
from tools.lab.plan import HostPlan, LabPlan

NETWORK = {"name": "amber", "ip_range": "10.0.0.0/24", "ipv6_range": "fd00::/64"}
ROOT = Path(__file__).parent.parent.parent
SITES = ("aws.us-west-2.vpc-1", "azure.westus.vpc-2", "gcp.us-west1.vpc-3")


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A laboratory with a container on each host, whose addresses nobody has typed."""
    if os.geteuid():
        pytest.skip("needs root")
    plan = LabPlan("k" + uuid.uuid4().hex[:4], 3, sites=3, clouds=("aws", "azure", "gcp"))
    with laboratory(plan) as world:
        run.api(plan.hosts[0], "POST", "/networks", **NETWORK)
        for host in plan.hosts:
            world.container(f"c{host.number}", host.name, "amber")
        eventually(lambda: connected(world), WAIT_S)
        yield world


def connected(world: World) -> bool:
    """Whether all tunnels are up."""
    return all(is_up(world, host.name, *({other.name for other in world.plan.hosts} - {host.name})) for host in world.plan.hosts)


def shown(host: HostPlan) -> dict[str, Any]:
    """What a host's agent shows of the host."""
    return run.api(host, "GET", f"/hosts/{host.name}")["host"]  # type: ignore[no-any-return]


def all_reach(world: World) -> bool:
    return all(world.reaches(source, world.address[to]) for source, to in (("c1", "c2"), ("c1", "c3"), ("c2", "c3")))


@contextmanager
def changed(host: HostPlan, number: int, **fields: Any) -> Iterator[None]:
    """The cloud says something else of a NIC of a host, for a while."""
    document = clouds.instance(host)
    nics = [{**nic, **fields} if index == number else nic for index, nic in enumerate(document["nics"])]
    clouds.write(host, {**document, "nics": nics})
    try:
        yield
    finally:
        clouds.write(host, document)


@contextmanager
def stopped(world: World, host: str, process: str) -> Iterator[None]:
    """A process of a host is away for a while."""
    run.stop(world.plan, host, process)
    try:
        yield
    finally:
        run.start(world.plan, host, process)


def test_hosts_are_where_their_clouds_say(world: World) -> None:
    for host, site in zip(world.plan.hosts, SITES, strict=True):
        record = shown(host)
        assert (record["vtep"], record["site"], record["underlay"]) == (host.vtep, site, "cloud")
        assert (record["outside"]["address"], record["outside"]["public"]) == (host.outside, host.public)
        assert record["problems"] == []
    assert [shown(host)["underlay_mtu"] for host in world.plan.hosts] == [1500, 1500, 1460]
    assert shown(world.plan.hosts[2])["outside_mtu"] == 1460
    assert " mtu 1326 " in world.inside("c1", "ip", "link", "show", "eth0").stdout, "the worst path: Google's"


def test_containers_of_all_clouds_reach_each_other_encrypted(world: World) -> None:
    with captured(world, "inet", "udp") as internet, captured(world, "private", "udp and not port 51820") as outside:
        assert all_reach(world)
    assert outside == []
    assert [line for line in internet if "51820" not in line] == []


def test_an_address_that_the_cloud_changes_moves_the_host(world: World) -> None:
    """Neither agent nor controller restarts; connections between containers survive."""
    host = world.plan.hosts[0]
    pids = [run.pid_of(world.plan, "h1", process) for process in ("agent", "controller")]
    with changed(host, 0, addresses=["198.18.0.77"]):
        eventually(lambda: shown(host)["vtep"] == "198.18.0.77", WAIT_S)
        assert shown(world.plan.hosts[1])["name"] == "h2"
        eventually(lambda: connected(world), WAIT_S)
        assert all_reach(world)
        eventually(lambda: clean(host), WAIT_S)
    eventually(lambda: shown(host)["vtep"] == host.vtep, WAIT_S)
    assert [run.pid_of(world.plan, "h1", process) for process in ("agent", "controller")] == pids
    assert all_reach(world)


def test_mtu_follows_the_metadata(world: World) -> None:
    host = world.plan.hosts[2]
    with changed(host, 1, mtu=1400):
        eventually(lambda: " mtu 1266 " in world.inside("c1", "ip", "link", "show", "eth0").stdout, WAIT_S)
    eventually(lambda: " mtu 1326 " in world.inside("c1", "ip", "link", "show", "eth0").stdout, WAIT_S)


def test_a_public_address_comes_and_goes(world: World) -> None:
    host, other = world.plan.hosts[1], world.plan.hosts[0]
    with changed(host, 1, public={}):
        eventually(lambda: "outside" not in shown(host), WAIT_S)
        eventually(lambda: "public address" in " ".join(shown(host)["problems"]), WAIT_S)
        eventually(lambda: "no tunnel to host h2" in " ".join(shown(other)["problems"]), WAIT_S)
        assert world.reaches("c1", world.address["c3"])
    eventually(lambda: connected(world), WAIT_S)
    assert all_reach(world)
    eventually(lambda: shown(host)["problems"] == [], WAIT_S)


def test_without_metadata_everything_stays(world: World) -> None:
    """The service is away, then the daemon, too; meanwhile the agent starts again."""
    host = world.plan.hosts[0]
    before = {name: shown(host)[name] for name in ("vtep", "site", "outside")}
    with stopped(world, "h1", "metadata"):
        eventually(lambda: "the last state is kept" in " ".join(shown(host)["problems"]), WAIT_S)
        with stopped(world, "h1", "underlay"):
            run.restart(world.plan, "h1", "agent")
            eventually(lambda: "cloud: warren-underlay" in " ".join(shown(host)["problems"]), WAIT_S)
            assert {name: shown(host)[name] for name in before} == before
            assert all_reach(world)
    eventually(lambda: shown(host)["problems"] == [] and connected(world), WAIT_S)


def test_the_commands_show_it(world: World) -> None:
    """`warren host list` and `warren site list`."""
    command = [sys.executable, "-m", "tools.cli.main", "--lab", world.plan.name, "host", "list"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    words = [line.split() for line in lines]
    for host, site in zip(world.plan.hosts, SITES, strict=True):
        assert [host.name, host.vtep, site, "cloud"] in [line[:4] for line in words], lines
    sites = run.api(world.plan.hosts[0], "GET", "/sites")["sites"]
    assert {site["name"] for site in sites} == set(SITES)


def test_the_demonstration_of_the_documentation_works_word_for_word(world: World) -> None:
    """In this laboratory, which is already up."""
    text = (ROOT / "docs/cloud.md").read_text().partition("## Try it on a laptop")[2]
    first, *lines, last = text.split("```")[1].strip().splitlines()
    assert (first, last) == ("warren lab up --cloud aws,azure,gcp --hosts 1", "warren lab down")
    environment = {**os.environ, "WARREN_LAB": world.plan.name}
    eventually(lambda: connected(world), WAIT_S)
    printed = ""
    try:
        for line in lines:
            program, *words = shlex.split(line)
            assert program == "warren"
            command = [sys.executable, "-m", "tools.cli.main", *words]
            done = subprocess.run(
                command, capture_output=True, text=True, env=environment, timeout=WAIT_S, stdin=subprocess.DEVNULL
            )
            assert done.returncode == 0, f"{line}: {done.stderr}"
            printed += done.stdout
    finally:
        for name, host in (("web", world.plan.hosts[0]), ("db", world.plan.hosts[2])):
            run.api(host, "DELETE", f"/endpoints/{name}")
            run.sh("ip", "netns", "del", run.netns_of(world.plan, name))
        run.api(world.plan.hosts[0], "DELETE", "/networks/demo")
    for expected in (
        *SITES,
        "5 packets transmitted",
        "Site: aws/us-west-2/vpc-1",
        '"privateIpAddress": "198.18.0.12"',
        '"ip": "198.18.0.13"',
    ):
        assert expected in printed, printed


def test_a_document_names_hosts_of_clouds_without_their_addresses(world: World) -> None:
    """What the cloud says counts, also against a document of yesterday; a host that nobody knows needs an address."""
    host = world.plan.hosts[0]
    before = shown(host)
    try:
        world.apply(
            hosts=[
                {"name": "h1", "underlay": "cloud", "vtep": "192.0.2.99", "site": "gcp.us-west1.vpc-3", "labels": {"rack": "a"}}
            ]
        )
        assert shown(host)["labels"] == {"rack": "a"}
        assert [shown(host)[name] for name in ("vtep", "site")] == [before[name] for name in ("vtep", "site")]
        with pytest.raises(run.LabError) as refused:
            world.apply(hosts=[{"name": "h9", "underlay": "cloud"}])
        assert "hosts[0].vtep is missing" in str(refused.value)
    finally:
        world.apply(hosts=[{"name": "h1", "underlay": "cloud", "labels": {}}])
