"""The OVSDB client against a private Open vSwitch."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovsdb.client import Ovsdb
from ovsdb.rows import BRIDGE, UPLINK_PORT
from pipeline.tunnels import TUNNEL_PORT
from tests.ovs.conftest import Switch
from tests.programs import program
from tests.waiting import LIMIT_S, eventually
from warren.errors import Conflict, Unavailable

CONTROLLER = "tcp:127.0.0.1:6653"


@pytest.fixture
def client(switch: Switch) -> Iterator[Ovsdb]:
    yield from _client(switch)


@pytest.fixture
def dummy_client(dummy_switch: Switch) -> Iterator[Ovsdb]:
    yield from _client(dummy_switch)


def _client(switch: Switch) -> Iterator[Ovsdb]:
    client = Ovsdb(switch.remote)
    assert client.connect(timeout_s=LIMIT_S)
    yield client
    client.close()


def add_veth(switch: Switch, name: str) -> None:
    switch.run("ip", "-n", switch.netns, "link", "add", name, "type", "veth", "peer", "name", name + "p")


def test_a_bridge_is_moved_to_a_datapath_that_works(switch: Switch, client: Ovsdb) -> None:
    client.ensure_bridge(BRIDGE, CONTROLLER, host="h1")
    bridge = client.observed().bridge(BRIDGE)
    assert bridge is not None
    assert bridge.works
    assert bridge.ours
    if not Path("/sys/module/openvswitch").exists():
        assert bridge.datapath_type == "netdev"
    assert switch.vsctl("get", "bridge", BRIDGE, "fail_mode") == "secure"
    assert switch.vsctl("get-controller", BRIDGE) == CONTROLLER
    assert switch.vsctl("get", "controller", BRIDGE, "controller_rate_limit") == "1000"
    eventually(lambda: client.ofport(TUNNEL_PORT) == 65_279)
    before = switch.vsctl("get", "open_vswitch", ".", "next_cfg")
    client.ensure_bridge(BRIDGE, CONTROLLER, host="h1")
    assert switch.vsctl("get", "open_vswitch", ".", "next_cfg") == before, "an unchanged bridge was written"


def test_an_existing_controller_row_gets_its_rate_limits(switch: Switch, client: Ovsdb) -> None:
    """One that ovs-vsctl or an older Warren has made; then nothing more is written."""
    limits = {"controller_rate_limit": "1000", "controller_burst_limit": "250", "max_backoff": "1000"}
    client.ensure_bridge(BRIDGE, CONTROLLER, host="h1")
    for undo in (
        ("set-controller", BRIDGE, CONTROLLER),
        ("set", "controller", BRIDGE, "controller_rate_limit=200", "max_backoff=9000"),
    ):
        switch.vsctl(*undo)
        eventually(lambda: not client.observed().bridge(BRIDGE).controllers_as_ours)  # type: ignore[union-attr]
        client.ensure_bridge(BRIDGE, CONTROLLER, host="h1")
        assert {column: switch.vsctl("get", "controller", BRIDGE, column) for column in limits} == limits
    before = switch.vsctl("get", "open_vswitch", ".", "next_cfg")
    client.ensure_bridge(BRIDGE, CONTROLLER, host="h1")
    assert switch.vsctl("get", "open_vswitch", ".", "next_cfg") == before


def test_an_empty_database_is_an_error_that_says_how_to_fill_it(dummy_switch: Switch, dummy_client: Ovsdb) -> None:
    dummy_switch.run(
        "ovsdb-client", "transact", dummy_switch.remote, '["Open_vSwitch",{"op":"delete","table":"Open_vSwitch","where":[]}]'
    )
    with pytest.raises(Unavailable, match="ovs-vsctl init"):
        dummy_client.ensure_bridge(BRIDGE, CONTROLLER, host="h1")
    dummy_switch.vsctl("--no-wait", "init")
    dummy_client.ensure_bridge(BRIDGE, CONTROLLER, host="h1")


def test_a_changed_bridge_is_repaired_and_foreign_ports_stay(switch: Switch, client: Ovsdb) -> None:
    client.ensure_bridge(BRIDGE, CONTROLLER, host="h1")
    switch.vsctl("add-br", "br-other", "--", "set", "bridge", "br-other", "datapath_type=netdev")
    switch.vsctl(
        "set", "bridge", BRIDGE, "fail_mode=standalone", "other_config:mine=1", "--", "set-controller", BRIDGE, "tcp:127.0.0.1:1"
    )
    switch.vsctl(
        "--may-exist",
        "add-port",
        BRIDGE,
        "stray",
        "--",
        "set",
        "interface",
        "stray",
        "type=vxlan",
        "options:remote_ip=192.0.2.1",
        "options:dst_port=9999",
        "external_ids:owner=warren",
    )
    switch.vsctl("add-port", BRIDGE, "theirs", "--", "set", "interface", "theirs", "type=internal")
    switch.vsctl("set", "interface", TUNNEL_PORT, "options:dst_port=4790")
    eventually(lambda: client.port("stray") is not None and client.port("theirs") is not None)
    eventually(lambda: client.port(TUNNEL_PORT).options["dst_port"] == "4790")  # type: ignore[union-attr]
    client.ensure_bridge(BRIDGE, CONTROLLER, host="h1")
    assert switch.vsctl("get", "bridge", BRIDGE, "fail_mode") == "secure"
    assert switch.vsctl("get", "bridge", BRIDGE, "other_config:mine") == '"1"'
    assert switch.vsctl("get-controller", BRIDGE) == CONTROLLER
    assert switch.vsctl("list-ports", BRIDGE).split() == ["theirs", TUNNEL_PORT, UPLINK_PORT]
    assert switch.vsctl("get", "interface", TUNNEL_PORT, "options:dst_port") == '"4789"'
    assert "br-other" in switch.vsctl("list-br").split()


def test_a_foreign_bridge_of_that_name_is_a_conflict(switch: Switch, client: Ovsdb) -> None:
    switch.vsctl("add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=netdev")
    eventually(lambda: client.observed().bridge(BRIDGE) is not None and client.observed().bridge(BRIDGE).works)  # type: ignore
    with pytest.raises(Conflict):
        client.ensure_bridge(BRIDGE, CONTROLLER)
    assert switch.vsctl("get-controller", BRIDGE) == ""


def test_ports_come_and_go(switch: Switch, client: Ovsdb) -> None:
    client.ensure_bridge(BRIDGE, CONTROLLER)
    add_veth(switch, "wv1")
    assert client.add_port(BRIDGE, "wv1", 7, "e1") == 7
    assert client.add_port(BRIDGE, "wv1", 7, "e1") == 7
    assert client.ports_of_endpoints() == {"e1": 7}
    assert client.observed().port("wv1") is None
    assert client.observed(endpoints=True).port("wv1") is not None
    client.ensure_bridge(BRIDGE, CONTROLLER)
    assert client.add_port(BRIDGE, "wv1", 9, "e1") == 9, "another number was asked for"
    with pytest.raises(Conflict):
        client.add_port(BRIDGE, "wv1", 7, "e2")
    client.del_port("wv1")
    client.del_port("wv1")
    assert client.ports_of_endpoints() == {}
    assert client.endpoint_ports() == {}
    assert switch.vsctl("list-ports", BRIDGE) == f"{TUNNEL_PORT}\n{UPLINK_PORT}"


def test_a_number_that_is_taken_gives_another(switch: Switch, client: Ovsdb) -> None:
    client.ensure_bridge(BRIDGE, CONTROLLER)
    add_veth(switch, "wv1")
    add_veth(switch, "wv2")
    assert client.add_port(BRIDGE, "wv1", 7, "e1") == 7
    other = client.add_port(BRIDGE, "wv2", 7, "e2")
    assert other != 7
    assert client.ports_of_endpoints() == {"e1": 7, "e2": other}


def test_a_missing_interface_is_an_error_and_leaves_no_port(switch: Switch, client: Ovsdb) -> None:
    client.ensure_bridge(BRIDGE, CONTROLLER)
    with pytest.raises(Unavailable, match="wv1"):
        client.add_port(BRIDGE, "wv1", 7, "e1")
    assert switch.vsctl("list-ports", BRIDGE) == f"{TUNNEL_PORT}\n{UPLINK_PORT}"
    add_veth(switch, "wv1")
    assert client.add_port(BRIDGE, "wv1", 7, "e1") == 7


def test_a_missing_bridge_is_an_error_that_names_it(switch: Switch, client: Ovsdb) -> None:
    with pytest.raises(Unavailable, match=BRIDGE):
        client.add_port(BRIDGE, "wv1", 7, "e1")


def test_a_foreign_port_is_not_deleted(switch: Switch, client: Ovsdb) -> None:
    client.ensure_bridge(BRIDGE, CONTROLLER)
    switch.vsctl("add-port", BRIDGE, "theirs", "--", "set", "interface", "theirs", "type=internal")
    eventually(lambda: client.port("theirs") is not None)
    with pytest.raises(Conflict):
        client.del_port("theirs")


def test_without_vswitchd_the_wait_is_bounded(dummy_switch: Switch, dummy_client: Ovsdb) -> None:
    dummy_client.ensure_bridge(BRIDGE, CONTROLLER)
    dummy_switch.stop(dummy_switch.vswitchd)
    with pytest.raises(Unavailable, match="ovs-vswitchd"):
        dummy_client.add_port(BRIDGE, "wv1", 7, "e1", timeout_s=0.3)
    dummy_switch.start_vswitchd()
    assert dummy_client.add_port(BRIDGE, "wv1", 7, "e1") == 7


def test_the_server_may_restart(dummy_switch: Switch) -> None:
    reported: list[set[str]] = []
    client = Ovsdb(dummy_switch.remote, reported.append)
    assert client.connect(timeout_s=LIMIT_S)
    try:
        client.ensure_bridge(BRIDGE, CONTROLLER)
        client.add_port(BRIDGE, "wv1", 1, "e1")
        client.add_port(BRIDGE, "wv2", 2, "e2")
        dummy_switch.stop_db()
        eventually(lambda: not client.connected)
        with pytest.raises(Unavailable):
            client.apply([], 0.1) or client.add_port(BRIDGE, "wv3", 3, "e3", timeout_s=0.2)
        assert client.ports_of_endpoints() == {"e1": 1, "e2": 2}
        began: list[int] = []
        thread = threading.Thread(target=lambda: began.append(client.add_port(BRIDGE, "wv3", 3, "e3", timeout_s=LIMIT_S)))
        thread.start()
        dummy_switch.start_db()
        thread.join(LIMIT_S)
        assert began == [3]
        dummy_switch.vsctl("del-port", "wv1")
        eventually(lambda: client.ports_of_endpoints() == {"e2": 2, "e3": 3})
        assert {"connection"} in reported
        assert any("ports" in what for what in reported)
    finally:
        client.close()


def test_rows_gone_while_away_are_forgotten(dummy_switch: Switch, dummy_client: Ovsdb) -> None:
    dummy_client.ensure_bridge(BRIDGE, CONTROLLER)
    dummy_client.add_port(BRIDGE, "wv1", 1, "e1")
    dummy_switch.stop_db()
    other = f"unix:{dummy_switch.dir}/other.sock"
    hidden = dummy_switch._start("ovsdb-server", f"{dummy_switch.dir}/conf.db", f"--remote=p{other}")
    eventually(lambda: (dummy_switch.dir / "other.sock").exists())
    dummy_switch.run("ovs-vsctl", f"--db={other}", "--no-wait", "del-port", "wv1")
    dummy_switch.stop(hidden)
    dummy_switch.start_db()
    eventually(lambda: dummy_client.connected and dummy_client.ports_of_endpoints() == {})


def test_many_concurrent_requests_succeed(dummy_switch: Switch, dummy_client: Ovsdb) -> None:
    dummy_client.ensure_bridge(BRIDGE, CONTROLLER)
    threads = [threading.Thread(target=dummy_client.add_port, args=(BRIDGE, f"wv{n}", n, f"e{n}")) for n in range(1, 51)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert dummy_client.ports_of_endpoints() == {f"e{n}": n for n in range(1, 51)}


def test_the_client_does_not_block_green_threads(dummy_switch: Switch) -> None:
    done = subprocess.run(
        program("green_ovsdb", dummy_switch.remote),
        capture_output=True,
        text=True,
        timeout=LIMIT_S * 2,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert (done.returncode, done.stdout[:5]) == (0, "green"), done.stdout + done.stderr
