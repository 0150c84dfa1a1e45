"""The page with very many hosts, in a real browser: it draws some, and reads no list of all endpoints. The answers of the agent are made here."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.browser import Browser
from tools.graph.colours import colours
from tools.graph.nodes import NetworkNode

UI = Path(__file__).parent.parent.parent / "agent/api/ui"
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


def host(number: int, count: int) -> dict[str, Any]:
    well = {
        "agent": "alive",
        "controller": "alive",
        "connected": True,
        "current": True,
        "problems": [],
        "tunnels": {"broken": {}},
    }
    return {"name": f"h{number}", "vtep": "198.18.0.1", **well, "endpoints": {"up": count}}


class Answers(BaseHTTPRequestHandler):
    """The page's files, and what an agent would answer."""

    hosts: tuple[dict[str, Any], ...] = ()
    networks: tuple[dict[str, Any], ...] = ()
    endpoints: tuple[dict[str, Any], ...] = ()
    asked_for: list[str]

    def do_GET(self) -> None:
        name = self.path.split("?")[0].removeprefix("/ui/").strip("/") or "index.html"
        self.asked_for.append(name)
        lists: dict[str, Any] = {
            "status": {"revision": 7, "hosts": self.hosts, "problems": []},
            "endpoints": {"endpoints": self.endpoints},
            "networks": {"networks": self.networks},
            "routers": {"routers": [{"name": "core", "networks": ["n1", "blue"]}]},
            "services": {"services": []},
            "mirrors": {"mirrors": []},
        }
        file = UI / ("index.html" if name == "ui" else name)
        body = json.dumps(lists[name]).encode() if name in lists else file.read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", "application/json" if name in lists else TYPES[file.suffix])
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Browser, list[str]]]:
    requests: list[str] = []
    lists = request.param if isinstance(request.param, dict) else {"hosts": request.param}
    handler = type("Made", (Answers,), {**lists, "asked_for": requests})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    browser = Browser(("chromium",), tmp_path)
    try:
        browser.open(f"http://127.0.0.1:{server.server_port}/ui")
        yield browser, requests
    finally:
        browser.close()
        server.shutdown()
        server.server_close()


TILES = "[...document.querySelectorAll('[data-host]')].map((tile) => tile.dataset.host)"
MANY = [host(number, 100) for number in range(1, 1001)]
MANY[700] |= {"agent": "dead", "endpoints": {"unknown": 100}}


@pytest.mark.parametrize("served", [MANY], indirect=True, ids=["1000 hosts"])
def test_of_many_hosts_some_are_drawn_those_with_trouble_first(served: tuple[Browser, list[str]]) -> None:
    browser, requests = served
    browser.wait("document.body?.dataset.polls >= 1")
    names = browser.run(TILES)
    assert (len(names), names[:3]) == (60, ["h701", "h1", "h2"])
    numbers = browser.run("document.getElementById('numbers').textContent")
    assert numbers == "1000 hosts (60 drawn, those with trouble first), 100000 endpoints, 0 networks"
    texts = browser.run("document.querySelector('[data-host=h701]').textContent")
    assert "agent dead" in texts
    assert "100 unknown" in texts
    assert "100 up" in browser.run("document.querySelector('[data-host=h1]').textContent")
    assert "endpoints" not in requests
    assert browser.complaints == []


@pytest.mark.parametrize("served", [[host(number, 50) for number in range(1, 61)]], indirect=True, ids=["60 hosts"])
def test_of_fewer_hosts_all_are_drawn_and_all_endpoints_read(served: tuple[Browser, list[str]]) -> None:
    browser, requests = served
    browser.wait("document.body?.dataset.polls >= 1")
    assert len(browser.run(TILES)) == 60
    assert "0 tunnels in use" in browser.run("document.getElementById('numbers').textContent")
    assert "endpoints" in requests
    assert browser.complaints == []


def endpoint(number: int) -> dict[str, Any]:
    empty = {
        "target_veth_ipv6": "",
        "port": None,
        "acls": None,
        "publish": [],
        "reason": "",
        "labels": {"role": "web" if number % 100 == 7 else "batch"},
    }
    address = f"10.{number >> 8}.{number & 255}.2/8"
    return {"id": f"e{number}", "name": f"job-{number}", "network": ("amber", "blue")[number % 2], "hostname": f"h{number % 8 + 1}",
            "target_veth_ip": address, "target_veth_mac": f"02:57:0a:00:{number >> 8:02x}:{number & 255:02x}", "state": "up", **empty}  # fmt: skip


def network(name: str, number: int, mode: str = "flat") -> dict[str, Any]:
    return {"id": f"n{number}", "name": name, "unique_name": name, "vxlan_vni": number, "ip_range": "10.0.0.0/8", "gateway": "10.0.0.1/8", "mode": mode,
            "default_acl": ["base"] if number == 1 else []}  # fmt: skip


CROWD = {
    "hosts": [host(number, 250) for number in range(1, 9)],
    "networks": [network("amber", 1, "nat"), network("blue", 2)],
    "endpoints": [endpoint(number) for number in range(2000)],
}
CROWD["hosts"][4] |= {"problems": ["endpoint amber/job-3: acl lost does not exist"]}
CROWD["endpoints"][4] |= {"state": "closed", "reason": "acl lost does not exist"}


@pytest.mark.parametrize("served", [CROWD], indirect=True, ids=["2000 endpoints"])
def test_two_thousand_endpoints_are_searched(served: tuple[Browser, list[str]]) -> None:
    browser, _ = served
    browser.wait("document.body?.dataset.polls >= 1")
    shown = "document.getElementById('picture').innerText"
    assert all(
        text in browser.run(shown)
        for text in ("amber nat via 10.0.0.1", "router core: amber, blue", "acl lost does not exist", "1 closed")
    )
    assert "acl base" in browser.run("document.getElementById('networks').innerText")
    for words, count in (
        ("job-7 ", 111),
        ("role=web", 20),
        ("closed", 1),
        ("02:57:0a:00:01:05", 1),
        ("blue/ h2", 250),
        ("10.7.207", 1),
        ("nothing-like-it", 0),
    ):
        browser.run(f"search('{words}')")
        assert f"{count} of 2000 endpoints" in browser.run("document.getElementById('numbers').textContent"), words
    assert "Nothing matches" in browser.run(shown)
    browser.run("search(''); document.querySelector('[data-host=h3] [data-network]').click()")
    assert "of 2000" in browser.run("document.getElementById('numbers').textContent")  # a number lists what it counts
    assert browser.complaints == []


@pytest.mark.parametrize("served", [CROWD], indirect=True, ids=["wide and narrow"])
def test_the_page_uses_the_window_and_follows_dark_mode(served: tuple[Browser, list[str]]) -> None:
    browser, _ = served
    browser.wait("document.body?.dataset.polls >= 1")
    for width in (1280, 390):
        browser.command("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        browser.run("panel('a', [['b', 'c']], '', 'x'.repeat(4000)); show(false)")
        used, whole = browser.run(
            "[Math.max(...[...document.querySelectorAll('.host')].map((e) => e.getBoundingClientRect().right)), document.documentElement.scrollWidth]"
        )
        assert width * 0.9 < used <= whole <= width
        browser.run("show(true)")
        text = "document.getElementById('about-text')"
        assert browser.run(f"{text}.scrollWidth <= {text}.clientWidth")  # a trace needs no scrolling sideways
        browser.run("show(false)")
    background = "getComputedStyle(document.documentElement).backgroundColor"
    colours = []
    for scheme in ("light", "dark"):
        browser.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        colours.append(browser.run(background))
    assert colours == ["rgb(255, 255, 255)", "rgb(18, 24, 31)"]


def test_the_page_and_the_pictures_have_the_same_colours(tmp_path: Path) -> None:
    """colours.js against tools/graph/colours.py, for VNIs with one slot, too."""
    vnis = [1, 2, 3, 100, 289, 577, 8_388_609, 16_777_215, *range(400, 440)]
    python = colours(NetworkNode(f"n{vni}", vni, (), "flat", None) for vni in vnis)
    browser = Browser(("chromium",), tmp_path)
    try:
        browser.open("about:blank")
        browser.run((UI / "colours.js").read_text() + ";1")
        networks = [{"name": f"n{vni}", "vxlan_vni": vni} for vni in vnis]
        browser.run(f"var box = document.createElement('p'), shades = colours({json.dumps(networks)}); 1")
        shown = browser.run("[...shades].map(([name, shade]) => { box.style.color = shade; return [name, box.style.color]; })")
    finally:
        browser.close()
    for name, colour in shown:
        rgb = [int(part) for part in re.findall(r"\d+", colour)]
        expected = [int(python[name][i : i + 2], 16) for i in (1, 3, 5)]
        assert all(abs(a - b) <= 1 for a, b in zip(rgb, expected, strict=True)), (name, colour, python[name])
