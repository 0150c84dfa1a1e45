"""dovesnap's `ovs.bridge.dhcp`: containers of a real engine get addresses from a DHCP server behind an interface."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.audit import settled
from tests.e2e.conftest import World
from tests.e2e.docker import cleaned, page
from tests.e2e.test_dhcp_client import FAR, RANGE, ROUTER, Lan, clients
from tests.e2e.test_docker_options import heard
from tests.waiting import eventually
from tools.lab import run
from tools.lab.engine import LabEngine

ACLS = {"pingonly": [{"dl_type": 0x806, "actions": {"allow": 1}}, {"dl_type": 0x800, "nw_proto": 1, "actions": {"allow": 1}}]}


@pytest.fixture(params=["engines", "newer"])
def engine(request: pytest.FixtureRequest) -> LabEngine:
    """An engine of yesterday, and one of today."""
    fixture = request.getfixturevalue(request.param)
    return fixture[0] if isinstance(fixture, list) else fixture  # type: ignore[no-any-return]


@pytest.fixture
def docked(world: World, engine: LabEngine, tmp_path: Path) -> Iterator[Lan]:
    """The server, eno7 of the engine's host not yet on any network, and a mirror interface there."""
    lan = Lan(world, tmp_path, engine.host)
    try:
        lan.wire()
        lan.serve()
        run.sh("ip", "-n", engine.netns, "link", "add", "mirror0", "type", "veth", "peer", "name", "mirror1")
        for name in ("mirror0", "mirror1"):
            run.sh("ip", "-n", engine.netns, "link", "set", name, "up")
        with cleaned(world, engine):
            world.apply(acls=ACLS)
            yield lan
    finally:
        lan.stop()
        run.sh("ip", "-n", engine.netns, "link", "del", "mirror0", check=False)
        run.sh("ip", "netns", "del", lan.netns, check=False)


def test_dovesnaps_dhcp(world: World, engine: LabEngine, docked: Lan) -> None:
    """Its test's own commands but for the driver's name, with its labels: an address within 30 seconds, and again after a restart."""
    options = ("-o", "ovs.bridge.dpid=0x1", "-o", "ovs.bridge.controller=tcp:127.0.0.1:6653", "-o", "ovs.bridge.add_ports=eno7/101",
               "-o", "ovs.bridge.name=lan", "-o", "ovs.bridge.vlan=100")  # fmt: skip
    create = ("network", "create", "testnet", "-d", engine.driver, "--internal", "-o", "ovs.bridge.dhcp=true")
    null = ("--ipam-driver", "null")
    assert "--ipam-driver null" in engine.refused(*create, "-o", "ovs.bridge.mode=flat", *options)
    assert "--ipam-driver null" in engine.refused(*create, "--subnet", "10.1.0.0/24", *options)
    assert "expected flat" in engine.refused(*create, *null, "-o", "ovs.bridge.mode=nat", *options)
    engine.docker(*create, *null, "-o", "ovs.bridge.mode=flat", *options)
    labels = ("--label=dovesnap.faucet.portacl=testnet:pingonly", "--label=dovesnap.faucet.mirror=testnet:true")
    engine.docker("run", "-d", "--name", "testcon", "--net=testnet", *labels, "busybox", "sleep", "1h")
    engine.docker("run", "-d", "--name", "other", "--net=testnet", "busybox", "httpd", "-f", "-p", "80", "-h", "/etc")

    def leased(name: str) -> str:
        eventually(lambda: f"inet {RANGE}." in engine.docker("exec", name, "ip", "addr", "show", "eth0"))
        container_address = docked.address(name)
        assert f"inet {container_address}/24" in engine.docker("exec", name, "ip", "addr", "show", "eth0")
        eventually(lambda: docked.endpoint(name)["state"] == "up")
        return container_address

    other = leased("other")
    for _ in ("first", "after a restart"):
        address = leased("testcon")
        for target in (ROUTER, FAR, other):
            assert engine.reaches("testcon", target)
        assert world.reaches("server", address)
        lines = heard(world, engine.host, "mirror1", lambda: engine.reaches("testcon", other))
        assert f"{address} > {other}: ICMP echo request" in lines
        assert f"{other} > {address}: ICMP echo reply" in lines
        url = f"http://{other}/hostname"
        assert world.inside("server", "curl", "-s", "-m", "2", url).returncode == 0
        assert page(engine, "other", f"{other}:80"), "a server that answers"
        assert not page(engine, "testcon", f"{other}:80"), "by its ACL"
        assert "udhcpc" not in engine.docker("exec", "testcon", "busybox", "ps")
        assert len(clients(docked, engine.host)) == 2
        with docked.questions() as requested:
            engine.docker("restart", "-t", "0", "testcon")
            eventually(lambda gone=address: requested("Release", f"Client-IP {gone}"))  # type: ignore[misc]
    leased("testcon")
    settled(world, [engine])
    with docked.questions() as requested:
        engine.docker("rm", "-f", "other")
        eventually(lambda: requested("Release", f"Client-IP {other}"))
    engine.clean()
    assert clients(docked, engine.host) == []
