"""Every document in examples/ can be applied; applying it again changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.agent.conftest import Host
from tests.waiting import LIMIT_S

EXAMPLES = sorted((Path(__file__).parent.parent.parent / "examples").glob("*.yaml"))
SECTIONS = ("acls", "meters", "mirrors", "routers", "services", "adopt", "endpoints", "networks")
OTHERS = "hosts: [{name: h2, vtep: 198.18.0.12}, {name: h3, vtep: 198.18.0.13}]"


def apply(host: Host, document: str, **more: Any) -> dict[str, Any]:
    answer = host.http.post("/apply", json={"document": document, **more}, timeout=LIMIT_S)
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_applied(host: Host, example: Path) -> None:
    apply(host, OTHERS)
    vtep = host.http.get("/hosts/h1").json()["host"]["vtep"]  # a living agent keeps its own
    text = example.read_text().replace("198.18.0.11", vtep)
    assert len(apply(host, text)["changes"]) > 5
    assert apply(host, text)["changes"] == []
    apply(host, "\n".join(f"{section}: []" for section in SECTIONS), prune=True)
    left = yaml.safe_load(host.http.get("/export").text)
    assert not [section for section in SECTIONS if left.get(section)]
