"""Other filters in the forward hook of a host: `warren status` names them and the command that helps, and Docker's chain for users lets pass."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import World
from tests.programs import program, ready
from tests.waiting import LIMIT_S, eventually
from tools.lab import run

PORT = 8070


class Gate:
    """A container on h1 in a network in mode nat, and h2 as the outside."""

    def __init__(self, world: World) -> None:
        self.world, self.h1, self.h2 = world, world.plan.hosts[0], world.plan.hosts[1]

    def at_h1(self, *command: str) -> str:
        """Run a command on h1."""
        return run.sh(*run.in_netns(self.h1.netns, *command))

    def gets_out(self) -> bool:
        """Whether the container reaches the outside."""
        return "error" not in self.world.inside("g1", *program("ask", "tcp", self.h2.management, 7070)).stdout

    def is_reached(self) -> bool:
        """Whether the outside reaches the container's published port."""
        return "error" not in self.world.inside("h2", *program("ask", "tcp", self.h1.management, PORT)).stdout

    def problems(self) -> list[str]:
        """The lines of `warren status` about filters of h1."""
        (lines,) = [host["problems"] for host in run.api(self.h1, "GET", "/status")["hosts"] if host["name"] == "h1"]
        return [line for line in lines if "drops packets" in line]

    def help(self) -> None:
        """Do what the status says, until it says nothing more."""
        eventually(self.problems)
        for line in self.problems():
            for command in line.partition("to let them pass: ")[2].split("; "):
                self.at_h1(*shlex.split(command))
        eventually(lambda: self.problems() == [])

    def docker_user(self) -> list[str]:
        """The rules in Docker's chain for users."""
        return [line for line in self.at_h1("iptables-nft", "-S", "DOCKER-USER").splitlines() if line.startswith("-A")]


@pytest.fixture(scope="module")
def gate(world: World) -> Iterator[Gate]:
    fixture = Gate(world)
    network = {"name": "gate", "ip_range": "10.76.0.0/24", "ipv6_range": "fd76::/64", "mode": "nat", "host_access": "all"}
    world.apply(networks=[network])
    run.container(world.plan, "g1", "h1", "gate", publish=[{"host_port": PORT, "port": 80}])
    servers = [
        world.background("g1", *program("serve", "{client}", 80)),
        world.background("h2", *program("serve", "{client}", 7070)),
    ]
    for server in servers:
        ready(server)
    eventually(lambda: fixture.gets_out() and fixture.is_reached())
    yield fixture
    for server in servers:
        server.kill()
        server.wait()
    run.api(fixture.h1, "DELETE", f"/endpoints/{run.api(fixture.h1, 'GET', '/endpoints/g1')['endpoint']['id']}")


@pytest.fixture
def clean(gate: Gate) -> Iterator[None]:
    """Take all filters of h1 away but Warren's."""
    yield
    for tables in ("iptables", "ip6tables"):
        if shutil.which(f"{tables}-legacy"):
            for words in ("-P FORWARD ACCEPT", "-F", "-X"):
                gate.at_h1(f"{tables}-legacy", "-w", *words.split())
    for line in gate.at_h1("nft", "list", "tables").splitlines():
        if line != "table inet warren":
            gate.at_h1("nft", "delete", *line.split())
    eventually(lambda: gate.problems() == [])


FILTERS = {
    "iptables-nft": "iptables-nft -P FORWARD DROP",
    "iptables-legacy": "iptables-legacy -w -P FORWARD DROP",
    "rejected": "iptables-nft -A FORWARD -j REJECT",
    "with replies": "iptables-nft -P FORWARD DROP; iptables-nft -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "nft": "nft add table inet fw; nft add chain inet fw f '{ type filter hook forward priority 10; policy drop; }'",
    "nft, ip": "nft add table ip fw; nft add chain ip fw f '{ type filter hook forward priority -10; policy drop; }'",
}


@pytest.mark.parametrize("commands", FILTERS.values(), ids=FILTERS)
@pytest.mark.usefixtures("clean")
def test_a_filter_that_drops_is_told_and_the_told_command_helps(gate: Gate, commands: str) -> None:
    if "legacy" in commands and not shutil.which("iptables-legacy"):
        pytest.skip("no iptables-legacy")
    gate.at_h1("sh", "-c", commands)
    assert not gate.gets_out()
    assert not gate.is_reached()
    gate.help()
    assert gate.gets_out()
    assert gate.is_reached()


@pytest.mark.usefixtures("clean")
def test_a_filter_of_ipv6_is_told_for_itself(gate: Gate) -> None:
    gate.at_h1("ip6tables-nft", "-P", "FORWARD", "DROP")
    eventually(
        lambda: (
            [re.sub(" drops .*", "", line) for line in gate.problems()] == ["chain FORWARD of table ip6 filter (ip6tables-nft)"]
        )
    )
    assert gate.gets_out()
    gate.help()


@pytest.mark.usefixtures("clean")
def test_dockers_chain_for_users_lets_pass_what_comes_and_goes_by_the_gateways(gate: Gate) -> None:
    """A chain as Docker makes it, with a rule of a user. Warren's are put in anew when they are lost, and are gone with the last network."""
    user = "-A DOCKER-USER -s 192.0.2.66/32 -j DROP"
    for words in ("-N DOCKER-USER", "-A FORWARD -j DOCKER-USER", user, "-A DOCKER-USER -j RETURN", "-P FORWARD DROP"):
        gate.at_h1("iptables-nft", *words.split())
    for _ in range(2):
        eventually(lambda: len(gate.docker_user()) == 4)
        assert [gate.docker_user()[0], gate.docker_user()[3]] == [user, "-A DOCKER-USER -j RETURN"]
        assert gate.gets_out()
        assert gate.is_reached()
        assert gate.problems() == []
        gate.at_h1("iptables-nft", "-F", "DOCKER-USER")
        for words in (user, "-A DOCKER-USER -j RETURN"):
            gate.at_h1("iptables-nft", *words.split())
    eventually(lambda: len(gate.docker_user()) == 4)
    gate.world.apply(endpoints=[{"network": "gate", "name": "g1", "host": "h1", "active": False}])
    eventually(lambda: gate.docker_user() == [user, "-A DOCKER-USER -j RETURN"])
    gate.world.apply(endpoints=[{"network": "gate", "name": "g1", "host": "h1", "active": True}])
    eventually(lambda: len(gate.docker_user()) == 4)


@pytest.mark.usefixtures("clean")
def test_a_real_engine_with_its_own_filter_does_not_cut_the_gateways_off(gate: Gate, tmp_path: Path) -> None:
    if not shutil.which("dockerd"):
        pytest.skip("needs docker.io")
    options = [
        f"--data-root={tmp_path}/data",
        f"--exec-root={tmp_path}/exec",
        f"-H=unix://{tmp_path}/sock",
        f"--pidfile={tmp_path}/pid",
    ]
    for _ in range(2):  # the second finds what the first has left
        with (tmp_path / "log").open("ab") as log:
            engine = subprocess.Popen(
                run.in_netns(gate.h1.netns, "dockerd", *options), stdout=log, stderr=log, start_new_session=True
            )
        try:
            eventually(lambda engine=engine: "API listen on" in (tmp_path / "log").read_text() or engine.poll() is not None)  # type: ignore[misc]
            if engine.poll() is not None:
                pytest.skip(f"dockerd does not run with iptables here: {(tmp_path / 'log').read_text()[-300:]}")
            gate.at_h1("iptables-nft", "-P", "FORWARD", "DROP")  # as Docker does where it switches forwarding on itself
            eventually(lambda: len(gate.docker_user()) >= 3)  # docker0's containers stay Docker's to decide
            assert gate.gets_out()
            assert gate.is_reached()
            assert gate.problems() == []
        finally:
            engine.terminate()
            engine.wait(LIMIT_S)
        (tmp_path / "log").unlink()
    run.sh("ip", "-n", gate.h1.netns, "link", "del", "docker0")
