"""Docker options and labels, each with a real container: IPv6, added ports, mirrors, MAC prefixes, late labels."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import World
from tests.e2e.docker import cleaned
from tests.e2e.test_packets import udp
from tests.programs import finish, program, ready
from tests.waiting import LIMIT_S, eventually, listening, quiet
from tools.lab import run
from tools.lab.engine import LabEngine
from tools.lab.machine import PATIENCE
from tools.lab.plan import container_netns


@pytest.fixture(autouse=True)
def clean(world: World, engines: list[LabEngine]) -> Iterator[None]:
    """Every test leaves nothing."""
    with cleaned(world, *engines):
        yield


def shown(world: World, name: str) -> dict[str, Any]:
    """An endpoint as the agents tell it."""
    return run.api(world.plan.hosts[0], "GET", f"/endpoints/{name}")["endpoint"]  # type: ignore[no-any-return]


def heard(world: World, host: str, interface: str, work: Any) -> str:
    """What tcpdump hears on an interface of a host meanwhile."""
    command = world.command(host, "tcpdump", "--immediate-mode", "-l", "-n", "-e", "-Q", "in", "-i", interface)
    with tempfile.TemporaryFile("w+") as output:
        dump = subprocess.Popen(command, stdout=output, stderr=subprocess.PIPE, text=True)
        listening(dump)
        try:
            work()
            quiet(lambda: os.fstat(output.fileno()).st_size)
        finally:
            dump.send_signal(signal.SIGINT)
            dump.communicate(timeout=LIMIT_S)
        output.seek(0)
        return output.read()


def test_dovesnaps_acl_label_and_mac_prefix(world: World, engines: list[LabEngine]) -> None:
    """The labels of its README, also for one network among several, and as options of `docker network connect`."""
    engine = engines[0]
    document = {"acls": {"denyall": [{"actions": {"allow": 0}}], "allowall": [{"actions": {"allow": 1}}]}}
    run.api(world.plan.hosts[0], "POST", "/apply", timeout_s=40, document=json.dumps(document), wait_s=20)
    for name in ("testnet", "testnet2"):
        engine.docker(
            "network", "create", name, "-d", engine.driver, "-o", "ovs.bridge.dpid=0x1", "-o", "ovs.bridge.default_acl=allowall"
        )
        engine.run(f"peer-{name}", name)
    labels = ("--label=dovesnap.faucet.portacl=testnet:denyall/testnet2:allowall", "--label=dovesnap.faucet.mac_prefix=0e:99")
    engine.run("labelled", "testnet", *labels)
    engine.docker("network", "connect", "testnet2", "labelled")
    assert not engine.pings("labelled", engine.address("peer-testnet", "testnet"))
    assert engine.reaches("labelled", engine.address("peer-testnet2", "testnet2"))
    for interface in ("eth0", "eth1"):
        shows = engine.docker("exec", "labelled", "ip", "link", "show", interface)
        assert re.search(r"link/ether 0e:99:", shows), shows
    engine.docker("run", "-d", "--name", "optioned", "--network", "name=testnet2,driver-opt=warren.mac_prefix=0e:77:01", "busybox",
                  "sleep", "3600")  # fmt: skip
    mac = engine.inspect("optioned")[0]["NetworkSettings"]["Networks"]["testnet2"]["MacAddress"]
    assert mac.startswith("0e:77:01:")
    assert mac in engine.docker("exec", "optioned", "ip", "link", "show", "eth0")
    assert engine.reaches("optioned", engine.address("peer-testnet2", "testnet2"))
    assert "expected" in engine.refused(
        "run", "--rm", "--network", "testnet", "--label", "warren.mac_prefix=0f", "busybox", "ip", "link"
    )
    engine.run("floating", "testnet2", "--cap-add=NET_ADMIN", "--label=warren.allowed=10.88.0.9 10.88.1.0/24,00:00:5e:00:01:09")
    shown = run.api(world.plan.hosts[0], "GET", "/endpoints/floating")["endpoint"]
    assert shown["allowed"] == [{"address": "10.88.0.9"}, {"address": "10.88.1.0/24", "mac": "00:00:5e:00:01:09"}]
    taken = engine.address("peer-testnet2", "testnet2")
    for label in (f"warren.allowed={taken}", "warren.allowed=10.88.0.9,x"):
        assert "allowed" in engine.refused("run", "--rm", "--network", "testnet2", "--label", label, "busybox", "ip", "link")


def test_sands_quick_start(world: World, engines: list[LabEngine]) -> None:
    """The network by SAND's API and its id in both options, on every host."""
    network = run.api(world.plan.hosts[0], "POST", "/networks", name="mysand", ip_range="10.37.0.0/24")["network"]
    for engine in engines:
        engine.docker("network", "create", "--driver", engine.driver, "--ipam-driver", engine.driver, "--ipam-opt", f"sand-id={network['id']}",
                      "--opt", f"sand-id={network['id']}", "mysand")  # fmt: skip
    first_address, second_address = (engine.run(f"c-{engine.host}", "mysand") for engine in engines)
    assert engines[0].reaches("c-h1", second_address)
    assert engines[1].reaches("c-h2", first_address)


def test_sands_compose_file(world: World, engines: list[LabEngine], tmp_path: Path) -> None:
    """Compose file version 2 with SAND's id among the driver's and the IPAM driver's options."""
    if not shutil.which("docker-compose"):
        pytest.skip("needs docker-compose")
    network = run.api(world.plan.hosts[0], "POST", "/networks", name="composed", ip_range="10.42.0.0/24")["network"]
    options = {"sand-id": network["id"]}
    for engine in engines:
        file = tmp_path / f"{engine.host}.yml"
        sand = {"driver": engine.driver, "driver_opts": options, "ipam": {"driver": engine.driver, "options": options}}
        service = {"image": "busybox", "command": "sleep 3600", "container_name": engine.host, "networks": ["sand"]}
        file.write_text(json.dumps({"version": "2", "services": {"web": service}, "networks": {"sand": sand}}))
        compose = ("docker-compose", "-H", f"unix://{engine.socket}", "-p", "sands", "-f", str(file))
        done = subprocess.run([*compose, "up", "-d"], capture_output=True, text=True, timeout=LIMIT_S, check=False)
        assert done.returncode == 0, done.stderr
    first_address, second_address = (engine.address(engine.host, "sands_sand") for engine in engines)
    assert engines[0].reaches("h1", second_address)
    assert engines[1].reaches("h2", first_address)


def test_ipv6_of_a_warren_network(world: World, engines: list[LabEngine]) -> None:
    """Both families on two hosts, from one allocation; --ip6 too."""
    run.api(world.plan.hosts[0], "POST", "/networks", name="both", ip_range="10.38.0.0/24", ipv6_range="fd38::/64")
    for engine in engines:
        engine.docker("network", "create", "-d", engine.driver, "--ipv6", "--ipam-driver", engine.driver, "--ipam-opt", "warren.network=both",
                      "--subnet", "10.38.0.0/24", "--subnet", "fd38::/64", "-o", "warren.network=both", "both")  # fmt: skip
        engine.run("first", "both")
    engines[0].run("fixed", "both", "--ip6", "fd38::77")
    v6 = [engine.inspect("first")[0]["NetworkSettings"]["Networks"]["both"]["GlobalIPv6Address"] for engine in engines]
    assert len({*v6, "fd38::77"}) == 3
    assert engines[0].docker("exec", "fixed", "ip", "addr", "show", "eth0").count("fd38::77/64") == 1
    for engine, target in ((engines[0], v6[1]), (engines[1], "fd38::77")):
        assert engine.reaches("first", target)
    assert shown(world, "both/fixed")["target_veth_ipv6"] == "fd38::77/64"
    assert "is taken by" in engines[1].refused("run", "--network", "both", "--ip6", "fd38::77", "busybox", "sleep", "1")


def test_ipv6_of_a_network_that_docker_describes(world: World, engines: list[LabEngine]) -> None:
    """With Docker's own IPAM and with Warren's; the gateway answers in mode nat."""
    engine = engines[0]
    for name, ipam in (("sixth", ()), ("seventh", ("--ipam-driver", engine.driver))):
        engine.docker("network", "create", "-d", engine.driver, *ipam, "--ipv6", "--subnet", "10.39.0.0/24", "--subnet", "fd39::/64",
                      "-o", "warren.mode=nat", name)  # fmt: skip
        one = engine.run("one", name) and engine.inspect("one")[0]["NetworkSettings"]["Networks"][name]["GlobalIPv6Address"]
        engine.run("two", name)
        for target in (one, "fd39::1"):
            assert engine.reaches("two", target)
        assert "default via fd39::1 dev eth0" in engine.docker("exec", "two", "ip", "-6", "route")
        engine.clean()


def test_names_and_aliases_of_containers(world: World, engines: list[LabEngine]) -> None:
    """The gateway answers Docker's own server, for the containers of both engines; the network has the name that its user gave."""
    create = ("network", "create", "-d", engines[0].driver, "--ipam-driver", engines[0].driver, "--subnet", "10.89.0.0/24")
    engines[0].docker(*create, "-o", "warren.dns_server=true", "books")
    engines[0].run("reader", "books", "--dns", "10.89.0.1")
    engines[0].run("shelf", "books", "--label", "warren.aliases=www,shop")
    address = engines[0].address("shelf", "books")
    for name in ("shelf.books", "shop.books", "www.books"):
        eventually(
            lambda name=name: address in engines[0].try_docker("exec", "reader", "busybox", "nslookup", name).stdout.decode()
        )  # type: ignore[misc]
    assert shown(world, "shelf")["aliases"] == ["www", "shop"]
    engines[0].run("desk", "books", "--network-alias", "table", "--label", "com.docker.compose.service=furniture")
    eventually(lambda: shown(world, "desk")["aliases"] == ["furniture", "table"])
    engines[0].docker(
        "network", "create", "-d", engines[0].driver, "--subnet", "10.90.0.0/24", "-o", "warren.dns_server=true", "more"
    )
    engines[0].docker("network", "connect", "--alias", "board", "more", "desk")
    eventually(lambda: shown(world, "more/desk")["aliases"] == ["furniture", "board"])
    address = engines[0].address("desk", "books")
    for name in ("table.books", "furniture.books"):
        eventually(
            lambda name=name: address in engines[0].try_docker("exec", "reader", "busybox", "nslookup", name).stdout.decode()
        )  # type: ignore[misc]
    refusal = engines[0].refused("run", "--network", "books", "--label", "warren.aliases=www,a b", "busybox", "true")
    assert "warren.aliases: 'www,a b': expected NAME[,NAME2]" in refusal


def test_ports_that_the_driver_chooses(world: World, engines: list[LabEngine]) -> None:
    """-P and a range: free ports of the host, each once, told by the agent."""
    engine = engines[0]
    engine.docker("network", "create", "-d", engine.driver, "-o", "warren.mode=nat", "-o", "warren.host_access=dns", "ports")
    (network,) = [
        n
        for n in run.api(world.plan.hosts[0], "GET", "/networks")["networks"]
        if "docker.network" in n["labels"] and n["host_access"] == "dns"
    ]
    assert network["mode"] == "nat"
    serve = ("httpd", "-f", "-p", "80", "-h", "/etc")
    for name in ("p1", "p2"):
        engine.run(name, "ports", "-P", "--expose", "80", "--expose", "53/udp", "-p", "18200-18201:80", command=serve)
    ways = [(w["proto"], w["host_port"]) for name in ("p1", "p2") for w in shown(world, name)["publish"]]
    assert len(set(ways)) == len(ways) == 6 or len(set(ways)) == len(ways) == 4, ways
    assert {port for _, port in ways if port < 60_000} == {18200, 18201}
    chosen = [port for proto, port in ways if proto == "tcp"]
    for port in chosen:
        url = f"http://{world.plan.hosts[0].vtep}:{port}/hostname"
        eventually(lambda url=url: world.inside("h1", "curl", "-s", "-m", "2", url).returncode == 0)
    server = ready(world.background("h1", *program("serve", "the host's", "18300/tcp")))
    try:
        assert "port 18300/tcp is in use on h1" in engine.refused(
            "run", "--network", "ports", "-p", "18300:80", "busybox", "sleep", "1"
        )
        engine.run("p3", "ports", "-p", "18300-18301:80", command=serve)
        assert [way["host_port"] for way in shown(world, "p3")["publish"]] == [18301]
    finally:
        server.kill()
        server.wait()
    assert "is left in 18200-18201" in engine.refused(
        "run", "--network", "ports", "-p", "18200-18201:80", "busybox", "sleep", "1"
    )


@contextlib.contextmanager
def silent(engine: LabEngine) -> Iterator[None]:
    """The engine cannot be asked by the agent: its socket is elsewhere."""
    socket = engine.socket
    engine.socket = socket.with_name("elsewhere.sock")
    socket.rename(engine.socket)
    try:
        yield
    finally:
        engine.socket.rename(socket)
        engine.socket = socket


@pytest.mark.parametrize("required", [True, False])
def test_labels_are_read_from_the_engine_after_the_join(world: World, engines: list[LabEngine], required: bool) -> None:
    """The engine does not tell: the port is closed where labels are required, and open without them where they are not."""
    engine = engines[0]
    engine.docker(
        "network", "create", "-d", engine.driver, "-o", f"warren.labels={'required' if required else 'optional'}", "strict"
    )
    target = engine.run("target", "strict")
    with silent(engine):
        engine.run("late", "strict", "--label", "role=web")
        late = next(e for e in run.api(world.plan.hosts[0], "GET", "/endpoints?states=true")["endpoints"]
                    if e["target_veth_ip"].startswith(f"{engine.address('late', 'strict')}/"))  # fmt: skip
        assert "role" not in late["labels"]
        assert late["state"] == ("closed" if required else "up")
        assert "labels" in late["reason"] or not required
        assert not engine.pings("late", target) if required else engine.reaches("late", target)
    eventually(lambda: shown(world, late["id"])["labels"].get("role") == "web")
    assert shown(world, late["id"])["name"] == "late"
    eventually(lambda: engine.pings("late", target))


def test_dovesnaps_added_ports_and_preallocated_ports(world: World, engines: list[LabEngine]) -> None:
    """An interface of the host that comes along with the network, and containers that find their port ready."""
    engine, first = engines[0], world.plan.hosts[0]
    machine, host = f"{world.plan.name}-c-lan", world.plan.hosts[0].netns
    run.sh("ip", "netns", "add", machine)
    run.sh("ip", "-n", host, "link", "add", "eno7", "type", "veth", "peer", "name", "eth0", "netns", machine)
    try:
        for place, name in ((machine, "eth0"), (host, "eno7")):
            run.sh("ip", "netns", "exec", place, "ethtool", "-K", name, "tx", "off")
        run.sh("ip", "-n", machine, "addr", "add", "10.77.0.200/24", "dev", "eth0")
        run.sh("ip", "-n", machine, "link", "set", "eth0", "up")
        options = ("-o", "ovs.bridge.dpid=0x1", "-o", "ovs.bridge.preallocate_ports=2", "-o", "ovs.bridge.vlan=30")
        create = ("network", "create", "lan", "-d", engine.driver, "--subnet", "10.77.0.0/24", *options)
        assert "does not exist" not in engine.docker(*create, "-o", "ovs.bridge.add_ports=eno7/88//30")
        listed = run.api(first, "GET", "/endpoints?hostname=h1")["endpoints"]
        assert [(e["port"], e["ofport"]) for e in listed if e["port"]] == [("eno7", 88)]

        def ready() -> set[str]:
            endpoints = run.api(first, "GET", "/endpoints?spares=true&states=true&hostname=h1")["endpoints"]
            return {e["target_veth_ip"].split("/")[0] for e in endpoints if e["spare"] and e["state"] == "up"}

        eventually(lambda: len(ready()) == 2)
        before = ready()
        engine.run("one", "lan")
        assert engine.address("one", "lan") in before
        engine.docker(
            "run", "-d", "--name", "two", "--net", "lan", "--mac-address", "0e:00:00:00:00:77", "busybox", "sleep", "3600"
        )
        engine.docker(
            "run", "-d", "--name", "three", "--net", "lan", "--label", "warren.mac_prefix=0e:88", "busybox", "sleep", "3600"
        )
        for name, mac in (("two", "0e:00:00:00:00:77"), ("three", "0e:88:")):
            assert f"link/ether {mac}" in engine.docker("exec", name, "ip", "link", "show", "eth0")
            assert engine.reaches(name, engine.address("one", "lan"))
            assert engine.reaches(name, "10.77.0.200"), "the machine behind the interface"
        eventually(lambda: len(ready()) == 2)
        engine.docker("rm", "-f", *engine.docker("ps", "-aq").split())
        engine.docker("network", "rm", "lan")
        assert not [e for e in run.api(first, "GET", "/endpoints?hostname=h1")["endpoints"] if e["port"]]
    finally:
        run.sh("ip", "netns", "del", machine)


def test_dovesnaps_coprocessor(world: World, engines: list[LabEngine]) -> None:
    """What a network function sends with VLAN id 1000 + N leaves by port N, without the tag; its ACL is asked."""
    engine, first = engines[0], world.plan.hosts[0]
    machine, host = container_netns(world.plan.name, "nfv"), world.plan.hosts[0].netns
    run.sh("ip", "netns", "add", machine)
    try:
        run.sh("ip", "-n", host, "link", "add", "fun7", "type", "veth", "peer", "name", "eth0", "netns", machine)
        run.sh("ip", "-n", machine, "link", "set", "eth0", "up")
        rules = [{"dl_type": 0x800, "nw_proto": 17, "udp_dst": 4098, "actions": {"allow": 0}}, {"actions": {"allow": 1}}]
        run.api(
            first, "POST", "/apply", document=json.dumps({"acls": [{"name": "nfv", "rules": rules}]}), wait_s=20, timeout_s=40
        )
        create = ("network", "create", "nfv", "-d", engine.driver, "--subnet", "10.78.0.0/24")
        assert "PORT[/OFPORT" in engine.refused(*create, "-o", "ovs.bridge.add_copro_ports=fun7/8/nfv/1/2")
        engine.docker(*create, "-o", "ovs.bridge.add_copro_ports=fun7/777/nfv")
        engine.run("target", "nfv")
        endpoints = run.api(first, "GET", "/endpoints?hostname=h1&states=true")["endpoints"]
        target = next(e for e in endpoints if e["name"] == "target")
        assert [(e["ofport"], e["coprocessor"]["vlan_vid_base"]) for e in endpoints if e["port"] == "fun7"] == [(777, 1000)]
        mark, pid = b"warren-nfv", str(engine.inspect("target")[0]["State"]["Pid"])
        frame = udp("02:00:00:00:00:09", "02:00:00:00:00:0a", "10.78.0.200", "10.78.0.201", mark)
        tag = b"\x81\x00" + (1000 + target["ofport"]).to_bytes(2, "big")
        for sent, want, arrives in ((frame, frame[:14], True), (frame.replace(b"\x10\x01", b"\x10\x02", 1), mark, False)):
            command = ("nsenter", "-t", pid, "-n", *program("hear_mark", want.hex(), LIMIT_S, PATIENCE))
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listener:
                ready(listener)
                world.inside("nfv", *program("send_frames", *[(sent[:12] + tag + sent[12:]).hex()] * 3))
                assert ("heard" in (listener.communicate()[0] if arrives else finish(listener, LIMIT_S))) is arrives
        engine.docker("rm", "-f", "target")
        engine.docker("network", "rm", "nfv")
        assert not [e for e in run.api(first, "GET", "/endpoints?hostname=h1")["endpoints"] if e["port"]]
    finally:
        run.sh("ip", "netns", "del", machine)
