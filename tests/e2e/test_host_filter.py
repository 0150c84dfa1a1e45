"""What a host forwards and lets in, with a stranger on the underlay who sends his packets by way of h1."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.conftest import World
from tests.e2e.test_connections import Station
from tests.programs import program, ready
from tests.waiting import LIMIT_S, PATIENTLY, eventually
from tools.lab import run
from tools.lab.machine import kernel_datapath

STRANGER4, STRANGER6 = "198.18.0.99", "fd99::99"
UNDERLAY6, MANAGEMENT6 = "fd99::{}", "fd98::{}"  # of h1 and h2
TRANSIT4, TRANSIT6 = "100.127.0.0/16", "fd57:7272:656e:1::/112"
SWITCHES = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")
ROUTED = "10.72.0.0/24"
RANGES = "10.72.0.0/14"  # of all networks but vault
ETCD = "198.18.1.1"
PLACES = (
    ("v1", "h1", "vault"), ("q1", "h1", "square"), ("n1", "h1", "names"), ("t1", "h1", "trusted"), ("p1", "h1", "plaza"), ("v2", "h2", "vault"),
)  # fmt: skip
PUBLISHED = {"v2": [{"host_port": 8090, "port": 80}]}


Question = tuple[str, str, int | None]


class Host:
    """h1, a stranger on its underlay, and a machine behind a Linux bridge of h1."""

    def __init__(self, world: World) -> None:
        self.world, self.h1, self.h2 = world, world.plan.hosts[0], world.plan.hosts[1]
        self.stranger = f"{world.plan.name}-odd"
        self.guest = f"{world.plan.name}-vm"

    def at(self, netns: str, *command: str) -> str:
        """The output of a command in one of the namespaces."""
        return subprocess.run(
            run.in_netns(netns, *command), capture_output=True, text=True, timeout=LIMIT_S, check=False
        ).stdout.strip()

    def greeting(self, netns: str, kind: str, address: str, port: int) -> str:
        """The address by which a server sees the asker; "error ..." without an answer."""
        return self.at(netns, *program("ask", kind, address, port))

    def answered(self, netns: str, questions: Iterable[Question]) -> set[Question]:
        """Those of the questions (protocol, address, port) that a server answers, all asked at once: what is refused takes its time. As a port
        of None, pings."""

        def is_answered(question: Question) -> bool:
            kind, address, port = question
            return self.pings(netns, address) if port is None else "error" not in self.greeting(netns, kind, address, port)

        ordered = list(questions)
        with ThreadPoolExecutor(20) as pool:
            return {question for question, answered in zip(ordered, pool.map(is_answered, ordered), strict=True) if answered}

    def pings(self, netns: str, address: str, wait: str = "-W1") -> bool:
        """Whether somebody's pings are answered, by default within a second."""
        return "bytes from" in self.at(netns, "ping", "-c", "2", "-i", "0.2", wait, address)

    def switches(self) -> list[str]:
        """The values of h1's forwarding switches."""
        return self.at(self.h1.netns, "sysctl", "-n", *SWITCHES).split()

    def transit(self, version: int) -> str:
        """The address to which nftables translates port 8080."""
        rules = self.at(self.h1.netns, "nft", "list", "chain", "inet", "warren", "prerouting").splitlines()
        (to,) = {
            line.rpartition(" to ")[2] for line in rules if "dport 8080 " in line and f"ip{version == 6 and 6 or ''} to" in line
        }
        return to.rpartition(":")[0].strip("[]")


def published_by_v1(host: Host) -> list[dict[str, object]]:
    """A port that is bound to the address of management, and one that is bound to none."""
    return [{"host_port": 8080, "port": 80, "host_ip": host.h1.management}, {"host_port": 8080, "port": 80, "proto": "udp"}]


@pytest.fixture(scope="module")
def host(world: World) -> Iterator[Host]:
    fixture = Host(world)
    before = fixture.switches()
    run.sh(*run.in_netns(fixture.h1.netns, "sysctl", "-qw", *(f"{name}=0" for name in SWITCHES)))
    underlay = "eth0" if kernel_datapath() else "br-phy"
    for number, plan in enumerate((fixture.h1, fixture.h2), 1):
        run.sh(*run.in_netns(plan.netns, "sysctl", "-q", "-e", "-w", f"net.ipv6.conf.{underlay}.disable_ipv6=0"))
        run.sh("ip", "-n", plan.netns, "addr", "add", f"{UNDERLAY6.format(number)}/64", "dev", underlay, "nodad")
        run.sh("ip", "-n", plan.netns, "addr", "add", f"{MANAGEMENT6.format(number)}/64", "dev", "mgmt0", "nodad")
    for line in (
        f"netns add {fixture.stranger}",
        f"-n {world.plan.netns} link add odd type veth peer name eth0 netns {fixture.stranger}",
        f"-n {world.plan.netns} link set odd master under up",
        f"-n {fixture.stranger} link set eth0 up",
        f"-n {fixture.stranger} addr add {STRANGER4}/24 dev eth0",
        f"-n {fixture.stranger} addr add {STRANGER6}/64 dev eth0 nodad",
        *(f"-n {fixture.stranger} route add {to} via {fixture.h1.vtep}" for to in ("198.18.1.0/24", "100.126.0.0/15", RANGES, "172.31.0.0/24")),
        *(f"-n {fixture.stranger} -6 route add {to} via {UNDERLAY6.format(1)}" for to in ("fd98::/64", "fd57:7272:656e::/47")),
        *(f"-n {netns} route add {RANGES} via {fixture.h1.management}" for netns in (fixture.h2.netns, world.plan.netns)),
        f"netns add {fixture.guest}",
        f"-n {fixture.h1.netns} link add name virbr0 type bridge forward_delay 0",
        f"-n {fixture.h1.netns} link add vnet0 type veth peer name eth0 netns {fixture.guest}",
        f"-n {fixture.h1.netns} link set vnet0 master virbr0 up",
        f"-n {fixture.h1.netns} addr add 172.31.0.1/24 dev virbr0",
        f"-n {fixture.h1.netns} link set virbr0 up",
        f"-n {fixture.guest} addr add 172.31.0.2/24 dev eth0",
        f"-n {fixture.guest} link set eth0 up",
        f"-n {fixture.guest} route add default via 172.31.0.1",
        f"-n {fixture.stranger} route add 172.31.0.2 via {fixture.h1.vtep}",
    ):  # fmt: skip
        run.sh("ip", *line.split())
    run.sh(*run.in_netns(fixture.stranger, "ethtool", "-K", "eth0", "tx", "off"))  # the userspace datapath completes no checksums
    world.apply(networks=[
        {"name": "vault", "ip_range": "10.71.0.0/24", "ipv6_range": "fd71::/64", "mode": "nat"},
        {"name": "square", "ip_range": ROUTED, "mode": "routed"},
        {"name": "names", "ip_range": "10.73.0.0/24", "ipv6_range": "fd73::/64", "mode": "nat", "host_access": "dns"},
        {"name": "trusted", "ip_range": "10.74.0.0/24", "ipv6_range": "fd74::/64", "mode": "nat", "host_access": "all"},
        {"name": "plaza", "ip_range": "10.75.0.0/24", "mode": "routed", "host_access": "all"},
    ])  # fmt: skip
    for name, at, network in PLACES:
        run.container(
            world.plan, name, at, network, publish=published_by_v1(fixture) if name == "v1" else PUBLISHED.get(name, [])
        )
    servers = [
        world.background("v1", *program("serve", "{client}", 80, 8080)),
        world.background("q1", *program("serve", "{client}", 80)),
        world.background("v2", *program("serve", "v2 {client}", 80)),
        world.background("h1", *program("serve", "h1 {client}", 53, 7777)),
        world.background("h2", *program("serve", "h2 {client}", 53, 7777)),
        subprocess.Popen(
            run.in_netns(world.plan.netns, *program("serve", "etcd {client}", 53, 7777)), stdout=subprocess.PIPE, text=True
        ),
    ]
    for server in servers:
        ready(server)
    eventually(lambda: fixture.switches() == ["1", "1"])
    yield fixture
    for server in servers:
        server.kill()
        server.wait()
    for name, at, _ in PLACES:
        run.api(world.plan.host(at), "DELETE", f"/endpoints/{run.api(fixture.h1, 'GET', f'/endpoints/{name}')['endpoint']['id']}")
    eventually(lambda: fixture.at(fixture.h1.netns, "ip", "-br", "link", "show", "up", "dev", "warren-gw") == "")
    assert fixture.pings(fixture.guest, STRANGER4, PATIENTLY), "the machine behind the bridge may rely on forwarding by now"
    assert not fixture.pings(fixture.stranger, fixture.h2.management), "strangers are still kept out"
    run.sh("ip", "-n", fixture.h1.netns, "link", "del", "virbr0")
    eventually(lambda: fixture.switches() == ["0", "0"])
    eventually(lambda: fixture.at(fixture.h1.netns, "nft", "list", "tables") == "")
    routes = (f"-n {netns} route del {RANGES}" for netns in (fixture.h2.netns, world.plan.netns))
    for line in (*routes, f"netns del {fixture.stranger}", f"netns del {fixture.guest}"):
        run.sh("ip", *line.split())
    for number, plan in enumerate((fixture.h1, fixture.h2), 1):
        run.sh("ip", "-n", plan.netns, "addr", "del", f"{UNDERLAY6.format(number)}/64", "dev", underlay)
        run.sh("ip", "-n", plan.netns, "addr", "del", f"{MANAGEMENT6.format(number)}/64", "dev", "mgmt0")
    run.sh(
        *run.in_netns(
            fixture.h1.netns, "sysctl", "-qw", *(f"{name}={value}" for name, value in zip(SWITCHES, before, strict=True))
        )
    )


def test_a_stranger_does_not_reach_the_management_network_by_way_of_a_host(host: Host) -> None:
    assert host.greeting(host.stranger, "tcp", host.h1.vtep, 7777) == f"h1 {STRANGER4}", (
        "the host's own services are its own affair"
    )
    questions = itertools.product(("tcp", "udp"), (host.h2.management, MANAGEMENT6.format(2)), (7777, None))
    assert host.answered(host.stranger, questions) == set()


def test_a_port_bound_to_one_address_is_not_reached_past_the_binding(host: Host) -> None:
    transit4, transit6 = host.transit(4), host.transit(6)
    assert host.greeting(host.stranger, "tcp", host.h1.management, 8080) == STRANGER4
    assert "error" in host.greeting(host.stranger, "tcp", host.h1.vtep, 8080)
    assert "error" in host.greeting(host.stranger, "tcp", "100.126.0.1", 8080)
    questions = itertools.product(("tcp", "udp"), (transit4, transit6), (80, 8080, None))
    assert host.answered(host.stranger, questions) == set()


def test_a_port_bound_to_no_address_is_reached_at_each(host: Host) -> None:
    for address, client in (
        (host.h1.management, STRANGER4), (host.h1.vtep, STRANGER4), (UNDERLAY6.format(1), STRANGER6), (MANAGEMENT6.format(1), STRANGER6),
    ):  # fmt: skip
        assert host.greeting(host.stranger, "udp", address, 8080) == client


def test_the_hosts_end_of_the_gateways_is_for_containers_and_the_host(host: Host) -> None:
    for address in ("100.126.0.1", "fd57:7272:656e::1"):
        assert "error" in host.greeting(host.stranger, "tcp", address, 7777)
        assert not host.pings(host.stranger, address)
        assert host.greeting(host.h1.netns, "tcp", address, 7777) == f"h1 {address}"


def test_routed_networks_are_reached_directly(host: Host) -> None:
    (address,) = {e["target_veth_ip"].split("/")[0] for e in [run.api(host.h1, "GET", "/endpoints/q1")["endpoint"]]}
    assert host.greeting(host.stranger, "tcp", address, 80) == STRANGER4
    assert host.pings(host.stranger, address, PATIENTLY)


def test_containers_and_machines_behind_a_bridge_of_the_host_reach_others_and_get_replies(host: Host) -> None:
    """As those of Docker's own networks and of libvirt do; a stranger begins nothing towards them."""
    eventually(lambda: host.pings(host.guest, STRANGER4))
    assert not host.pings(host.stranger, "172.31.0.2")


def test_the_guard_and_the_earlier_switches_survive_a_flushed_ruleset_and_a_restart(host: Host) -> None:
    run.stop(host.world.plan, "h1", "agent")
    host.at(host.h1.netns, "nft", "flush", "ruleset")
    assert host.pings(host.stranger, host.h2.management, PATIENTLY), "nothing but the table keeps strangers out"
    run.start(host.world.plan, "h1", "agent")
    run.wait_until_up(host.world.plan)
    eventually(lambda: not host.pings(host.stranger, host.h2.management))
    assert host.greeting(host.stranger, "tcp", host.h1.management, 8080) == STRANGER4


# ---- host_access --------------------------------------------------------------------------------------------------


def machines(host: Host) -> list[str]:
    """The addresses of h1, h2 and etcd's machine: of the tunnels, of management, and the host's end of the gateways."""
    return ["100.126.0.1", *(address for plan in (host.h1, host.h2) for address in (plan.vtep, plan.management)), ETCD]


@pytest.mark.parametrize(("name", "dns", "rest"), [
    ("v1", False, False), ("q1", False, False), ("n1", True, False), ("t1", True, True), ("p1", True, True),
])  # fmt: skip
def test_containers_reach_of_the_clusters_machines_what_host_access_allows(host: Host, name: str, dns: bool, rest: bool) -> None:
    netns = run.netns_of(host.world.plan, name)
    allowed = {53: dns, 7777: rest, None: rest}
    questions = set(itertools.product(("tcp", "udp"), machines(host), allowed))
    expected = {question for question in questions if allowed[question[2]]}
    assert host.answered(netns, questions) <= expected
    eventually(lambda: host.answered(netns, expected) == expected)
    assert ("Connection refused" in host.greeting(netns, "tcp", host.h1.management, 1)) == rest
    assert host.pings(netns, STRANGER4, PATIENTLY), "who is no machine of the cluster is the outside"


@pytest.mark.parametrize(("name", "dns", "rest"), [("v1", False, False), ("n1", True, False), ("t1", True, True)])
def test_host_access_holds_for_ipv6(host: Host, name: str, dns: bool, rest: bool) -> None:
    netns = run.netns_of(host.world.plan, name)
    addresses, allowed = (MANAGEMENT6.format(1), UNDERLAY6.format(1), "fd57:7272:656e::1"), {53: dns, 7777: rest}
    questions = set(itertools.product(("tcp",), addresses, allowed))
    expected = {question for question in questions if allowed[question[2]]}
    assert host.answered(netns, questions) <= expected
    eventually(lambda: host.answered(netns, expected) == expected)
    assert host.pings(netns, STRANGER6, PATIENTLY)


@pytest.mark.parametrize("name", ["v1", "q1", "n1"])
def test_published_ports_are_reached_without_host_access(host: Host, name: str) -> None:
    """Those of the own host, and those of another host."""
    netns = run.netns_of(host.world.plan, name)
    assert "error" not in host.greeting(netns, "tcp", host.h1.management, 8080)
    assert "error" in host.greeting(netns, "tcp", host.h1.vtep, 8080), "it is bound to one address"
    for address in (host.h2.management, host.h2.vtep):
        eventually(lambda address=address: host.greeting(netns, "tcp", address, 8090).startswith("v2 "))  # type: ignore[misc]
        assert "error" in host.greeting(netns, "udp", address, 8090), "TCP is published"


def test_a_host_reaches_its_containers_whatever_they_may_reach(host: Host) -> None:
    assert host.greeting(host.h1.netns, "tcp", host.h1.management, 8080) == host.h1.management
    assert host.greeting(host.h2.netns, "tcp", host.h1.management, 8080) == host.h2.management
    assert host.greeting(host.h2.netns, "tcp", host.h2.management, 8090).startswith("v2 ")


def test_host_access_changes_at_once_for_containers_that_run(host: Host) -> None:
    netns = run.netns_of(host.world.plan, "v1")
    for level, reached in (("all", True), ("none", False)):
        host.world.apply(networks=[{"name": "vault", "host_access": level}])
        eventually(lambda reached=reached: host.pings(netns, host.h2.vtep) == reached)  # type: ignore[misc]


STATION = 7778
HOST6 = "fd57:7272:656e::1"  # of warren-gw


class Talk:
    """Connections of a container to machines of the cluster: UDP to stations (their addresses, and the hosts that have them), and TCP
    to servers."""

    def __init__(self, host: Host, name: str) -> None:
        self.host, self.name = host, name
        self.client = Station(host.world, name, 45010)
        self.servers: dict[str, Station] = {}
        self.tcp: dict[tuple[str, int], subprocess.Popen[str]] = {}

    def begin(self, stations: Mapping[str, str], servers: Iterable[tuple[str, int]]) -> None:
        self.client.command("echo", "off")
        for address, at in stations.items():
            server = self.servers[address] = Station(self.host.world, at, STATION)
            self.client.command("to", address, STATION)
            eventually(lambda a=address: self.client.hears(f"{a} {STATION}"))  # type: ignore[misc]
            server.command("echo", "off")
            server.command("to", *next(iter(server.heard())).split())
        for each in servers:
            command = self.host.world.command(self.name, *program("talk_when_asked", *each))
            process = self.tcp[each] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            assert process.stdout.readline().strip()

    def passes(self) -> dict[str, tuple[bool, bool]]:
        """For each station, whether datagrams arrive that the container sends, and that the machine sends."""
        for station in (self.client, *self.servers.values()):
            station.heard()
        time.sleep(1)
        heard = self.client.heard()
        return {a: (bool(server.heard()), f"{a} {STATION}" in heard) for a, server in self.servers.items()}

    def alive(self) -> set[tuple[str, int]]:
        """The TCP connections on which data still come and go."""
        for process in self.tcp.values():
            assert process.stdin is not None
            print(file=process.stdin, flush=True)
        return {
            each
            for each, process in self.tcp.items()
            if process.stdout is not None and process.stdout.readline().strip() == "alive"
        }

    def end(self) -> None:
        for station in (self.client, *self.servers.values()):
            station.end()
        for process in self.tcp.values():
            process.kill()
            process.communicate()


@pytest.mark.parametrize(
    ("network", "name", "level"),
    [("vault", "v1", "none"), ("square", "q1", "none"), ("vault", "v1", "dns"), ("square", "q1", "dns")],
)
def test_host_access_taken_back_ends_connections_in_both_directions_and_no_others(
    host: Host, network: str, name: str, level: str
) -> None:
    near = HOST6 if network == "vault" else host.h1.vtep  # from this address h1 answers
    stations = {near: "h1", host.h2.management: "h2"}
    names = {(host.h1.vtep, 53), (host.h2.vtep, 53)}
    services = {(host.h1.vtep, 7777), (host.h2.vtep, 7777), (ETCD, 7777)}
    published = {(host.h2.vtep, 8090)}
    host.world.apply(networks=[{"name": network, "host_access": "all"}])
    eventually(lambda: host.pings(run.netns_of(host.world.plan, name), host.h2.vtep))
    talk, unlimited = Talk(host, name), Talk(host, "t1")
    try:
        talk.begin(stations, names | services | published)
        unlimited.begin({}, services)
        assert set(talk.passes().values()) == {(True, True)}
        assert talk.alive() == names | services | published
        host.world.apply(networks=[{"name": network, "host_access": level}])
        eventually(lambda: set(talk.passes().values()) == {(False, False)})
        assert talk.alive() == published | (names if level == "dns" else set())
        assert unlimited.alive() == services
    finally:
        talk.end()
        unlimited.end()
        host.world.apply(networks=[{"name": network, "host_access": "none"}])


# ---- ports that the host uses itself --------------------------------------------------------------------------------


@pytest.fixture
def sshd(host: Host) -> Iterator[str]:
    """A server of h1 on TCP port 2222; the way in which its port is refused."""
    server = ready(host.world.background("h1", *program("serve", "sshd", "2222/tcp")))
    yield r"port 2222/tcp is in use on h1 \(all addresses\)"
    server.kill()
    server.wait()


PORT = {"host_port": 2222, "port": 80}


def test_a_port_on_which_a_process_of_the_host_listens_is_refused_wherever_it_is_asked_for(host: Host, sshd: str) -> None:
    for number in (0, 1):  # h1's own agent, and one that asks h1's
        with pytest.raises(run.LabError, match=sshd):
            document = {"endpoints": [{"name": "v1", "network": "vault", "host": "h1", "publish": [PORT]}]}
            run.api(host.world.plan.hosts[number], "POST", "/apply", timeout_s=40, document=json.dumps(document))
        with pytest.raises(run.LabError, match=sshd):
            run.api(host.world.plan.hosts[number], "POST", "/services", name="ssh", network="vault", label="role", **PORT)
        bound = {**PORT, "host_ip": host.h1.management}
        with pytest.raises(run.LabError, match=sshd):
            document = {"endpoints": [{"name": "v3", "network": "vault", "host": "h1", "publish": [bound]}]}
            run.api(host.world.plan.hosts[number], "POST", "/apply", timeout_s=40, document=json.dumps(document))
    with pytest.raises(run.LabError, match=sshd):
        run.container(host.world.plan, "v3", "h1", "vault", publish=[{"host_port": "2220-2223", "port": "80-83"}])
    assert "sshd" in host.greeting(host.stranger, "tcp", host.h1.management, 2222)
    assert [w["host_port"] for w in run.api(host.h1, "GET", "/endpoints/v1")["endpoint"]["publish"]] == [8080, 8080]


def test_the_same_port_of_another_protocol_or_host_is_free(host: Host, sshd: str) -> None:
    for fields in ({"name": "v1", "host": "h1", "publish": [published_by_v1(host)[0], {**PORT, "proto": "udp"}]},
                   {"name": "v2", "host": "h2", "publish": [PORT]}):  # fmt: skip
        host.world.apply(endpoints=[{"network": "vault", **fields}])
    eventually(lambda: host.greeting(host.stranger, "tcp", host.h2.vtep, 2222).startswith("v2 "))
    for name, at, publish in (("v1", "h1", published_by_v1(host)), ("v2", "h2", PUBLISHED["v2"])):
        host.world.apply(endpoints=[{"network": "vault", "name": name, "host": at, "publish": publish}])


def test_a_published_port_is_held(host: Host) -> None:
    for _ in range(2):
        eventually(lambda: "Address already in use" in host.at(host.h1.netns, *program("bind", "tcp", host.h1.management, 8080)))
        assert "Address already in use" in host.at(host.h1.netns, *program("bind", "udp", "0.0.0.0", 8080))
        assert host.at(host.h1.netns, *program("bind", "tcp", host.h1.vtep, 8080)) == "bound", "the binding is to another address"
        run.restart(host.world.plan, "h1", "agent", signal.SIGKILL)
        run.wait_until_up(host.world.plan)


def test_a_port_that_a_process_took_while_no_agent_ran_is_told_and_stays_the_processs(host: Host) -> None:
    run.stop(host.world.plan, "h1", "agent")
    server = ready(host.world.background("h1", *program("serve", "mine", "8080/tcp")))
    run.start(host.world.plan, "h1", "agent")
    run.wait_until_up(host.world.plan)

    def problems() -> str:
        (lines,) = [h["problems"] for h in run.api(host.h1, "GET", "/status")["hosts"] if h["name"] == "h1"]
        return "\n".join(lines)

    eventually(lambda: "published port 8080/tcp: a process of this host listens on it (all addresses)" in problems())
    eventually(lambda: host.greeting(host.stranger, "tcp", host.h1.management, 8080) == "mine")
    assert host.greeting(host.stranger, "udp", host.h1.management, 8080) == STRANGER4, "the other port is led in as before"
    server.kill()
    server.wait()
    eventually(lambda: host.greeting(host.stranger, "tcp", host.h1.management, 8080) == STRANGER4)
    eventually(lambda: problems() == "")
