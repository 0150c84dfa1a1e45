"""Random rounds of everything that changes who may talk, with long-lived UDP and TCP flows between all containers. After each round one invariant
holds: a packet arrives if and only if today's specs allow its connection's beginning."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.e2e.conftest import World
from tests.programs import program, ready
from tools.lab import run

ROUNDS = int(os.environ.get("WARREN_TEST_ROUNDS", "6"))
GRACE_S = 7.0  # docs/acl.md says five; this machine may be busy
LISTEN_S = 1.5
PORT = 7000
ADDRESSES = ("10.29.0.2", "10.29.0.3", "10.29.0.4")
COLOURS = ("red", "blue")
PAIRS = [(one, other) for one in COLOURS for other in COLOURS]


class Talkers:
    """tests/programs/talkers.py in a container, or on a host."""

    def __init__(self, world: World, name: str, *targets: str) -> None:
        command = world.command(name, *program("talkers", PORT, *targets))
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        ready(self.process)

    def heard(self) -> dict[str, set[str]]:
        """The addresses heard since the last question, by protocol."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print("heard", file=self.process.stdin, flush=True)
        answer = json.loads(self.process.stdout.readline())
        return {proto: set(answer.get(proto, ())) for proto in ("udp", "tcp")}

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@dataclass
class Member:
    """A container on the network: its endpoint's name, its host, its colour, and its talkers."""

    name: str
    host: str
    colour: str
    talkers: Talkers


@dataclass
class Rounds:
    """The network "coloured", its members by address, and the pairs of colours (sender, receiver) that its ACL lets talk."""

    world: World
    chance: random.Random
    members: dict[str, Member] = field(default_factory=dict)
    pairs: set[tuple[str, str]] = field(default_factory=set)
    created: int = 0
    history: list[str] = field(default_factory=list)

    def api(self, host: str, method: str, path: str, **body: Any) -> dict[str, Any]:
        answer: dict[str, Any] = run.api(self.world.plan.host(host), method, path, **body)  # type: ignore[arg-type]
        return answer

    # ---- what a round does ----------------------------------------------------------------------------------------

    def create(self) -> None:
        free = [address for address in ADDRESSES if address not in self.members]
        if not free:
            self.replace()
            return
        self._create(self.chance.choice(free), self.chance.choice(("h1", "h2")), self.chance.choice(COLOURS))

    def delete(self) -> None:
        if self.members:
            self._delete(self.chance.choice(sorted(self.members)))

    def replace(self) -> None:
        """Another endpoint gets the address of one that goes."""
        if self.members:
            address = self.chance.choice(sorted(self.members))
            colour, host = self.members[address].colour, self.chance.choice(("h1", "h2"))
            self._delete(address)
            self._create(address, host, COLOURS[1 - COLOURS.index(colour)])

    def recolour(self) -> None:
        if self.members:
            member = self.members[self.chance.choice(sorted(self.members))]
            member.colour = COLOURS[1 - COLOURS.index(member.colour)]
            document = {"name": member.name, "network": "coloured", "host": member.host, "labels": {member.colour: "yes"}}
            self.history.append(f"{member.name} becomes {member.colour}")
            self.world.apply(endpoints=[document])

    def rules(self) -> None:
        self.pairs = {pair for pair in PAIRS if self.chance.random() < 0.4}
        self.history.append(f"rules {sorted(self.pairs)}")
        self.world.apply(acls={"colours": rules_of(self.pairs)})

    def restart(self) -> None:
        host, process = self.chance.choice(("h1", "h2")), self.chance.choice(("agent", "controller"))
        self.history.append(f"restart {process} of {host}")
        run.restart(self.world.plan, host, process)
        run.wait_until_up(self.world.plan)

    def _create(self, address: str, host: str, colour: str) -> None:
        self.created += 1
        name = f"member{self.created}"
        self.history.append(f"create {name} {address} on {host}, {colour}")
        run.container(self.world.plan, name, host, "coloured", ipv4_address=address, labels={colour: "yes"})
        self.members[address] = Member(name, host, colour, Talkers(self.world, name, *(a for a in ADDRESSES if a != address)))

    def _delete(self, address: str) -> None:
        member = self.members.pop(address)
        self.history.append(f"delete {member.name} {address}")
        member.talkers.end()
        endpoint = self.api(member.host, "GET", f"/endpoints/{member.name}")["endpoint"]
        self.api(member.host, "DELETE", f"/endpoints/{endpoint['id']}")
        run.sh("ip", "netns", "del", run.netns_of(self.world.plan, member.name))

    # ---- what must hold -------------------------------------------------------------------------------------------

    def expected(self, hearer: str, proto: str) -> set[str]:
        """The addresses that a member must hear. A datagram is a reply, too, if the other side may begin: all send from one port."""
        colour = self.members[hearer].colour
        others = {address: member.colour for address, member in self.members.items() if address != hearer}
        may = {address for address, other in others.items() if (other, colour) in self.pairs}
        replies = {address for address, other in others.items() if (colour, other) in self.pairs}
        return may | replies if proto == "udp" else may

    def check(self) -> None:
        time.sleep(GRACE_S)
        for member in self.members.values():
            member.talkers.heard()
        time.sleep(LISTEN_S)
        for address, member in self.members.items():
            heard = member.talkers.heard()
            for proto in ("udp", "tcp"):
                assert heard[proto] == self.expected(address, proto), (member.name, address, proto, self.history)


def rules_of(pairs: set[tuple[str, str]]) -> list[dict[str, Any]]:
    """The ACL that lets these pairs talk; the last rule matches nothing that is sent here."""
    rules: list[dict[str, Any]] = [{"from": {"label": a}, "to": {"label": b}, "allow_related": True} for a, b in sorted(pairs)]
    return [*rules, {"proto": "tcp", "tcp_dst": 9, "actions": {"allow": 0}}]


@pytest.fixture
def rounds(world: World) -> Iterator[Rounds]:
    seed = int(os.environ.get("WARREN_TEST_SEED", "0")) or random.randrange(1, 1 << 32)
    print(f"WARREN_TEST_SEED={seed}")
    world.apply(
        acls={"colours": rules_of(set())}, networks=[{"name": "coloured", "ip_range": "10.29.0.0/24", "default_acl": "colours"}]
    )
    fixture = Rounds(world, random.Random(seed))
    yield fixture
    for address in sorted(fixture.members):
        fixture._delete(address)
    fixture.api("h1", "DELETE", "/networks/coloured")
    fixture.api("h1", "DELETE", "/acls/colours")


def test_a_packet_arrives_if_and_only_if_todays_specs_allow_its_connections_beginning(rounds: Rounds) -> None:
    for _ in ADDRESSES:
        rounds.create()
    rounds.pairs = {("red", "blue"), ("red", "red")}
    rounds.world.apply(acls={"colours": rules_of(rounds.pairs)})
    rounds.check()
    operations = [rounds.create, rounds.delete, rounds.replace, rounds.replace, rounds.recolour, rounds.rules, rounds.restart]
    for _ in range(ROUNDS):
        for operation in rounds.chance.sample(operations, 3):
            operation()
        rounds.check()
