"""Tunnel health with a real underlay: down, black hole for large packets, recovered; forwarding is not affected."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.browser import Browser
from tests.e2e.conftest import World
from tests.waiting import LIMIT_S, eventually
from tools.lab import run

TUNNEL = "document.querySelector('[data-tunnel=\"h1 h2\"]')"
SEEN_S = 30  # on a loaded machine; some four seconds else


class Underlay:
    """The world with an endpoint of one network on each host, and the underlay's port of h2."""

    def __init__(self, world: World) -> None:
        self.world, self.v4 = world, dict[str, str]()

    def set(self, *words: str) -> None:
        """Set the port of h2 on the underlay's bridge."""
        run.sh("ip", "-n", self.world.plan.netns, "link", "set", "u2", *words)

    def hosts(self) -> dict[str, Any]:
        """The hosts as `warren status --json` has them."""
        return {host["name"]: host for host in run.api(self.world.plan.hosts[0], "GET", "/status")["hosts"]}

    def broken(self) -> dict[str, dict[str, str]]:
        """By host: its broken tunnels."""
        return {name: host["tunnels"]["broken"] for name, host in self.hosts().items()}

    def scraped(self, host: str, name: str) -> dict[str, float]:
        """A metric of the controller by peer."""
        text = self.world.inside(host, "curl", "-s", "http://127.0.0.1:9302/metrics").stdout
        return {
            peer: float(value) for peer, value in re.findall(rf'^{name}{{.*peer="([^"]+)",profile="default"}} (\S+)$', text, re.M)
        }

    def cli(self, *words: str) -> str:
        """The command, talking to h1's agent."""
        url = f"unix://{self.world.plan.hosts[0].socket}"
        command = [sys.executable, "-m", "tools.cli.main", "--url", url, *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=True).stdout


@pytest.fixture(scope="module")
def underlay(world: World) -> Iterator[Underlay]:
    fixture = Underlay(world)
    run.api(world.plan.hosts[0], "POST", "/networks", name="wide", ip_range="10.32.0.0/24")
    names = {"w1": "h1", "w2": "h2", "w3": "h3"}
    for name, host in names.items():
        fixture.v4[name] = run.container(world.plan, name, host, "wide")["target_veth_ip"].split("/")[0]
    eventually(
        lambda: all(host["tunnels"] == {"known": 2, "broken": {}, "profiles": {}} for host in fixture.hosts().values()), SEEN_S
    )
    yield fixture
    fixture.set("up")
    fixture.set("mtu", "1500")
    for name, host in names.items():
        endpoint = run.api(world.plan.hosts[0], "GET", f"/endpoints/{name}")["endpoint"]
        run.api(world.plan.host(host), "DELETE", f"/endpoints/{endpoint['id']}")  # type: ignore[arg-type]
    run.api(world.plan.hosts[0], "DELETE", "/networks/wide")
    eventually(lambda: fixture.hosts()["h3"]["tunnels"]["known"] == 0, SEEN_S)  # nobody uses them any more


@pytest.fixture
def page(underlay: Underlay, tmp_path: Path) -> Iterator[Browser]:
    plan = underlay.world.plan
    browser = Browser(underlay.world.command("h1", "chromium"), tmp_path)
    try:
        browser.open(f"http://{plan.hosts[0].management}:9999/ui")
        yield browser
    finally:
        browser.close()


def drawn(underlay: Underlay, output: Path) -> dict[tuple[str, str], str]:
    """The tunnels of the graph, and what is wrong with each."""
    command = [sys.executable, "-m", "tools.graph", "--lab", underlay.world.plan.name, "-o", str(output)]
    subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=True)
    edges = json.loads(output.read_text())["edges"]
    return {
        (e["source"].removeprefix("host "), e["target"].removeprefix("host ")): e["broken"]
        for e in edges
        if e["kind"] == "tunnel"
    }


def test_a_disconnected_host_is_noticed_by_all_others_and_so_is_its_return(
    underlay: Underlay, page: Browser, tmp_path: Path
) -> None:
    page.wait(f"{TUNNEL} !== null && {TUNNEL}.dataset.state === ''")
    assert underlay.scraped("h1", "warren_tunnel_up") == {"h2": 1.0, "h3": 1.0}
    underlay.set("down")
    eventually(
        lambda: underlay.broken() == {"h1": {"h2": "down"}, "h2": {"h1": "down", "h3": "down"}, "h3": {"h2": "down"}}, SEEN_S
    )
    assert underlay.scraped("h1", "warren_tunnel_up") == {"h2": 0.0, "h3": 1.0}
    assert set(underlay.scraped("h1", "warren_tunnel_rtt_seconds")) == {"h3"}
    text = underlay.cli("status")
    assert re.search(r"h1 .*1 up h2:down", text), text
    assert "h1: tunnel to h2: no probe comes back" in text
    assert drawn(underlay, tmp_path / "a.json") == {("h1", "h2"): "down", ("h2", "h3"): "down", ("h1", "h3"): ""}
    page.wait(f"{TUNNEL}.classList.contains('down')")
    assert "nothing comes back" in page.run(f"{TUNNEL}.textContent")
    underlay.set("up")
    eventually(lambda: not any(underlay.broken().values()), SEEN_S)
    page.wait(f"{TUNNEL}.dataset.state === ''")
    assert page.complaints == []
    assert 0 < underlay.scraped("h1", "warren_tunnel_rtt_seconds")["h2"] < 60


def test_a_path_that_loses_only_large_packets_is_noticed(underlay: Underlay) -> None:
    underlay.set("mtu", "1400")  # the bridge drops what is larger, and tells nobody
    eventually(lambda: underlay.broken() == {"h1": {"h2": "mtu"}, "h2": {"h1": "mtu", "h3": "mtu"}, "h3": {"h2": "mtu"}}, SEEN_S)
    assert underlay.world.reaches("w1", underlay.v4["w2"])
    assert underlay.scraped("h3", "warren_tunnel_up") == {"h1": 1.0, "h2": 1.0}
    assert underlay.scraped("h3", "warren_tunnel_mtu_ok") == {"h1": 1.0, "h2": 0.0}
    assert "h3: tunnel to h2: small packets come back, those of full size do not" in underlay.cli("status")
    underlay.set("mtu", "1500")
    eventually(lambda: not any(underlay.broken().values()), SEEN_S)


def test_packets_as_large_as_an_endpoint_may_send_have_the_size_of_the_full_probe(underlay: Underlay) -> None:
    """So a tunnel whose full probes return carries what containers send: seen at the underlay's port."""
    dump = subprocess.Popen(
        run.in_netns(underlay.world.plan.netns, "tcpdump", "--immediate-mode", "-l", "-n", "-v", "-i", "u2", "udp", "port", "4789"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert dump.stdout is not None
    lengths: set[int] = set()
    while not {96, 1500} <= lengths:  # 60 and 1464 bytes of Ethernet, and 36 round them
        lengths |= {int(length) for length in re.findall(r"length (\d+)\)", dump.stdout.readline())}
    dump.send_signal(signal.SIGINT)
    dump.communicate(timeout=LIMIT_S)
    mtu = int(re.search(r"mtu (\d+)", underlay.world.inside("w1", "ip", "link", "show", "eth0").stdout)[1])  # type: ignore[index]
    assert mtu + 4 + 14 + 36 == 1500  # with a tag inside


def test_the_switch_answers_for_a_dead_controller(underlay: Underlay) -> None:
    """And nobody takes the host for unreachable."""
    run.stop(underlay.world.plan, "h2", "controller", signal.SIGKILL)
    try:
        before = packets(underlay.world, "h2")
        eventually(lambda: packets(underlay.world, "h2") > before + 16, SEEN_S)  # two kinds of two peers: four seconds
        assert underlay.broken()["h1"] == underlay.broken()["h3"] == {}
        assert underlay.world.reaches("w1", underlay.v4["w2"])
    finally:
        run.start(underlay.world.plan, "h2", "controller")
    run.wait_until_up(underlay.world.plan)
    eventually(lambda: underlay.hosts()["h2"]["tunnels"] == {"known": 2, "broken": {}, "profiles": {}}, SEEN_S)


def packets(world: World, host: str) -> int:
    """Probes that a host's switch has turned round."""
    dump = world.ofctl(host, "dump-flows", "br-warren", "table=0,dl_dst=02:57:00:00:00:01")
    return sum(int(count) for count in re.findall(r"n_packets=(\d+)", dump))


def test_tunnel_probes_are_few_and_reach_no_network(underlay: Underlay) -> None:
    """Two kinds a second for each peer, and their answers; nothing of it at a container."""
    assert json.dumps(underlay.hosts()).count('"known": 2') == 3
    before, shown = (
        packets(underlay.world, "h1"),
        underlay.world.background("w1", "tcpdump", "--immediate-mode", "-n", "-c", "1", "-i", "eth0", "ether proto 0x88b5"),
    )
    eventually(lambda: packets(underlay.world, "h1") >= before + 8, SEEN_S)
    shown.send_signal(signal.SIGINT)
    assert "0 packets captured" in shown.communicate(timeout=LIMIT_S)[0]
