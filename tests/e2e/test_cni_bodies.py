"""Calls that no runtime makes, of CNI and of netavark: each answer is a result or says what is wrong, and nothing is left of any."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.audit import settled
from tests.e2e.cni_bodies import CNI, NETAVARK, NETWORK, cni, netavark
from tests.e2e.conftest import World, complaints_of
from tests.e2e.odd_values import spoiled
from tests.e2e.test_cni import Box, box  # noqa: F401 (a fixture)
from tools.lab import run

ROUNDS = int(os.environ.get("WARREN_TEST_ROUNDS", "20"))


@pytest.fixture
def agent(world: World) -> Iterator[httpx.Client]:
    """The agent of h1, and a network, which has no endpoint at the end."""
    first = world.plan.hosts[0]
    run.api(first, "POST", "/networks", name=NETWORK, ip_range="10.62.0.0/24", mode="nat")
    try:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(first.socket)), base_url="http://agent", timeout=60) as client:
            yield client
    finally:
        for endpoint in run.api(first, "GET", f"/endpoints?network_id={NETWORK}")["endpoints"]:
            run.api(first, "DELETE", f"/endpoints/{endpoint['id']}")
        run.api(first, "DELETE", f"/networks/{NETWORK}")


def test_calls_that_no_runtime_makes(world: World, agent: httpx.Client, box: Box) -> None:  # noqa: F811
    chance, netns = random.Random(int(os.environ.get("WARREN_TEST_SEED", "7"))), box("odd")
    statuses: dict[str, set[int]] = {command: set() for command in (*CNI, *NETAVARK)}
    for _ in range(ROUNDS):
        for path, commands, right in (("/cni", CNI, cni), ("/netavark", NETAVARK, netavark)):
            for command in commands:
                call = spoiled(chance, right(command, netns))
                answer = agent.post(path, content=json.dumps(call), headers={"content-type": "application/json"})
                statuses[command].add(answer.status_code)
                assert answer.status_code < 500, (path, call, answer.text)
                if answer.is_error:
                    assert answer.json()["error"], (path, call, answer.text)
                    assert path != "/cni" or answer.json().get("code", 7) in (*range(1, 12), 50, 51, *range(100, 200)), (
                        answer.text
                    )
    assert statuses.pop("VERSION") == {400}, "the plugin itself answers it"
    assert all({200} < kinds for kinds in statuses.values()), statuses
    call = cni("GC", netns)
    call["config"]["cni.dev/valid-attachments"] = []
    assert agent.post("/cni", json=call).status_code == 200
    assert run.api(world.plan.hosts[0], "GET", f"/endpoints?network_id={NETWORK}")["endpoints"] == []
    settled(world)
    assert complaints_of(world.plan.hosts[0].directory) == []
