"""Three sites of two hosts: plain VXLAN inside a site, WireGuard between sites, never a tunnel packet in clear text outside."""

from __future__ import annotations

import os
import re
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from specs.model.derived import LinkNames, link_names
from tests.e2e.conftest import World, clean, complaints_of
from tests.waiting import eventually, patiently
from tools.lab import run
from tools.lab.machine import PATIENCE
from tools.lab.plan import LabPlan

WAIT_S = 30 * PATIENCE
NETWORK = {"name": "amber", "ip_range": "10.0.0.0/24"}


@pytest.fixture(scope="module")
def sites() -> Iterator[World]:
    """A laboratory with a container on the first host of each site and on the second of the first. The last site is behind a translating router."""
    if os.geteuid():
        pytest.skip("needs root")
    plan = LabPlan("s" + uuid.uuid4().hex[:4], 6, sites=3)
    run.up(plan)
    try:
        world = World(plan)
        run.api(plan.hosts[0], "POST", "/networks", **NETWORK)
        for host in ("h1", "h2", "h3", "h5"):
            endpoint = run.container(plan, f"c{host[1:]}", host, "amber")
            world.address[f"c{host[1:]}"] = endpoint["target_veth_ip"].split("/")[0]
        yield world
        for host in plan.hosts:
            eventually(lambda host=host: clean(host), WAIT_S)  # type: ignore[misc]
        complaints = [line for host in plan.hosts for line in complaints_of(host.directory)]
        netns = {names(world, host.name).netns for host in plan.hosts}
    finally:
        run.down(plan.name)
    assert complaints == []
    assert not netns & set(run.sh("ip", "netns", "list").split())


def names(world: World, host: str) -> LinkNames:
    return link_names(f"{world.plan.name}-{host}", host)


def tunnels(world: World, host: str) -> dict[str, dict[str, Any]]:
    """What a host's agent says of its encrypted tunnels, by peer."""
    return {pair["peer"]: pair for pair in run.api(world.plan.host(host), "GET", f"/hosts/{host}/encryption")["pairs"]}  # type: ignore[arg-type]


def is_up(world: World, host: str, *peers: str) -> bool:
    states = tunnels(world, host)
    return all(peer in states and states[peer]["up"] for peer in peers)


@contextmanager
def captured(world: World, bridge: str, filters: str) -> Iterator[list[str]]:
    """The packets that pass a bridge of the laboratory's networks meanwhile, a line each."""
    lines: list[str] = []
    words = ("tcpdump", "-nnqtl", "-i", bridge, *filters.split())
    capture = subprocess.Popen(run.in_netns(world.plan.netns, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert capture.stderr is not None
    while "listening on" not in (line := capture.stderr.readline()):
        assert line, "tcpdump ended"
    try:
        yield lines
    finally:
        capture.terminate()
        lines += [line for line in capture.communicate()[0].splitlines() if re.match(r"IP6? ", line)]


def test_containers_of_all_sites_reach_each_other(sites: World) -> None:
    for host, peers in (("h1", ("h3", "h5")), ("h3", ("h1", "h2", "h5")), ("h5", ("h1", "h2", "h3"))):
        eventually(lambda host=host, peers=peers: is_up(sites, host, *peers), WAIT_S)  # type: ignore[misc]
    with captured(sites, "inet", "udp") as outside, captured(sites, "under1", "udp port 4789") as inside:
        for source, target in (("c1", "c2"), ("c1", "c3"), ("c1", "c5"), ("c3", "c5"), ("c5", "c2")):
            assert sites.reaches(source, sites.address[target]), f"{source} to {target}"
        server = sites.background("c5", "iperf3", "-s")
        assert patiently(lambda: sites.inside("c1", "iperf3", "-c", sites.address["c5"], "-n", "2M").returncode == 0)
        server.terminate()
        server.communicate()
    assert outside, "something passed between the sites"
    assert [line for line in outside if ".51820 >" not in line or not re.search(r"\.51820: ", line)] == []
    assert {tuple(re.findall(r"198\.18\.0\.\d+", line)) for line in inside} <= {
        ("198.18.0.11", "198.18.0.12"), ("198.18.0.12", "198.18.0.11")}  # fmt: skip
    assert inside, "plain VXLAN passed inside the first site"


def test_the_worst_path_decides_the_size_of_packets(sites: World) -> None:
    for name in ("c1", "c5"):
        assert " mtu 1366 " in sites.inside(name, "ip", "link", "show", "eth0").stdout
    for size, answered in ((1366, True), (1367, False)):
        ping = sites.inside("c1", "ping", "-c2", "-i0.2", "-W2", "-M", "do", "-s", str(size - 28), sites.address["c5"])
        assert (ping.returncode == 0) is answered, size


def flows_to_tunnels(world: World, host: str) -> str:
    return world.ofctl(host, "dump-flows", "br-warren")


def tunnel_address(world: World, host: str) -> str:
    return str(run.api(world.plan.host(host), "GET", f"/hosts/{host}")["host"]["tunnel_address"])  # type: ignore[arg-type]


def test_without_encryption_nothing_leaves_and_it_comes_back(sites: World) -> None:
    """WireGuard dies, its interface goes, and its namespace goes: each heals without help, and nothing is seen in clear text."""
    h1, address = names(sites, "h1"), tunnel_address(sites, "h3")
    kill = ("nsenter", f"--net=/run/netns/{h1.netns}", "ip", "link", "del", h1.wireguard)
    assert address in flows_to_tunnels(sites, "h1")
    with captured(sites, "inet", "udp and not port 51820") as outside:
        for harm in (kill, ("ip", "netns", "del", h1.netns)):
            pinging = sites.background("c1", "ping", "-i", "0.05", "-W1", sites.address["c3"])
            run.sh(*harm)
            eventually(lambda: f"{h1.wireguard}:" in run.sh("ip", "-n", h1.netns, "-o", "link", check=False), WAIT_S)
            eventually(lambda: is_up(sites, "h1", "h3", "h5"), WAIT_S)
            assert sites.reaches("c1", sites.address["c3"])
            pinging.terminate()
            pinging.communicate()
    assert outside == []


def test_the_flows_to_a_host_go_with_its_tunnel(sites: World) -> None:
    """The agent of h3 is away, and so is its WireGuard: h1 sends it nothing any more and says why; other tunnels stay."""
    address = tunnel_address(sites, "h3")
    run.stop(sites.plan, "h3", "agent")
    run.sh("ip", "netns", "del", names(sites, "h3").netns)
    with captured(sites, "inet", "udp and not port 51820") as outside:
        eventually(lambda: address not in flows_to_tunnels(sites, "h1"), WAIT_S)
        assert "comes back" in tunnels(sites, "h1")["h3"]["reason"]
        line = "encrypted tunnel to host h3: nothing comes back"
        eventually(lambda: line in str(run.api(sites.plan.hosts[0], "GET", "/hosts/h1")["host"]["problems"]), WAIT_S)
        assert sites.reaches("c1", sites.address["c5"])
        run.start(sites.plan, "h3", "agent")
        eventually(lambda: is_up(sites, "h1", "h3") and address in flows_to_tunnels(sites, "h1"), WAIT_S)
        assert sites.reaches("c1", sites.address["c3"])
    assert outside == []


def test_a_wrong_secret_ends_one_tunnel_alone_and_is_put_right(sites: World) -> None:
    h1 = names(sites, "h1")
    peer = run.api(sites.plan.host("h3"), "GET", "/hosts/h3")["host"]["public_key"]  # type: ignore[arg-type]
    before = tunnels(sites, "h1")
    wrong = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    set_secret = run.in_netns(h1.netns, "wg", "set", h1.wireguard, "peer", peer, "preshared-key", "/dev/stdin")
    subprocess.run(set_secret, input=wrong, text=True, check=True)
    eventually(lambda: wrong not in run.sh(*run.in_netns(h1.netns, "wg", "show", h1.wireguard, "preshared-keys")), WAIT_S)
    after = tunnels(sites, "h1")
    assert after["h5"]["up"]
    assert after["h5"]["received"] >= before["h5"]["received"], "the other tunnel was not made anew"
    assert sites.reaches("c1", sites.address["c3"])


def test_rotating_a_secret_loses_no_packet(sites: World) -> None:
    shown = (names(sites, host) for host in ("h1", "h3"))
    reads = [run.in_netns(n.netns, "wg", "show", n.wireguard, "preshared-keys") for n in shown]
    secrets = [set(run.sh(*read).split()) for read in reads]
    pinging = sites.background("c1", "ping", "-i", "0.1", "-c", "100", sites.address["c3"])
    answer = run.api(sites.plan.hosts[0], "POST", "/encryption/rotate", pair=["h1", "h3"])
    assert answer["rotated"] == [["h1", "h3"]]
    eventually(lambda: all(set(run.sh(*read).split()) != old for read, old in zip(reads, secrets, strict=True)), WAIT_S)
    assert " 0% packet loss" in pinging.communicate(timeout=WAIT_S)[0]


def test_tunnel_packets_in_clear_text_reach_nobody_and_are_counted(sites: World) -> None:
    """A stranger outside sends VXLAN with a known VNI; a host sends VXLAN to the outside."""
    vni = run.api(sites.plan.hosts[0], "GET", "/networks")["networks"][0]["vxlan_vni"]
    frame = (
        bytes.fromhex("08000000")
        + int(vni).to_bytes(3, "big")
        + b"\0"
        + bytes.fromhex("ffffffffffff025700000099")
        + b"\x08\x00"
        + b"x" * 46
    )
    send = "import socket, sys; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(bytes.fromhex(sys.argv[1]), (sys.argv[2], 4789))"
    stranger = run.in_netns(f"{sites.plan.name}-nat", "python3", "-c", send, frame.hex(), "198.18.2.11")

    def dropped() -> dict[str, int]:
        return dict(run.api(sites.plan.hosts[0], "GET", "/hosts/h1/encryption")["dropped"])

    before = dropped()
    with captured(sites, "inet", "udp port 4789 and src 198.18.2.11") as outside:
        run.sh(*stranger)
        eventually(lambda: dropped()["received"] == before["received"] + 1, WAIT_S)
        sites.inside("h1", "python3", "-c", send, frame.hex(), "198.18.2.13")
        eventually(lambda: dropped()["sent"] == before["sent"] + 1, WAIT_S)
    assert outside == []


def test_a_host_that_leaves_its_site_is_followed(sites: World) -> None:
    """The second host of the second site moves to the third one: its tunnels follow, and those of others are not made anew."""
    plan, keys = sites.plan, names(sites, "h1")
    handshakes = run.in_netns(keys.netns, "wg", "show", keys.wireguard, "latest-handshakes")
    before = dict(line.split() for line in run.sh(*handshakes).splitlines())
    environment = dict(plan.host("h4").environment()) | {"WARREN_SITE": "s3"}  # type: ignore[union-attr]
    process = plan.host("h4").process("agent")  # type: ignore[union-attr]
    run.stop(plan, "h4", "agent")
    run.start_process(plan, "h4", replace(process, environment=tuple(environment.items())))
    eventually(lambda: tunnels(sites, "h3").get("h4", {}).get("up"), WAIT_S)
    eventually(lambda: "h4" not in tunnels(sites, "h5"), WAIT_S)
    assert before.items() <= dict(line.split() for line in run.sh(*handshakes).splitlines()).items() or is_up(
        sites, "h1", "h3", "h5"
    )


def test_what_cannot_be_is_refused(sites: World) -> None:
    first = sites.plan.hosts[0]
    for item, path in (
        ({"name": "h9", "vtep": "198.18.0.99", "site": "nowhere"}, "site"),
        ({"name": "h9", "vtep": "198.18.0.99", "outside": {"address": "198.18.0.99"}}, "outside.address"),
        ({"name": "h9", "vtep": "198.18.0.99", "outside": {"address": "198.18.2.99", "port": 70_000}}, "outside.port"),
    ):
        with pytest.raises(run.LabError, match=rf"hosts\[0\]\.{path}"):
            sites.apply(hosts=[item])
    for pair, error in ((["h1", "h2"], "expected a host to which h1 has"), (["h1", "h9"], "h9"), (["h1"], "pair")):
        with pytest.raises(run.LabError, match=error):
            run.api(first, "POST", "/encryption/rotate", pair=pair)
