"""The page with very many hosts, in a real browser: it draws some, and reads no list of all endpoints. The answers of the agent are made here."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.browser import Browser

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
    asked_for: list[str]

    def do_GET(self) -> None:
        name = self.path.split("?")[0].removeprefix("/ui/").strip("/") or "index.html"
        self.asked_for.append(name)
        lists: dict[str, Any] = {
            "status": {"revision": 7, "hosts": self.hosts},
            "networks": {"networks": []},
            "endpoints": {"endpoints": []},
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
    handler = type("Made", (Answers,), {"hosts": request.param, "asked_for": requests})
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
