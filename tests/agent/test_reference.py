"""The API against its own reference: every answer is one that openapi.json names, and the page that shows it comes from this agent alone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from agent.api.pages import FILES
from agent.api.reference import allowed
from tests.agent.conftest import ROOT, Host

TIMEOUT_S = 800


def test_every_answer_is_documented_whatever_is_asked(host: Host) -> None:
    """schemathesis makes requests from the reference, right and wrong ones, and runs all of its checks on the answers."""
    program = Path(sys.executable).with_name("schemathesis")
    if not program.exists():
        pytest.skip("needs schemathesis (pip install -e '.[dev]')")
    host.network(name="amber", ip_range="10.0.0.0/24")
    for name in ("web", "db"):
        host.attach("amber", host.container(), name=name)  # by the network's name, as the reference says
    command = [str(program), "run", "http://127.0.0.1:9999/openapi.json", "--checks", "all", "--seed", "7", "--no-color",
               "--phases", "coverage,fuzzing,stateful", "--max-examples", "5", "--request-timeout", "60"]  # fmt: skip
    inside = ["ip", "netns", "exec", host.switch.netns, *command]
    done = subprocess.run(inside, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stdout.partition("= FAILURES")[2][:6000]
    assert host.http.get("/version").status_code == 200
    assert "Traceback" not in (host.dir / "agent.log").read_text()


@pytest.mark.parametrize(
    ("method", "path", "methods"),
    [("OPTIONS", "/endpoints/amber/web", "DELETE, GET"), ("PATCH", "/networks", "GET, POST"), ("PUT", "/version", "GET")],
)
def test_a_wrong_method_is_answered_with_all_right_ones(host: Host, method: str, path: str, methods: str) -> None:
    answer = host.http.request(method, path)
    assert (answer.status_code, answer.headers["Allow"]) == (405, methods)
    assert methods in answer.json()["error"]


def test_only_an_endpoints_reference_has_a_slash() -> None:
    paths = {"/endpoints/{ref}": {"get": {}}, "/networks/{network_id}": {"get": {}}}
    assert [allowed(paths, path) for path in ("/endpoints/a/b", "/networks/a", "/networks/a/b")] == ["GET", "GET", ""]


@pytest.mark.parametrize("path", ["/docs", "/ui"])
def test_pages_load_nothing_from_elsewhere(host: Host, path: str) -> None:
    answer = host.http.get(path)
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    parts = re.findall(r'(?:src|href)="([^"#]+)"', answer.text)
    assert any(part.endswith(".js") for part in parts)
    for part in parts:
        assert "//" not in part
        assert host.http.get(f"/{part}").status_code == 200, part


def test_no_file_of_a_page_names_another_host() -> None:
    for file in sorted(FILES.iterdir()):
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")  # a name of a vocabulary, which nothing fetches
        assert not re.search(r"https?:", text), file


@pytest.mark.parametrize("path", ["/redoc", "/docs/oauth2-redirect"])
def test_the_frameworks_own_pages_are_not_served(host: Host, path: str) -> None:
    assert host.http.get(path).status_code == 404
