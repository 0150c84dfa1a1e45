"""Gateways with real packets: NAT, routed networks and published ports, with an "internet" behind a host."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import World
from tests.programs import finish, program, ready
from tests.waiting import LIMIT_S, eventually
from tools.lab import run

INET4, INET6, HOST4, HOST6 = "192.0.2.9", "2001:db8::9", "192.0.2.1", "2001:db8::1"
PRIVATE = "10.8.0.0/24"  # of both networks in mode nat
UNREACHABLE, UNREACHABLE6 = "203.0.113.5", "2001:db8:dead::5"


class Outside:
    """The internet behind h1, and who is inside."""

    def __init__(self, world: World) -> None:
        self.world, self.plan = world, world.plan
        self.inet = f"{world.plan.name}-inet"
        self.v4: dict[str, str] = {}
        self.v6: dict[str, str] = {}
        self.mac: dict[str, str] = {}

    def internet(self, *command: str) -> str:
        """Run a command out there."""
        return subprocess.run(
            run.in_netns(self.inet, *command), capture_output=True, text=True, timeout=LIMIT_S, check=False
        ).stdout.strip()

    def greeting(self, source: str, kind: str, address: str, port: int) -> str:
        """The address by which a server sees the asker; "error ..." without an answer."""
        command = program("ask", kind, address, port)
        return self.internet(*command) if source == "internet" else self.world.inside(source, *command).stdout.strip()

    def apply(self, **sections: Any) -> None:
        """Apply a document and wait for the hosts."""
        self.world.apply(**sections)

    def publish(self, name: str, network: str, *ways: dict[str, Any]) -> None:
        """Publish these ports of a container on h1, and no others."""
        self.apply(endpoints=[{"name": name, "network": network, "host": "h1", "publish": list(ways)}])
        ranges = [list(map(int, str(way["host_port"]).split("-"))) for way in ways]
        ports = {str(port) for first, *last in ranges for port in range(first, max([first, *last]) + 1)}
        eventually(lambda: ports <= set(self.published()))

    def published(self) -> list[str]:
        """The host's ports that nftables leads in."""
        rules = self.world.inside("h1", "nft", "list", "chain", "inet", "warren", "prerouting").stdout
        return [line.split("dport ")[1].split()[0] for line in rules.splitlines() if "dport" in line]


@pytest.fixture(scope="module")
def outside(world: World) -> Iterator[Outside]:
    fixture = Outside(world)
    forwarding = world.inside("h1", "cat", "/proc/sys/net/ipv4/ip_forward").stdout
    host = f"{world.plan.name}-h1"
    for line in (
        f"netns add {fixture.inet}", f"-n {host} link add up0 type veth peer name up0 netns {fixture.inet}",
        f"-n {host} addr add {HOST4}/24 dev up0", f"-n {host} addr add {HOST6}/64 dev up0 nodad", f"-n {host} link set up0 up",
        f"-n {fixture.inet} addr add {INET4}/24 dev up0", f"-n {fixture.inet} addr add {INET6}/64 dev up0 nodad",
        f"-n {fixture.inet} link set up0 up", f"-n {fixture.inet} link set lo up",
        f"-n {host} route add default via {INET4}", f"-n {host} -6 route add default via {INET6}",
        f"-n {fixture.inet} route add 10.9.0.0/24 via {HOST4}", f"-n {fixture.inet} route add unreachable 203.0.113.0/24",
        f"-n {fixture.inet} -6 route add unreachable 2001:db8:dead::/48",
    ):  # fmt: skip
        run.sh("ip", *line.split())
    run.sh(
        *run.in_netns(
            fixture.inet,
            "sysctl",
            "-qw",
            "net.ipv4.ip_forward=1",
            "net.ipv6.conf.all.forwarding=1",
            "net.ipv6.icmp.ratelimit=0",
        )
    )
    fixture.apply(
        acls={
            "door": [{"proto": "tcp", "tcp_dst": 81, "allow_related": True}, {"proto": "udp", "actions": {"allow": 1}}],
            "indoors": [{"to": {"cidr": "192.0.2.0/24"}, "actions": {"allow": 0}}, {"actions": {"allow": 1}}],
            "shy": [{"to": {"cidr": "192.0.2.0/24"}, "proto": "tcp", "tcp_dst": 7000, "allow_related": True}],
        },
        networks=[
            {"name": "north", "ip_range": PRIVATE, "ipv6_range": "fd08::/64", "mode": "nat"},
            {"name": "south", "ip_range": PRIVATE, "mode": "nat", "default_acl": "shy", "nat_acl": "door"},
            {"name": "open", "ip_range": "10.9.0.0/24", "mode": "routed"},
        ],
    )  # fmt: skip
    for name, at, network, acls in (
        ("n1", "h1", "north", None), ("n2", "h1", "north", None), ("s1", "h1", "south", None), ("n3", "h1", "north", ["indoors"]),
        ("n4", "h1", "north", None),
        ("o1", "h1", "open", None), ("o2", "h2", "open", None),
    ):  # fmt: skip
        endpoint = run.container(world.plan, name, at, network, **({"acls": acls} if acls else {}))
        fixture.v4[name], fixture.mac[name] = endpoint["target_veth_ip"].split("/")[0], endpoint["target_veth_mac"]
        fixture.v6[name] = endpoint["target_veth_ipv6"].split("/")[0]
    servers = [world.background(name, *program("serve", "{client}", 80, 81)) for name in ("n1", "s1", "o1")]
    servers.append(
        subprocess.Popen(run.in_netns(fixture.inet, *program("serve", "{client}", 7000)), stdout=subprocess.PIPE, text=True)
    )
    for server in servers:
        ready(server)
    eventually(lambda: "masquerade" in world.inside("h1", "nft", "list", "ruleset").stdout)
    yield fixture
    for server in servers:
        server.kill()
        server.wait()
    for name in ("n1", "n2", "n3", "n4", "s1", "o1", "o2"):
        endpoint = run.api(world.plan.hosts[0], "GET", f"/endpoints/{name}")["endpoint"]
        run.api(world.plan.host(endpoint["hostname"]), "DELETE", f"/endpoints/{endpoint['id']}")  # type: ignore[arg-type]
    show = "nft list tables; ip addr show warren-gw | grep inet; ip route | grep warren-gw"
    eventually(lambda: world.inside("h1", "sh", "-c", show).stdout == "")
    assert world.inside("h1", "cat", "/proc/sys/net/ipv4/ip_forward").stdout == forwarding
    run.sh("ip", "-n", host, "link", "del", "up0")
    run.sh("ip", "netns", "del", fixture.inet)


@pytest.mark.parametrize("name", ["n1", "s1"])
def test_the_gateway_answers_pings_where_policy_lets_them_by(outside: Outside, name: str) -> None:
    if name == "n1":
        assert outside.world.reaches(name, "10.8.0.1")
        assert outside.world.reaches(name, "fd08::1")
    else:
        assert not outside.world.pings(name, "10.8.0.1"), "shy allows one port outside, nothing else"


def test_networks_with_one_subnet_reach_the_outside_at_once(outside: Outside) -> None:
    assert outside.v4["n1"] == outside.v4["s1"]
    talks = [ready(outside.world.background(name, *program("talk", INET4, 7000)), "connected") for name in ("n1", "s1")]
    assert outside.greeting("n1", "tcp", INET4, 7000) == HOST4
    assert outside.greeting("s1", "tcp", INET4, 7000) == HOST4
    assert outside.greeting("n1", "udp", INET4, 7000) == HOST4
    assert outside.greeting("n1", "tcp", INET6, 7000) == HOST6
    assert outside.greeting("n1", "udp", INET6, 7000) == HOST6
    for talk in talks:
        assert int(finish(talk, LIMIT_S)) > 1


def test_icmp_errors_come_back(outside: Outside) -> None:
    assert "Unreachable" in outside.world.inside("n1", "ping", "-c1", "-W2", UNREACHABLE).stdout
    assert "refused" in outside.greeting("n1", "udp", INET4, 7999)


@pytest.mark.parametrize(
    ("address", "answers"),
    [(INET4, {"1", "2", "3"}), (INET6, {"1", "2", "3"}), (UNREACHABLE, {f"error {INET4}"}), (UNREACHABLE6, {f"error {INET6}"})],
)
def test_endpoints_with_one_icmp_id_are_all_answered(outside: Outside, address: str, answers: set[str]) -> None:
    """As busybox's ping does, whose id is its PID, when it is PID 1 of each container. Routers limit the rate of their errors (`ip_error`)."""
    names = ("n1", "n2", "n4")
    for icmp_id in (1, 7):
        assert {name: echoes(outside, name, address, icmp_id) for name in names} == dict.fromkeys(names, answers)


def echoes(outside: Outside, name: str, address: str, icmp_id: int) -> set[str]:
    """What comes back for three echo requests of a container."""
    return set(outside.world.inside(name, *program("echo", address, icmp_id, 3)).stdout.splitlines())


def test_fragmentation_needed_from_outside_reaches_the_container(outside: Outside) -> None:
    run.sh("ip", "-n", outside.inet, "link", "add", "narrow", "mtu", "1300", "type", "veth", "peer", "name", "narrow2")
    run.sh("ip", "-n", outside.inet, "link", "set", "narrow", "up")
    run.sh("ip", "-n", outside.inet, "link", "set", "narrow2", "up")
    run.sh("ip", "-n", outside.inet, "route", "add", "198.51.100.0/24", "dev", "narrow")
    output = outside.world.inside("n1", "ping", "-c2", "-W1", "-M", "do", "-s", "1372", "198.51.100.7").stdout
    assert "mtu = 1300" in output or "mtu=1300" in output, output


@pytest.mark.parametrize(("source", "seen4", "seen6"), [
    ("internet", INET4, INET6), ("h1", HOST4, HOST6), ("n1", "100.127.", "fd57:"), ("n2", "100.127.", "fd57:"),
])  # fmt: skip
def test_published_ports(outside: Outside, source: str, seen4: str, seen6: str) -> None:
    """From outside with the client's own address; from the host; from a neighbour and from itself."""
    outside.publish("n1", "north", {"host_port": 8080, "port": 80}, {"host_port": 8053, "port": 81, "proto": "udp"})
    assert outside.greeting(source, "tcp", HOST4, 8080).startswith(seen4)
    assert outside.greeting(source, "tcp", HOST6, 8080).startswith(seen6)
    assert outside.greeting(source, "udp", HOST4, 8053).startswith(seen4)
    assert outside.greeting(source, "udp", HOST6, 8053).startswith(seen6)
    assert "error" in outside.greeting(source, "tcp", HOST4, 8053)


def test_unpublishing_one_port_breaks_no_other_connection(outside: Outside) -> None:
    outside.publish("n1", "north", {"host_port": "8080-8081", "port": "80-81"})
    command = run.in_netns(outside.inet, *program("talk", HOST4, 8080))
    talk = ready(subprocess.Popen(command, stdout=subprocess.PIPE, text=True), "connected")
    outside.publish("n1", "north", {"host_port": 8080, "port": 80})
    eventually(lambda: "8081" not in outside.published())
    assert "error" in outside.greeting("internet", "tcp", HOST4, 8081)
    assert int(finish(talk, LIMIT_S)) > 1


def test_a_port_that_is_taken_is_refused_at_once(outside: Outside) -> None:
    outside.publish("n1", "north", {"host_port": 8080, "port": 80})
    with pytest.raises(run.LabError, match="tcp port 8080 of host h1 is published by endpoint n1"):
        outside.publish("n2", "north", {"host_port": "8079-8081", "port": "79-81"})


def test_acls_apply_to_traffic_to_and_from_the_outside(outside: Outside) -> None:
    outside.publish("s1", "south", {"host_port": 9080, "port": 80}, {"host_port": 9081, "port": 81})
    assert "error" in outside.greeting("s1", "udp", INET4, 7000)  # shy
    assert "error" in outside.greeting("n3", "tcp", INET4, 7000)  # indoors
    assert outside.greeting("n3", "tcp", INET6, 7000) == HOST6
    assert outside.greeting("internet", "tcp", HOST4, 9081) == INET4  # door lets it in and its replies out
    assert "error" in outside.greeting("internet", "tcp", HOST4, 9080)


def test_forged_sources_and_the_transit_range_are_not_forwarded(outside: Outside) -> None:
    """An address of the network from outside; the transit range asked without a publication."""
    run.sh("ip", "-n", outside.inet, "route", "add", "100.127.0.0/16", "via", HOST4)
    assert "error" in outside.greeting("internet", "tcp", "100.127.0.1", 80)
    run.sh("ip", "-n", outside.inet, "addr", "add", "10.8.0.77/32", "dev", "lo")
    forged = outside.internet("ping", "-c2", "-i0.2", "-W1", "-I", "10.8.0.77", "100.127.0.1")
    assert "100% packet loss" in forged


def test_routed_the_outside_sees_the_containers_own_address(outside: Outside) -> None:
    assert outside.greeting("o1", "tcp", INET4, 7000) == outside.v4["o1"]
    assert outside.greeting("internet", "tcp", outside.v4["o1"], 80) == INET4
    assert outside.world.reaches("o1", outside.v4["o2"])


@pytest.mark.parametrize("process", ["controller", "agent"])
def test_a_transfer_through_nat_survives_a_killed_process(outside: Outside, process: str) -> None:
    talk = ready(outside.world.background("n1", *program("talk", INET4, 7000)), "connected")
    run.stop(outside.plan, "h1", process, signal.SIGKILL)
    assert outside.greeting("s1", "tcp", INET4, 7000) == HOST4, "nothing is asked of the process that is gone"
    run.start(outside.plan, "h1", process)
    run.wait_until_up(outside.plan)
    assert int(finish(talk, LIMIT_S)) > 1


def status_of(outside: Outside) -> list[str]:
    """What status says of h1."""
    problems: list[str] = run.api(outside.plan.hosts[0], "GET", "/hosts/h1")["host"]["problems"]
    return problems


def test_ct_limit_confines_a_flood_of_connections_to_its_network(outside: Outside) -> None:
    def kept() -> list[tuple[int, int]]:
        """Limit and count of the zones that have a limit."""
        control = f"{outside.plan.hosts[0].directory}/ovs-vswitchd.ctl"
        limits = subprocess.run(["ovs-appctl", "-t", control, "dpctl/ct-get-limits"], capture_output=True, text=True).stdout
        return [(int(limit), int(count)) for limit, count in re.findall(r"limit=(\d+),count=(\d+)", limits)]

    def flood() -> bool:
        """Fill the zone; a connection of an earlier test that ends leaves one place free."""
        return outside.world.inside("n2", *program("many_connections", INET4)).returncode == 0

    talk = ready(outside.world.background("n1", *program("talk", INET4, 7000)), "connected")
    outside.apply(networks=[{"name": "north", "ct_limit": 60}])
    eventually(lambda: {limit for limit, _ in kept()} == {60, 16_384})  # networks without a limit of their own have the agent's
    assert flood()
    ((_, count),) = [(limit, count) for limit, count in kept() if limit == 60]
    assert 60 <= count < 200
    eventually(lambda: flood() and any("network north has reached its limit of 60" in line for line in status_of(outside)))
    eventually(lambda: flood() and "error" in outside.greeting("n2", "tcp", INET4, 7000))
    eventually(lambda: outside.greeting("s1", "tcp", INET4, 7000) == HOST4)
    assert int(finish(talk, LIMIT_S)) > 1
    outside.apply(networks=[{"name": "north", "ct_limit": None}])
    eventually(lambda: 60 not in [limit for limit, _ in kept()])
    eventually(lambda: not any("has reached its limit" in line for line in status_of(outside)))
    eventually(lambda: outside.greeting("n2", "tcp", INET4, 7000) == HOST4)


def test_the_gateway_works_again_after_the_bridge_was_recreated(outside: Outside) -> None:
    run.restart(outside.plan, "h1", "ovs", signal.SIGKILL)
    eventually(lambda: outside.greeting("n1", "tcp", INET4, 7000) == HOST4)
