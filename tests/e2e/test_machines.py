"""Containers of systemd-nspawn: namespaces that outlive them, attachment by pid, and what is refused."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import nspawn
from tests.e2e.conftest import World, clean
from tests.waiting import eventually, patiently
from tools.lab import run
from tools.lab.run import LabError

INET, HOST_OUTSIDE = "192.0.2.77", "192.0.2.71"


class Sadm:
    """A network with NAT, two namespaces on it, a root for containers, and the internet behind h1."""

    def __init__(self, world: World, root: Path) -> None:
        self.world, self.plan, self.root = world, world.plan, root
        self.names = [f"{world.plan.name}k{number}" for number in (1, 2)]
        self.internet = f"{world.plan.name}-sadmnet"
        self.endpoints: dict[str, dict[str, str]] = {}

    def keep(self, name: str, host: str, **fields: object) -> dict[str, str]:
        """A kept namespace with an interface on the network."""
        body = {"network_id": "sadm", "name": name, "keep_netns": True, "ns_handle_path": f"/run/netns/{name}", **fields}
        endpoint: dict[str, str] = run.api(self.plan.host(host), "POST", "/endpoints", **body)["endpoint"]  # type: ignore[arg-type]
        return endpoint

    def delete(self, host: str, endpoint: str) -> None:
        """Delete an endpoint."""
        run.api(self.plan.host(host), "DELETE", f"/endpoints/{endpoint}")  # type: ignore[arg-type]

    def says(self, name: str, script: str) -> str:
        """What a container prints that uses a kept namespace."""
        return nspawn.says(self.root, name, script, f"--network-namespace-path=/run/netns/{name}")

    def link(self, name: str) -> str:
        """Index, MAC and MTU of the interface in a kept namespace."""
        shown = run.sh("ip", "-n", name, "-o", "link", "show", "host0")
        return " ".join(re.findall(r"^\d+|mtu \d+|link/ether \S+", shown))

    def packets(self, host: str, mac: str) -> int:
        """Packets that flows for a MAC have counted."""
        dump = self.world.ofctl(host, "dump-flows", "br-warren")
        return sum(int(n) for n in re.findall(rf"n_packets=(\d+),.*dl_(?:src|dst)={mac}", dump))


@pytest.fixture(scope="module")
def sadm(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sadm]:
    if not nspawn.available():
        pytest.skip("needs systemd-container and busybox-static")
    fixture = Sadm(world, nspawn.make_root(tmp_path_factory.mktemp("nspawn") / "root"))
    host = run.netns_of(world.plan, "h1")
    for line in (
        f"netns add {fixture.internet}", f"-n {host} link add sadm0 type veth peer name sadm0 netns {fixture.internet}",
        f"-n {host} addr add {HOST_OUTSIDE}/24 dev sadm0", f"-n {host} link set sadm0 up",
        f"-n {fixture.internet} addr add {INET}/24 dev sadm0", f"-n {fixture.internet} link set sadm0 up",
    ):  # fmt: skip
        run.sh("ip", *line.split())
    run.api(world.plan.hosts[0], "POST", "/networks", name="sadm", ip_range="10.77.0.0/24", mode="nat")
    for name, at in zip(fixture.names, ("h1", "h2"), strict=True):
        publish = [{"host_port": 8077, "port": 80}] if at == "h1" else []
        fixture.endpoints[name] = fixture.keep(name, at, publish=publish)
    yield fixture
    for name, at in zip(fixture.names, ("h1", "h2"), strict=True):
        fixture.delete(at, name)
    run.api(world.plan.hosts[0], "DELETE", "/networks/sadm")
    run.sh("ip", "netns", "del", fixture.internet)
    assert not [name for name in fixture.names if Path(f"/run/netns/{name}").exists()]
    for plan in world.plan.hosts[:2]:
        assert list((plan.directory / "netns").glob("*")) == []
        eventually(lambda plan=plan: clean(plan))  # type: ignore[misc]


def test_a_container_is_restarted_and_nothing_in_the_switch_changes(sadm: Sadm) -> None:
    first, second = sadm.names
    mac, ofport = (sadm.endpoints[first][name] for name in ("target_veth_mac", "ofport"))
    address = sadm.endpoints[second]["target_veth_ip"].split("/")[0]
    link, cookies, packets = sadm.link(first), sadm.world.cookies("h1"), sadm.packets("h1", mac)
    assert re.fullmatch(rf"\d+ mtu \d+ link/ether {mac}", link)
    for _ in range(3):
        shown = sadm.says(first, f"ip -o addr show host0; ping -c 2 -W 20 {address}; ping -c 1 -W 20 {INET}")
        assert sadm.endpoints[first]["target_veth_ip"] in shown
        assert shown.count(" 0% packet loss") == 2, shown
        assert sadm.link(first) == link
        counted = sadm.packets("h1", mac)
        assert counted > packets
        packets = counted
    later = sadm.world.cookies("h1")
    assert later.keys() == cookies.keys()
    assert all(later[cookie] >= age for cookie, age in cookies.items())
    shown = run.api(sadm.plan.hosts[0], "GET", f"/endpoints/{first}")["endpoint"]
    assert (shown["ofport"], shown["state"], shown["target_veth_mac"]) == (ofport, "up", mac)


def test_a_published_port_leads_to_the_container(sadm: Sadm) -> None:
    first = sadm.names[0]
    (sadm.root / "srv/index.html").write_text("hello from web")
    curl = run.in_netns(sadm.internet, "curl", "-s", "-m", "2", f"http://{HOST_OUTSIDE}:8077/")
    with nspawn.running(sadm.root, first, "httpd -h /srv", f"--network-namespace-path=/run/netns/{first}"):
        assert patiently(lambda: subprocess.run(curl, capture_output=True, text=True).stdout == "hello from web")
        with pytest.raises(LabError, match=f"namespace '{first}' is in use by process "):
            sadm.delete("h1", first)
    assert Path(f"/run/netns/{first}").exists()  # SIGKILL has ended the container, not its namespace
    assert sadm.link(first)


def test_a_namespace_that_vanishes_is_made_again_with_its_values(sadm: Sadm) -> None:
    """As after a reboot of the host, which leaves the record."""
    second = sadm.names[1]
    run.sh("ip", "netns", "del", second)
    eventually(lambda: "UP" in run.sh("ip", "-n", second, "link", "show", "host0", check=False))
    eventually(lambda: run.api(sadm.plan.hosts[1], "GET", f"/endpoints/{second}")["endpoint"]["state"] == "up")
    shown = run.api(sadm.plan.hosts[1], "GET", f"/endpoints/{second}")["endpoint"]
    same = ("target_veth_mac", "target_veth_ip", "ofport")
    assert {name: shown[name] for name in same} == {name: sadm.endpoints[second][name] for name in same}
    first = sadm.endpoints[sadm.names[0]]["target_veth_ip"].split("/")[0]
    assert patiently(lambda: "1 packets received" in sadm.says(second, f"ping -c 1 -W 2 {first}"))


def test_a_running_container_is_attached_by_its_pid(sadm: Sadm) -> None:
    host = sadm.plan.host("h2")
    with nspawn.running(sadm.root, "alone", "", "--private-network") as leader:
        attached = run.api(host, "POST", "/endpoints", network_id="sadm", pid=leader, interface="host0")["endpoint"]  # type: ignore[arg-type]
        shown = subprocess.run(["nsenter", "-t", str(leader), "-n", "ip", "-o", "addr"], capture_output=True, text=True).stdout
        assert f"host0    inet {attached['target_veth_ip']}" in shown
        with pytest.raises(LabError, match="'host0' already exists"):
            run.api(host, "POST", "/endpoints", network_id="sadm", pid=leader, interface="host0")  # type: ignore[arg-type]
    run.api(host, "DELETE", f"/endpoints/{attached['id']}")  # type: ignore[arg-type]


def test_what_cannot_be_attached_is_refused_and_leaves_nothing(sadm: Sadm) -> None:
    host, taken = sadm.plan.hosts[0], f"{sadm.plan.name}k3"
    before = run.api(host, "GET", "/endpoints")
    agent = subprocess.run(["pgrep", "-f", f"/{sadm.plan.name}/h1/agent"], capture_output=True, text=True).stdout.split()
    refused = [
        ({"pid": 4_194_304}, "process '4194304' does not exist"),
        ({"machine": "no/name"}, "machine: 'no/name'"),
        ({"machine": "web", "pid": 4_194_304}, "one of machine, pid"),
        ({"keep_netns": True, "ns_handle_path": f"/run/netns/{sadm.names[0]}"}, "already exists"),
        ({"keep_netns": True, "ns_handle_path": "/tmp/web"}, "below /run/netns"),
        ({"keep_netns": True}, "netns is missing"),
        ({"keep_netns": True, "ns_handle_path": f"/run/netns/{taken}", "ipv4_address": "10.99.0.1"}, "a host address of"),
        ({"keep_netns": True, "ns_handle_path": f"/run/netns/{taken}", "network_id": "none"}, "network 'none' does not exist"),
        *(({"pid": int(pid)}, "a network namespace of its own") for pid in agent[:1]),
    ]
    for fields, message in refused:
        with pytest.raises(LabError, match=re.escape(message)):
            run.api(host, "POST", "/endpoints", **{"network_id": "sadm", **fields})
    assert run.api(host, "GET", "/endpoints") == before
    assert not Path(f"/run/netns/{taken}").exists()


def test_a_namespace_of_somebody_else_is_neither_used_nor_removed(sadm: Sadm) -> None:
    name = f"{sadm.plan.name}k4"
    sadm.keep(name, "h1")
    run.sh("ip", "netns", "del", name)
    run.sh("ip", "netns", "add", name)
    host = sadm.plan.hosts[0]

    def complaint() -> bool:
        return any("is not Warren's" in line for line in run.api(host, "GET", "/status")["hosts"][0]["problems"])

    eventually(complaint)
    sadm.delete("h1", name)
    assert Path(f"/run/netns/{name}").exists()
    run.sh("ip", "netns", "del", name)
    eventually(lambda: not list((host.directory / "netns").glob(name)))
