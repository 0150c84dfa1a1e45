"""`warren capture` with real packets: it sees one endpoint's packets from any host, and leaves nothing behind."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.conftest import World
from tests.programs import program, ready
from tests.waiting import LIMIT_S, eventually
from tools.lab import run

COUNT = 4


class Desk:
    """A network with an endpoint on each host, and the command."""

    def __init__(self, world: World) -> None:
        self.world, self.v4 = world, dict[str, str]()

    @contextmanager
    def capture(self, where: str, *words: str) -> Iterator[subprocess.Popen[str]]:
        """The command on a host, ready to see packets; killed at the end if it is still there."""
        url = f"http://{self.world.plan.host(where).management}:9999"  # type: ignore[union-attr]
        command = self.world.command(where, sys.executable, "-m", "tools.cli.main", "--url", url, "capture", *words)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        line = process.stderr.readline()
        try:
            assert line.startswith("capturing "), line + process.communicate(timeout=LIMIT_S)[1]
            yield process
        finally:
            process.kill()
            process.communicate(timeout=LIMIT_S)

    def ping(self, source: str, target: str) -> None:
        """Some pings, all answered."""
        done = self.world.inside(source, "ping", "-c", str(COUNT), "-i", "0.05", "-W", "1", self.v4[target])
        assert f" {COUNT} received" in done.stdout

    def pairs(self, text: str) -> list[tuple[str, str, str]]:
        """(source, destination, kind) of each ping that tcpdump has printed."""
        names = {address: name for name, address in self.v4.items()}
        return sorted((names[a], names[b], k) for a, b, k in re.findall(r"(\S+) > (\S+): ICMP echo (request|reply)", text))

    def left(self) -> list[str]:
        """What captures have left: keys in etcd, ports, interfaces, flows and groups."""
        keys = run.sh(*run.in_netns(self.world.plan.netns, "etcdctl", "--endpoints=http://198.18.1.1:2379", "get", "--prefix",
                                    "--keys-only", "/warren/"))  # fmt: skip
        leftovers = [key for key in keys.split() if "capture" in key]
        for host in self.world.plan.hosts:
            leftovers += re.findall(
                r"wt[0-9a-f]{8}", run.sh("ovs-vsctl", f"--db=unix:{host.directory}/db.sock", "list-ports", "br-warren")
            )
            leftovers += re.findall(r"wt[0-9a-f]{8}", run.sh(*run.in_netns(host.netns, "ip", "-br", "link")))
            leftovers += [
                line for line in self.world.ofctl(host.name, "dump-flows", "br-warren", "table=60").splitlines() if "reg4" in line
            ]
        return leftovers

    def vnis(self) -> str:
        """The VNIs that are given out."""
        command = ("etcdctl", "--endpoints=http://198.18.1.1:2379", "get", "--prefix", "--print-value-only", "/warren/pool/vni/")
        return run.sh(*run.in_netns(self.world.plan.netns, *command))


@pytest.fixture(scope="module")
def desk(world: World) -> Iterator[Desk]:
    room = Desk(world)
    run.api(world.plan.hosts[0], "POST", "/networks", name="desk", ip_range="10.31.0.0/24")
    hosts = {"c1": "h1", "c2": "h2", "c3": "h1"}
    for name, host in hosts.items():
        room.v4[name] = run.container(world.plan, name, host, "desk")["target_veth_ip"].split("/")[0]
    for name in ("c1", "c3"):
        room.ping(name, "c2")
    room.ping("c1", "c3")
    yield room
    for name, host in hosts.items():
        endpoint = run.api(world.plan.hosts[0], "GET", f"/endpoints/{name}")["endpoint"]
        run.api(world.plan.host(host), "DELETE", f"/endpoints/{endpoint['id']}")  # type: ignore[arg-type]
    run.api(world.plan.hosts[0], "DELETE", "/networks/desk")


def interrupted(command: subprocess.Popen[str]) -> tuple[str, str]:
    """What it says after Ctrl-C, which it takes as its end."""
    command.send_signal(signal.SIGINT)
    out, err = command.communicate(timeout=LIMIT_S)
    assert command.returncode == 0, err
    return out, err


@pytest.mark.parametrize("where", ["h1", "h2", "h3"])
def test_the_packets_of_one_endpoint_are_seen_from_any_host(desk: Desk, where: str) -> None:
    """Both ways, once each, and no others'. The last packet is waited for, so all before it have come."""
    expected = sorted([("c1", "c2", "request")] * COUNT + [("c2", "c1", "reply")] * COUNT)
    with desk.capture(where, "desk/c2", "icmp") as command:
        desk.ping("c1", "c3")  # not the endpoint's
        desk.ping("c1", "c2")
        assert command.stdout is not None
        lines = "".join(command.stdout.readline() for _ in expected)
        out, err = interrupted(command)
    assert desk.pairs(lines + out) == expected
    assert re.search(r"^\d+ packets copied$", err, re.M), err
    eventually(lambda: not desk.left())


def test_a_capture_filters_and_cuts_at_the_source_and_writes_a_file(desk: Desk, tmp_path: Path) -> None:
    """What it sends alone, by a field and cut short; tcpdump ends it by itself."""
    file = tmp_path / "kept.pcap"
    words = ("--direction", "in", "--match", "dl_type=0x0800", "--match", "nw_proto=1", "--snap", "60", "-c", str(COUNT))
    with desk.capture("h3", "c2", *words, "-w", str(file)) as command:
        desk.ping("c1", "c2")
        assert command.wait(timeout=LIMIT_S) == 0
    shown = run.sh("tcpdump", "-n", "-e", "-r", str(file))
    assert desk.pairs(shown) == [("c2", "c1", "reply")] * COUNT
    assert all("length 98:" in line for line in shown.splitlines()), shown  # as it was, though 60 bytes were kept
    eventually(lambda: not desk.left())


def test_a_capture_of_a_port_matches_source_and_destination(desk: Desk) -> None:
    with desk.capture("h1", "c2", "--tcp", "80") as command:
        server = ready(desk.world.background("c2", *program("serve", "welcome", "80/tcp")))
        eventually(lambda: desk.world.pings("c1", desk.v4["c2"]))
        assert "welcome" in desk.world.inside("c1", *program("ask", "tcp", desk.v4["c2"], 80)).stdout
        server.kill()
        server.communicate()
        assert command.stdout is not None
        lines = command.stdout.readline() + command.stdout.readline()
        out, _ = interrupted(command)
    assert f"{desk.v4['c2']}.80: Flags [S]" in lines + out
    assert f"{desk.v4['c2']}.80 > {desk.v4['c1']}" in lines + out
    assert "ICMP" not in lines + out


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_a_capture_ends_with_its_client(desk: Desk, how: signal.Signals) -> None:
    eventually(lambda: not desk.left())
    before = desk.vnis()
    with desk.capture("h3", "c1", "-w", "/dev/null") as command:
        assert desk.left()
        assert desk.vnis() != before
        command.send_signal(how)
        eventually(lambda: not desk.left() and desk.vnis() == before)
    eventually(lambda: desk.world.pings("c1", desk.v4["c2"]))


def test_a_capture_ends_with_its_agent_and_when_its_client_is_silent(desk: Desk) -> None:
    """The lease ends the session; the agent that comes next gives back what was taken. A client that stands still is as one whose machine
    has lost its power: its connection stays."""
    eventually(lambda: not desk.left())
    before = desk.vnis()
    with desk.capture("h3", "c1") as command, desk.capture("h2", "c2", "-w", "/dev/null") as silent:
        silent.send_signal(signal.SIGSTOP)
        run.stop(desk.world.plan, "h3", "agent", signal.SIGKILL)
        try:
            _, err = command.communicate(timeout=LIMIT_S)
            assert "warren: the agent breaks off" in err
            assert command.returncode == 2
            claim = "/warren/claim/capture/h3/"  # of what the agent of h3 has begun
            eventually(lambda: all(each.startswith(claim) for each in desk.left()))
            assert desk.left()
        finally:
            run.start(desk.world.plan, "h3", "agent")
        eventually(lambda: not desk.left() and desk.vnis() == before)


@pytest.mark.parametrize("what", ["endpoint", "agent"])
def test_the_client_of_a_capture_is_told_why_it_ends(desk: Desk, what: str) -> None:
    """The endpoint is deleted, or the agent is stopped in good order."""
    made = run.container(desk.world.plan, f"gone-{what}", "h1", "desk")
    with desk.capture("h2", made["id"]) as command:
        if what == "agent":
            run.restart(desk.world.plan, "h2", "agent")
        run.api(desk.world.plan.hosts[0], "DELETE", f"/endpoints/{made['id']}")
        _, err = command.communicate(timeout=LIMIT_S)
        assert err.splitlines()[-1] == "warren: the capture has ended: the endpoint was deleted, or the agent stopped"
        assert command.returncode == 2
    eventually(lambda: not desk.left())


def test_captures_are_not_exported(desk: Desk) -> None:
    """Nor can a mirror session take the name of one."""
    before = run.api(desk.world.plan.hosts[0], "GET", "/mirrors")
    with desk.capture("h1", "c2") as command:
        assert run.api(desk.world.plan.hosts[0], "GET", "/mirrors") == before
        body = {"name": "capture-1", "sources": [{"network": "desk"}], "to": {"gre": "192.0.2.9"}}
        with pytest.raises(run.LabError, match="capture-"):
            run.api(desk.world.plan.hosts[0], "POST", "/mirrors", **body)
        interrupted(command)
    eventually(lambda: not desk.left())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("c2", "no", "such", "words"), "warren: FILTER: tcpdump: can't parse filter expression"),
        (("nobody",), "warren: endpoint 'nobody' does not exist"),
        (("c2", "--match", "tcp_dst=80"), "match[0].tcp_dst"),
        (("c2", "--match", "tcp_dst"), "expected FIELD=VALUE"),
        (("c2", "--tcp", "80", "--udp", "80"), "give one of --tcp, --udp"),
        (("c2", "--direction", "up"), "direction"),
        (("c2", "-w", "/no/such/place"), "-w /no/such/place: No such file or directory"),
    ],
)
def test_mistakes_in_a_capture_command_are_one_line(desk: Desk, words: tuple[str, ...], message: str) -> None:
    url = f"http://{desk.world.plan.hosts[0].management}:9999"
    done = desk.world.inside("h1", sys.executable, "-m", "tools.cli.main", "--url", url, "capture", *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not desk.left()
