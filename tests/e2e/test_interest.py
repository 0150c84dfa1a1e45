"""A host reads the endpoints of the networks that concern it, on real hosts: as networks come to concern it, and in a cluster whose endpoints
have no placements yet."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from specs import keys
from tests.e2e.conftest import World
from tests.programs import finish, program
from tests.waiting import LIMIT_S, eventually
from tools.lab import run

ETCD = "http://198.18.1.1:2379"
HOSTS = ("h1", "h2", "h3")
RED, GRAY, TAN = NETWORKS = ("reads-red", "reads-gray", "reads-tan")


class Readers:
    """Three networks; red is on h1, gray on h2, tan on h3 alone."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ids: dict[str, str] = {}
        self.address: dict[str, str] = {}

    def store(self, prefix: str) -> dict[str, str]:
        """The keys below a prefix, past all checks."""
        pairs: dict[str, str] = json.loads(self.world.inside("h1", *program("store_keys", ETCD, "json", prefix)).stdout)
        return pairs

    def delete(self, *doomed: str) -> None:
        """Delete keys, past all checks."""
        self.world.inside("h1", *program("store_keys", ETCD, "delete", *doomed))

    def read_by(self, host: str) -> set[str] | None:
        """Which of the three networks the controller of a host reads; None: all that there are."""
        networks = json.loads(self.store(keys.status_controller(host))[keys.status_controller(host)])["networks"]
        return None if networks is None else {name for name, network_id in self.ids.items() if network_id in networks}


@pytest.fixture
def readers(world: World) -> Iterator[Readers]:
    readers = Readers(world)
    ranges = {name: {"name": name, "ip_range": f"10.7{n}.0.0/24", "mode": "nat"} for n, name in enumerate(NETWORKS)}
    world.apply(networks=list(ranges.values()))
    readers.ids = {json.loads(text)["name"]: json.loads(text)["id"] for text in readers.store(keys.NETWORKS).values()}
    readers.ids = {name: readers.ids[name] for name in NETWORKS}
    with ExitStack() as stack:
        for container, host, network in (("rr", "h1", RED), ("rg", "h2", GRAY), ("rt", "h3", TAN)):
            endpoint = stack.enter_context(world.temporary(container, host, network))
            readers.address[container] = endpoint["target_veth_ip"].split("/")[0]
        yield readers
        with suppress(run.LabError):
            run.api(world.plan.hosts[0], "DELETE", "/routers/reads")
    for name in NETWORKS:
        run.api(world.plan.hosts[0], "DELETE", f"/networks/{name}")


def assert_none_lost(pings: subprocess.Popen[str]) -> None:
    """End a ping; all that it sent was answered."""
    answered = [int(number) for number in re.findall(r"icmp_seq=(\d+)", finish(pings, LIMIT_S))]
    assert len(answered) > 20
    assert answered == list(range(1, len(answered) + 1))


def test_a_host_reads_the_networks_that_it_has_and_those_that_lead_there(readers: Readers) -> None:
    world = readers.world
    eventually(lambda: [readers.read_by(host) for host in HOSTS] == [{RED}, {GRAY}, {TAN}])
    world.apply(routers=[{"name": "reads", "networks": [RED, GRAY]}])
    assert [readers.read_by(host) for host in HOSTS] == [{RED, GRAY}, {RED, GRAY}, {TAN}]
    assert world.reaches("rr", readers.address["rg"])
    # what becomes of a network that has come to concern a host reaches it
    with world.temporary("rg2", "h3", GRAY) as endpoint:
        address = endpoint["target_veth_ip"].split("/")[0]
        assert world.reaches("rr", address)
        assert readers.read_by("h3") == {RED, GRAY, TAN}
    eventually(lambda: not world.pings("rr", address, count=1))


def test_a_cluster_without_placements_gets_them_and_loses_no_packet(readers: Readers) -> None:
    world = readers.world
    world.apply(routers=[{"name": "reads", "networks": [RED, GRAY]}])
    before = readers.store(keys.PLACEMENTS)
    confirmed = readers.store(keys.PLACING)
    assert confirmed.keys() == {keys.placing(host) for host in HOSTS}
    pings = world.background("rr", "ping", "-i", "0.05", readers.address["rg"])
    for host in HOSTS:
        run.stop(world.plan, host, "agent")
    readers.delete(*confirmed, *before)  # as agents have left them that are older than placements
    eventually(lambda: [readers.read_by(host) for host in HOSTS] == [None, None, None])
    for host in HOSTS:
        run.start(world.plan, host, "agent")
    eventually(lambda: readers.store(keys.PLACING).keys() == confirmed.keys())
    eventually(lambda: readers.store(keys.PLACEMENTS) == before)
    eventually(lambda: [readers.read_by(host) for host in HOSTS] == [{RED, GRAY}, {RED, GRAY}, {TAN}])
    assert_none_lost(pings)


def test_a_placement_that_is_missing_is_found_by_the_plugged_cable(readers: Readers) -> None:
    world = readers.world
    eventually(lambda: readers.read_by("h1") == {RED})
    before = readers.store(keys.placements_of("h1"))
    pings = world.background("rr", "ping", "-i", "0.05", "10.70.0.1")
    run.stop(world.plan, "h1", "agent")
    readers.delete(*before)
    run.start(world.plan, "h1", "agent")
    eventually(lambda: readers.store(keys.placements_of("h1")) == before)
    eventually(lambda: run.api(world.plan.host("h1"), "GET", "/endpoints/reads-red/rr")["endpoint"]["state"] == "up")
    assert_none_lost(pings)
