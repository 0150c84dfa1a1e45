"""Interfaces that others make become endpoints by rule: veths of containers and taps of virtual machines, whatever the order in which
interface, rule and agent appear."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.audit import settled
from tests.e2e.conftest import World, clean
from tests.programs import program, ready
from tests.waiting import eventually
from tools.lab import run

NETWORK, PREFIX = "adopted", "10.88.0"
VM_MAC, VM_ADDRESS = "52:54:00:88:00:50", f"{PREFIX}.50"
CT_MAC, CT_ADDRESS = "02:88:00:00:00:60", f"{PREFIX}.60"


class Adoption:
    """The network, its rules, and the machines that appear there. Interfaces are named after the laboratory's file: `ad-` and `vm-`."""

    def __init__(self, world: World) -> None:
        self.world, self.plan = world, world.plan
        self.host = run.netns_of(world.plan, "h1")
        self.other_address = self.other_mac = ""

    def netns(self, name: str) -> str:
        """The namespace of a machine."""
        return run.container_netns(self.plan.name, name)

    @contextmanager
    def machine(self, name: str) -> Iterator[str]:
        """An empty namespace, for a while."""
        netns = self.netns(name)
        run.sh("ip", "netns", "add", netns)
        try:
            yield netns
        finally:
            run.sh("ip", "netns", "del", netns, check=False)

    @contextmanager
    def container(self, name: str, interface: str, mac: str) -> Iterator[None]:
        """A container with a veth pair as nspawn's --network-veth makes one; the kernel deletes it with the container."""
        with self.machine(name) as netns:
            self.veth(interface, netns, mac)
            yield

    def veth(self, interface: str, netns: str, mac: str) -> None:
        """Make the pair; the host's end is down."""
        peer = ("peer", "name", "eth0", "address", mac, "netns", netns)
        run.sh("ip", "-n", self.host, "link", "add", interface, "type", "veth", *peer)
        run.sh("ip", "-n", netns, "link", "set", "eth0", "up")

    @contextmanager
    def guest(self, name: str, tap: str, mac: str) -> Iterator[None]:
        """A virtual machine that runs, for a while; its tap vanishes with it."""
        words = run.in_netns(self.host, *program("guest", tap, self.netns(name), mac))
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        try:
            ready(process)
            yield
        finally:
            process.kill()
            process.wait()

    def endpoint(self, interface: str) -> dict[str, Any] | None:
        """The endpoint of an interface of h1."""
        listed = run.api(self.plan.hosts[0], "GET", "/endpoints?states=true")["endpoints"]
        return next((e for e in listed if e["device"] == interface and e["hostname"] == "h1"), None)

    def up(self, interface: str) -> dict[str, Any]:
        """The endpoint of an interface, once it is up."""
        eventually(lambda: (self.endpoint(interface) or {}).get("state") == "up")
        endpoint = self.endpoint(interface)
        assert endpoint is not None
        return endpoint

    def address(self, name: str) -> str:
        """Get the machine its address by DHCP."""
        script = Path(__file__).parent.parent / "programs" / "lease.sh"
        words = ("busybox", "udhcpc", "-q", "-n", "-f", "-i", "eth0", "-t", "30", "-T", "1", "-s", str(script), "-O", "mtu")
        done = self.world.inside(name, *words, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        shown = self.world.inside(name, "ip", "-o", "-4", "addr", "show", "eth0").stdout
        leased = re.search(r"inet (\S+)/24", shown)
        assert leased, shown
        return leased[1]

    def link(self, interface: str) -> dict[str, Any]:
        """An interface of h1 as `ip` shows it."""
        shown: list[dict[str, Any]] = json.loads(run.sh("ip", "-n", self.host, "-j", "link", "show", interface))
        return shown[0]

    def state(self, interface: str) -> tuple[bool, bool, int]:
        """Whether an interface of h1 is up and promiscuous, and its MTU."""
        link = self.link(interface)
        return "UP" in link["flags"], "PROMISC" in link["flags"], link["mtu"]

    def complaint(self, *words: str) -> bool:
        """Whether a line of h1's status has all these words."""
        rows = run.api(self.plan.hosts[0], "GET", "/status")["hosts"]
        problems = next(row["problems"] for row in rows if row["name"] == "h1")
        return any(all(word in line for word in words) for line in problems)


@pytest.fixture(scope="module")
def adoption(world: World) -> Iterator[Adoption]:
    fixture = Adoption(world)
    reservations = [{"mac": VM_MAC, "ipv4_address": VM_ADDRESS}, {"mac": CT_MAC, "ipv4_address": CT_ADDRESS}]
    rules = [
        {"match": "ad-*", "network": NETWORK, "host": "h1", "labels": {"kind": "container"}},
        {"match": "vm-*", "network": NETWORK},
    ]
    network = {"name": NETWORK, "ip_range": f"{PREFIX}.0/24", "mode": "nat", "dhcp": True, "reservations": reservations}
    world.apply(networks=[network], adopt=rules)
    other = run.container(world.plan, "other", "h2", NETWORK)
    fixture.other_address, fixture.other_mac = other["target_veth_ip"].split("/")[0], other["target_veth_mac"]
    try:
        world.inside("other", "ip", "addr", "add", other["target_veth_ip"], "dev", "eth0")
        yield fixture
        eventually(lambda: not [e for e in run.api(world.plan.hosts[0], "GET", "/endpoints")["endpoints"] if e["device"]])
        assert list((world.plan.hosts[0].directory / "devices").glob("*")) == []
        settled(world)
        eventually(lambda: clean(world.plan.hosts[0]))
    finally:
        for rule in run.api(world.plan.hosts[0], "GET", "/adoptions")["adoptions"]:
            run.api(world.plan.hosts[0], "DELETE", f"/adoptions/{rule['name']}")
        run.api(world.plan.host("h2"), "DELETE", f"/endpoints/{NETWORK}/other")  # type: ignore[arg-type]
        run.sh("ip", "netns", "del", fixture.netns("other"))
        run.api(world.plan.hosts[0], "DELETE", f"/networks/{NETWORK}")


def test_a_containers_veth_is_an_endpoint_as_long_as_it_exists(adoption: Adoption) -> None:
    world = adoption.world
    for _ in range(2):  # twice with the same name and the same MAC
        with adoption.container("ct", "ad-ct", CT_MAC):
            endpoint = adoption.up("ad-ct")
            assert (endpoint["target_veth_mac"], endpoint["target_veth_ip"]) == (CT_MAC, f"{CT_ADDRESS}/24")
            assert endpoint["labels"] == {"kind": "container", "adopted.by": "ad-ANY.h1"}
            assert adoption.address("ct") == CT_ADDRESS
            link = adoption.link("ad-ct")
            assert "inet6" not in run.sh("ip", "-n", adoption.host, "-o", "addr", "show", "ad-ct")
            assert "UP" in link["flags"]
            assert link["mtu"] < 1500
            inside = json.loads(world.inside("ct", "ip", "-j", "link", "show", "eth0").stdout)[0]
            assert inside["mtu"] == link["mtu"]
            assert world.reaches("ct", adoption.other_address)
            tcp = ("busybox", "nc", "-l", "-p", "80", "-e", "cat", "/etc/hostname")
            with subprocess.Popen(world.command("other", *tcp), stdout=subprocess.DEVNULL) as server:
                try:
                    curl = (
                        "curl",
                        "-s",
                        "--http0.9",
                        "-m",
                        "20",
                        "--retry",
                        "20",
                        "--retry-connrefused",
                        adoption.other_address,
                    )
                    assert world.inside("ct", *curl, timeout=120).stdout.strip()  # checksums are right
                finally:
                    server.kill()
        eventually(lambda: adoption.endpoint("ad-ct") is None)


def test_a_virtual_machine_keeps_its_address_through_agent_and_tap(adoption: Adoption) -> None:
    """Its tap appears after the rule; the agent is restarted; the tap vanishes, and appears again while the agent is down."""
    world = adoption.world
    with adoption.machine("vm"):
        with adoption.guest("vm", "vm-0", VM_MAC):
            assert adoption.address("vm") == VM_ADDRESS
            first = adoption.up("vm-0")
            assert world.reaches("vm", adoption.other_address)
            run.restart(adoption.plan, "h1", "agent")
            assert adoption.up("vm-0")["id"] == first["id"]
            assert world.reaches("vm", adoption.other_address)
        eventually(lambda: adoption.endpoint("vm-0") is None)
        run.stop(adoption.plan, "h1", "agent")
        try:
            with adoption.guest("vm", "vm-0", VM_MAC):
                run.start(adoption.plan, "h1", "agent")
                assert adoption.address("vm") == VM_ADDRESS
                assert adoption.up("vm-0")["target_veth_ip"] == f"{VM_ADDRESS}/24"
                assert world.reaches("vm", adoption.other_address)
                # another machine behind a tap of that name: its MAC is learnt anew
        finally:
            run.start(adoption.plan, "h1", "agent")
        stranger = "52:54:00:88:00:99"
        with adoption.guest("vm", "vm-0", stranger):
            address = adoption.address("vm")
            endpoint = adoption.up("vm-0")
            assert (endpoint["target_veth_mac"], endpoint["target_veth_ip"]) == (stranger, f"{address}/24")
            assert address != VM_ADDRESS
        eventually(lambda: adoption.endpoint("vm-0") is None)


def test_what_cannot_be_adopted_is_closed_with_a_reason_and_heals(adoption: Adoption) -> None:
    host = adoption.host
    taken = adoption.other_mac
    with adoption.container("c1", "ad-c1", "02:88:00:00:00:61"), adoption.container("c2", "ad-c2", taken):
        adoption.up("ad-c1")
        eventually(lambda: adoption.complaint("interface ad-c2", f"{taken} is taken by endpoint other"))
        assert adoption.endpoint("ad-c2") is None
        run.sh("ip", "-n", adoption.netns("c2"), "link", "set", "eth0", "address", "02:88:00:00:00:62")
        assert adoption.up("ad-c2")["target_veth_mac"] == "02:88:00:00:00:62"
        eventually(lambda: not adoption.complaint("ad-c2"))
        run.sh("ip", "-n", host, "link", "add", "ad-br", "type", "bridge")
        try:
            with adoption.machine("c3"):
                run.sh("ip", "-n", host, "link", "add", "ad-c3", "master", "ad-br", "type", "veth", "peer", "name", "eth0", "netns",
                       adoption.netns("c3"))  # fmt: skip
                eventually(lambda: adoption.complaint("interface ad-c3", "is a port of ad-br", "nomaster"))
                assert adoption.link("ad-c3")["flags"].count("UP") == 0
                run.sh("ip", "-n", host, "link", "set", "ad-c3", "nomaster")
                adoption.up("ad-c3")
        finally:
            run.sh("ip", "-n", host, "link", "del", "ad-br")
        assert adoption.endpoint("ad-br") is None  # a bridge is no machine


def test_an_interface_is_given_back_as_it_was(adoption: Adoption) -> None:
    """With its rule, or with the endpoint that a document names it for."""
    first, world = adoption.plan.hosts[0], adoption.world
    with adoption.container("c4", "own0", "02:88:00:00:00:64"):
        before = adoption.state("own0")
        run.api(first, "POST", "/adoptions", match="own?", network=NETWORK, name="owned")
        adoption.up("own0")
        run.api(first, "DELETE", "/adoptions/owned")
        eventually(lambda: adoption.endpoint("own0") is None)
        eventually(lambda: adoption.state("own0") == before)
        body = {
            "network_id": NETWORK,
            "device": "own0",
            "name": "c4",
            "mac_address": "02:88:00:00:00:64",
            "ipv4_address": f"{PREFIX}.64",
        }
        made = run.api(first, "POST", "/endpoints", **body)["endpoint"]
        assert made["overlay_veth_name"] == "own0"
        run.sh("ip", "-n", adoption.host, "link", "set", "own0", "down")
        eventually(lambda: "UP" in adoption.link("own0")["flags"])
        assert adoption.address("c4") == f"{PREFIX}.64"
        assert world.reaches("c4", adoption.other_address)
        run.api(first, "DELETE", f"/endpoints/{made['id']}")
        assert adoption.state("own0") == before


def test_bad_rules_and_devices_are_refused(adoption: Adoption) -> None:
    first = adoption.plan.hosts[0]
    refused = [
        ("/adoptions", {"match": "ve-*", "network": "none"}, "network 'none' does not exist"),
        ("/adoptions", {"match": "ve/*", "network": NETWORK}, "match: 've/*'"),
        ("/adoptions", {"match": "", "network": NETWORK}, "match: ''"),
        ("/adoptions", {"match": "a" * 16, "network": NETWORK}, "match: 'aaaa"),
        ("/adoptions", {"network": NETWORK}, "match"),
        ("/endpoints", {"network_id": NETWORK, "device": "nowhere0"}, "interface nowhere0 is unavailable: it does not exist"),
        ("/endpoints", {"network_id": NETWORK, "device": "lo"}, "neither a tap nor a veth"),
        ("/endpoints", {"network_id": NETWORK, "device": "wv0123456789ab"}, "Warren's"),
        ("/endpoints", {"network_id": NETWORK, "device": "a0", "interface": "eth0"}, "one of device"),
    ]
    before = run.api(first, "GET", "/endpoints")
    for path, body, message in refused:
        with pytest.raises(run.LabError, match=re.escape(message)):
            run.api(first, "POST", path, **body)  # type: ignore[arg-type]
    assert run.api(first, "GET", "/endpoints") == before
