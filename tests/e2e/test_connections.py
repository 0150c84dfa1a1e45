"""Connections end with what allowed them: a packet arrives if and only if today's specs allow its connection's beginning."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import World
from tests.programs import program, ready
from tests.waiting import eventually
from tools.lab import run

GRACE_S = 8.0  # after which a connection that nothing allows any more has ended (docs/acl.md)
CLIENT, SERVER = 45002, 7000


class Station:
    """A UDP socket in a container (tests/programs/station.py)."""

    def __init__(self, world: World, name: str, port: int) -> None:
        command = world.command(name, *program("station", port))
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        ready(self.process)

    def command(self, *words: object) -> None:
        assert self.process.stdin is not None
        print(*words, file=self.process.stdin, flush=True)

    def heard(self) -> dict[str, list[int]]:
        """Datagrams since the last question by sender ("ADDRESS PORT"): how many, and how many numbers are missing between them."""
        assert self.process.stdout is not None
        self.command("heard")
        datagrams: dict[str, list[int]] = json.loads(self.process.stdout.readline())
        return datagrams

    def hears(self, sender: str) -> bool:
        """Whether a datagram of this sender comes, now or within a second."""
        self.heard()
        limit = time.monotonic() + 1
        while time.monotonic() < limit:
            if sender in self.heard():
                return True
            time.sleep(0.05)
        return False

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


class Guarded:
    """A network whose ACL lets UDP to port 7000 and its replies pass, and nothing else."""

    def __init__(self, world: World) -> None:
        self.world, self.plan = world, world.plan
        self.stations: list[Station] = []
        self.containers: set[str] = set()

    def client_left_alone(self, server_ip: str) -> Station:
        """g-client, after g-server has answered it and has ended: the connection is tracked, and nobody sends."""
        client, server = self.station("g-client", CLIENT), self.station("g-server", SERVER)
        client.command("echo", "off")
        client.command("to", server_ip, SERVER)
        eventually(lambda: client.hears(f"{server_ip} {SERVER}"))
        client.command("quiet")
        server.end()
        return client

    def station(self, name: str, port: int) -> Station:
        self.stations.append(Station(self.world, name, port))
        return self.stations[-1]

    def container(self, name: str, host: str, network: str = "guarded", **fields: Any) -> str:
        """Create a container; its address."""
        self.containers.add(name)
        address: str = run.container(self.plan, name, host, network, **fields)["target_veth_ip"]
        return address.split("/")[0]

    def delete(self, name: str, *, force: bool = False) -> None:
        """Delete an endpoint; with `force` by another host's agent, while its own does not run."""
        endpoint = run.api(self.plan.hosts[1], "GET", f"/endpoints/{name}")["endpoint"]
        at = self.plan.hosts[1] if force else self.plan.host(endpoint["hostname"])
        run.api(at, "DELETE", f"/endpoints/{endpoint['id']}{'?force=true' if force else ''}")  # type: ignore[arg-type]
        self.containers.discard(name)

    def clean(self) -> None:
        for station in self.stations:
            station.end()
        self.stations.clear()
        for name in sorted(self.containers):
            self.delete(name)


REQUESTS = [{"proto": "udp", "udp_dst": SERVER, "allow_related": True}]


@pytest.fixture
def guarded(world: World) -> Iterator[Guarded]:
    world.apply(
        acls={"guard": REQUESTS},
        networks=[{"name": "guarded", "ip_range": "10.19.0.0/24", "ipv6_range": "fd19::/64", "default_acl": "guard"}],
    )
    fixture = Guarded(world)
    yield fixture
    fixture.clean()
    run.api(world.plan.hosts[0], "DELETE", "/networks/guarded")
    run.api(world.plan.hosts[0], "DELETE", "/acls/guard")


@pytest.mark.parametrize(("server_host", "restarted"), [("h1", ""), ("h2", ""), ("h2", "agent"), ("h2", "controller")])
def test_the_next_holder_of_an_address_inherits_no_connection(guarded: Guarded, server_host: str, restarted: str) -> None:
    client_ip = guarded.container("g-client", "h1")
    server_ip = guarded.container("g-server", server_host)
    client = guarded.client_left_alone(server_ip)
    if restarted:
        run.stop(guarded.plan, "h1", restarted, signal.SIGKILL)
    guarded.delete("g-server")
    assert guarded.container("g-other", server_host, ipv4_address=server_ip) == server_ip
    other = guarded.station("g-other", SERVER)
    client.heard()
    if restarted:
        run.start(guarded.plan, "h1", restarted)
        run.wait_until_up(guarded.plan)
        time.sleep(GRACE_S)
    other.command("to", client_ip, CLIENT)
    assert not client.hears(f"{server_ip} {SERVER}")
    client.command("to", server_ip, SERVER)  # what the ACL allows goes on
    eventually(lambda: other.hears(f"{client_ip} {CLIENT}"))


@pytest.fixture
def joined(guarded: Guarded) -> Iterator[Guarded]:
    """Two networks that a router joins. Nothing but replies reaches the members of `near`; `far` has no ACL."""
    guarded.world.apply(
        acls={"replies-only": [{"proto": "udp", "udp_dst": 9, "actions": {"allow": 1}}]},
        networks=[
            {"name": "near", "ip_range": "10.16.0.0/24", "mode": "nat", "default_acl": "guard", "vlan_out_acl": "replies-only"},
            {"name": "far", "ip_range": "10.17.0.0/24", "mode": "nat"},
        ],
        routers=[{"name": "joint", "networks": ["near", "far"]}],
    )
    yield guarded
    guarded.clean()
    for path in ("/routers/joint", "/networks/near", "/networks/far", "/acls/replies-only"):
        run.api(guarded.plan.hosts[0], "DELETE", path)


@pytest.mark.parametrize("server_host", ["h1", "h2"])
@pytest.mark.parametrize("restarted", [("controller", "agent"), ()], ids=["restarted", ""])
def test_the_next_holder_of_an_address_in_a_joined_network_inherits_no_connection(
    joined: Guarded, server_host: str, restarted: tuple[str, ...]
) -> None:
    """The host of the client routes, so the client's network there keeps the connection, too."""
    client_ip = joined.container("g-client", "h1", "near")
    server_ip = joined.container("g-server", server_host, "far")
    client = joined.client_left_alone(server_ip)
    for process in restarted:
        run.stop(joined.plan, "h1", process)
    joined.delete("g-server", force=restarted != () and server_host == "h1")
    if server_host != "h1":
        joined.container("g-other", server_host, "far", ipv4_address=server_ip)
    for process in restarted:
        run.start(joined.plan, "h1", process)
    run.wait_until_up(joined.plan)
    if server_host == "h1":
        joined.container("g-other", server_host, "far", ipv4_address=server_ip)
    other = joined.station("g-other", SERVER)
    time.sleep(GRACE_S)
    client.heard()
    other.command("to", client_ip, CLIENT)
    assert not client.hears(f"{server_ip} {SERVER}")
    client.command("to", server_ip, SERVER)  # what the ACL allows goes on
    eventually(lambda: other.hears(f"{client_ip} {CLIENT}"))
    eventually(lambda: client.hears(f"{server_ip} {SERVER}"))


def test_a_rule_taken_back_ends_its_connections_in_both_directions_and_no_others(guarded: Guarded) -> None:
    guarded.container("g-client", "h1")
    near, far = guarded.container("g-near", "h1"), guarded.container("g-far", "h2")
    other = [{"proto": "udp", "udp_dst": 7001, "allow_related": True}]
    guarded.world.apply(acls={"guard": REQUESTS + other})
    client = guarded.station("g-client", CLIENT)
    stays = guarded.station("g-client", CLIENT + 1)
    servers = {address: guarded.station(name, SERVER) for name, address in (("g-near", near), ("g-far", far))}
    guarded.station("g-far", 7001)
    for station, ports in ((client, {near: SERVER, far: SERVER}), (stays, {far: 7001})):
        station.command("echo", "off")
        for address, port in ports.items():
            station.command("to", address, port)
            eventually(lambda s=station, a=address, p=port: s.hears(f"{a} {p}"))
    client.command("quiet")
    client_ip = next(iter(servers[near].heard())).split()[0]
    for address, server in servers.items():
        server.command("to", client_ip, CLIENT)
        eventually(lambda a=address: client.hears(f"{a} {SERVER}"))
    stays.heard()
    guarded.world.apply(acls={"guard": other})
    time.sleep(GRACE_S)
    client.heard()
    assert not client.hears(f"{near} {SERVER}")
    assert not client.hears(f"{far} {SERVER}")
    count, missing = stays.heard()[f"{far} 7001"]
    assert count > GRACE_S / 0.01 / 2
    assert missing == 0


def test_connections_of_icmpv6_end_too_and_the_switch_lives_on(guarded: Guarded) -> None:
    """Open vSwitch 3.1 aborts when it is told to look one up by its tuple."""
    guarded.world.apply(acls={"guard": [{"proto": "icmp", "allow_related": True}]})
    guarded.container("g-client", "h1")
    guarded.container("g-server", "h1")
    shown = guarded.world.inside("g-server", "ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "global").stdout
    address = shown.split("inet6 ")[1].split("/")[0]
    directory = guarded.plan.hosts[0].directory
    before = (directory / "ovs-vswitchd.pid").read_text()

    def tracked() -> bool:
        control = f"{directory}/ovs-vswitchd.ctl"
        dump = subprocess.run(["ovs-appctl", "-t", control, "dpctl/dump-conntrack"], capture_output=True, text=True, check=True)
        return f"dst={address}" in dump.stdout

    eventually(lambda: guarded.world.pings("g-client", address))
    assert tracked()
    guarded.delete("g-server")
    eventually(lambda: not tracked())
    assert (directory / "ovs-vswitchd.pid").read_text() == before
    assert guarded.world.reaches("web", guarded.world.address["app"])


def test_clients_that_sent_before_a_port_was_published_reach_it_and_those_of_a_replaced_endpoint_its_successor(
    guarded: Guarded,
) -> None:
    world = guarded.world
    world.apply(networks=[{"name": "shop", "ip_range": "10.18.0.0/24", "mode": "nat"}])
    try:
        guarded.container("g-first", "h1", "shop")
        vtep = str(guarded.plan.host("h1").vtep)  # type: ignore[union-attr]
        outside = guarded.station("h2", 45003)
        outside.command("to", vtep, 8053)
        guarded.station("g-first", 53)
        assert not outside.hears(f"{vtep} 8053")
        publish = [{"proto": "udp", "host_port": 8053, "port": 53}]
        world.apply(endpoints=[{"name": "g-first", "network": "shop", "host": "h1", "publish": publish}])
        eventually(lambda: outside.hears(f"{vtep} 8053"))
        guarded.delete("g-first")
        guarded.container("g-second", "h1", "shop", ipv4_address="10.18.0.77")
        guarded.station("g-second", 53)
        world.apply(endpoints=[{"name": "g-second", "network": "shop", "host": "h1", "publish": publish}])
        eventually(lambda: outside.hears(f"{vtep} 8053"))
        world.apply(endpoints=[{"name": "g-second", "network": "shop", "host": "h1", "publish": []}])
        time.sleep(GRACE_S)
        assert not outside.hears(f"{vtep} 8053")
    finally:
        guarded.clean()
        eventually(lambda: run.api(guarded.plan.hosts[0], "DELETE", "/networks/shop") is not None)
