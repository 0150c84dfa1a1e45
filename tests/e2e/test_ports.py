"""Physical interfaces and trunks on networks: machines without a spec, VLAN tags, coprocessors."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

import pytest

from controller.dhcp import frames
from pipeline.protocols import mac_bytes
from specs.model.derived import link_local
from tests.e2e.conftest import World
from tests.e2e.test_packets import heard, udp, unheard
from tests.programs import program, ready
from tests.waiting import LIMIT_S, eventually
from tools.lab import run
from tools.lab.plan import container_netns

LAN = "10.7.0"  # outside what is given to containers, so that it is plain who is who
MACHINES = {
    "lan1": ("h1", "eno1", f"{LAN}.201"),
    "lan3": ("h3", "eno3", f"{LAN}.203"),
    "function": ("h1", "fun0", f"{LAN}.209"),
    "hand": ("h2", "eno9", f"{LAN}.219"),
    "lan5": ("h1", "eno5", f"{LAN}.205"),
}


VLAN_MAC = "02:00:00:00:00:20"
WALL = '{"acls": {"wall": [{"rule": {"dl_type": 2048, "nw_proto": 6, "actions": {"allow": 0}}}, {"rule": {"actions": {"allow": 1}}}]}}'


class Running:
    """A program in a machine or container, from when it is ready."""

    def __init__(self, ports: Ports, name: str, what: str, *words: object) -> None:
        self.process = ports.world.background(name, *program(what, *words))

    def __enter__(self) -> None:
        ready(self.process)

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()


class Ports:
    """A network with machines behind eno1 of h1 and eno3 of h3, another one, and containers on both."""

    def __init__(self, world: World) -> None:
        self.world, self.address = world, {}  # type: ignore[var-annotated]

    def wire(self, machine: str) -> None:
        """A cable from a machine to an interface of a host."""
        host, interface, address = MACHINES[machine]
        netns, host_netns = container_netns(self.world.plan.name, machine), self.world.plan.host(host).netns  # type: ignore[union-attr]
        run.sh("ip", "-n", host_netns, "link", "add", interface, "type", "veth", "peer", "name", "eth0", "netns", netns)
        for place, name in ((netns, "eth0"), (host_netns, interface)):
            run.sh("ip", "netns", "exec", place, "ethtool", "-K", name, "tx", "off")
        run.sh("ip", "-n", netns, "addr", "add", f"{address}/24", "dev", "eth0")
        run.sh("ip", "-n", netns, "link", "set", "eth0", "up")

    def unplug(self, machine: str) -> None:
        """The cable and both of its ends go."""
        run.sh("ip", "-n", container_netns(self.world.plan.name, machine), "link", "del", "eth0")

    def tagged_ping(self, name: str, vlan: int, mac: str, address: str, target: str) -> bool:
        """Whether a machine or container gets an answer to pings under a tag."""
        done = self.world.inside(name, *program("tagged_station", vlan, mac, address, target))
        return "answered" in done.stdout

    def tagged(self, name: str, vlan: int, mac: str, address: str) -> Running:
        """A host under a tag on the cable of a machine or container."""
        return Running(self, name, "tagged_station", vlan, mac, address, address)

    def add(self, **fields: object) -> dict[str, object]:
        """An endpoint behind an interface, or on another one's port."""
        fields["network_id"] = run.api(self.world.plan.hosts[0], "GET", f"/networks/{fields.pop('network')}")["network"]["id"]
        return run.api(self.world.plan.hosts[0], "POST", "/endpoints", **fields)["endpoint"]  # type: ignore[no-any-return]

    def state(self, ref: str) -> str:
        """What its host says of an endpoint."""
        return str(run.api(self.world.plan.hosts[0], "GET", f"/endpoints/{ref}")["endpoint"]["state"])


@pytest.fixture(scope="module")
def ports(world: World) -> Iterator[Ports]:
    fixture, first = Ports(world), world.plan.hosts[0]
    run.api(first, "POST", "/networks", name="yard", ip_range=f"{LAN}.0/24")
    run.api(first, "POST", "/networks", name="shed", ip_range=f"{LAN}.0/24", vlan=20)
    for name, host, network in (
        ("box1", "h1", "yard"), ("box2", "h2", "yard"), ("tool1", "h1", "shed"), ("tool2", "h2", "shed"), ("gate", "h1", "yard"),
    ):  # fmt: skip
        endpoint = run.container(world.plan, name, host, network)
        fixture.address[name] = str(endpoint["target_veth_ip"]).split("/")[0]
    for machine in MACHINES:
        run.sh("ip", "netns", "add", container_netns(world.plan.name, machine))
    fixture.wire("lan1")
    yield fixture
    for endpoint in run.api(first, "GET", "/endpoints")["endpoints"]:
        if endpoint["port"] or endpoint["parent"]:
            run.api(first, "DELETE", f"/endpoints/{endpoint['id']}?hostname={endpoint['hostname']}")
    for machine in MACHINES:
        run.sh("ip", "netns", "del", container_netns(world.plan.name, machine), check=False)
    eventually(lambda: "eno" not in _bridge_ports(world, "h1") + _bridge_ports(world, "h3"))


def _bridge_ports(world: World, host: str) -> str:
    database = f"--db=unix:{world.plan.host(host).directory}/db.sock"  # type: ignore[union-attr]
    return subprocess.run(["ovs-vsctl", database, "list-ports", "br-warren"], capture_output=True, text=True).stdout


def test_a_machine_behind_an_interface_is_on_the_network(ports: Ports) -> None:
    assert not ports.world.pings("lan1", ports.address["box1"])
    made = ports.add(network="yard", hostname="h1", port="eno1", ofport=77)
    assert (made["name"], made["state"], made["ofport"]) == ("h1.eno1", "up", 77)
    machine = MACHINES["lan1"][2]
    for box in ("box1", "box2"):
        assert ports.world.reaches("lan1", ports.address[box])
        assert ports.world.reaches(box, machine)
    assert not ports.world.pings("tool1", machine), "the other network has the same addresses"
    assert not ports.world.pings("lan1", f"{LAN}.99")
    with Running(ports, "lan1", "serve", "welcome", "7001/tcp"):
        for box in ("box1", "box2"):
            assert "welcome" in ports.world.inside(box, *program("ask", "tcp", machine, 7001)).stdout


def test_a_dhcp_server_behind_an_interface_answers_only_where_the_controller_does_not(ports: Ports) -> None:
    """Untagged frames are on a network without DHCP, tagged ones on one whose containers the controller answers. The last frame may pass on both."""
    world, mac, vlan = ports.world, "02:00:00:00:00:67", 67
    run.api(world.plan.hosts[0], "POST", "/networks", name="fenced", ip_range=f"{LAN}.0/24", dhcp=True)
    pairs, nodes = ((547, 546), (547, 1000), (67, 68), (67, 1000), (1000, 1001)), IPv6Address("ff02::1")
    frame_of: dict[str, bytes] = {}
    for source, target in pairs:
        name = f"server-{source}-{target}."
        if source == 547:
            frame_of[name] = frames.udp6("33:33:00:00:00:01", link_local(mac), nodes, (source, target), name.encode())
        else:
            frame_of[name] = frames.udp4(
                "ff:ff:ff:ff:ff:ff", IPv4Address(f"{LAN}.205"), frames.BROADCAST, (source, target), name.encode()
            )
    sent = {name: frame[:6] + mac_bytes(mac) + frame[12:] for name, frame in frame_of.items()}
    tag = b"\x81\x00" + vlan.to_bytes(2, "big")
    with_tags = [frame.hex() for frame in (*sent.values(), *(frame[:12] + tag + frame[12:] for frame in sent.values()))]
    ports.wire("lan5")
    made = [
        ports.add(network="yard", hostname="h1", port="eno5"),
        ports.add(network="fenced", hostname="h1", port="eno5", vlan=vlan),
    ]
    try:
        with world.temporary("client1", "h1", "fenced"), world.temporary("client2", "h2", "fenced"):
            listening = ("client1", "client2", "box1", "box2")
            ears = [ready(world.background(name, *program("hear_until_last", *sent))) for name in listening]

            def last_is_heard() -> bool:
                world.inside("lan5", *program("send_frames", *with_tags))
                return all(each.poll() is not None for each in ears)

            eventually(last_is_heard)
            heard_by = [each.communicate(timeout=LIMIT_S)[0].split() for each in ears]
        assert heard_by[:2] == [["server-1000-1001."]] * 2
        assert heard_by[2:] == [sorted(sent)] * 2
    finally:
        for endpoint in made:
            run.api(world.plan.hosts[0], "DELETE", f"/endpoints/{endpoint['id']}")
        run.api(world.plan.hosts[0], "DELETE", "/networks/fenced")
        ports.unplug("lan5")


def test_an_interface_that_comes_later_goes_and_comes_again(ports: Ports) -> None:
    made = ports.add(network="yard", hostname="h3", port="eno3")
    assert made["state"] != "up"
    ports.wire("lan3")
    eventually(lambda: ports.state("yard/h3.eno3") == "up")
    assert ports.world.reaches("lan3", ports.address["box2"])
    assert ports.world.reaches("lan3", MACHINES["lan1"][2]), "from one physical port to another, through the tunnel"
    assert ports.world.reaches("box1", MACHINES["lan3"][2])
    ports.unplug("lan3")
    eventually(lambda: ports.state("yard/h3.eno3") != "up")
    ports.wire("lan3")
    eventually(lambda: ports.state("yard/h3.eno3") == "up")
    eventually(lambda: ports.world.pings("lan3", ports.address["box1"]))


def test_a_trunk_to_a_machine_by_tags(ports: Ports) -> None:
    ports.add(network="shed", hostname="h1", port="eno1", vlan=20)
    for tool in ("tool1", "tool2"):
        assert ports.tagged_ping("lan1", 20, VLAN_MAC, f"{LAN}.220", ports.address[tool])
    with ports.tagged("lan1", 20, VLAN_MAC, f"{LAN}.220"):
        for tool in ("tool1", "tool2"):
            assert ports.world.reaches(tool, f"{LAN}.220"), "who is unknown is looked for behind the interface, under the tag"
        assert not ports.world.pings("box1", f"{LAN}.220")
    mark = b"warren-vlan-thirty!!"
    frame = udp("02:00:00:00:00:01", "ff:ff:ff:ff:ff:ff", f"{LAN}.220", f"{LAN}.255", mark)
    for tag, target, arrives in ((None, "box1", True), (None, "tool1", False), (20, "tool1", True), (20, "box1", False),
                                 (30, "box1", False), (30, "tool1", False)):  # fmt: skip
        sent = frame if tag is None else frame[:12] + b"\x81\x00" + tag.to_bytes(2, "big") + frame[12:]
        assert (heard if arrives else unheard)(ports.world, "lan1", target, sent, mark), (tag, target)


def test_an_interface_is_mirrored_like_any_endpoint(ports: Ports) -> None:
    """What comes in by it and what goes out of it, to a container of another network; nothing of others."""
    first, world = ports.world.plan.hosts[0], ports.world
    sources, to = [{"network": "yard", "endpoint": "h1.eno1"}], {"network": "shed", "endpoint": "tool2"}
    run.api(first, "POST", "/mirrors", name="lan", sources=sources, to=to)
    try:
        eventually(lambda: all(h["current"] for h in run.api(first, "GET", "/status")["hosts"]))
        macs = {e["name"]: e["target_veth_mac"] for e in run.api(first, "GET", "/endpoints?network_id=yard")["endpoints"]}
        shown = json.loads(world.inside("lan1", "ip", "-json", "link", "show", "eth0").stdout)[0]["address"]
        mark, machine = b"warren-lan-mirror!!", MACHINES["lan1"][2]
        assert heard(world, "lan1", "tool2", udp(shown, macs["box1"], machine, ports.address["box1"], mark), mark)
        assert heard(world, "box1", "tool2", udp(macs["box1"], shown, ports.address["box1"], machine, mark), mark)
        assert unheard(
            world, "box1", "tool2", udp(macs["box1"], macs["box2"], ports.address["box1"], ports.address["box2"], mark), mark
        )
    finally:
        run.api(first, "DELETE", "/mirrors/lan")


def test_an_acl_on_an_interface(ports: Ports) -> None:
    first = ports.world.plan.hosts[0]
    run.api(first, "POST", "/apply", timeout_s=40, document=WALL, wait_s=20)
    run.api(first, "DELETE", "/endpoints/yard/h3.eno3?hostname=h3")
    with Running(ports, "box1", "serve", "welcome", "7001/tcp"):
        ports.add(network="yard", hostname="h3", port="eno3", acls=["wall"])
        eventually(lambda: ports.world.pings("lan3", ports.address["box1"]))
        assert "welcome" not in ports.world.inside("lan3", *program("ask", "tcp", ports.address["box1"], 7001)).stdout
        assert "welcome" in ports.world.inside("lan1", *program("ask", "tcp", ports.address["box1"], 7001)).stdout


def test_a_container_with_a_trunk(ports: Ports) -> None:
    """gate is on yard, and under tag 20 on shed; each with its own address, which only it may use."""
    made = ports.add(network="shed", hostname="h1", parent="gate", name="gate-inner")
    assert (made["state"], made["vlan"]) == ("up", 20), "the network's own tag, when none is said"
    inner = str(made["target_veth_ip"]).split("/")[0]
    mac = str(made["target_veth_mac"])
    with ports.tagged("gate", 20, mac, inner):
        for tool in ("tool1", "tool2"):
            assert ports.world.reaches(tool, inner)
            assert ports.tagged_ping("gate", 20, mac, inner, ports.address[tool]), "the answer to ARP has the tag, too"
            assert not ports.tagged_ping("gate", 20, mac, f"{LAN}.250", ports.address[tool]), "an address that is not its own"
            assert not ports.tagged_ping("gate", 20, VLAN_MAC, inner, ports.address[tool]), "a MAC that is not its own"
    assert ports.world.reaches("gate", ports.address["box2"])
    mark = b"warren-two-tags!!"
    once = udp(mac, "ff:ff:ff:ff:ff:ff", inner, f"{LAN}.255", mark)
    outer, second = b"\x81\x00\x00\x14", b"\x81\x00\x00\x07"
    assert heard(ports.world, "gate", "tool1", once[:12] + outer + once[12:], mark)
    twice = once[:12] + outer + second + once[12:]
    assert unheard(ports.world, "gate", "tool1", twice, mark), "a tag inside the tag is none of the network"


def test_a_coprocessor_chooses_the_port(ports: Ports) -> None:
    """It sends under base + port; what it gets is what an ACL sends it. Its own ACL is asked about both ways of sending."""
    first, world = ports.world.plan.hosts[0], ports.world
    ports.wire("function")
    deny = [{"dl_type": 0x800, "nw_proto": 17, "udp_dst": 4098, "actions": {"allow": 0}}, {"actions": {"allow": 1}}]
    steer = [
        {"dl_type": 0x800, "nw_proto": 17, "udp_dst": 4097, "actions": {"output": {"port": "h1.fun0"}}},
        {"actions": {"allow": 1}},
    ]
    acls = [{"name": name, "rules": rules} for name, rules in (("deny", deny), ("steer", steer))]
    run.api(first, "POST", "/apply", timeout_s=40, document=json.dumps({"acls": acls}), wait_s=20)
    made = ports.add(network="yard", hostname="h1", port="fun0", coprocessor={"vlan_vid_base": 1000}, acls=["deny"])
    assert made["state"] == "up"
    endpoints = {e["name"]: e for e in run.api(first, "GET", "/endpoints?states=true")["endpoints"]}
    mark, source_mac = b"warren-coprocessor!", "02:00:00:00:00:09"
    frame = udp(source_mac, endpoints["box2"]["target_veth_mac"], f"{LAN}.250", ports.address["box2"], mark)

    def by(port: int, sent: bytes = frame) -> bytes:
        return sent[:12] + b"\x81\x00" + (1000 + port).to_bytes(2, "big") + sent[12:]

    box1, gate, tool1 = (endpoints[name]["ofport"] for name in ("box1", "gate", "tool1"))
    untagged = frame[:14]  # the tag is gone where it arrives
    assert heard(world, "function", "box1", by(box1), untagged), "by the port, whatever the MAC says"
    assert heard(world, "function", "gate", by(gate), untagged)
    assert heard(world, "function", "box2", frame, mark), "what is untagged is forwarded"
    for target, sent in (("gate", by(box1)), ("box2", by(box1)), ("tool1", by(tool1)), ("box1", by(4000))):
        assert unheard(world, "function", target, sent, mark), (target, "no port of the network, or another's")
    denied = frame.replace(b"\x10\x01", b"\x10\x02", 1)
    assert unheard(world, "function", "box1", by(box1, denied), mark), "its ACL"

    mac, broadcast = endpoints["box1"]["target_veth_mac"], "ff:ff:ff:ff:ff:ff"
    broadcast_frame = udp(mac, broadcast, ports.address["box1"], f"{LAN}.255", mark)
    assert heard(world, "box1", "box2", broadcast_frame, mark)
    assert unheard(world, "box1", "function", broadcast_frame, mark), "it hears nothing"
    document = {"networks": [{"name": "yard", "default_acl": ["steer"]}]}
    run.api(first, "POST", "/apply", timeout_s=40, document=json.dumps(document), wait_s=20)
    assert heard(world, "box1", "function", broadcast_frame, mark), "but what an ACL sends it"
    document["networks"][0]["default_acl"] = []
    run.api(first, "POST", "/apply", timeout_s=40, document=json.dumps(document), wait_s=20)


def vsctl(ports: Ports, host: str, *words: str) -> str:
    """ovs-vsctl on a host."""
    database = f"--db=unix:{ports.world.plan.host(host).directory}/db.sock"  # type: ignore[union-attr]
    return subprocess.run(["ovs-vsctl", database, *words], capture_output=True, text=True, check=True).stdout.strip()


def test_a_port_added_by_hand_becomes_an_endpoint_by_its_external_ids(ports: Ports) -> None:
    """It says its network in the row, which stays his; a wrong word is told in the status and mended by another."""
    first, machine = ports.world.plan.hosts[0], MACHINES["hand"][2]
    ports.wire("hand")
    run.api(first, "POST", "/apply", timeout_s=40, document=WALL, wait_s=20)
    vsctl(ports, "h2", "add-port", "br-warren", "eno9", "--", "set", "Interface", "eno9", "external_ids:warren-network=nowhere")
    eventually(lambda: "eno9" in json.dumps(run.api(first, "GET", "/status")))
    assert not ports.world.pings("hand", ports.address["box1"])
    vsctl(ports, "h2", "set", "Interface", "eno9", "external_ids:warren-network=yard", "external_ids:warren-acl=wall")
    eventually(lambda: ports.world.pings("hand", ports.address["box1"]))
    made = run.api(first, "GET", "/endpoints/yard/h2.eno9")["endpoint"]
    assert (made["port"], made["acls"], str(made["ofport"])) == (
        "eno9",
        ["wall"],
        vsctl(ports, "h2", "get", "Interface", "eno9", "ofport"),
    )
    with Running(ports, "box1", "serve", "welcome", "7001/tcp"):
        assert "welcome" not in ports.world.inside("hand", *program("ask", "tcp", ports.address["box1"], 7001)).stdout
    vsctl(ports, "h2", "remove", "Interface", "eno9", "external_ids", "warren-acl")
    eventually(lambda: run.api(first, "GET", "/endpoints/yard/h2.eno9")["endpoint"]["acls"] is None)
    eventually(lambda: ports.world.pings("box2", machine))
    vsctl(ports, "h2", "set", "Interface", "eno9", "external_ids:warren-network=shed")
    eventually(lambda: ports.world.pings("tool2", machine))
    assert not ports.world.pings("box2", machine)
    vsctl(ports, "h2", "del-port", "eno9")
    eventually(lambda: not [e for e in run.api(first, "GET", "/endpoints")["endpoints"] if e["port"] == "eno9"])
    assert "eno9" not in vsctl(ports, "h2", "list-ports", "br-warren")
    assert "eno9" not in json.dumps(run.api(first, "GET", "/status"))


def test_a_port_on_another_bridge_is_left_alone(ports: Ports) -> None:
    first = ports.world.plan.hosts[0]
    vsctl(ports, "h2", "add-br", "br-other", "--", "set", "Bridge", "br-other", "datapath_type=netdev", "--", "add-port", "br-other", "eno9",
          "--", "set", "Interface", "eno9", "external_ids:warren-network=yard")  # fmt: skip
    try:
        eventually(lambda: "it is not on br-warren" in json.dumps(run.api(first, "GET", "/status")))
        assert not [e for e in run.api(first, "GET", "/endpoints")["endpoints"] if e["port"] == "eno9"]
    finally:
        vsctl(ports, "h2", "del-br", "br-other")
    eventually(lambda: "br-warren" not in json.dumps(run.api(first, "GET", "/status")))


def start_again(ports: Ports, process: str) -> None:
    """Kill a process of h1; a new one has read everything."""
    log, read = (
        ports.world.plan.hosts[0].directory / f"{process}.log",
        {"controller": "etcd.read", "agent": "specs.read"}[process],
    )
    before = log.read_text().count(read)
    run.stop_process(ports.world.plan, "h1", process, signal.SIGKILL)
    run.start(ports.world.plan, "h1", process)
    eventually(lambda: log.read_text().count(read) > before)


def test_a_controller_that_comes_back_leaves_ports_alone(ports: Ports) -> None:
    rows = vsctl(ports, "h1", "--columns=_uuid", "find", "Interface", "name=eno1")
    start_again(ports, "controller")
    assert vsctl(ports, "h1", "--columns=_uuid", "find", "Interface", "name=eno1") == rows
    assert ports.world.reaches("lan1", ports.address["box1"])


def test_bridge_settings_of_the_host_spec_are_applied(ports: Ports) -> None:
    """Datapath id, MAC and further controllers of a host, until he takes them back; a new agent and controller keep them."""
    first = ports.world.plan.hosts[0]
    before = vsctl(ports, "h1", "get", "Bridge", "br-warren", "other_config:datapath-id")
    host = {"name": "h1", "vtep": first.vtep}
    settings = {"datapath_id": "0xf00d", "mac": "0e:00:00:00:00:01", "controllers": ["tcp:127.0.0.1:6799"]}

    def apply(**more: object) -> None:
        run.api(first, "POST", "/apply", timeout_s=40, document=json.dumps({"hosts": [host | more]}), wait_s=20)

    def shown() -> tuple[str, ...]:
        config = (vsctl(ports, "h1", "get", "Bridge", "br-warren", f"other_config:{key}") for key in ("datapath-id", "hwaddr"))
        return (*(text.strip('"') for text in config), str(len(vsctl(ports, "h1", "get-controller", "br-warren").split())))

    with pytest.raises(run.LabError, match=r"hosts\[0\].bridge.datapath_id"):
        apply(bridge={"datapath_id": "nobody"})
    apply(bridge=settings, acls=[])
    eventually(lambda: shown() == ("000000000000f00d", "0e:00:00:00:00:01", "2"))
    for process in ("controller", "agent"):
        start_again(ports, process)
    assert shown() == ("000000000000f00d", "0e:00:00:00:00:01", "2")
    assert ports.world.reaches("lan1", ports.address["box1"])
    apply(bridge=None)
    eventually(lambda: shown()[0] == before.strip('"') and shown()[2] == "1")


def test_interfaces_tags_and_port_numbers_in_use_are_refused(ports: Ports) -> None:
    for fields, why in (
        ({"network": "shed", "port": "eno1", "vlan": 30}, "network .* on eno1 of h1 belongs to endpoint h1.eno1"),
        ({"network": "blue", "port": "eno1", "vlan": 20}, "VLAN 20 on eno1 of h1 belongs to endpoint h1.eno1"),
        ({"network": "blue", "port": "eno1"}, "untagged frames on eno1 of h1"),
        ({"network": "blue", "parent": "gate", "vlan": 20}, "VLAN 20 on the port of"),
        ({"network": "yard", "parent": "gate", "vlan": 9}, "endpoint.parent"),
        ({"network": "blue", "parent": "nobody", "vlan": 9}, "nobody"),
        ({"network": "blue", "port": "eno5", "ipv4_address": "10.0.0.77"}, "no addresses"),
        ({"network": "blue", "parent": "box1", "vlan": 7, "coprocessor": True}, "a coprocessor only with port and without vlan"),
        ({"network": "blue", "port": "eno5", "coprocessor": {"vlan_vid_base": 5000}}, "coprocessor.vlan_vid_base"),
        ({"network": "blue", "port": "eno5", "ofport": 77}, "OpenFlow port 77 of host h1 is taken"),
    ):
        with pytest.raises(run.LabError, match=why):
            ports.add(hostname="h1", **fields)
