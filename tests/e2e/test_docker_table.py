"""Options in the tables of docs/docker.md that no other file tests, each with a real network and container."""

from __future__ import annotations

import json

import pytest

from tests.e2e.conftest import World
from tests.e2e.docker import page
from tests.e2e.test_docker_options import clean, shown  # noqa: F401
from tests.waiting import eventually
from tools.lab import run
from tools.lab.engine import LabEngine

SERVE = "mkdir -p /tmp/w; echo hello > /tmp/w/index.html; httpd -p 80 -h /tmp/w; httpd -p 81 -h /tmp/w"


def network(world: World, name: str) -> dict[str, object]:
    """A network as the agents tell it."""
    return run.api(world.plan.hosts[0], "GET", f"/networks/{name}")["network"]  # type: ignore[no-any-return]


def fetches(engine: LabEngine, name: str, address: str, port: int) -> bool:
    """Whether a container gets an answer of a web server."""
    return page(engine, name, f"{address}:{port}").startswith("HTTP/1.")


@pytest.mark.parametrize("names", [("ovs.bridge.mtu", "warren.name"), ("com.docker.network.driver.mtu", "ovs.bridge.name")])
def test_mtu_and_name_options_of_a_docker_network(world: World, engines: list[LabEngine], names: tuple[str, str]) -> None:
    engine = engines[0]
    options = [f"{name}={1300 if name.endswith('mtu') else 'called'}" for name in names]
    engine.docker("network", "create", "-d", engine.driver, *(word for option in options for word in ("-o", option)), "small")
    engine.docker(
        "run", "-d", "--name", "c1", "--network", "name=small,driver-opt=warren.name=chosen", "busybox", "sleep", "3600"
    )
    assert "mtu 1300" in engine.docker("exec", "c1", "ip", "link", "show", "eth0")
    assert shown(world, "chosen")["target_veth_ip"].split("/")[0] == engine.address("c1", "small")
    assert network(world, "called")["mtu"] == 1300


def test_acl_options_of_a_docker_network(world: World, engines: list[LabEngine]) -> None:
    """What its containers send, what they receive, and what comes in by the gateway, where they say nothing themselves."""
    engine, first = engines[0], world.plan.hosts[0]
    rules = {
        "noping": [{"proto": "icmp", "actions": {"allow": 0}}, {"actions": {"allow": 1}}],
        "no81": [{"proto": "tcp", "tcp_dst": 81, "actions": {"allow": 0}}, {"actions": {"allow": 1}}],
        "only80": [{"proto": "tcp", "tcp_dst": 80, "allow_related": True}],
    }
    run.api(first, "POST", "/apply", timeout_s=40, document=json.dumps({"acls": rules}), wait_s=20)
    options = ("warren.mode=nat", "warren.default_acl=noping", "ovs.bridge.vlan_out_acl=no81", "ovs.bridge.nat_acl=only80")
    engine.docker("network", "create", "-d", engine.driver, *(word for option in options for word in ("-o", option)), "listed")
    served = engine.run("served", "listed", "-p", "18300:80", "-p", "18301:82")
    engine.docker("exec", "served", "sh", "-c", f"{SERVE}; httpd -p 82 -h /tmp/w")
    engine.run("asks", "listed")
    assert not engine.pings("asks", served), "default_acl"
    assert fetches(engine, "asks", served, 80)
    assert fetches(engine, "asks", served, 82)
    assert not fetches(engine, "asks", served, 81), "vlan_out_acl"
    host = f"http://{first.vtep}"
    eventually(lambda: world.inside("h1", "curl", "-s", "-m", "2", f"{host}:18300/index.html").stdout == "hello\n")
    assert world.inside("h1", "curl", "-s", "-m", "2", f"{host}:18301/index.html").returncode != 0, "nat_acl"


def test_options_that_only_dovesnap_needs_are_accepted(world: World, engines: list[LabEngine]) -> None:
    """Taken, and nothing comes of it; a wrong value of what is not taken is told at once."""
    engine = engines[0]
    options = ("ovs.bridge.userspace=true", "ovs.bridge.ovs_local_mac=0e:01:00:00:00:23", "ovs.bridge.mirror_tunnel_vid=333",
               "ovs.bridge.lbport=99", "ovs.bridge.dpid=0x5", "ovs.bridge.controller=tcp:127.0.0.1:6653", "ovs.bridge.dhcp=false")  # fmt: skip
    engine.docker("network", "create", "-d", engine.driver, *(word for option in options for word in ("-o", option)), "full")
    one = engine.run("one", "full")
    engine.run("two", "full")
    assert engine.reaches("two", one)
    error = engine.refused("network", "create", "-d", engine.driver, "-o", "ovs.bridge.dhcp=perhaps", "bad")
    assert "ovs.bridge.dhcp: 'perhaps': expected" in error


def test_warrens_own_container_labels(world: World, engines: list[LabEngine]) -> None:
    """warren.mirror and warren.mac_prefix as labels, warren.acl as an option, beside dovesnap's names in the other tests."""
    engine, first = engines[0], world.plan.hosts[0]
    run.api(first, "POST", "/apply", timeout_s=40, document='{"acls": {"silent": [{"actions": {"allow": 0}}]}}', wait_s=20)
    engine.docker("network", "create", "-d", engine.driver, "-o", "warren.vlan=77", "words")
    target = engine.run("target", "words")
    engine.run("seen", "words", "--label", "warren.mirror=true", "--label", "warren.mac_prefix=0e:55")
    assert shown(world, "seen")["labels"]["warren.mirror"] == "h1"
    assert "link/ether 0e:55:" in engine.docker("exec", "seen", "ip", "link", "show", "eth0")
    engine.docker(
        "run", "-d", "--name", "mute", "--network", "name=words,driver-opt=warren.acl=silent", "busybox", "sleep", "3600"
    )
    assert engine.reaches("seen", target)
    assert not engine.pings("mute", target)
