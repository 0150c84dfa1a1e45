"""Names of endpoints, resolved by containers on two hosts: without agents, without controllers, and never across networks."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import World, clean
from tests.programs import finish, program, ready
from tests.waiting import eventually
from tools.lab import run

GATEWAY, GATEWAY6 = "10.41.0.1", "fd41::1"
DENY = {"name": "no-names", "rules": [{"proto": "udp", "udp_dst": 53, "actions": {"allow": 0}}, {"actions": {"allow": 1}}]}


class Names:
    """Two networks with one range: amber41 reaches the outside, blue41 is flat. A container of each on both hosts."""

    def __init__(self, world: World) -> None:
        self.world = world

    def resolve(self, who: str, *questions: str, server: str = GATEWAY, transport: str = "udp") -> list[list[object]]:
        done = self.world.inside(who, *program("resolve", transport, server, *questions), timeout=300)
        assert done.returncode == 0, done.stderr
        answers: list[list[object]] = json.loads(done.stdout)
        return answers

    def pid(self, host: str) -> int:
        return int((self.world.plan.host(host).directory / "names.pid").read_text())  # type: ignore[union-attr]

    def lives(self, host: str) -> bool:
        try:
            return Path(f"/proc/{self.pid(host)}/cmdline").exists()
        except (OSError, ValueError):
            return False


@pytest.fixture(scope="module")
def names(world: World) -> Iterator[Names]:
    ranges = {"ip_range": "10.41.0.0/24", "ipv6_range": "fd41::/64", "dns_server": True}
    world.apply(
        acls=[DENY],
        networks=[{"name": "amber41", "mode": "nat", "domain": "example.org", **ranges}, {"name": "blue41", **ranges}],
    )
    kept = []
    for name, host, network, aliases in (
        ("n-web", "h1", "amber41", ["www"]), ("n-db", "h2", "amber41", ["www"]), ("n-red", "h1", "blue41", []), ("n-green", "h2", "blue41", []),
    ):  # fmt: skip
        held = world.temporary(name, host, network, aliases=aliases)
        held.__enter__()
        kept.append(held)
    fixture = Names(world)
    yield fixture
    for host in world.plan.hosts:
        eventually(lambda host=host: clean(host))  # type: ignore[misc]
    for held in kept:
        held.__exit__(None, None, None)
    for name in ("amber41", "blue41"):
        eventually(lambda name=name: run.api(world.plan.hosts[0], "DELETE", f"/networks/{name}") is not None)  # type: ignore[misc]
    run.api(world.plan.hosts[0], "DELETE", "/acls/no-names")
    for host in world.plan.hosts:  # with the last endpoint the resolver ends, and its interface and port with it
        eventually(lambda host=host: not (host.directory / "names.pid").exists())  # type: ignore[misc]
        eventually(lambda host=host: world.inside(host.name, "ip", "link", "show", "warren-dns").returncode != 0)  # type: ignore[misc]


def test_containers_resolve_each_other_on_both_hosts_by_both_versions_of_ip(names: Names) -> None:
    questions = (
        "n-db/A",
        "n-db/AAAA",
        "N-WEB.amber41/A",
        "n-web.example.org/A",
        "www/A",
        "2.0.41.10.in-addr.arpa/PTR",
        "nobody.amber41/A",
        "n-db/MX",
    )
    expected = [
        ["NOERROR", ["10.41.0.3"]], ["NOERROR", ["fd41::3"]], ["NOERROR", ["10.41.0.2"]], ["NOERROR", ["10.41.0.2"]],
        ["NOERROR", ["10.41.0.2", "10.41.0.3"]], ["NOERROR", ["n-web.example.org."]], ["NXDOMAIN", []], ["NOERROR", []],
    ]  # fmt: skip
    for who in ("n-web", "n-db"):
        assert names.resolve(who, *questions) == expected
        assert names.resolve(who, *questions, server=GATEWAY6) == expected
        assert names.resolve(who, *questions, transport="tcp") == expected
        assert names.resolve(who, *questions[:2], server=GATEWAY6, transport="tcp") == expected[:2]


def test_a_network_with_the_same_addresses_has_names_of_its_own(names: Names) -> None:
    for who in ("n-red", "n-green"):
        assert names.resolve(who, "n-green/A", "n-web/A", "n-web.amber41/A", "3.0.41.10.in-addr.arpa/PTR") == [
            ["NOERROR", ["10.41.0.3"]], ["REFUSED", []], ["REFUSED", []], ["NOERROR", ["n-green.blue41."]],
        ]  # fmt: skip


def test_names_outside_are_asked_of_the_hosts_name_server(names: Names) -> None:
    assert names.resolve("n-web", "www.example.com/A") == [["SERVFAIL", []]]  # the host's name server does not run
    server = ready(names.world.background("h1", *program("name_server", "127.0.0.1")))
    try:
        assert names.resolve("n-web", "www.example.com/A") == [["NOERROR", ["192.0.2.53"]]]
        assert names.resolve("n-web", "www.example.com/A", transport="tcp") == [["NOERROR", ["192.0.2.53"]]]
        assert names.resolve("n-web", "many.example.com/A") == [["NOERROR", []]]  # truncated
        assert len(names.resolve("n-web", "many.example.com/A", transport="tcp")[0][1]) == 100  # type: ignore[arg-type]
        assert names.resolve("n-red", "secret.example.net/A") == [["REFUSED", []]]
        assert names.resolve("n-web", "nobody.amber41/A") == [["NXDOMAIN", []]]
    finally:
        log = finish(server, 10)
    assert "www.example.com." in log
    assert "secret" not in log
    assert "nobody" not in log


def test_an_acl_holds_for_questions(names: Names) -> None:
    names.world.apply(endpoints=[{"name": "n-web", "network": "amber41", "host": "h1", "acls": ["no-names"]}])
    script = program("resolve", "udp", GATEWAY, "n-db/A")
    quick = ("timeout", "3", *script)
    assert names.world.inside("n-web", *quick).returncode == 124
    assert names.resolve("n-web", "n-db/A", transport="tcp") == [["NOERROR", ["10.41.0.3"]]]
    names.world.apply(endpoints=[{"name": "n-web", "network": "amber41", "host": "h1", "acls": None}])
    assert names.resolve("n-web", "n-db/A") == [["NOERROR", ["10.41.0.3"]]]


def test_a_hundred_names_without_an_agent_and_without_a_controller(names: Names) -> None:
    world, plan = names.world, names.world.plan
    many = [
        {
            "name": f"m{i}",
            "network": "amber41",
            "host": f"h{1 + i % 2}",
            "ipv4_address": f"10.41.0.{100 + i}",
            "ipv6_address": f"fd41::1:{i:x}",
        }
        for i in range(100)
    ]
    world.apply(endpoints=many)
    pid = names.pid("h1")
    for host, process in (("h1", "agent"), ("h2", "controller")):
        run.stop(plan, host, process, signal.SIGKILL)
    try:
        for who in ("n-web", "n-db"):
            questions = [f"m{i}/A" for i in range(100)]
            assert names.resolve(who, *questions) == [["NOERROR", [f"10.41.0.{100 + i}"]] for i in range(100)]
        late = {"endpoints": [{"name": "late", "network": "amber41", "host": "h3", "ipv4_address": "10.41.0.99"}]}
        run.api(plan.hosts[2], "POST", "/apply", document=json.dumps(late))
        eventually(lambda: names.resolve("n-web", "late.amber41/A") == [["NOERROR", ["10.41.0.99"]]])
    finally:
        for host, process in (("h1", "agent"), ("h2", "controller")):
            run.start(plan, host, process)
        run.wait_until_up(plan)
    assert names.pid("h1") == pid  # the next agent has adopted it
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: names.lives("h1") and names.pid("h1") != pid)
    assert names.resolve("n-web", "m7/A") == [["NOERROR", ["10.41.0.107"]]]
    for endpoint in run.api(plan.hosts[0], "GET", "/endpoints")["endpoints"]:
        if endpoint["network"] == "amber41" and endpoint["name"] in ("late", *(m["name"] for m in many)):
            run.api(plan.host(endpoint["hostname"]), "DELETE", f"/endpoints/{endpoint['id']}")  # type: ignore[arg-type]
    eventually(lambda: names.resolve("n-db", "m7.amber41/A") == [["NXDOMAIN", []]])


def test_a_flood_of_one_container_leaves_the_names_of_others(names: Names) -> None:
    flood = names.world.background("n-red", *program("flood_names", GATEWAY))
    try:
        ready(flood)
        assert names.resolve("n-web", *["n-db/A"] * 50) == [["NOERROR", ["10.41.0.3"]]] * 50
    finally:
        sent = finish(flood, 10)
    answered, sent_count = map(int, sent.split()[-2:])
    assert 0 < answered < sent_count / 4
