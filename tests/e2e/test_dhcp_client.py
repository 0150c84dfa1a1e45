"""Endpoints with addresses from an external DHCP server (busybox udhcpd): the clients are invisible to the container, survive the agent, and
release their leases."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import World
from tests.e2e.test_metrics import of, scraped
from tests.e2e.test_packets import heard, udp, unheard
from tests.programs import program, ready
from tests.waiting import eventually
from tools.lab import run
from tools.lab.plan import container_netns

RANGE, ROUTER, FAR = "100.64.7", "100.64.7.1", "192.0.2.77"
LEASE_S = 20  # udhcpc renews after half of it, but not before 15 seconds


class Lan:
    """A network with a server behind eno7 of a host, and containers."""

    def __init__(self, world: World, directory: Path, host: str = "h1") -> None:
        self.world, self.plan, self.directory, self.host = world, world.plan, directory, host
        self.netns = container_netns(world.plan.name, "server")
        self.server: subprocess.Popen[str] | None = None

    def wire(self) -> None:
        """The server's cable to eno7 of the host."""
        netns = self.plan.host(self.host).netns  # type: ignore[union-attr]
        run.sh("ip", "netns", "add", self.netns)
        run.sh("ip", "-n", netns, "link", "add", "eno7", "type", "veth", "peer", "name", "eth0", "netns", self.netns)
        for place, name in ((self.netns, "eth0"), (netns, "eno7")):
            run.sh("ip", "netns", "exec", place, "ethtool", "-K", name, "tx", "off")
        for words in (("link", "set", "lo", "up"), ("addr", "add", f"{FAR}/32", "dev", "lo"),
                      ("addr", "add", f"{ROUTER}/24", "dev", "eth0"), ("link", "set", "eth0", "up")):  # fmt: skip
            run.sh("ip", "-n", self.netns, *words)

    def serve(self) -> None:
        """Start udhcpd."""
        config, leases = self.directory / "udhcpd.conf", self.directory / "leases"
        leases.touch()
        config.write_text(
            f"start {RANGE}.20\nend {RANGE}.90\ninterface eth0\nlease_file {leases}\npidfile {self.directory}/pid\n"
            f"min_lease {LEASE_S}\noption subnet 255.255.255.0\noption router {ROUTER}\noption lease {LEASE_S}\n"
        )
        self._start("busybox", "udhcpd", "-f", str(config))

    def be_stubborn(self, address: str) -> None:
        """Start a server that gives one address and no other."""
        self._start(*program("stubborn_dhcp_server", address, ROUTER))
        assert self.server is not None
        ready(self.server)

    def _start(self, *command: str) -> None:
        self.server = subprocess.Popen(
            run.in_netns(self.netns, *command), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def stop(self) -> None:
        """The server is away."""
        if self.server is not None:
            self.server.kill()
            self.server.communicate()
            self.server = None

    @contextmanager
    def questions(self) -> Iterator[Callable[..., bool]]:
        """Whether the server's interface has heard a DHCP packet with these words since."""
        heard = self.directory / "heard"
        command = run.in_netns(self.netns, "tcpdump", "--immediate-mode", "-l", "-n", "-vv", "-i", "eth0", "udp dst port 67")
        with heard.open("w") as file:
            dump = subprocess.Popen(command, stdout=file, stderr=subprocess.PIPE, text=True)
        assert dump.stderr is not None
        while "listening" not in dump.stderr.readline():
            assert dump.poll() is None

        def requested(*words: str) -> bool:
            packets = re.split(r"\n(?=\d\d:\d\d:\d\d)", heard.read_text())
            return any(all(word in packet for word in words) for packet in packets)

        try:
            yield requested
        finally:
            dump.kill()
            dump.communicate()

    def hears_nothing_of(self, *names: str) -> None:
        """The server is away for these endpoints, and there for all others."""
        rules = ["flush ruleset", "add table inet away"]
        rules += ["add chain inet away input { type filter hook input priority 0; }"]
        rules += [
            f"add rule inet away input ether saddr {self.endpoint(name)['target_veth_mac']} udp dport 67 drop" for name in names
        ]
        subprocess.run(run.in_netns(self.netns, "nft", "-f", "-"), input="\n".join(rules) + "\n", text=True, check=True)

    def endpoint(self, name: str) -> dict[str, Any]:
        """An endpoint as the agents tell it."""
        return run.api(self.plan.hosts[2], "GET", f"/endpoints/lan/{name}")["endpoint"]  # type: ignore[no-any-return]

    def address(self, name: str) -> str:
        """The address that an endpoint has leased; empty for none."""
        return str(self.endpoint(name)["target_veth_ip"]).partition("/")[0]

    def shown(self, name: str, *words: str) -> str:
        """What `ip` says in a container."""
        return self.world.inside(name, "ip", *words).stdout

    def leased(self, name: str) -> str:
        """Wait until a container has an address, and packets can flow; which."""
        eventually(lambda: self.address(name) and f"inet {self.address(name)}/24 " in self.shown(name, "-4", "addr"))
        address = self.address(name)
        eventually(lambda: self.endpoint(name)["state"] == "up")
        return address

    def client(self, name: str) -> int | None:
        """The pid of a container's client."""
        try:
            host = self.plan.host(self.endpoint(name)["hostname"])
            pid = int((host.directory / "dhcp/clients" / self.endpoint(name)["id"]).read_text())  # type: ignore[union-attr]
        except (OSError, ValueError, run.LabError):
            return None
        return pid if run.lives(pid) else None

    def problems(self, host: str) -> str:
        """What a host's agent complains about."""
        rows = run.api(self.plan.hosts[2], "GET", "/status")["hosts"]
        return " ".join(next(row for row in rows if row["name"] == host)["problems"])


@pytest.fixture(scope="module")
def lan(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lan]:
    fixture, first = Lan(world, tmp_path_factory.mktemp("lan")), world.plan.hosts[0]
    run.api(first, "POST", "/networks", name="lan", dhcp="external", ipv6_range="fd07::/64")
    fixture.wire()
    network = run.api(first, "GET", "/networks/lan")["network"]["id"]
    run.api(first, "POST", "/endpoints", network_id=network, hostname="h1", port="eno7")
    for name, host in (("d1", "h1"), ("d2", "h2"), ("d3", "h3")):
        run.container(world.plan, name, host, "lan")
    yield fixture
    fixture.stop()
    for endpoint in run.api(first, "GET", "/endpoints?network_id=lan")["endpoints"]:
        run.api(first, "DELETE", f"/endpoints/{endpoint['id']}?hostname={endpoint['hostname']}")
    for name in ("server", "d1", "d2", "d3"):
        run.sh("ip", "netns", "del", container_netns(world.plan.name, name), check=False)
    run.api(first, "DELETE", "/networks/lan")


def test_a_container_gets_its_address_from_an_external_dhcp_server(lan: Lan) -> None:
    """On the host of the interface and on another. Nobody else's address, and nothing before the lease."""
    world = lan.world
    frame = udp(lan.endpoint("d1")["target_veth_mac"], "ff:ff:ff:ff:ff:ff", f"{RANGE}.66", f"{RANGE}.255", b"warren-not-mine")
    assert lan.endpoint("d1")["target_veth_ip"] == ""
    assert unheard(world, "d1", "server", frame, b"warren-not-mine"), "without a lease"
    with lan.questions() as requested:
        lan.serve()
        one, two = lan.leased("d1"), lan.leased("d2")
        assert requested("Hostname (12)", '"d1"')
        lan.leased("d3")
    assert one != two
    assert lan.endpoint("d1")["leased"]
    assert lan.endpoint("d1")["target_veth_ip"] == f"{one}/24"
    assert f"default via {ROUTER}" in lan.shown("d1", "route")
    assert world.reaches("d1", lan.endpoint("d2")["target_veth_ipv6"].partition("/")[0]), "which is Warren's"
    for source, target in (
        ("d1", two),
        ("d2", one),
        ("d1", ROUTER),
        ("d2", ROUTER),
        ("server", one),
        ("server", two),
        ("d2", FAR),
    ):
        assert world.reaches(source, target), (source, target)
    assert unheard(world, "d1", "server", frame, b"warren-not-mine"), "an address that is not leased"
    lan.hears_nothing_of("d3")  # for a later test: its lease runs out meanwhile
    assert heard(
        world,
        "d1",
        "server",
        udp(lan.endpoint("d1")["target_veth_mac"], "ff:ff:ff:ff:ff:ff", one, f"{RANGE}.255", b"warren-mine!"),
        b"warren-mine!",
    )


@pytest.mark.parametrize("words", ["-4 addr flush dev eth0", "route del default"])
def test_what_somebody_takes_of_a_lease_is_told_and_comes_back(lan: Lan, words: str) -> None:
    """The agent says so and puts it back. The client is stopped meanwhile, because a renewal would silently do the same."""
    address, client = lan.leased("d1"), lan.client("d1")
    assert client is not None
    eventually(lambda: lan.world.reaches("d1", FAR))
    run.sh("kill", "-STOP", str(client))
    try:
        lan.world.inside("d1", "ip", *words.split())
        eventually(lambda: "endpoint d1: the leased" in lan.problems("h1"))
        eventually(lambda: lan.world.reaches("d1", FAR))
        eventually(lambda: "endpoint d1" not in lan.problems("h1"))
    finally:
        run.sh("kill", "-CONT", str(client))
    assert lan.leased("d1") == address


def test_a_killed_dhcp_client_is_started_again(lan: Lan) -> None:
    """And asks for the address that it had, which stays meanwhile. When everything was killed, and /run is empty, too."""
    before = lan.leased("d1")
    for everything in (False, True):
        client = lan.client("d1")
        assert client is not None
        if everything:
            run.stop(lan.plan, "h1", "agent", signal.SIGKILL)
        run.sh("kill", "-9", str(client))
        if everything:
            shutil.rmtree(lan.plan.hosts[0].directory / "dhcp")
            run.start(lan.plan, "h1", "agent")
        eventually(lambda gone=client: lan.client("d1") not in (None, gone))  # type: ignore[misc]
        assert lan.address("d1") == before
    eventually(lambda: lan.endpoint("d1")["state"] == "up" and "inet " in lan.shown("d1", "-4", "addr", "show", "dev", "eth0"))
    assert lan.leased("d1") == before


def test_a_lease_is_kept_up_while_agent_and_controller_are_dead(lan: Lan) -> None:
    """The same client goes on, and the next agent takes it over and learns what was told meanwhile: here that the server refuses the
    address that it gave, and gives another. It gives everybody the same: the endpoint that was made first has it."""
    before, client, other = lan.leased("d1"), lan.client("d1"), f"{RANGE}.222"
    for process in ("agent", "controller"):
        run.stop(lan.plan, "h1", process, signal.SIGKILL)
    with lan.questions() as requested:
        eventually(lambda: requested("Request", f"Client-IP {before}"), 2 * LEASE_S)
        assert lan.world.reaches("d2", before)
        lan.stop()
        lan.be_stubborn(other)
        run.sh("kill", "-USR1", str(client), str(lan.client("d2")))  # they renew at once
        eventually(lambda: requested("Request", '"d1"', f"Requested-IP (50), length 4: {other}"), 2 * LEASE_S)
    assert lan.address("d1") == before
    for process in ("controller", "agent"):
        run.start(lan.plan, "h1", process)
    run.wait_until_up(lan.plan)
    eventually(lambda: lan.address("d1") == lan.address("d2") == other, 2 * LEASE_S)
    assert lan.leased("d1") == other
    eventually(lambda: lan.endpoint("d2")["state"] == "closed")
    assert other in lan.endpoint("d2")["reason"]
    assert before not in lan.shown("d1", "-4", "addr")
    assert lan.world.reaches("server", other)
    assert not lan.world.pings("server", before, 1)
    assert lan.client("d1") == client
    assert len(clients(lan, "h1")) == 1


def test_an_expired_lease_removes_the_address(lan: Lan) -> None:
    """And a server that is back gives one again."""
    lan.hears_nothing_of("d3")
    eventually(lambda: lan.address("d3") == "" and "no DHCP server" in lan.problems("h3"), 3 * LEASE_S)
    assert "inet " not in lan.shown("d3", "-4", "addr", "show", "dev", "eth0")
    assert "default" not in lan.shown("d3", "-4", "route")
    lan.stop()
    lan.serve()
    lan.hears_nothing_of()
    assert lan.world.reaches("d1", lan.leased("d3"))
    eventually(lambda: "DHCP" not in "".join(lan.problems(host) for host in ("h1", "h2", "h3")))


def test_a_lease_is_released_when_the_endpoint_goes(lan: Lan) -> None:
    """When its endpoint goes, and when its container does, whose namespace its client alone still holds."""
    for name, goes in (("d4", "endpoint"), ("d5", "namespace")):
        run.container(lan.plan, name, "h2", "lan")
        address, client, veth = lan.leased(name), lan.client(name), lan.endpoint(name)["overlay_veth_name"]
        made = lan.endpoint(name)["id"]
        assert client is not None
        with lan.questions() as requested:
            if goes == "endpoint":
                run.api(lan.plan.hosts[1], "DELETE", f"/endpoints/{made}")
                assert not run.lives(client)
            run.sh("ip", "netns", "del", container_netns(lan.plan.name, name))
            eventually(lambda pid=client: not run.lives(pid))  # type: ignore[misc]
            eventually(lambda ip=address: requested("Release", f"Client-IP {ip}"))  # type: ignore[misc]
        eventually(lambda name=veth: name not in lan.shown("h2", "link"))  # type: ignore[misc]
        if goes == "namespace":
            run.api(lan.plan.hosts[1], "DELETE", f"/endpoints/{made}")
    assert len(clients(lan, "h2")) == 1


def test_the_rate_of_dhcp_requests_to_an_external_server_is_limited(lan: Lan) -> None:
    """And the neighbour gets its answers. The controller hears nothing of it."""
    before = shown_to_the_controller(lan)
    plain = udp(lan.endpoint("d1")["target_veth_mac"], "ff:ff:ff:ff:ff:ff", "0.0.0.0", "255.255.255.255", b"warren-flood")
    question = plain[:34] + b"\0\x44\0\x43" + plain[38:]
    with lan.questions() as requested:
        began = time.monotonic()
        sent = lan.world.inside("d1", *program("spray_frames", 2, 0, question.hex()))
        assert lan.world.reaches("d3", lan.leased("d1"))
        eventually(lambda: requested("0.0.0.0.68 > 255.255.255.255.67"))
        heard = (lan.directory / "heard").read_text().count("0.0.0.0.68 >")
        seconds = time.monotonic() - began
    assert heard < int(sent.stdout.split()[-1])
    assert heard <= 30 + 10 * (seconds + 1), "thirty at once and ten a second pass"
    assert shown_to_the_controller(lan) == before


def shown_to_the_controller(lan: Lan) -> float:
    """How many packets h1's switch has shown its controller for DHCP."""
    return of(scraped(lan.world, 9302), "warren_packet_ins_total", kind="dhcp")


def test_a_network_that_stops_using_external_dhcp_ends_its_clients(lan: Lan) -> None:
    """Addresses, clients and problems go with `dhcp: external`, and come again with it."""
    first = lan.plan.hosts[0]
    assert lan.leased("d1")
    for document, external in (("dhcp: false", False), ("dhcp: external", True)):
        run.api(first, "POST", "/apply", timeout_s=40, document=f"networks: [{{name: lan, {document}}}]", wait_s=20)
        if external:
            assert lan.world.reaches("server", lan.leased("d1"))
            continue
        eventually(lambda: not any(clients(lan, host) for host in ("h1", "h2", "h3")))
        eventually(lambda: lan.address("d1") == lan.address("d2") == lan.address("d3") == "")
        assert "inet " not in lan.shown("d1", "-4", "addr", "show", "dev", "eth0")
        eventually(lambda: lan.endpoint("d1")["state"] == "up")


def clients(lan: Lan, host: str) -> list[str]:
    """The processes of a host's clients."""
    processes = subprocess.run(["pgrep", "-f", f"udhcpc .*/{lan.plan.name}/{host}/dhcp/"], capture_output=True, text=True)
    return processes.stdout.split()
