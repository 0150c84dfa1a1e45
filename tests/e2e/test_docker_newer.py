"""An engine of today: whose labels count and when, containers that come back with their engine, options that are refused, and published
ports of containers with several networks."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.audit import settled
from tests.e2e.conftest import World, complaints_of
from tests.e2e.docker import cleaned
from tests.e2e.docker_bodies import CALLS, wrong
from tests.programs import program, ready
from tests.waiting import eventually
from tools.lab import run
from tools.lab.engine import IMAGE, LabEngine

ACLS = {"denyall": [{"actions": {"allow": 0}}]}
SERVE = ("httpd", "-f", "-p", "80", "-h", "/etc")
ASK_OFTEN = ("sh", "-c", "ping 10.61.0.1 -i 0.2")


@pytest.fixture(scope="module")
def docked(world: World, newer: LabEngine) -> Iterator[LabEngine]:
    """The engine with a network `front` in mode nat and an ACL `denyall`; everything is gone at the end."""
    with cleaned(world, newer):
        world.apply(acls=ACLS)
        newer.docker("network", "create", "-d", newer.driver, "--subnet", "10.61.0.0/24", "-o", "warren.mode=nat", "front")
        yield newer
    assert not run.api(world.plan.hosts[0], "GET", "/endpoints?hostname=h3")["endpoints"]


@pytest.fixture(autouse=True)
def _front_alone(world: World, docked: LabEngine) -> Iterator[None]:
    """After every test the engine has no container, and no network but `front`."""
    front = docked.networks()
    yield
    run.start(world.plan, docked.host, "agent")
    docked.start_daemon()
    docked.docker("rm", "-f", *docked.docker("ps", "-aq").split(), "none")
    if others := set(docked.networks()) - set(front):
        docked.docker("network", "rm", *others)


def answers(engine: LabEngine, name: str) -> int:
    """How many pings of a container were answered so far."""
    return engine.docker("logs", name).count("ttl=")


def page(world: World, url: str) -> str:
    """What a process of the engine's host gets from there; "" for nothing."""
    return world.inside("h3", "curl", "-s", "-m", "2", f"http://{url}/hostname").stdout.strip()


def test_a_name_with_a_dot_is_not_a_pattern(world: World, docked: LabEngine) -> None:
    docked.run("web.1", "front", "--label", "warren.acl=denyall", "--label", "role=first")
    docked.run("web-1", "front", "--label", "role=second")
    docked.docker("restart", "-t", "0", "web.1")
    labels = {e["name"]: e["labels"]["role"] for e in run.api(world.plan.hosts[0], "GET", "/endpoints?hostname=h3")["endpoints"]}
    assert labels == {"web.1": "first", "web-1": "second"}
    assert docked.reaches("web-1", "10.61.0.1")
    assert not docked.pings("web.1", "10.61.0.1")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_labels_hold_while_the_engine_starts(world: World, docked: LabEngine, how: signal.Signals) -> None:
    """It answers nobody meanwhile, and its containers run."""
    for name, label in (("open", "role=web"), ("shut", "warren.acl=denyall")):
        docked.run(name, "front", "--restart", "always", "--label", label, command=ASK_OFTEN)
    eventually(lambda: answers(docked, "open"))
    before = answers(docked, "open")
    docked.stop_daemon(how)
    docked.end_containers()
    docked.start_daemon()
    eventually(lambda: answers(docked, "open") > before + 5)
    assert answers(docked, "shut") == 0


def test_a_container_that_was_never_seen_stays_closed_until_its_labels_are_known(world: World, docked: LabEngine) -> None:
    """Unless the network says that it does not need them."""
    docked.docker("network", "create", "-d", docked.driver, "--subnet", "10.62.0.0/24", "-o", "warren.mode=nat",
                  "-o", "warren.labels=optional", "easy")  # fmt: skip
    docked.docker("run", "-d", "--name", "new", "--network", "front", "--restart", "always", IMAGE, *ASK_OFTEN)
    docked.docker("run", "-d", "--name", "easy", "--network", "easy", "--restart", "always", IMAGE, "sleep", "3600")
    store = run.in_netns(world.plan.netns, "etcdctl", "--endpoints=http://198.18.1.1:2379")
    eventually(lambda: run.sh(*store, "get", "--prefix", "/warren/docker/h3/containers/", "--keys-only").count("/") >= 10)
    docked.stop_daemon()
    run.stop(world.plan, "h3", "agent")
    run.sh(*store, "del", "--prefix", "/warren/docker/h3/containers/")
    run.start(world.plan, "h3", "agent")
    docked.start_daemon(wait=False)
    states: list[tuple[str, str]] = []

    def up() -> bool:
        endpoints = run.api(world.plan.hosts[0], "GET", "/endpoints?states=true&hostname=h3")["endpoints"]
        states.extend((e["target_veth_ip"].rpartition(".")[0], f"{e['state']} {e['reason']}") for e in endpoints)
        return [e["name"] for e in endpoints if e["state"] == "up" and e["name"] in ("new", "easy")] != [] and len(endpoints) == 2

    eventually(up)
    docked.wait()
    eventually(lambda: docked.pings("new", "10.61.0.1"))
    assert ("10.61.0", "closed its labels are not known yet") in states
    assert not [state for network, state in states if network == "10.62.0" and "labels" in state]


def test_containers_come_back_with_an_engine_whose_agent_was_away(world: World, docked: LabEngine) -> None:
    """The agent in a container of the same engine: nobody heard that its containers ended. Their endpoints give way at once."""
    options = {
        "by-address": ("--ip", "10.61.0.77"),
        "by-mac": ("--mac-address", "02:00:00:00:00:77"),
        "by-port": ("-p", "8077:80"),
    }
    for name, words in options.items():
        docked.run(name, "front", "--restart", "always", *words, command=SERVE)
    log = world.plan.hosts[2].directory / "agent.log"
    read = log.stat().st_size
    run.stop(world.plan, "h3", "agent", signal.SIGKILL)
    docked.stop_daemon(signal.SIGKILL)
    docked.end_containers()
    docked.start_daemon(wait=False)
    run.start(world.plan, "h3", "agent")
    docked.wait()
    eventually(lambda: {c["State"]["Running"] for c in docked.inspect(*options)} == {True})
    assert docked.address("by-address", "front") == "10.61.0.77"
    news = log.read_bytes()[read:].decode()
    assert "endpoint.container_ended" in news
    assert "endpoint.container_gone" not in news, "the sweep came first"
    eventually(lambda: page(world, "127.0.0.1:8077") != "")
    settled(world, [docked])


def test_what_is_not_understood_is_refused_with_its_reason(world: World, docked: LabEngine) -> None:
    for label in ("warren.acls=denyall", "dovesnap.faucet.portacls=denyall", "Warren.acl=denyall", "warren.acl=nosuch"):
        refusal = docked.refused("run", "--network", "front", "--label", label, IMAGE, "sleep", "0")
        assert f"{label.partition('=')[0]}: " in refusal, refusal
    docked.docker("run", "--rm", "--network", "front", "--label", "dovesnap.namespace=primary", IMAGE, "sleep", "0")
    wrong = (
        "ovs.bridge.userspace=maybe", "ovs.bridge.ovs_local_mac=rubbish", "warren.default_acl=nosuch", "ovs.bridge.nat_acl=nosuch",
        "ovs.bridge.add_ports=nosuch0", "warren.mtu=9000", "ovs.bridge.dpid=0", "ovs.bridge.lbport=x", "mode=nat",
        "com.docker.network.bridge.gateway_mode_ipv4=isolated",
        "com.docker.network.bridge.inhibit_ipv4=true", "com.docker.network.bridge.default_bridge=true",
        "com.docker.network.bridge.trusted_host_interfaces=eth0",
    )  # fmt: skip
    for option in wrong:
        refusal = docked.refused("network", "create", "-d", docked.driver, "-o", option, "wrong")
        assert "expected" in refusal, refusal
    many = ("--subnet", "10.63.0.0/24", "--subnet", "10.64.0.0/24")
    assert "--subnet" in docked.refused("network", "create", "-d", docked.driver, *many, "wrong")
    mode = ("-o", "warren.mode=nat", "-o", "com.docker.network.bridge.enable_ip_masquerade=false")
    assert "masquerade" in docked.refused("network", "create", "-d", docked.driver, *mode, "wrong")


def test_dockers_own_options_are_carried_out(world: World, docked: LabEngine) -> None:
    options = ("com.docker.network.bridge.host_binding_ipv4=127.0.0.1", "com.docker.network.bridge.gateway_mode_ipv4=routed",
               "com.docker.network.bridge.enable_ip_masquerade=false", "com.docker.network.container_iface_prefix=lan",
               "com.docker.network.bridge.enable_icc=true", "com.docker.network.bridge.name=br0", "ovs.bridge.bind_interface=eth0")  # fmt: skip
    docked.docker(
        "network", "create", "-d", docked.driver, "--subnet", "10.65.0.0/24", *(w for o in options for w in ("-o", o)), "own"
    )
    (network,) = [n for n in run.api(world.plan.hosts[0], "GET", "/networks")["networks"] if n["ip_range"] == "10.65.0.0/24"]
    assert network["mode"] == "routed"
    docked.run("bound", "own", "-p", "8065:80", command=SERVE)
    assert "lan0" in docked.docker("exec", "bound", "ip", "link")
    eventually(lambda: page(world, "127.0.0.1:8065") != "")
    assert page(world, f"{world.plan.hosts[2].vtep}:8065") == ""


def test_containers_of_a_network_without_icc_reach_only_the_outside(world: World, docked: LabEngine) -> None:
    option = "com.docker.network.bridge.enable_icc=false"
    for words in (("-o", "warren.network=amber"), ("--ipam-driver", "null")):
        assert "enable_icc" in docked.refused("network", "create", "-d", docked.driver, "-o", option, *words, "apart")
    docked.docker(
        "network", "create", "-d", docked.driver, "--subnet", "10.68.0.0/24", "-o", "warren.mode=nat", "-o", option, "apart"
    )
    first, second = docked.run("first", "apart", command=SERVE), docked.run("second", "apart", "-p", "8068:80", command=SERVE)
    for container, gateway, other in (("first", "10.68.0.1", second), ("second", "10.68.0.1", first)):
        assert docked.reaches(container, gateway)
        assert not docked.pings(container, other)
    eventually(lambda: page(world, f"{world.plan.hosts[2].vtep}:8068") != "")
    docked.docker("rm", "-f", "first", "second")
    docked.docker("network", "rm", "apart")
    assert not [
        acl["name"] for acl in run.api(world.plan.hosts[0], "GET", "/acls")["acls"] if acl["name"].startswith("docker-apart")
    ]


def test_published_ports_of_a_container_with_several_networks(world: World, docked: LabEngine, tmp_path: Path) -> None:
    """Compose's front and back: the port is on the network that has a way outside, through connecting and restarting."""
    services = {"web": {"image": IMAGE, "command": list(SERVE), "networks": ["back", "front"], "ports": ["8071:80"]},
                "db": {"image": IMAGE, "command": list(SERVE), "networks": ["back"], "ports": ["8072:80"]}}  # fmt: skip
    back = {"driver": docked.driver, "internal": True, "driver_opts": {"warren.mode": "nat"}}
    routed = {"driver": docked.driver, "driver_opts": {"warren.mode": "routed"}, "ipam": {"config": [{"subnet": "10.66.0.0/24"}]}}
    file = tmp_path / "compose.yml"
    file.write_text(json.dumps({"services": services, "networks": {"back": back, "front": routed}}))
    docked.compose(file, "-p", "shop", "up", "-d")
    web, host = "shop-web-1", world.plan.hosts[2].vtep
    for url in (f"{host}:8071", "127.0.0.1:8071"):
        eventually(lambda url=url: page(world, url) != "")
    assert page(world, f"{host}:8072") == "", "an internal network publishes nothing"
    assert not docked.pings("shop-db-1", host), "and has no way outside"
    docked.docker("restart", "-t", "0", web)
    eventually(lambda: page(world, f"{host}:8071") != "")
    docked.docker("network", "connect", "front", web)
    docked.docker("network", "disconnect", "shop_front", web)
    eventually(lambda: page(world, f"{host}:8071") != "")
    docked.docker("network", "disconnect", "front", web)
    eventually(lambda: page(world, f"{host}:8071") == "")


def test_addresses_and_ports_that_cannot_be_published(world: World, docked: LabEngine) -> None:
    docked.run("local", "front", "-p", "127.0.0.1:8081:80", "-p", "8082:80", command=SERVE)
    host = world.plan.hosts[2].vtep
    for url in ("127.0.0.1:8081", "127.0.0.1:8082", f"{host}:8082"):
        eventually(lambda url=url: page(world, url) != "")
    assert page(world, f"{host}:8081") == ""
    for ports, word in (("192.0.2.77:8083:80", "192.0.2.77"), ("[::1]:8083:80", "::1"), ("8082:80", "published by")):
        assert word in docked.refused("run", "--network", "front", "-p", ports, IMAGE, *SERVE)
    server = ready(world.background("h3", *program("serve", "the host's", "8084/tcp")))
    try:
        assert "in use" in docked.refused("run", "--network", "front", "-p", "8084:80", IMAGE, *SERVE)
    finally:
        server.kill()
        server.wait()


def test_a_renamed_container_keeps_its_endpoint(world: World, docked: LabEngine) -> None:
    docked.run("before", "front")
    docked.docker("rename", "before", "after")

    def names() -> set[str]:
        return {e["name"] for e in run.api(world.plan.hosts[0], "GET", "/endpoints?hostname=h3")["endpoints"]}

    eventually(lambda: names() == {"after"})
    assert docked.reaches("after", "10.61.0.1")


def test_bodies_that_no_engine_sends(world: World, docked: LabEngine) -> None:
    """Every answer is one that Docker shows to its user; nothing is left of any call, and nothing of it is in our logs."""
    chance, network, endpoint = random.Random(5), "c" * 64, "d" * 64
    transport = httpx.HTTPTransport(uds=str(docked.directory / "docker-plugin.sock"))
    with httpx.Client(transport=transport, base_url="http://plugin", timeout=60) as client:
        for _ in range(16):
            for call in CALLS:
                text = json.dumps(wrong(chance, network, endpoint))
                answer = client.post(f"/{call}", content=text)
                assert answer.status_code == 200, (call, text, answer.text)
                assert "internal error" not in answer.json().get("Err", ""), (call, text, answer.text)
        for content in (b"", b"null", b"[" * 100_000, b"\xff", b'"x"', b"{" + b" " * 2_000_000):
            assert client.post("/NetworkDriver.Join", content=content).json()["Err"]
        for call in ("NetworkDriver.DeleteEndpoint", "NetworkDriver.DeleteNetwork"):
            client.post(f"/{call}", content=json.dumps({"NetworkID": network, "EndpointID": endpoint}))
    settled(world, [docked])
    assert complaints_of(docked.directory) == []
