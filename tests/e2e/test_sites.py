"""Three sites of two hosts: plain VXLAN inside a site, WireGuard between sites, never a tunnel packet in clear text outside."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from specs.model.derived import LinkNames, link_names
from tests.e2e.browser import Browser
from tests.e2e.conftest import World, clean
from tests.e2e.sites import WAIT_S, laboratory
from tests.e2e.test_packets import udp
from tests.e2e.test_tunnel_guard import vxlan
from tests.programs import program, ready
from tests.waiting import eventually, patiently
from tools.lab import run
from tools.lab.machine import kernel_datapath
from tools.lab.plan import LabPlan

INSIDE = "eth0" if kernel_datapath() else "br-phy"  # the interface of a host's address in its site
NETWORK = {"name": "amber", "ip_range": "10.0.0.0/24"}


@pytest.fixture(scope="module")
def sites() -> Iterator[World]:
    """A laboratory with a container on the first host of each site and on the second of the first. The last site is behind a translating router."""
    if os.geteuid():
        pytest.skip("needs root")
    plan = LabPlan("s" + uuid.uuid4().hex[:4], 6, sites=3)
    with laboratory(plan) as world:
        run.api(plan.hosts[0], "POST", "/networks", **NETWORK)
        for host in ("h1", "h2", "h3", "h5"):
            endpoint = run.container(plan, f"c{host[1:]}", host, "amber")
            world.address[f"c{host[1:]}"] = endpoint["target_veth_ip"].split("/")[0]
        yield world


def names(world: World, host: str) -> LinkNames:
    return link_names(f"{world.plan.name}-{host}", host)


def tunnels(world: World, host: str) -> dict[str, dict[str, Any]]:
    """What a host's agent says of its encrypted tunnels, by peer."""
    return {pair["peer"]: pair for pair in run.api(world.plan.host(host), "GET", f"/hosts/{host}/encryption")["pairs"]}  # type: ignore[arg-type]


def is_up(world: World, host: str, *peers: str) -> bool:
    states = tunnels(world, host)
    return all(peer in states and states[peer]["up"] for peer in peers)


@contextmanager
def captured(world: World, bridge: str, filters: str, *, at: str | None = None) -> Iterator[list[str]]:
    """The packets that pass a bridge of the laboratory's networks meanwhile, or an interface of a container, a line each."""
    lines: list[str] = []
    words = ("tcpdump", "-nnqtl", "-i", bridge, *filters.split())
    netns = run.netns_of(world.plan, at) if at is not None else world.plan.netns
    capture = subprocess.Popen(run.in_netns(netns, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
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


def test_status_and_metrics_tell_of_each_tunnel(sites: World) -> None:
    """The age of the last handshake and the bytes of each pair, and the drops of the guard."""
    eventually(lambda: is_up(sites, "h1", "h3", "h4", "h5", "h6"), WAIT_S)
    command = [sys.executable, "-m", "tools.cli.main", "--lab", sites.plan.name, "status"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    pairs = re.findall(r"^ *(h\d) +(h\d) +(\w+) +(\w+) +(\d+ s|never) +(\d+) +(\d+)", shown, re.MULTILINE)
    assert len({frozenset(pair[:2]) for pair in pairs}) == len(pairs) == 12, shown
    of_h1 = {pair[1]: pair for pair in pairs if pair[0] == "h1"}
    assert set(of_h1) == {"h3", "h4", "h5", "h6"}
    assert of_h1["h3"][2:4] == ("wireguard", "up")
    assert int(of_h1["h3"][5]) > 0
    scrape = ("curl", "-s", "--unix-socket", str(sites.plan.hosts[0].socket), "http://agent/metrics")
    metrics = run.sh(*scrape)
    labels = r'\{cipher="wireguard",dp_name="h1",peer="h3"\}'
    for name, value in (
        ("up", r"1\.0"),
        ("handshake_age_seconds", r"\d+\.0"),
        ("received_bytes_total", r"[1-9]\S+"),
        ("sent_bytes_total", r"[1-9]\S+"),
    ):
        assert re.search(rf"^warren_encrypted_tunnel_{name}{labels} {value}$", metrics, re.MULTILINE), metrics
    assert 'warren_guard_dropped_packets_total{direction="received",dp_name="h1"}' in metrics


def test_the_page_shows_sites_and_what_is_encrypted(sites: World, tmp_path: Path) -> None:
    browser = Browser(sites.command("h1", "chromium"), tmp_path)
    try:
        browser.open(f"http://{sites.plan.hosts[0].management}:9999/ui")
        browser.wait("document.querySelector('[data-tunnel=\"h1 h3\"]')?.dataset.cipher === 'wireguard'")
        frames = "[...document.querySelectorAll('.site')].map((s) => [s.dataset.site, [...s.querySelectorAll('[data-host]')].map((h) => h.dataset.host)])"
        assert browser.run(frames) == [["s1", ["h1", "h2"]], ["s2", ["h3", "h4"]], ["s3", ["h5", "h6"]]]
        assert browser.run("document.querySelector('[data-tunnel=\"h1 h2\"]').dataset.cipher") == ""
        assert browser.run(
            "document.querySelectorAll('.lock.ring').length === document.querySelectorAll('.tunnel.encrypted').length"
        )
        assert browser.complaints == []
    finally:
        browser.close()


def test_the_worst_path_decides_the_size_of_packets(sites: World) -> None:
    assert sites.reaches("c1", sites.address["c5"])
    for name in ("c1", "c5"):
        assert " mtu 1366 " in sites.inside(name, "ip", "link", "show", "eth0").stdout
    for size, answered in ((1366, True), (1367, False)):
        ping = sites.inside("c1", "ping", "-c2", "-i0.2", "-W2", "-M", "do", "-s", str(size - 28), sites.address["c5"])
        assert (ping.returncode == 0) is answered, size


def overlay_of_hosts(world: World) -> dict[str, dict[str, Any]]:
    """The hosts on the admin overlay, by name."""
    shown = run.api(world.plan.hosts[0], "GET", "/admin-overlay")["admin_overlay"]
    return {each["host"]: each for each in shown["hosts"]}


def admin_link(world: World, host: str) -> dict[str, Any]:
    """The interface of a host on the admin overlay, as ip(8) shows it; empty if there is none."""
    shown = world.inside(host, "ip", "-j", "address", "show", "dev", "warren-admin")
    return dict(json.loads(shown.stdout)[0]) if shown.returncode == 0 else {}


def all_up(world: World) -> bool:
    return {each["state"] for each in overlay_of_hosts(world).values()} == {"up"}


@contextmanager
def admin_overlay(world: World, **fields: Any) -> Iterator[dict[str, str]]:
    """The admin overlay for a while; yields the address of each host."""
    run.api(world.plan.hosts[0], "POST", "/admin-overlay", **fields)
    try:
        eventually(lambda: all_up(world), WAIT_S)
        yield {name: each["addresses"][0] for name, each in overlay_of_hosts(world).items()}
    finally:
        run.api(world.plan.hosts[0], "DELETE", "/admin-overlay")
        eventually(lambda: not any(admin_link(world, host.name) for host in world.plan.hosts), WAIT_S)


def test_hosts_of_all_sites_reach_each_other_over_the_admin_overlay(sites: World) -> None:
    with admin_overlay(sites, ip_range="10.44.44.0/24", addresses={"h1": "10.44.44.11"}) as address:
        assert address["h1"] == "10.44.44.11"
        assert len(set(address.values())) == 6
        for peers in (("h1", ("h3", "h5")), ("h6", ("h2", "h4"))):
            eventually(lambda peers=peers: is_up(sites, peers[0], *peers[1]), WAIT_S)  # type: ignore[misc]
        with captured(sites, "inet", "udp and not port 51820") as outside:
            for source, target in (("h1", "h2"), ("h1", "h3"), ("h1", "h5"), ("h6", "h2"), ("h4", "h1")):
                assert sites.reaches(source, address[target]), f"{source} to {target}"
            server = sites.background("h5", "iperf3", "-s", "-B", address["h5"])
            assert patiently(lambda: sites.inside("h1", "iperf3", "-c", address["h5"], "-n", "1M").returncode == 0)
            server.terminate()
            server.communicate()
        assert outside == []
        assert admin_link(sites, "h1")["mtu"] == 1366
        netns = sites.plan.host("h3").netns  # type: ignore[union-attr]
        run.sh("ip", "-n", netns, "netns", "set", netns, "auto", check=False)  # any tool may give the host's namespace an id
        _a_host_has_its_own_address_alone(sites, address)
        _what_is_damaged_comes_back(sites, address)
        for body, error in (
            ({"network_id": "admin", "ns_handle_path": run.netns_of(sites.plan, "c1")}, "hosts alone"),
            ({"network_id": "amber", "ns_handle_path": "/proc/self/ns/net"}, "only the admin overlay"),
        ):
            with pytest.raises(run.LabError, match=error):
                run.api(sites.plan.hosts[0], "POST", "/endpoints", **body)
        assert not sites.pings("c1", address["h3"])


def test_the_admin_overlay_takes_another_vni_where_a_network_has_its_own(sites: World) -> None:
    first = sites.plan.hosts[0]
    network = run.api(first, "POST", "/networks", name="two", vxlan_vni=2, ip_range="10.2.0.0/24")["network"]
    try:
        with pytest.raises(run.LabError, match="VNI 2 is taken by network two"):
            run.api(first, "POST", "/admin-overlay", ip_range="10.44.45.0/24", vxlan_vni=2)
        with admin_overlay(sites, ip_range="10.44.45.0/24"):
            assert run.api(first, "GET", "/admin-overlay")["admin_overlay"]["vxlan_vni"] > 2
    finally:
        run.api(first, "DELETE", f"/networks/{network['id']}")


def _a_host_has_its_own_address_alone(world: World, address: dict[str, str]) -> None:
    stolen = ("address", "dev", "warren-admin", "10.44.44.99/32")
    world.inside("h1", "ip", *stolen[:1], "add", *stolen[3:], *stolen[1:3])
    try:
        assert world.inside("h1", "ping", "-c2", "-i0.2", "-W1", "-I", "10.44.44.99", address["h3"]).returncode != 0
    finally:
        world.inside("h1", "ip", *stolen[:1], "del", *stolen[3:], *stolen[1:3])


def _what_is_damaged_comes_back(world: World, address: dict[str, str]) -> None:
    """The interface is deleted by hand, and the endpoint by a command: both come back as they were; an address that a host is given replaces the
    one that it had."""
    before = admin_link(world, "h3")["address"]
    for harm in (
        lambda: world.inside("h3", "ip", "link", "del", "warren-admin"),
        lambda: run.api(world.plan.host("h3"), "DELETE", "/endpoints/admin/h3"),  # type: ignore[arg-type]
    ):
        index = admin_link(world, "h3")["ifindex"]
        harm()
        eventually(lambda index=index: admin_link(world, "h3").get("ifindex", index) != index, WAIT_S)  # type: ignore[misc]
        eventually(lambda: all_up(world), WAIT_S)
        assert admin_link(world, "h3")["address"] == before
        assert world.reaches("h1", address["h3"])
    run.api(world.plan.hosts[0], "POST", "/admin-overlay/update", addresses={"h3": "10.44.44.33"})
    assert world.reaches("h1", "10.44.44.33")
    assert not world.pings("h1", address["h3"])


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


@contextmanager
def stranger(world: World) -> Iterator[str]:
    """The namespace of a machine in the inside network of the first site that is no host."""
    netns, bridge = f"{world.plan.name}-stranger", world.plan.hosts[0].inside
    run.sh("ip", "netns", "add", netns)
    try:
        run.sh("ip", "-n", world.plan.netns, "link", "add", "u9", "type", "veth", "peer", "name", "eth0", "netns", netns)
        run.sh("ip", "-n", world.plan.netns, "link", "set", "u9", "master", bridge, "up")
        run.sh("ip", "-n", netns, "link", "set", "eth0", "up")
        yield netns
    finally:
        run.sh("ip", "netns", "del", netns)


def plain_tunnel_packet(world: World, src: str, dst: str, source: str, mark: bytes) -> str:
    """A frame (hexadecimal) to h1 with a packet of plain VXLAN, in which container `source` sends a datagram with a mark to c1."""
    endpoints = {e["name"]: e for e in run.api(world.plan.hosts[0], "GET", "/endpoints")["endpoints"]}
    sender, receiver = endpoints[source]["target_veth_mac"], endpoints["c1"]["target_veth_mac"]
    network = run.api(world.plan.hosts[0], "GET", "/networks/amber")["network"]
    inner = udp(sender, receiver, world.address[source], world.address["c1"], mark)
    link = json.loads(world.inside("h1", "ip", "-j", "link", "show", INSIDE).stdout)[0]
    frame = bytearray(udp("02:00:00:00:00:99", link["address"], src, dst, vxlan(network["vxlan_vni"], inner)))
    frame[36:38], frame[40:42] = (4789).to_bytes(2, "big"), b"\0\0"  # the UDP port that it is for, and no checksum
    return frame.hex()


def test_a_stranger_inside_who_writes_a_tunnel_address_as_its_own_reaches_nobody(sites: World) -> None:
    """In plain VXLAN as from h3 of another site, to the inside address of h1 and to its tunnel address; as from h2 it arrives, and so does what
    h3 itself sends."""
    first, far = tunnel_address(sites, "h1"), tunnel_address(sites, "h3")
    inside, near = sites.plan.hosts[0].vtep, sites.plan.hosts[1].vtep
    packets = ((far, inside, "c3"), (far, first, "c3"), (far, inside, "c2"), (near, inside, "c3"), (near, inside, "c2"))
    marks = [f"forged-{number}" for number in range(len(packets))]
    with stranger(sites) as netns:
        ears = ready(sites.background("c1", *program("hear_until_last", *marks)))
        frames = [plain_tunnel_packet(sites, *packet, mark.encode()) for packet, mark in zip(packets, marks, strict=True)]
        send = run.in_netns(netns, *program("send_frames", *frames))
        eventually(lambda: run.sh(*send) == "" and ears.poll() is not None, WAIT_S)  # its bridge port may not forward yet
        assert ears.communicate()[0].split() == marks[-1:]
    assert sites.reaches("c3", sites.address["c1"])


CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], 8099), 2, (sys.argv[2], 0)).close()"


def connects(netns: str, address: str, source: str = "0.0.0.0") -> bool:
    """Whether a connection to port 8099 is answered at once: for what must not be answered."""
    done = subprocess.run(run.in_netns(netns, "python3", "-c", CONNECT, address, source), capture_output=True, text=True)
    return done.returncode == 0


def gets_in(netns: str, address: str, source: str = "0.0.0.0") -> bool:
    """Whether a connection to port 8099 is answered, however busy the machine is."""
    return patiently(lambda: connects(netns, address, source))


def firewall_of(world: World, host: str) -> dict[str, Any]:
    return dict(run.api(world.plan.host(host), "GET", f"/hosts/{host}/firewall"))  # type: ignore[arg-type]


@contextmanager
def servers(*netns: str) -> Iterator[None]:
    """A server on port 8099 in each of these namespaces."""
    words = ("python3", "-m", "http.server", "8099", "--bind", "0.0.0.0", "--directory", "/proc/self/fdinfo")
    started = [
        subprocess.Popen(run.in_netns(each, *words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for each in netns
    ]
    try:
        for each in netns:
            assert gets_in(each, "127.0.0.1")
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_the_allow_list_keeps_strangers_off_the_outside(sites: World) -> None:
    """The internet's router is a stranger at 198.18.2.1 and 198.18.2.2. A list that nobody confirms is taken back; a confirmed one stays."""
    first, router = sites.plan.hosts[0], f"{sites.plan.name}-nat"
    hosts = {name: sites.plan.host(name).netns for name in ("h1", "h3", "h5")}  # type: ignore[union-attr]
    nft = (*f"nsenter --net=/run/netns/{hosts['h1']}".split(), "nft")
    run.sh("ip", "-n", router, "address", "replace", "198.18.2.2/24", "dev", "wan")
    try:
        with servers(*hosts.values(), router):
            assert gets_in(router, "198.18.2.11")
            run.api(first, "POST", "/firewall", mode="allowlist", sources=["203.0.113.0/24"], confirm_within_s=3600)
            eventually(lambda: firewall_of(sites, "h1")["mode"] == "allowlist", WAIT_S)
            assert not connects(router, "198.18.2.11")
            assert firewall_of(sites, "h1")["refused"]
            run.api(first, "POST", "/firewall", mode="allowlist", sources=["203.0.113.0/25"], confirm_within_s=1)
            assert gets_in(router, "198.18.2.11")
            eventually(lambda: run.api(first, "GET", "/firewall")["firewall"]["proposal"] is None, WAIT_S)
            with pytest.raises(run.LabError, match="nothing to confirm"):
                run.api(first, "POST", "/firewall/confirm")

            run.api(first, "POST", "/firewall", mode="allowlist", sources=["198.18.2.2"], confirm_within_s=3600)
            run.api(first, "POST", "/firewall/confirm")
            eventually(lambda: all(firewall_of(sites, host)["mode"] == "allowlist" for host in hosts), WAIT_S)
            _only_the_list_and_hosts_get_in(sites, router, hosts)
            run.sh(*nft, "delete", "table", "inet", "warren-firewall")
            eventually(lambda: firewall_of(sites, "h1").get("refused") == 0, WAIT_S)
            run.restart(sites.plan, "h1", "agent")
            eventually(lambda: firewall_of(sites, "h1")["mode"] == "allowlist", WAIT_S)
            assert not connects(router, "198.18.2.11", "198.18.2.1")
    finally:
        run.api(first, "POST", "/firewall", mode="guard")
        run.sh("ip", "-n", router, "address", "del", "198.18.2.2/24", "dev", "wan")
    eventually(lambda: all(firewall_of(sites, host)["mode"] == "guard" for host in hosts), WAIT_S)
    assert "warren-firewall" not in run.sh(*nft, "list", "tables")


def _only_the_list_and_hosts_get_in(world: World, router: str, hosts: dict[str, str]) -> None:
    for host in hosts:
        plan = world.plan.host(host)
        assert plan is not None
        assert gets_in(router, plan.outside, "198.18.2.2"), f"an administrator to {host}"
        assert not connects(router, plan.outside, "198.18.2.1"), f"a stranger to {host}"
        for other, netns in hosts.items():
            assert other == host or gets_in(netns, plan.public), f"{other} to {host}"
    assert gets_in(hosts["h1"], "198.18.2.1"), "replies come in"
    assert world.reaches("c1", world.address["c3"])
    assert is_up(world, "h1", "h3", "h5")


def test_the_guard_goes_and_comes_with_the_firewall(sites: World) -> None:
    first = sites.plan.hosts[0]
    listing = (*f"nsenter --net=/run/netns/{first.netns}".split(), "nft", "list", "tables")
    try:
        run.api(first, "POST", "/firewall", mode="off")
        eventually(lambda: "warren-guard" not in run.sh(*listing), WAIT_S)
        eventually(lambda: "firewall is off" in str(run.api(first, "GET", "/hosts/h1")["host"]["problems"]), WAIT_S)
        assert is_up(sites, "h1", "h3", "h5")
    finally:
        run.api(first, "POST", "/firewall", mode="guard")
    eventually(lambda: "warren-guard" in run.sh(*listing), WAIT_S)


@contextmanager
def two_profiles(world: World) -> Iterator[None]:
    """`safe` is encrypted inside a site, too, `plain` never; a network of each has VNI 77 and the same addresses."""
    first = world.plan.hosts[0]
    profiles = {
        "safe": {"hosts": "h1,h2,h3", "encryption": "always", "port": 4791},
        "plain": {"hosts": "site:s1", "encryption": "never", "port": 4792},
    }
    with ExitStack() as made:
        for name, fields in profiles.items():
            run.api(first, "POST", "/profiles", name=name, **fields)
            made.callback(run.api, first, "DELETE", f"/profiles/{name}")
            network = run.api(
                first, "POST", "/networks", name=f"n-{name}", profile=name, vxlan_vni=77, ip_range="10.7.0.0/24", mode="nat"
            )["network"]
            made.callback(run.api, first, "DELETE", f"/networks/{network['id']}")
        for name, host in (("safe1", "h1"), ("safe2", "h2"), ("safe3", "h3"), ("plain1", "h1"), ("plain2", "h2")):
            address = f"10.7.0.{1 + int(name[-1])}"
            made.enter_context(world.temporary(name, host, f"n-{name[:-1]}", ipv4_address=address))
        yield


def durations(world: World, table: str) -> dict[str, float]:
    """Cookie to duration (seconds) of the flows of a table of h1."""
    dump = world.ofctl("h1", "dump-flows", "br-warren", table)
    return {c: float(d) for c, d in re.findall(r"cookie=(0x[0-9a-f]+), duration=([\d.]+)s", dump)}


def _a_profile_that_is_down_is_named(world: World) -> None:
    """Inside the first site the UDP port of one profile is closed; the host is reached by the others."""

    def tunnels_of_h1() -> dict[str, Any]:
        return dict(next(h for h in run.api(world.plan.hosts[0], "GET", "/status")["hosts"] if h["name"] == "h1")["tunnels"])

    nft = run.in_netns(world.plan.netns, "nft")
    rules = "table bridge closed { chain forward { type filter hook forward priority 0; udp dport 4792 drop; }; }"
    run.sh(*nft, rules)
    try:
        eventually(lambda: tunnels_of_h1()["profiles"].get("h2") == {"plain": "down"}, WAIT_S)
        assert tunnels_of_h1()["broken"]["h2"] == "down"
        problems = run.api(world.plan.hosts[0], "GET", "/hosts/h1")["host"]["problems"]
        assert any(line.startswith("tunnel to h2 by profile plain: no probe comes back") for line in problems), problems
    finally:
        run.sh(*nft, "delete", "table", "bridge", "closed")
    eventually(lambda: "h2" not in tunnels_of_h1()["profiles"], WAIT_S)


def test_two_profiles_with_one_vni_do_not_meet(sites: World) -> None:
    spoof_guard, before = "table=4", sites.cookies("h1")
    first = durations(sites, spoof_guard)  # of endpoints here: no tunnel that comes or goes changes them
    with two_profiles(sites):
        tunnel_ports = "udp portrange 4790-4792"
        eventually(lambda: is_up(sites, "h1", "h2", "h3"), WAIT_S)
        with captured(sites, "under1", tunnel_ports) as inside, captured(sites, "inet", "udp and not port 51820") as outside:
            for source, address in (("safe1", "10.7.0.3"), ("safe1", "10.7.0.4"), ("safe3", "10.7.0.3"), ("plain1", "10.7.0.3")):
                assert sites.reaches(source, address), f"{source} to {address}"
            with (
                captured(sites, "eth0", "icmp[icmptype] = icmp-echo", at="safe2") as stray,
                captured(sites, "eth0", "icmp[icmptype] = icmp-echo", at="plain2") as arrived,
            ):
                assert sites.reaches("plain1", "10.7.0.3")
                assert not sites.pings("plain1", "10.7.0.4"), "only the network of the other profile has it"
                sites.inside("plain1", "ping", "-b", "-c2", "-i0.1", "-W1", "10.7.0.255")
            assert (stray, len(arrived) > 1) == ([], True)
        _a_profile_that_is_down_is_named(sites)
        assert inside, "the plain profile is seen in its site"
        assert [line for line in inside if ".4792: " not in line] == []
        assert outside == []
        for name, mtu in (("safe1", 1366), ("plain1", 1446)):
            assert f" mtu {mtu} " in sites.inside(name, "ip", "link", "show", "eth0").stdout
        with pytest.raises(run.LabError, match="h5 is not in tunnel profile safe"):
            run.container(sites.plan, "safe5", "h5", "n-safe")
        table = run.sh(*run.in_netns(f"{sites.plan.name}-h1", "nft", "list", "table", "inet", "warren-guard"))
        assert "4789, 4791, 4792" in table or "4789, 4791-4792" in table
        eventually(lambda: clean(sites.plan.hosts[0]), WAIT_S)
        last = durations(sites, spoof_guard)
        assert all(last.get(cookie, 0.0) >= duration for cookie, duration in first.items()), "flows were installed anew"
        run.api(sites.plan.hosts[0], "POST", "/profiles", name="plain", hosts="h1,h2", encryption="always", port=4793)
        eventually(lambda: sites.pings("plain1", "10.7.0.3"), WAIT_S)
        with captured(sites, "under1", "udp port 4793") as inside:
            assert sites.reaches("plain1", "10.7.0.3")
        assert inside == [], "now it is encrypted"
    eventually(lambda: sites.cookies("h1").keys() == before.keys(), WAIT_S)


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
    for pair, error in ((["h5", "h6"], "expected a host to which h5 has"), (["h1", "h9"], "h9"), (["h1"], "pair")):
        with pytest.raises(run.LabError, match=error):
            run.api(first, "POST", "/encryption/rotate", pair=pair)
