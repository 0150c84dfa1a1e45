"""Virtual machines of hypervisors: a port that libvirt or Neutron puts on the bridge under the id of an interface has the endpoint that names the id, or
that of a rule. The hypervisor's commands are those of libvirt's driver for Open vSwitch."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.e2e.audit import settled
from tests.e2e.conftest import World, clean
from tests.programs import program, ready
from tests.waiting import eventually
from tools.lab import run

NETWORK, PREFIX = "hypervised", "10.89.0"
ID, MAC, ADDRESS = "b58dd804-5bcd-4504-abce-910512244654", "52:54:00:89:00:50", f"{PREFIX}.50"
OTHER_ID, OTHER_MAC = "0a0a0a0a-5bcd-4504-abce-910512244654", "52:54:00:89:00:51"


class Hypervisor:
    """What a hypervisor does on h1, and what Warren makes of it."""

    def __init__(self, world: World) -> None:
        self.world, self.first = world, world.plan.hosts[0]
        self.host = run.netns_of(world.plan, "h1")

    def ovs(self, *words: str) -> str:
        """ovs-vsctl on h1."""
        return run.sh("ovs-vsctl", f"--db=unix:{self.first.directory}/db.sock", *words)

    def plug(self, tap: str, mac: str, iface_id: str) -> None:
        """Put a tap on the bridge."""
        values = (
            f'attached-mac="{mac}"',
            f'iface-id="{iface_id}"',
            'vm-id="11111111-2222-3333-4444-555555555555"',
            "iface-status=active",
        )
        setting = [word for value in values for word in ("--", "set", "Interface", tap, f"external-ids:{value}")]
        self.ovs("--", "--if-exists", "del-port", tap, "--", "add-port", "br-warren", tap, *setting)

    def unplug(self, tap: str) -> None:
        """Take a tap off the bridge."""
        self.ovs("--", "--if-exists", "del-port", tap)

    @contextmanager
    def machine(self, name: str, tap: str, mac: str, iface_id: str, address: str = "") -> Iterator[None]:
        """A machine that runs, for a while."""
        netns = run.container_netns(self.world.plan.name, name)
        run.sh("ip", "netns", "add", netns)
        process = subprocess.Popen(run.in_netns(self.host, *program("guest", tap, netns, mac)), stdout=subprocess.PIPE, text=True)
        try:
            ready(process)
            run.sh("ip", "-n", self.host, "link", "set", tap, "up")
            if address:
                self.world.inside(name, "ip", "addr", "add", f"{address}/24", "dev", "eth0")
            self.plug(tap, mac, iface_id)
            yield
        finally:
            self.unplug(tap)
            process.kill()
            process.wait()
            run.sh("ip", "netns", "del", netns, check=False)

    def ids(self, tap: str) -> dict[str, str]:
        """The external_ids of a tap's row."""
        return dict(json.loads(self.ovs("--format=json", "--columns=external_ids", "list", "Interface", tap))["data"][0][0][1])

    def endpoint(self, iface_id: str) -> dict[str, Any] | None:
        """The endpoint of an id."""
        listed = run.api(self.first, "GET", "/endpoints?states=true")["endpoints"]
        return next((e for e in listed if e["iface_id"] == iface_id), None)

    def up(self, iface_id: str, tap: str) -> dict[str, Any]:
        """The endpoint of an id, once it is up by a tap."""

        def on_tap() -> bool:
            endpoint = self.endpoint(iface_id) or {}
            return (endpoint.get("state"), endpoint.get("device")) == ("up", tap)

        eventually(on_tap)
        endpoint = self.endpoint(iface_id)
        assert endpoint is not None
        return endpoint

    def complaint(self, *words: str) -> bool:
        """Whether a line of h1's status has all these words."""
        rows = run.api(self.first, "GET", "/status")["hosts"]
        problems = next(row["problems"] for row in rows if row["name"] == "h1")
        return any(all(word in line for word in words) for line in problems)


@pytest.fixture(scope="module")
def hypervisor(world: World) -> Iterator[Hypervisor]:
    fixture = Hypervisor(world)
    network = {"name": NETWORK, "ip_range": f"{PREFIX}.0/24", "reservations": [{"mac": MAC, "ipv4_address": ADDRESS}]}
    world.apply(networks=[network])
    with world.temporary("peer", "h2", NETWORK):
        yield fixture
        settled(world)
        eventually(lambda: clean(fixture.first))
    run.api(fixture.first, "DELETE", f"/networks/{NETWORK}")


def test_an_endpoint_has_the_port_of_its_id_wherever_the_hypervisor_puts_it(hypervisor: Hypervisor) -> None:
    """It is declared first, without a MAC. The machine restarts under another tap, whose name another machine has by then."""
    world, peer = (
        hypervisor.world,
        run.api(hypervisor.first, "GET", f"/endpoints/{NETWORK}/peer")["endpoint"]["target_veth_ip"].split("/")[0],
    )
    item = {"name": "vm", "network": NETWORK, "host": "h1", "iface_id": ID.upper()}
    world.apply(endpoints=[item])
    try:
        eventually(lambda: hypervisor.complaint("endpoint vm", ID, "does the machine run"))
        with hypervisor.machine("vm", "vnet0", MAC, ID, ADDRESS):
            endpoint = hypervisor.up(ID, "vnet0")
            assert (endpoint["target_veth_mac"], endpoint["target_veth_ip"]) == (MAC, f"{ADDRESS}/24")
            assert hypervisor.ids("vnet0")["warren-endpoint"] == endpoint["id"]
            assert world.reaches("vm", peer)
            assert not world.apply(endpoints=[item])  # nothing to change
            world.inside("vm", "ip", "addr", "add", f"{PREFIX}.99/24", "dev", "eth0")
            assert world.inside("vm", "ping", "-c", "2", "-i", "0.1", "-W", "1", "-I", f"{PREFIX}.99", peer).returncode != 0
            hypervisor.ovs("set", "Interface", "vnet0", "external-ids:attached-mac=52:54:00:89:00:99")
            eventually(lambda: hypervisor.complaint("endpoint vm", "52:54:00:89:00:99", "give both the same"))
            assert not world.pings("vm", peer)
        eventually(lambda: hypervisor.complaint("endpoint vm", "does the machine run"))
        with (
            hypervisor.machine("vm", "vnet1", MAC, ID, ADDRESS),
            hypervisor.machine("stranger", "vnet0", OTHER_MAC, OTHER_ID, f"{PREFIX}.60"),
        ):
            hypervisor.up(ID, "vnet1")
            assert world.reaches("vm", peer)
            eventually(lambda: hypervisor.complaint("port vnet0", OTHER_ID, "warren endpoint create"))
            assert not world.pings("stranger", peer)
            hypervisor.ovs("set", "Interface", "vnet0", f"external-ids:iface-id={ID}")
            eventually(lambda: hypervisor.complaint("endpoint vm", "vnet0, vnet1"))
            assert not world.pings("vm", peer)
            hypervisor.ovs("set", "Interface", "vnet0", "external-ids:iface-status=inactive")
            hypervisor.up(ID, "vnet1")
            assert world.reaches("vm", peer)
            run.api(hypervisor.first, "DELETE", f"/endpoints/{endpoint['id']}")
            assert "warren-endpoint" not in hypervisor.ids("vnet1")
            assert not world.pings("vm", peer)
    finally:
        if hypervisor.endpoint(ID) is not None:
            run.api(hypervisor.first, "DELETE", f"/endpoints/{NETWORK}/vm")


def test_a_rule_makes_endpoints_of_ports_and_a_machine_keeps_its_address(hypervisor: Hypervisor) -> None:
    """Though the agent is down while it is started again, under another tap."""
    world = hypervisor.world
    run.api(hypervisor.first, "POST", "/adoptions", iface_id="*", network=NETWORK, labels={"kind": "vm"})
    try:
        with hypervisor.machine("vm2", "vnet0", OTHER_MAC, OTHER_ID):
            first = hypervisor.up(OTHER_ID, "vnet0")
            assert (first["name"], first["target_veth_mac"]) == ("h1.vnet0", OTHER_MAC)
            (rule,) = run.api(hypervisor.first, "GET", "/adoptions")["adoptions"]
            assert (rule["iface_id"], rule.get("match"), rule["endpoints"]) == ("*", None, ["h1.vnet0"])
            assert first["labels"] == {"kind": "vm", "adopted.by": "iface-ANY"}
            run.stop(world.plan, "h1", "agent")
        try:
            address = first["target_veth_ip"].split("/")[0]
            with hypervisor.machine("vm2", "vnet7", OTHER_MAC, OTHER_ID, address):
                run.start(world.plan, "h1", "agent")
                assert hypervisor.up(OTHER_ID, "vnet7")["target_veth_ip"] == first["target_veth_ip"]
                assert world.reaches("peer", address)
                run.api(hypervisor.first, "DELETE", "/adoptions/iface-ANY")
                eventually(lambda: hypervisor.endpoint(OTHER_ID) is None)
                assert not world.pings("peer", address)
        finally:
            run.start(world.plan, "h1", "agent")
    finally:
        if run.api(hypervisor.first, "GET", "/adoptions")["adoptions"]:
            run.api(hypervisor.first, "DELETE", "/adoptions/iface-ANY")
    eventually(lambda: not hypervisor.complaint("vnet"))
