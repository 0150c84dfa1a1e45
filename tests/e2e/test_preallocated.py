"""Preallocated endpoints: attaching takes one without touching OVSDB or the switch; the pool is refilled and emptied."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import World
from tests.waiting import eventually
from tools.lab import run

READY = 3


def spares(world: World, host: str) -> dict[str, dict[str, Any]]:
    """The ready endpoints of a host, by id."""
    endpoints = run.api(world.plan.hosts[0], "GET", f"/endpoints?spares=true&states=true&hostname={host}")["endpoints"]
    return {e["id"]: e for e in endpoints if e["spare"] and e["state"] == "up"}


def veths(world: World, host: str) -> set[str]:
    """The host's ends of all cables."""
    shown = world.inside(host, "ip", "-o", "link", "show", "type", "veth").stdout
    return {
        word.rstrip(":").partition("@")[0] for line in shown.splitlines() for word in line.split()[1:2] if word.startswith("wv")
    }


@pytest.fixture(scope="module")
def ready(world: World) -> Iterator[World]:
    first = world.plan.hosts[0]
    run.api(first, "POST", "/networks", name="ready", ip_range="10.9.0.0/24", preallocate=READY)
    eventually(lambda: all(len(spares(world, host)) == READY for host in ("h1", "h2", "h3")))
    yield world
    for endpoint in run.api(first, "GET", "/endpoints?network_id=ready")["endpoints"]:
        run.api(first, "DELETE", f"/endpoints/{endpoint['id']}?hostname={endpoint['hostname']}")
    run.api(first, "DELETE", "/networks/ready")
    eventually(lambda: not any(spares(world, host) for host in ("h1", "h2", "h3")))


def test_an_attach_takes_a_preallocated_endpoint_and_it_is_replaced(ready: World) -> None:
    cookie_prefixes = {"0x5702", "0x5703", "0x5704", "0x5705"}  # classify, spoof, arp, forward
    before, flows = spares(ready, "h1"), {cookie for cookie in ready.cookies("h1") if cookie[:6] in cookie_prefixes}
    taken = [run.container(ready.plan, f"quick{i}", "h1", "ready") for i in range(2)]
    assert taken[0]["id"] in before  # the other may be one that took its place meanwhile
    assert taken[0]["target_veth_ip"] == before[taken[0]["id"]]["target_veth_ip"]
    assert flows <= ready.cookies("h1").keys(), "no flow of theirs was touched"
    far = run.container(ready.plan, "slow", "h2", "ready", ipv4_address="10.9.0.200")
    assert ready.reaches("quick0", str(taken[1]["target_veth_ip"]).split("/")[0])
    assert ready.reaches("quick0", "10.9.0.200"), far
    assert ready.reaches("slow", str(taken[1]["target_veth_ip"]).split("/")[0])
    eventually(lambda: len(spares(ready, "h1")) == READY)
    listed = run.api(ready.plan.hosts[0], "GET", "/endpoints?network_id=ready")["endpoints"]
    assert {e["name"] for e in listed} == {"quick0", "quick1", "slow"}, "the ready ones are not shown"


def test_attaches_with_an_address_or_an_error_take_no_preallocated_endpoint(ready: World) -> None:
    before = spares(ready, "h1").keys()
    made = run.container(ready.plan, "own", "h1", "ready", mac_address="02:00:00:00:09:01")
    assert made["id"] not in before
    with pytest.raises(run.LabError, match="belongs to|is taken"):
        netns = "/run/netns/" + run.netns_of(ready.plan, "own")
        body = {"ns_handle_path": netns, "set_addr": True, "move_veth": True}
        network = made["network_id"]
        run.api(ready.plan.hosts[0], "POST", "/endpoints", network_id=network, name="quick0", activate=True, activate_params=body)
    eventually(lambda: spares(ready, "h1").keys() == before)


def test_labels_and_acls_apply_when_a_preallocated_endpoint_is_taken(ready: World) -> None:
    run.api(
        ready.plan.hosts[0], "POST", "/apply", timeout_s=40, document='{"acls": {"mute": [{"actions": {"allow": 0}}]}}', wait_s=20
    )
    before = spares(ready, "h1").keys()
    made = run.container(ready.plan, "muted", "h1", "ready", acls=["mute"], labels={"role": "silent"})
    assert made["id"] in before
    assert (made["labels"], made["acls"]) == ({"role": "silent"}, ["mute"])
    assert not ready.pings("muted", "10.9.0.200")
    run.api(ready.plan.hosts[0], "DELETE", "/endpoints/ready/muted?hostname=h1")


def test_a_network_that_cannot_be_deleted_keeps_its_preallocated_endpoints(ready: World) -> None:
    first = ready.plan.hosts[0]
    for name, ip_range in (("idle", "10.19.0.0/24"), ("beside", "10.20.0.0/24")):
        run.api(first, "POST", "/networks", name=name, ip_range=ip_range, mode="nat", preallocate=1 if name == "idle" else 0)
    run.api(first, "POST", "/routers", name="both", networks=["idle", "beside"])
    with pytest.raises(run.LabError, match="router both"):
        run.api(first, "DELETE", "/networks/idle")
    assert run.api(first, "GET", "/networks/idle")["network"]["preallocate"] == 1
    run.api(first, "DELETE", "/routers/both")
    for name in ("idle", "beside"):
        run.api(first, "DELETE", f"/networks/{name}")


def test_preallocated_endpoints_survive_a_restart_and_follow_the_spec(ready: World) -> None:
    eventually(lambda: len(spares(ready, "h1")) == READY)
    before = spares(ready, "h1").keys()
    run.stop(ready.plan, "h1", "agent", signal.SIGKILL)
    run.start(ready.plan, "h1", "agent")
    run.wait_until_up(ready.plan)
    assert spares(ready, "h1").keys() == before
    run.container(ready.plan, "after", "h1", "ready")
    assert ready.reaches("after", "10.9.0.200")
    eventually(lambda: len(spares(ready, "h1")) == READY)
    cables = len(veths(ready, "h1"))
    for number in (5, 1):
        document = f'{{"networks": [{{"name": "ready", "preallocate": {number}}}]}}'
        run.api(ready.plan.hosts[0], "POST", "/apply", timeout_s=40, document=document, wait_s=20)
        eventually(lambda: all(len(spares(ready, host)) == number for host in ("h1", "h2")))  # noqa: B023
    eventually(lambda: len(veths(ready, "h1")) == cables - READY + 1)
    assert ready.reaches("after", "10.9.0.200")
