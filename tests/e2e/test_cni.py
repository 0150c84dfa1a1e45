"""The CNI plugin as a runtime calls it: attachments across hosts, published ports, CHECK, GC, STATUS, chains, errors."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.audit import settled
from tests.e2e.cni import Failed, Runtime, conflist
from tests.e2e.conftest import World
from tests.waiting import eventually
from tools.lab import run

PROGRAM = Path(sys.executable).parent / "warren-cni"
TUNING = Path("/usr/lib/cni/tuning")
FIRST = """#!/bin/sh
# a plugin before Warren's: it has made an interface of its own
[ "$CNI_COMMAND" != ADD ] || cat <<'END'
{"cniVersion": "1.1.0", "interfaces": [{"name": "lo9", "mac": "02:00:00:00:00:09", "sandbox": "/elsewhere"}],
 "ips": [{"address": "192.0.2.77/32", "interface": 0}], "routes": [{"dst": "198.51.100.0/24"}], "dns": {"nameservers": ["192.0.2.53"]}}
END
"""


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    """A host's runtime: of whichever host the socket in the configuration is."""
    plugins = tmp_path_factory.mktemp("bin")
    (plugins / "warren").symlink_to(PROGRAM)
    (plugins / "first").write_text(FIRST)
    (plugins / "first").chmod(0o755)
    return Runtime(plugins)


@pytest.fixture(scope="module", autouse=True)
def networks(world: World) -> Iterator[None]:
    """One that is flat, with both families, and one with a way out."""
    first = world.plan.hosts[0]
    run.api(first, "POST", "/networks", name="cni-flat", ip_range="10.60.0.0/24", ipv6_range="fd60::/64", dns=["192.0.2.53"])
    run.api(first, "POST", "/networks", name="cni-nat", ip_range="10.61.0.0/24", mode="nat")
    yield
    settled(world)
    for name in ("cni-flat", "cni-nat"):
        run.api(first, "DELETE", f"/networks/{name}")


class Box:
    """Containers: namespaces that go at the end."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.names: list[str] = []

    def __call__(self, name: str) -> str:
        """A new one's path."""
        netns = f"{self.world.plan.name}-c-{name}"
        run.sh("ip", "netns", "add", netns)
        self.names.append(netns)
        return f"/run/netns/{netns}"

    def remove(self, name: str) -> None:
        """It ends, and nobody is told."""
        self.names.remove(f"{self.world.plan.name}-c-{name}")
        run.sh("ip", "netns", "del", f"{self.world.plan.name}-c-{name}")


@pytest.fixture
def box(world: World) -> Iterator[Box]:
    fixture = Box(world)
    yield fixture
    for netns in fixture.names:
        run.sh("ip", "netns", "del", netns)


def attached(world: World, network: str = "cni-flat") -> list[str]:
    """The containers that CNI has brought onto a network."""
    endpoints = run.api(world.plan.hosts[0], "GET", f"/endpoints?network_id={network}")["endpoints"]
    return sorted(e["labels"]["cni.container"] for e in endpoints)


def refused(call: object, *arguments: object, **more: object) -> Failed:
    with pytest.raises(Failed) as caught:
        call(*arguments, **more)  # type: ignore[operator]
    return caught.value


def whole(runtime: Runtime, network: dict[str, Any], container: str, netns: str) -> bool:
    try:
        runtime.check(network, container, netns)
    except Failed:
        return False
    return True


def test_containers_on_two_hosts(world: World, runtime: Runtime, box: Box) -> None:
    """The result is what there is; they reach one another; after DEL nothing is left, and another DEL is no error."""
    h1, h2 = (conflist("cni-flat", host.socket) for host in world.plan.hosts[:2])
    one, two = box("one"), box("two")
    runtime2 = Runtime(runtime.plugins)
    result, other = runtime.add(h1, "c1", one), runtime2.add(h2, "c1", two)  # the same id on two hosts
    host_side, inside = result["interfaces"]
    assert inside == {"name": "eth0", "mac": inside["mac"], "mtu": 1446, "sandbox": one}
    assert host_side["name"] in world.inside("h1", "ip", "-br", "link").stdout
    assert inside["mac"] in world.inside("one", "ip", "link", "show", "eth0").stdout
    assert [ip["interface"] for ip in result["ips"]] == [1, 1]
    assert "routes" not in result
    assert result["dns"] == {"nameservers": ["192.0.2.53"]}
    for ip in result["ips"]:
        assert ip["address"] in world.inside("one", "ip", "addr", "show", "dev", "eth0").stdout
    for ip in other["ips"]:
        assert world.reaches("one", ip["address"].partition("/")[0])
    assert attached(world) == ["c1", "c1"]
    runtime.check(h1, "c1", one)
    for _ in range(2):
        runtime.delete(h1, "c1", one)
    assert attached(world) == ["c1"]
    assert host_side["name"] not in world.inside("h1", "ip", "-br", "link").stdout
    runtime2.delete(h2, "c1", two)
    runtime2.delete(h2, "never-added", "")
    settled(world)


def test_a_second_network_with_common_addresses_is_refused(world: World, runtime: Runtime, box: Box) -> None:
    """With another network of Warren, and with an interface that somebody else has put there."""
    run.api(world.plan.hosts[0], "POST", "/networks", name="cni-common", ip_range="10.60.0.0/16")
    flat, common = (conflist(name, world.plan.hosts[0].socket) for name in ("cni-flat", "cni-common"))
    one = box("one")
    runtime.add(flat, "c1", one)
    assert "network cni-common (10.60.0.0/16) overlaps network cni-flat (10.60.0.0/24)" in str(
        refused(runtime.add, common, "c1", one, "eth1")
    )
    runtime.delete(flat, "c1", one)
    for words in ("link add other0 type veth peer name other1", "addr add 10.60.7.1/24 dev other0", "link set other0 up"):
        assert world.inside("one", "ip", *words.split()).returncode == 0
    assert "overlaps interface other0 (10.60.7.1/24)" in str(refused(runtime.add, common, "c1", one))
    runtime.add(flat, "c1", one)
    runtime.delete(flat, "c1", one)
    settled(world)
    run.api(world.plan.hosts[0], "DELETE", "/networks/cni-common")


def test_add_and_del_are_idempotent(world: World, runtime: Runtime, box: Box) -> None:
    """ADD twice gives the same; an ADD into another namespace moves it; a DEL after the namespace has gone takes the rest away."""
    network = conflist("cni-flat", world.plan.hosts[0].socket)
    before = runtime.add(network, "c1", box("one"), args="IgnoreUnknown=1;K8S_POD_NAME=called;IP=10.60.0.9")
    cable = world.inside("one", "ip", "-o", "link", "show", "eth0").stdout
    assert runtime.add(network, "c1", "/run/netns/" + box.names[0], args="K8S_POD_NAME=called;IP=10.60.0.9") == before
    assert world.inside("one", "ip", "-o", "link", "show", "eth0").stdout == cable  # its number tells that it was left alone
    shown = run.api(world.plan.hosts[0], "GET", "/endpoints/cni-flat/called")["endpoint"]
    assert shown["labels"] == {"cni.network": "cni-flat", "cni.container": "c1", "cni.interface": "eth0"}
    box.remove("one")
    after = runtime.add(network, "c1", box("two"), args="K8S_POD_NAME=called;IP=10.60.0.9")
    assert after["ips"] == before["ips"]
    assert after["interfaces"][1]["sandbox"].endswith("-c-two")
    runtime.check(network, "c1", after["interfaces"][1]["sandbox"])
    unnamed = runtime.add(network, "c2", box("three"), args="K8S_POD_NAME=called")  # the name is taken: it goes without
    runtime.delete(network, "c2", unnamed["interfaces"][1]["sandbox"])
    box.remove("two")
    runtime.delete(network, "c1", after["interfaces"][1]["sandbox"])
    assert attached(world) == []


def test_gc_removes_an_attachment_that_its_runtime_has_forgotten(world: World, runtime: Runtime, box: Box) -> None:
    """Its namespace goes, and nobody calls DEL: its endpoint goes by itself, also when no agent saw it. One whose veth alone is gone stays."""
    network = conflist("cni-flat", world.plan.hosts[0].socket)
    for name in ("one", "two", "three"):
        runtime.add(network, name, box(name))
    run.sh("ip", "-n", box.names[2], "link", "del", "eth0")
    box.remove("one")
    run.stop(world.plan, "h1", "agent")
    box.remove("two")
    run.start(world.plan, "h1", "agent")
    eventually(lambda: attached(world) == ["three"])
    netns = f"/run/netns/{box.names[0]}"
    eventually(lambda: whole(runtime, network, "three", netns))
    runtime.delete(network, "three", netns)
    run.wait_until_up(world.plan)
    settled(world)


def test_portmap_publishes_a_port_and_containers_reach_the_outside(world: World, runtime: Runtime, box: Box) -> None:
    """The capabilities portMappings, mac, ips, aliases and dns; the default route by the gateway."""
    more = {"labels": {"role": "web"}, "mtu": 1446, "ipMasq": True, "dns": {"domain": "example.org"}}
    network = conflist("cni-nat", world.plan.hosts[0].socket, version="0.4.0", **more)
    ports = [{"hostPort": 18300, "containerPort": 80, "protocol": "tcp", "hostIP": ip} for ip in ("0.0.0.0", "::")]
    capabilities = {"portMappings": ports, "mac": "02:00:00:00:61:09", "ips": ["10.61.0.9/24"]}
    capabilities |= {"aliases": {"cni-nat": ["shop", "till"]}, "dns": {"servers": ["192.0.2.7"], "searches": ["a.example"]}}
    result = runtime.add(network, "web", box("one"), capabilities=capabilities)
    assert result["ips"] == [{"version": "4", "address": "10.61.0.9/24", "gateway": "10.61.0.1", "interface": 1}]
    assert result["routes"] == [{"dst": "0.0.0.0/0", "gw": "10.61.0.1"}]
    assert result["dns"] == {"domain": "example.org", "nameservers": ["192.0.2.7"], "search": ["a.example"]}
    assert result["interfaces"][1]["mac"] == "02:00:00:00:61:09"
    made = run.api(world.plan.hosts[0], "GET", "/endpoints?network_id=cni-nat")["endpoints"]
    assert [endpoint["aliases"] for endpoint in made] == [["shop", "till"]]
    assert "default via 10.61.0.1" in world.inside("one", "ip", "route").stdout
    server = world.background("one", sys.executable, "-m", "http.server", "80", "-d", "/proc/self/fdinfo")
    try:
        url = f"http://{world.plan.hosts[0].vtep}:18300/"
        eventually(lambda: world.inside("h2", "curl", "-s", "-m", "2", url).returncode == 0)
    finally:
        server.kill()
        server.communicate()
    sandbox = result["interfaces"][1]["sandbox"]
    runtime.check(network, "web", sandbox)
    run.sh("ip", "-n", box.names[0], "route", "del", "default")
    assert "the default route by 10.61.0.1 is missing" in str(refused(runtime.check, network, "web", sandbox))
    taken = refused(runtime.add, network, "web2", box("two"), capabilities={"portMappings": ports[:1]})
    assert (taken.code, "18300" in str(taken)) == (100, True)
    runtime.delete(network, "web", sandbox)
    settled(world)


def test_two_interfaces_and_addresses_by_dhcp(world: World, runtime: Runtime, box: Box) -> None:
    """The second default route is not made, and not told; where the container asks for its address nothing is set."""
    network, netns = conflist("cni-nat", world.plan.hosts[0].socket), box("one")
    first, second = (runtime.add(network, "c1", netns, ifname) for ifname in ("eth0", "eth1"))
    assert first["routes"] == [{"dst": "0.0.0.0/0", "gw": "10.61.0.1"}]
    assert "routes" not in second
    for ifname in ("eth1", "eth0"):
        runtime.check(network, "c1", netns, ifname)
        runtime.delete(network, "c1", netns, ifname)
    run.api(world.plan.hosts[0], "POST", "/networks", name="cni-asked", ip_range="10.63.0.0/24", mode="nat", dhcp=True)
    network = conflist("cni-asked", world.plan.hosts[0].socket, version="1.0.0")
    by_dhcp = runtime.add(network, "c1", netns)
    assert (by_dhcp["ips"], "routes" in by_dhcp, "mtu" in by_dhcp["interfaces"][1]) == ([], False, False)
    assert "inet " not in world.inside("one", "ip", "addr", "show", "eth0").stdout
    runtime.check(network, "c1", netns)
    assert runtime.add(network, "c1", netns) == by_dhcp
    runtime.delete(network, "c1", netns)
    run.api(world.plan.hosts[0], "DELETE", "/networks/cni-asked")


def test_many_concurrent_requests_succeed(world: World, runtime: Runtime, box: Box) -> None:
    """Two hosts, all at the same time: an address for each; all go again."""
    hosts = [conflist("cni-flat", host.socket) for host in world.plan.hosts[:2]]
    calls = [(hosts[i % 2], f"many{i}", box(f"many{i}")) for i in range(24)]
    with ThreadPoolExecutor(len(calls)) as pool:
        results = list(pool.map(lambda call: runtime.add(*call), calls))
        addresses = [ip["address"] for result in results for ip in result["ips"]]
        assert len(set(addresses)) == len(addresses) == 2 * len(calls)
        assert world.reaches("many0", addresses[2].partition("/")[0])
        list(pool.map(lambda call: runtime.check(*call), calls))
        list(pool.map(lambda call: runtime.delete(*call), calls))
    assert attached(world) == []
    settled(world)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("addr del 10.60.0.9/24 dev eth0", "address 10.60.0.9/24 is missing"),
        ("link set eth0 down", "interface eth0 in the container is down"),
        ("link set eth0 address 02:00:00:00:00:99", "02:00:00:00:00:99"),
        ("link set eth0 name eth7", "there is no interface of that name"),
    ],
    ids=["address", "down", "mac", "name"],
)
def test_cni_check_reports_a_damaged_attachment(world: World, runtime: Runtime, box: Box, damage: str, message: str) -> None:
    """The agent repairs damage, so a program does it again and again; when that ends, CHECK is content."""
    network = conflist("cni-flat", world.plan.hosts[0].socket)
    netns = box("one")
    runtime.add(network, "c1", netns, args="IP=10.60.0.9")
    runtime.check(network, "c1", netns)
    loop = f"while sleep 0.01; do ip {damage} 2>/dev/null; done"
    vandal = subprocess.Popen(["ip", "netns", "exec", box.names[0], "sh", "-c", loop])

    def reported_by_check() -> bool:
        try:
            runtime.check(network, "c1", netns)
        except Failed as error:
            return error.code == 102 and message in str(error)
        return False

    try:
        eventually(reported_by_check)
    finally:
        vandal.kill()
        vandal.wait()

    eventually(lambda: whole(runtime, network, "c1", netns))
    runtime.delete(network, "c1", netns)
    assert attached(world) == []


def test_cni_check_of_a_deleted_attachment_says_that_it_is_unknown(world: World, runtime: Runtime, box: Box) -> None:
    network = conflist("cni-flat", world.plan.hosts[0].socket)
    netns = box("one")
    runtime.add(network, "c1", netns, args="IP=10.60.0.9")
    endpoint = run.api(world.plan.hosts[0], "GET", "/endpoints?network_id=cni-flat")["endpoints"][0]["id"]
    run.api(world.plan.hosts[0], "DELETE", f"/endpoints/{endpoint}")
    gone = refused(runtime.check, network, "c1", netns)
    assert (gone.code, "is not on network" in str(gone)) == (3, True)
    runtime.delete(network, "c1", netns)
    assert attached(world) == []


def test_cni_gc_removes_what_is_not_listed(world: World, runtime: Runtime, box: Box) -> None:
    """What is not among the valid attachments goes: of this network, on this host, and nothing that others have made."""
    h1, h2 = (conflist("cni-flat", host.socket) for host in world.plan.hosts[:2])
    alias = conflist("other-name", world.plan.hosts[0].socket, network="cni-flat")
    netns = box("one")
    for network, container, ifname in (
        (h1, "stays", "eth0"),
        (h1, "stays", "eth1"),
        (alias, "theirs", "eth2"),
        (h1, "lost", "eth3"),
    ):
        runtime.add(network, container, netns, ifname)
    runtime.add(h2, "lost", box("two"))
    runtime.collect(h1, [("stays", "eth0")])
    assert attached(world) == ["lost", "stays", "theirs"]
    runtime.collect(h1, [])
    assert attached(world) == ["lost", "theirs"]
    absent = refused(runtime.execute, "GC", {"cniVersion": "1.1.0", **h2["plugins"][0], "name": "cni-flat"})
    assert (absent.code, "cni.dev/valid-attachments" in str(absent)) == (7, True)
    for network in (h2, alias):
        runtime.collect(network, [])
    assert attached(world) == []
    settled(world)


def test_warren_runs_in_a_chain_of_plugins(world: World, runtime: Runtime, box: Box) -> None:
    """What the plugin before has got comes first in the result; its interface is not Warren's to check."""
    network = conflist("cni-nat", world.plan.hosts[1].socket)
    network["plugins"].insert(0, {"type": "first"})
    netns = box("one")
    result = runtime.add(network, "c1", netns)
    assert [one["name"] for one in result["interfaces"]] == ["lo9", result["interfaces"][1]["name"], "eth0"]
    assert [ip["interface"] for ip in result["ips"]] == [0, 2]
    assert [route["dst"] for route in result["routes"]] == ["198.51.100.0/24", "0.0.0.0/0"]
    assert result["dns"] == {"nameservers": ["192.0.2.53"]}
    runtime.check(network, "c1", netns)
    runtime.delete(network, "c1", netns)


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0"])
def test_the_reference_plugins_understand_the_result(
    world: World, runtime: Runtime, box: Box, tmp_path: Path, version: str
) -> None:
    """`tuning` of the CNI project after Warren's: it reads the result of each version, and hands it on."""
    if not TUNING.exists():
        pytest.skip("needs containernetworking-plugins")
    if not (runtime.plugins / "tuning").exists():
        (runtime.plugins / "tuning").symlink_to(TUNING)
    network, netns = conflist("cni-nat", world.plan.hosts[0].socket, version), box("one")
    network["plugins"].append({"type": "tuning", "mtu": 1400, "dataDir": str(tmp_path)})
    result = runtime.add(network, "c1", netns)
    assert [one["name"] for one in result["interfaces"]][1:] == ["eth0"]
    assert [ip["interface"] for ip in result["ips"]] == [1]
    assert "mtu 1400" in world.inside("one", "ip", "link", "show", "eth0").stdout
    if version >= "0.4.0":
        runtime.check(network, "c1", netns)
    runtime.delete(network, "c1", netns)
    assert attached(world, "cni-nat") == []


def test_a_refused_cni_add_names_the_error_and_leaves_nothing(world: World, runtime: Runtime, box: Box) -> None:
    socket, netns = world.plan.hosts[0].socket, box("one")
    flat = conflist("cni-flat", socket)
    ports = {"portMappings": [{"hostPort": 1, "containerPort": 1}]}
    for network, more, code, message in (
        (conflist("nowhere", socket), {}, 7, "name: 'nowhere': expected a network that is there"),
        (conflist("x", socket, network="nowhere"), {}, 7, "network: 'nowhere'"),
        (flat, {"capabilities": ports}, 7, "runtimeConfig.portMappings"),
        (flat, {"capabilities": {"bandwidth": {"ingressRate": 1000}}}, 7, "runtimeConfig.bandwidth"),
        (conflist("cni-flat", socket, mtu=9000), {}, 7, "mtu: 9000: expected nothing or 1446"),
        (flat, {"args": "IP=10.99.0.1"}, 7, "10.60.0.0/24"),
        (flat, {"args": "IP=10.60.0.1"}, 100, "gateway"),
        (flat, {"netns": "/run/netns/nobody"}, 4, "CNI_NETNS: '/run/netns/nobody'"),
        (flat, {"ifname": "lo"}, 100, "'lo' already exists"),
    ):
        wrong = refused(runtime.add, network, "c1", **{"netns": netns, **more})
        assert (wrong.code, message in str(wrong)) == (code, True), wrong.error
    assert attached(world) == []


def test_the_plugin_says_that_no_agent_runs(world: World, runtime: Runtime, box: Box) -> None:
    """Without agent or controller: a clear error in time, nothing left, STATUS says so; afterwards it goes on."""
    host = world.plan.hosts[1]
    network, netns = conflist("cni-flat", host.socket), box("one")
    runtime.status(network)
    runtime.add(network, "stays", box("two"))
    run.stop(world.plan, "h2", "agent")
    try:
        for call in (runtime.add, runtime.delete):
            away = refused(call, network, "c1", netns)
            assert (away.code, "does not listen on" in str(away)) == (11, True)
        assert refused(runtime.status, network).code == 50
    finally:
        run.start(world.plan, "h2", "agent")
    run.wait_until_up(world.plan)
    run.stop(world.plan, "h2", "controller")
    try:
        eventually(lambda: refused(runtime.status, network).code in (50, 51))
        with ThreadPoolExecutor() as background:  # and a runtime that does not wait for the end of its ADD
            adding = background.submit(refused, runtime.add, network, "c1", netns)
            eventually(lambda: attached(world) == ["c1", "stays"])
            runtime.delete(network, "c1", netns)
            assert attached(world) == ["stays"]
            away = adding.result()
        assert (away.code, "controller of h2" in str(away)) == (11, True)
        assert attached(world) == ["stays"]
    finally:
        run.start(world.plan, "h2", "controller")
    run.wait_until_up(world.plan)
    runtime.status(network)
    runtime.check(network, "stays", f"/run/netns/{box.names[1]}")
    runtime.delete(network, "stays", f"/run/netns/{box.names[1]}")
    assert refused(runtime.status, conflist("nowhere", host.socket)).code == 50
    settled(world)


def test_the_plugin_is_one_file_that_needs_nothing_installed(world: World, box: Box, tmp_path: Path) -> None:
    """The plugin is a file that needs Python alone: copied, without Warren's packages."""
    import tools.cni.plugin

    shutil.copy(tools.cni.plugin.__file__, tmp_path / "warren")
    (tmp_path / "warren").chmod(0o755)
    alone, network, netns = Runtime(tmp_path), conflist("cni-flat", world.plan.hosts[0].socket, "0.3.1"), box("one")
    assert alone.add(network, "c1", netns)["ips"][0]["version"] == "4"
    alone.delete(network, "c1", netns)
    assert attached(world) == []
