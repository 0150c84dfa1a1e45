"""dovesnap's scenarios, with its own options and labels, on an engine of yesterday and on one of today.

Its own tests look at FAUCET's configuration and flows; these look at what the options are for. `stack` is here two hosts of one network
and a mirror port on the other one; `dhcp` is in test_docker_dhcp.py.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.e2e.conftest import World
from tests.e2e.docker import cleaned, page
from tests.e2e.test_docker_options import heard
from tests.waiting import eventually
from tools.lab import run
from tools.lab.engine import LabEngine
from tools.lab.plan import HostPlan, container_netns

PUBLIC = "4.2.2.2"  # a web server of the internet
MACHINE = "10.71.0.200"  # behind the interface add1
SERVE = ("httpd", "-f", "-p", "80", "-h", "/etc")
CONTROLLERS = "ovs.bridge.controller=tcp:127.0.0.1:6653,tcp:127.0.0.1:6654"
ACLS = {
    "ratelimitit": [{"dl_type": 0x800, "actions": {"meter": "lossymeter", "allow": 1}}, {"actions": {"allow": 1}}],
    "allowall": [{"actions": {"allow": 1}}],
    "denyall": [{"actions": {"allow": 0}}],
}


class Site:
    """A host with an engine, the internet behind it, a machine behind its interface add1, and a mirror interface."""

    def __init__(self, world: World, engine: LabEngine) -> None:
        self.world, self.engine, self.name = world, engine, engine.host
        plan = world.plan.host(engine.host)
        assert plan is not None
        self.plan: HostPlan = plan
        self.internet, self.machine = f"{world.plan.name}-wan", container_netns(world.plan.name, "added")
        self.server: subprocess.Popen[bytes] | None = None

    def wire(self) -> None:
        """Make what is around the host."""
        for netns, host_end, address in ((self.internet, "wan0", "192.0.2.9/24"), (self.machine, "add1", f"{MACHINE}/24")):
            run.sh("ip", "netns", "add", netns)
            run.sh("ip", "-n", self.plan.netns, "link", "add", host_end, "type", "veth", "peer", "name", "eth0", "netns", netns)
            for place, name in ((netns, "eth0"), (self.plan.netns, host_end)):
                run.sh("ip", "netns", "exec", place, "ethtool", "-K", name, "tx", "off")
            for words in (("link", "set", "lo", "up"), ("link", "set", "eth0", "up"), ("addr", "add", address, "dev", "eth0")):
                run.sh("ip", "-n", netns, *words)
        run.sh("ip", "-n", self.internet, "addr", "add", f"{PUBLIC}/32", "dev", "lo")
        run.sh("ip", "-n", self.plan.netns, "link", "set", "wan0", "up")
        run.sh("ip", "-n", self.plan.netns, "addr", "add", "192.0.2.1/24", "dev", "wan0")
        run.sh("ip", "-n", self.plan.netns, "route", "add", "default", "via", "192.0.2.9")
        run.sh("ip", "-n", self.plan.netns, "link", "add", "mirror0", "type", "veth", "peer", "name", "mirror1")
        for name in ("mirror0", "mirror1"):
            run.sh("ip", "-n", self.plan.netns, "link", "set", name, "up")
        self.server = subprocess.Popen(run.in_netns(self.internet, "busybox", *SERVE))

    def unwire(self) -> None:
        """Remove it."""
        if self.server is not None:
            self.server.kill()
            self.server.wait()
        for link in ("wan0", "add1", "mirror0"):
            run.sh("ip", "-n", self.plan.netns, "link", "del", link, check=False)
        for netns in (self.internet, self.machine):
            run.sh("ip", "netns", "del", netns, check=False)

    def create(self, name: str, mode: str, *options: str) -> str:
        """A network as dovesnap's tests make it; returns the address of its gateway."""
        words = ["--internal", "-o", f"ovs.bridge.mode={mode}", "-o", CONTROLLERS]
        self.engine.docker("network", "create", name, "-d", self.engine.driver, *words, *(w for o in options for w in ("-o", o)))
        return str(self.engine.inspect(name)[0]["IPAM"]["Config"][0]["Gateway"])

    def start(self, name: str, network: str, *options: str) -> str:
        """A container with a web server; returns its address."""
        return self.engine.run(name, network, *options, command=SERVE)

    def page(self, container: str, url: str) -> str:
        """What a container gets from a web server; "" for nothing."""
        return page(self.engine, container, url)

    def host_page(self, url: str) -> str:
        """What a process of the host gets from a web server; "" for nothing."""
        return self.world.inside(self.name, "curl", "-s", "-m", "2", f"http://{url}/hostname").stdout

    def outside_page(self, url: str) -> str:
        """What a machine of the internet gets from a web server; "" for nothing."""
        request = run.in_netns(self.internet, "curl", "-s", "-m", "2", f"http://{url}/hostname")
        return subprocess.run(request, capture_output=True, text=True, check=False).stdout

    def mac(self, container: str, interface: str = "eth0") -> str:
        """The MAC of a container's interface."""
        shown = self.engine.docker("exec", container, "ip", "link", "show", interface)
        return shown.partition("link/ether ")[2][:17]

    def bridge_mac(self) -> str:
        """The MAC of the host's bridge."""
        return self.world.inside(self.name, "ip", "-o", "link", "show", "br-warren").stdout.partition("link/ether ")[2][:17]

    def endpoints(self) -> list[dict[str, Any]]:
        """The endpoints of the host."""
        return run.api(self.plan, "GET", f"/endpoints?hostname={self.name}")["endpoints"]  # type: ignore[no-any-return]

    def restart_driver(self) -> None:
        """End the agent, and start it again."""
        run.restart(self.world.plan, self.name, "agent", signal.SIGKILL)

    def restart_switch(self) -> None:
        """End Open vSwitch, and start it again."""
        run.restart(self.world.plan, self.name, "ovs")

        def back() -> bool:
            with suppress(run.LabError):
                run.underlay(self.plan)
                return True
            return False

        eventually(back)


@pytest.fixture(scope="module", params=["engines", "newer"])
def site(request: pytest.FixtureRequest, world: World) -> Iterator[Site]:
    """The host of an engine of yesterday, and of one of today; everything around it is gone at the end."""
    engine = request.getfixturevalue(request.param)
    fixture = Site(world, engine[0] if isinstance(engine, list) else engine)
    try:
        fixture.wire()
        with cleaned(world, fixture.engine):
            world.apply(meters=[{"name": "lossymeter", "rate": 100}], acls=ACLS)
            yield fixture
    finally:
        fixture.unwire()


@pytest.fixture(autouse=True)
def _nothing_left(site: Site) -> Iterator[None]:
    """Every test leaves nothing."""
    with cleaned(site.world, site.engine):
        yield


def test_standalone(site: Site) -> None:
    """Everything at once on one network, while the driver and the switch are restarted."""
    bridge = site.bridge_mac()
    gateway = site.create("testnet", "nat", "ovs.bridge.dpid=0x1", "ovs.bridge.ovs_local_mac=0e:01:00:00:00:23",
                          "ovs.bridge.vlan_out_acl=allowall", "ovs.bridge.add_ports=add1/888/denyall",
                          "ovs.bridge.default_acl=denyall", "ovs.bridge.preallocate_ports=3")  # fmt: skip
    site.restart_driver()
    labels = ("--label=dovesnap.faucet.portacl=testnet:ratelimitit", "--label=dovesnap.faucet.mac_prefix=0e:99")
    address = site.start("testcon", "testnet", *labels, "-p", "80:80")
    site.restart_switch()
    eventually(lambda: site.page("testcon", PUBLIC))
    assert site.mac("testcon").startswith("0e:99:")
    eventually(lambda: site.bridge_mac() == "0e:01:00:00:00:23")
    assert any("meter:" in line for line in site.world.ofctl(site.name, "dump-flows", "br-warren").splitlines())
    assert [(e["port"], e["ofport"], e["acls"]) for e in site.endpoints() if e["port"]] == [("add1", 888, ["denyall"])]
    site.start("other", "testnet", "--label=dovesnap.faucet.portacl=allowall")
    site.start("mute", "testnet")
    for url in (f"{gateway}:80", f"{site.plan.vtep}:80", "192.0.2.1:80"):
        eventually(lambda url=url: site.host_page(url))
        eventually(lambda url=url: site.page("other", url))
    eventually(lambda: site.page("testcon", f"{gateway}:80"))
    assert site.outside_page("192.0.2.1:80")
    assert not site.engine.pings("mute", address), "by the network's ACL for those without a label"
    site.engine.docker("rm", "-f", "testcon")
    assert not site.host_page(f"{gateway}:80")
    assert not site.page("other", f"{gateway}:80")
    site.engine.clean()
    eventually(lambda: site.bridge_mac() == bridge)


def test_standalone_2(site: Site) -> None:
    """Two networks with a gateway each, and a container on both, which keeps its port."""
    networks = ("testnet", "test2net")
    gateways = {name: site.create(name, "nat", f"ovs.bridge.dpid=0x{number}") for number, name in enumerate(networks, 1)}
    peers = {name: site.start(f"peer-{name}", name) for name in networks}
    site.start("testcon", "testnet", "-p", "8080:80", "--label=dovesnap.faucet.portacl=testnet:ratelimitit/test2net:allowall")
    eventually(lambda: site.page("peer-testnet", f"{gateways['testnet']}:8080"))
    eventually(lambda: site.host_page(f"{gateways['testnet']}:8080"))
    assert not site.page("peer-test2net", f"{gateways['test2net']}:8080")
    site.engine.docker("network", "connect", "test2net", "testcon")
    for address in peers.values():
        assert site.engine.reaches("testcon", address)
    assert not site.engine.pings("peer-testnet", peers["test2net"]), "two networks"
    assert site.page("testcon", PUBLIC)
    assert [way["host_port"] for endpoint in site.endpoints() for way in endpoint["publish"]] == [8080]


def test_standalone_noconfig(site: Site) -> None:
    """No ACL anywhere: an interface and a coprocessor of the host on the network, and a restart."""
    run.sh("ip", "-n", site.plan.netns, "link", "add", "copro0", "type", "veth", "peer", "name", "copro1")
    try:
        options = ("ovs.bridge.add_ports=add1/888", "ovs.bridge.add_copro_ports=copro0/777")
        site.engine.docker("network", "create", "testnet", "-d", site.engine.driver, "--internal", "--subnet", "10.71.0.0/24",
                           "-o", "ovs.bridge.mode=nat", "-o", "ovs.bridge.dpid=0x1", *(w for o in options for w in ("-o", o)))  # fmt: skip
        address = site.start("testcon", "testnet", "--label=dovesnap.faucet.mac_prefix=0e:99")
        site.restart_driver()
        ports = {e["port"]: (e["ofport"], bool(e["coprocessor"])) for e in site.endpoints() if e["port"]}
        assert ports == {"add1": (888, False), "copro0": (777, True)}
        eventually(lambda: site.page("testcon", PUBLIC))
        assert site.engine.reaches("testcon", MACHINE)
        assert site.world.reaches("added", address)
        site.engine.clean()
    finally:
        run.sh("ip", "-n", site.plan.netns, "link", "del", "copro0")


def test_routed(site: Site) -> None:
    """The container's own address outside; -p and the gateway as in mode nat."""
    gateway = site.create("testnet", "routed", "ovs.bridge.dpid=0x1", "ovs.bridge.default_acl=denyall")
    address = site.start("testcon", "testnet", "--label=dovesnap.faucet.portacl=testnet:ratelimitit", "-p", "8080:80")
    site.start("other", "testnet", "--label=dovesnap.faucet.portacl=allowall")
    assert site.engine.reaches("testcon", gateway)
    eventually(lambda: site.host_page(address), 60)
    run.sh("ip", "-n", site.internet, "route", "add", f"{address}/32", "via", "192.0.2.1")
    assert site.page("testcon", PUBLIC)
    eventually(lambda: site.host_page(f"{gateway}:8080"))
    for client in ("other", "testcon"):
        eventually(lambda client=client: site.page(client, f"{gateway}:8080"))
    assert not site.page("other", f"{gateway}:8081")


def test_mirrorbridge(site: Site) -> None:
    """Both directions of the labelled container, with the network's VLAN, at the host's mirror interface; nobody else's."""
    before = run.api(site.plan, "GET", "/mirrors")
    site.create("testnet", "nat", "ovs.bridge.vlan=100")
    target = site.start("target", "testnet")
    mac = "0e:00:00:00:00:99"
    watched = site.start("watched", "testnet", "--mac-address", mac, "--label=dovesnap.faucet.mirror=testnet:true")
    other = site.start("other", "testnet", "--label=dovesnap.faucet.mirror=false")
    assert site.mac("watched") == mac
    eventually(lambda: "vlan 100" in heard(site.world, site.name, "mirror1", lambda: site.page("watched", target)))
    lines = heard(site.world, site.name, "mirror1", lambda: [site.page(name, target) for name in ("watched", "other")])
    assert f"{mac} > " in lines
    assert any(
        f"vlan 100, p 0, ethertype IPv4 (0x0800), {watched}." in line and f"> {target}.80: Flags [S]" in line
        for line in lines.splitlines()
    )
    assert any(f"{target}.80 > {watched}." in line and "Flags [S.]" in line for line in lines.splitlines())
    assert f"{other}." not in lines
    site.engine.clean()
    eventually(lambda: run.api(site.plan, "GET", "/mirrors") == before)


def test_stack(site: Site) -> None:
    """What a labelled container sends is copied to an interface of another host, with a VLAN tag."""
    far = site.world.plan.hosts[1]
    site.create("testnet", "nat", "ovs.bridge.dpid=0x1", "ovs.bridge.mirror_tunnel_vid=356")
    run.sh("ip", "-n", far.netns, "link", "add", "stack0", "type", "veth", "peer", "name", "stack1")
    try:
        for name in ("stack0", "stack1"):
            run.sh("ip", "-n", far.netns, "link", "set", name, "up")
        site.start("testcon", "testnet", "--label=dovesnap.faucet.mirror=testnet:true")
        (network,) = {e["network_id"] for e in site.endpoints() if e["name"] == "testcon"}
        sources = [{"network": network, "label": "warren.mirror"}]
        session = {"name": "stacked", "sources": sources, "to": {"host": far.name, "interface": "stack0"}, "vlan": 356}
        site.world.apply(mirrors=[session])
        lines = lambda: heard(site.world, far.name, "stack1", lambda: site.page("testcon", PUBLIC))  # noqa: E731
        eventually(lambda: "vlan 356" in (heard_lines := lines()) and f"> {PUBLIC}.80: Flags [S]" in heard_lines)
    finally:
        with suppress(run.LabError):
            run.api(site.plan, "DELETE", "/mirrors/stacked")
        run.sh("ip", "-n", far.netns, "link", "del", "stack0")


def test_vlan_config(site: Site) -> None:
    """Machines behind interfaces with one VLAN reach each other, those with the network's reach containers."""
    machines = {number: container_netns(site.world.plan.name, f"vlan{number}") for number in (1, 2, 3)}
    try:
        for number, machine in machines.items():
            run.sh("ip", "netns", "add", machine)
            run.sh(
                "ip",
                "-n",
                site.plan.netns,
                "link",
                "add",
                f"vlan{number}",
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                machine,
            )
            for place, name in ((machine, "eth0"), (site.plan.netns, f"vlan{number}")):
                run.sh("ip", "netns", "exec", place, "ethtool", "-K", name, "tx", "off")
            run.sh("ip", "-n", machine, "addr", "add", f"10.67.0.10{number}/24", "dev", "eth0")
            run.sh("ip", "-n", machine, "link", "set", "eth0", "up")
        options = ("ovs.bridge.mode=nat", "ovs.bridge.dpid=0x1", "ovs.bridge.vlan=100", "ovs.bridge.preallocate_ports=2",
                   "ovs.bridge.add_ports=vlan1/101//20,vlan2/102//20,vlan3/103")  # fmt: skip
        site.engine.docker("network", "create", "testnet", "-d", site.engine.driver, "--internal", "--subnet", "10.67.0.0/24",
                           *(w for o in options for w in ("-o", o)))  # fmt: skip
        assert {(e["port"], e["ofport"]) for e in site.endpoints() if e["port"]} == {
            ("vlan1", 101),
            ("vlan2", 102),
            ("vlan3", 103),
        }
        container = site.start("testcon", "testnet")
        assert site.world.reaches("vlan1", "10.67.0.102")
        assert site.world.reaches("vlan3", container)
        for source, target in (("vlan1", container), ("vlan1", "10.67.0.103"), ("vlan3", "10.67.0.102")):
            assert not site.world.pings(source, target)
        site.engine.clean()
        assert not [e for e in site.endpoints() if e["port"]]
        networks = run.api(site.plan, "GET", "/networks")["networks"]
        assert not [n for n in networks if n["vlan"] in (20, 100)], json.dumps(networks)
    finally:
        site.engine.clean()
        for machine in machines.values():
            run.sh("ip", "netns", "del", machine, check=False)
