"""Processes that are killed and restarted do not disturb traffic or flows."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from contextlib import ExitStack

import pytest

from tests.e2e.conftest import World
from tests.waiting import eventually
from tools.lab import run


@pytest.mark.parametrize("process", ["controller", "agent"])
def test_a_killed_process_loses_no_packet_and_reinstalls_no_flow(world: World, process: str) -> None:
    before = world.cookies("h1")
    began = time.monotonic()
    ping = world.background("web", "ping", "-q", "-i", "0.01", "-c", "700", world.address["db"])
    time.sleep(0.5)
    run.stop(world.plan, "h1", process, signal.SIGKILL)
    time.sleep(0.5)
    run.start(world.plan, "h1", process)
    output = ping.communicate()[0]
    run.wait_until_up(world.plan)
    assert re.search(r"700 packets transmitted, 700 received", output), output
    eventually(lambda: set(world.cookies("h1")) == set(before))
    seconds = time.monotonic() - began  # before the look, which takes its time
    after = world.cookies("h1")
    assert all(after[cookie] > seconds for cookie in after), "a flow was installed anew"


def test_without_etcd_forwarding_goes_on_and_attaches_fail_with_the_reason(world: World) -> None:
    run.stop(world.plan, "h1", "etcd", signal.SIGKILL)
    try:
        assert world.reaches("web", world.address["db"])
        with pytest.raises(run.LabError, match="etcd is unavailable"):
            run.container(world.plan, "late", "h1", "amber")
        assert world.reaches("web", world.address["db"])
    finally:
        run.start(world.plan, "h1", "etcd")
    run.wait_until_up(world.plan)

    with ExitStack() as stack:

        def attaches() -> bool:
            try:
                stack.enter_context(world.temporary("late", "h1", "amber"))
            except run.LabError:
                return False
            return True

        eventually(attaches)
        # "ready" speaks for the endpoint's own host; the others hear of it when their own feed is back, at most 1.2 s later
        eventually(lambda: world.pings("late", world.address["db"]))


def test_a_new_switch_process_gets_all_flows_back(world: World) -> None:
    before = set(world.cookies("h1"))
    run.restart(world.plan, "h1", "ovs")
    eventually(lambda: (world.plan.host("h1").directory / "br-warren.mgmt").exists())  # type: ignore[union-attr]

    def back() -> bool:
        try:
            return set(world.cookies("h1")) == before
        except AssertionError:
            return False

    eventually(back)
    eventually(lambda: world.pings("web", world.address["app"]))
    run.underlay(world.plan.hosts[0])
    eventually(lambda: world.pings("web", world.address["db"]))


def test_stray_flows_of_warren_are_removed_and_foreign_flows_stay(world: World) -> None:
    world.ofctl("h2", "add-flow", "br-warren", "cookie=0x5707000000000001,table=60,priority=7,actions=drop")
    world.ofctl("h2", "add-flow", "br-warren", "cookie=0xabc,table=60,priority=8,actions=drop")
    database = f"--db=unix:{world.plan.host('h2').directory}/db.sock"  # type: ignore[union-attr]
    subprocess.run(
        ["ovs-vsctl", database, "--", "add-port", "br-warren", "stray", "--", "set", "interface", "stray", "type=internal",
         "external_ids:owner=warren", "--", "set", "port", "stray", "external_ids:owner=warren"], check=True,
    )  # fmt: skip
    try:
        eventually(lambda: "0x5707000000000001" not in world.cookies("h2"))
        assert "0xabc" in world.cookies("h2")
        eventually(lambda: "stray" not in subprocess.run(["ovs-vsctl", database, "list-ports", "br-warren"], capture_output=True,
                                                         text=True).stdout)  # fmt: skip
    finally:
        world.ofctl("h2", "del-flows", "br-warren", "cookie=0xabc/-1")


def test_the_limits_of_a_controllers_row_come_back_and_its_connection_stays(world: World) -> None:
    """As an older version has made the row, or as somebody has set it."""
    host = world.plan.hosts[0]
    database = ("ovs-vsctl", f"--db=unix:{host.directory}/db.sock")
    log, columns = host.directory / "controller.log", ("controller_rate_limit", "max_backoff")
    connected = log.read_text(errors="replace").count("datapath.connected")
    before = world.cookies("h1").keys()
    run.sh(*database, "clear", "controller", "br-warren", *columns)
    eventually(
        lambda: [run.sh(*database, "get", "controller", "br-warren", column).strip() for column in columns] == ["1000", "1000"]
    )
    assert world.reaches("web", world.address["db"])
    eventually(lambda: run.sh(*database, "get", "controller", "br-warren", "is_connected").strip() == "true")  # told every 5 s
    assert world.cookies("h1").keys() == before
    assert log.read_text(errors="replace").count("datapath.connected") == connected
