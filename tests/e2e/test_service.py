"""Services with real packets: a port on two hosts is balanced over endpoints on three; existing connections stay."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.conftest import World
from tests.programs import program, ready
from tests.waiting import LIMIT_S, eventually
from tools.lab import run

CLIENT4, HOST4, CLIENT6, HOST6 = "192.0.2.9", "192.0.2.1", "2001:db8::9", "2001:db8::1"
MEMBERS = (("s1", "h1"), ("s2", "h2"), ("s3", "h3"))


class Served:
    """A client outside, behind h1, and the members of the service."""

    def __init__(self, world: World) -> None:
        self.world, self.client = world, f"{world.plan.name}-client"

    def apply(self, **sections: Any) -> None:
        """Apply a document and wait for the hosts."""
        self.world.apply(**sections)

    def greeting(self, address: str = HOST4, port: int = 8088, kind: str = "tcp") -> list[str]:
        """Who answers the client, and by which address it sees it."""
        command = run.in_netns(self.client, *program("ask", kind, address, port))
        return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False).stdout.split()

    def talk(self, port: int = 8088) -> Talk:
        """A connection that stays."""
        command = run.in_netns(self.client, *program("talk_when_asked", HOST4, port))
        return Talk(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1))

    def groups(self, host: str) -> list[str]:
        """The groups of a host."""
        return sorted(line for line in self.world.ofctl(host, "dump-groups", "br-warren").splitlines() if "group_id" in line)

    def members(self, *names: str, port: int = 8088) -> None:
        """Let these be the service's members; returns when the switch of h1 leads to no other."""
        self.apply(services=[{"name": "shop", "network": "mall", "host_port": port, "port": 80, "endpoints": list(names)}])


class Talk:
    """A connection, and which member it is to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out, self.process = process.stdin, process.stdout, process
        self.member = self._out.readline().split()[0]

    @staticmethod
    def alive(talks: list[Talk]) -> list[str]:
        """The members whose connections still carry data to and fro."""
        for talk in talks:
            talk._in.write("\n")
        return [talk.member for talk in talks if talk._out.readline() == "alive\n"]

    def end(self) -> None:
        """Close it."""
        self.process.kill()
        self.process.communicate()


TRIES = 80  # by chance a member of three is left out of so many once in 10^14 times


def until_all(fetch: Callable[[], list[str]], members: set[str]) -> list[list[str]]:
    """Ask at least ten times, and until every member has answered; nobody else may. All answers."""
    answers: list[list[str]] = []
    while len(answers) < 10 or ({answer[0] for answer in answers} != members and len(answers) < TRIES):
        answers.append(fetch())
    assert {answer[0] for answer in answers} == members, answers
    return answers


@pytest.fixture(scope="module")
def served(world: World) -> Iterator[Served]:
    fixture = Served(world)
    host = f"{world.plan.name}-h1"
    for line in (
        f"netns add {fixture.client}", f"-n {host} link add up1 type veth peer name up1 netns {fixture.client}",
        f"-n {host} addr add {HOST4}/24 dev up1", f"-n {host} addr add {HOST6}/64 dev up1 nodad", f"-n {host} link set up1 up",
        f"-n {fixture.client} addr add {CLIENT4}/24 dev up1", f"-n {fixture.client} addr add {CLIENT6}/64 dev up1 nodad",
        f"-n {fixture.client} link set up1 up",
    ):  # fmt: skip
        run.sh("ip", *line.split())
    fixture.apply(networks=[{"name": "mall", "ip_range": "10.30.0.0/24", "ipv6_range": "fd30::/64", "mode": "nat"}])
    servers = []
    for name, at in MEMBERS:
        run.container(world.plan, name, at, "mall", labels={"role": "shop"})
        servers.append(world.background(name, *program("serve", f"{name} {{client}}", "80/tcp", "53/udp")))
    for server in servers:
        ready(server)
    fixture.apply(services=[
        {"name": "shop", "network": "mall", "host_port": 8088, "port": 80, "label": "role=shop"},
        {"name": "names", "network": "mall", "host_port": 8053, "port": 53, "proto": "udp", "endpoints": ["s2"]},
    ])  # fmt: skip
    for at in ("h1", "h2", "h3"):
        eventually(lambda at=at: "8053" in world.inside(at, "nft", "list", "table", "inet", "warren").stdout)  # type: ignore[misc]
    yield fixture
    for server in servers:
        server.kill()
        server.wait()
    for name in ("shop", "names"):
        run.api(world.plan.hosts[0], "DELETE", f"/services/{name}")
    for name, at in MEMBERS:
        endpoint = run.api(world.plan.hosts[0], "GET", f"/endpoints/{name}")["endpoint"]
        run.api(world.plan.host(at), "DELETE", f"/endpoints/{endpoint['id']}")  # type: ignore[arg-type]
    for at in ("h1", "h2", "h3"):
        eventually(lambda at=at: world.inside(at, "nft", "list", "tables").stdout == "")  # type: ignore[misc]
    run.sh("ip", "-n", host, "link", "del", "up1")
    run.sh("ip", "netns", "del", fixture.client)


@pytest.mark.parametrize(("host", "client"), [(HOST4, CLIENT4), (HOST6, CLIENT6)])
def test_members_on_three_hosts_share_the_connections_and_see_the_client(served: Served, host: str, client: str) -> None:
    answers = until_all(lambda: served.greeting(host), {"s1", "s2", "s3"})
    assert {answer[1] for answer in answers} == {client}, answers


def test_a_member_on_another_host_alone_and_udp(served: Served) -> None:
    assert served.greeting(port=8053, kind="udp") == ["s2", CLIENT4]
    assert served.greeting(HOST6, port=8053, kind="udp") == ["s2", CLIENT6]


def test_every_host_of_the_network_leads_to_it(served: Served) -> None:
    """From h3 itself: a member elsewhere sees an address of that host."""
    underlay = next(host.vtep for host in served.world.plan.hosts if host.name == "h3")
    command = program("ask", "tcp", underlay, 8088)
    until_all(lambda: served.world.inside("h3", *command).stdout.split(), {"s1", "s2", "s3"})


@pytest.mark.parametrize("client", ["s1", "s2"])
def test_members_reach_their_own_service_and_each_other_by_it(served: Served, client: str) -> None:
    host = "h1" if client == "s1" else "h2"
    address = HOST4 if host == "h1" else next(str(plan.vtep) for plan in served.world.plan.hosts if plan.name == host)
    command = program("ask", "tcp", address, 8088)
    until_all(lambda: served.world.inside(client, *command).stdout.split(), {"s1", "s2", "s3"})


def test_changes_of_members_break_only_the_connections_of_members_that_leave(served: Served) -> None:
    served.members("s1", "s2")
    talks = [served.talk() for _ in range(10)]
    while len({talk.member for talk in talks}) < 2 and len(talks) < TRIES:
        talks.append(served.talk())
    before = [talk.member for talk in talks]
    assert set(before) == {"s1", "s2"}
    served.members("s1", "s2", "s3")
    assert Talk.alive(talks) == before
    served.members("s1", "s3")  # s2 is no member any more: its connections end, new ones go elsewhere
    staying = [member for member in before if member == "s1"]
    eventually(lambda: Talk.alive(talks) == staying)
    until_all(served.greeting, {"s1", "s3"})
    run.api(served.world.plan.hosts[0], "POST", "/apply", document=json.dumps(
        {"endpoints": [{"name": "s3", "network": "mall", "host": "h3", "active": False}]}), wait_s=20)  # fmt: skip
    until_all(served.greeting, {"s1"})
    assert Talk.alive(talks) == staying
    served.apply(endpoints=[{"name": "s3", "network": "mall", "host": "h3", "active": True}])
    for talk in talks:
        talk.end()


def test_a_controller_that_comes_back_changes_nothing(served: Served) -> None:
    served.members("s1", "s2", "s3")
    talks = [served.talk() for _ in range(6)]
    members = [talk.member for talk in talks]
    before = {host: (served.world.cookies(host), served.groups(host)) for host in ("h1", "h2")}
    run.restart(served.world.plan, "h1", "controller", signal.SIGKILL)
    run.restart(served.world.plan, "h2", "controller", signal.SIGKILL)
    assert Talk.alive(talks) == members
    run.wait_until_up(served.world.plan)
    for host, (cookies, groups) in before.items():
        after = served.world.cookies(host)
        assert set(after) == set(cookies)
        assert all(after[cookie] >= cookies[cookie] for cookie in after), "a flow was installed anew"
        assert served.groups(host) == groups
    assert Talk.alive(talks) == members
    for talk in talks:
        talk.end()


def test_a_port_that_is_taken_is_refused_at_once(served: Served) -> None:
    with pytest.raises(run.LabError, match="endpoints or label, one of the two"):
        run.api(served.world.plan.hosts[0], "POST", "/services", name="nobody", network="mall", host_port=1, port=1)
    with pytest.raises(run.LabError, match="tcp port 8088 of all hosts leads to service shop"):
        served.apply(services=[{"name": "other", "network": "mall", "host_port": 8088, "port": 81, "endpoints": ["s1"]}])
    way = {"host_port": "8080-8090", "port": "80-90"}
    with pytest.raises(run.LabError, match="tcp port 8088 of all hosts is a service's"):
        served.apply(endpoints=[{"name": "s1", "network": "mall", "host": "h1", "publish": [way]}])
    with pytest.raises(run.LabError, match=r"services\[0\].network: 'amber': expected a network in mode nat"):
        served.apply(services=[{"name": "other", "network": "amber", "host_port": 1, "port": 1, "label": "a"}])


def test_acls_apply_to_service_connections_to_members_on_other_hosts(served: Served) -> None:
    """nat_acl lets port 80 in and its replies out again, though the members may send nothing of themselves."""
    served.apply(
        acls={
            "door": [{"proto": "tcp", "tcp_dst": 80, "allow_related": True}],
            "mute": [{"proto": "icmp", "actions": {"allow": 1}}],
        },
        networks=[{"name": "mall", "nat_acl": "door", "default_acl": "mute"}],
    )
    served.members("s1", "s2", "s3")
    until_all(served.greeting, {"s1", "s2", "s3"})
    assert served.greeting(port=8053, kind="udp")[0] == "error"
    served.apply(networks=[{"name": "mall", "nat_acl": [], "default_acl": []}])
