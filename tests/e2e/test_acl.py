"""ACLs with real packets: denied packets do not arrive, on one host and across hosts, tagged, fragmented or flooded."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import World
from tests.e2e.test_packets import heard, mac, udp, unheard
from tests.programs import finish, program, ready
from tests.waiting import LIMIT_S, eventually
from tools.lab import run

ACLS: dict[str, Any] = {
    "talk": [
        {"from": {"label": "role=client"}, "to": {"label": "role=server"}, "proto": "tcp", "tcp_dst": [7001, "7010-7012"],
         "allow_related": True},
        {"rule": {"dl_type": 0x800, "nw_proto": 17, "udp_dst": 7002, "actions": {"allow": 1}}},
        {"proto": "icmp", "log": True, "actions": {"allow": 1}},
        {"from": {"label": "colour=red"}, "proto": "udp", "udp_dst": 7101, "actions": {"allow": 1}},
        {"from": {"label": "colour=green"}, "proto": "udp", "udp_dst": 7102, "actions": {"allow": 1}},
    ],
    "slow": [{"dl_type": 0x800, "nw_proto": 17, "actions": {"allow": 1, "meter": "trickle"}}, {"actions": {"allow": 1}}],
    "deaf": [{"dl_type": 0x800, "nw_proto": 17, "actions": {"allow": 0}}, {"actions": {"allow": 1}}],
    "shut": [{"dl_type": 0x800, "nw_proto": 17, "udp_dst": 7200, "actions": {"allow": 0}}, {"actions": {"allow": 1}}],
    "all": [{"actions": {"allow": 1}}],
}  # fmt: skip
CONTAINERS = (
    ("cli", "h1", "guard", {"role": "client"}, None),
    ("near", "h1", "guard", {"role": "server"}, None),
    ("far", "h2", "guard", {"role": "server"}, None),
    ("free", "h1", "quiet", {}, ["all"]),
    ("hush", "h1", "quiet", {}, None),
    ("hushfar", "h2", "quiet", {}, None),
    ("tagone", "h1", "tagged", {}, None),
    ("tagtwo", "h2", "tagged", {}, None),
    ("tagnear", "h1", "tagged", {}, None),
    ("shutter", "h1", "tagged", {}, ["shut"]),
)  # fmt: skip


class Guard:
    """The networks of these tests; documents are JSON, which is YAML."""

    def __init__(self, world: World) -> None:
        self.world, self.v4, self.v6, self.mac = world, {}, {}, {}  # type: ignore[var-annotated]

    def apply(self, **sections: Any) -> list[dict[str, Any]]:
        """Apply a document and wait for the hosts."""
        return self.world.apply(**sections)

    def label(self, name: str, **labels: str) -> None:
        """Give a container of `guard` other labels."""
        host = next(c[1] for c in CONTAINERS if c[0] == name)
        self.apply(endpoints=[{"name": name, "network": "guard", "host": host, "labels": labels}])

    def connects(self, source: str, target: str, port: int) -> bool:
        """Whether TCP gets through."""
        return "welcome" in self.world.inside(source, *program("ask", "tcp", target, port)).stdout

    def frame(self, source: str, target: str, port: int, mark: bytes) -> bytes:
        """A UDP frame to a port."""
        frame = udp(self.mac[source], self.mac[target], self.v4[source], self.v4[target], mark)
        return frame[:36] + port.to_bytes(2, "big") + frame[38:]


@pytest.fixture(scope="module")
def guard(world: World) -> Iterator[Guard]:
    guard = Guard(world)
    guard.apply(
        meters=[{"name": "trickle", "rate": 1000}],
        acls=ACLS,
        networks=[
            {"name": "guard", "ip_range": "10.1.0.0/24", "ipv6_range": "fd01::/64", "default_acl": "talk"},
            {"name": "quiet", "ip_range": "10.2.0.0/24", "vlan_out_acl": "deaf", "default_acl": "slow"},
            {"name": "tagged", "ip_range": "10.3.0.0/24", "vlan_transparent": True},
        ],
    )
    for name, host, network, labels, acls in CONTAINERS:
        endpoint = run.container(world.plan, name, host, network, labels=labels, **({"acls": acls} if acls else {}))
        guard.v4[name], guard.mac[name] = endpoint["target_veth_ip"].split("/")[0], endpoint["target_veth_mac"]
        guard.v6[name] = endpoint["target_veth_ipv6"].split("/")[0]
    servers = [
        world.background(name, *program("serve", "welcome", "7001/tcp", "7003/tcp", "7011/tcp"))
        for name in ("near", "far", "cli")
    ]
    for server in servers:
        ready(server)
    yield guard
    for server in servers:
        server.kill()
        server.wait()


@pytest.mark.parametrize("target", ["near", "far"])
@pytest.mark.parametrize("family", ["v4", "v6"])
def test_only_what_a_rule_allows_connects_and_its_replies_come_back(guard: Guard, target: str, family: str) -> None:
    address, back = getattr(guard, family)[target], getattr(guard, family)["cli"]
    assert guard.connects("cli", address, 7001)
    assert guard.connects("cli", address, 7011)
    assert not guard.connects("cli", address, 7003)
    assert not guard.connects(target, back, 7001)


@pytest.mark.parametrize("target", ["near", "far"])
def test_denied_frames_do_not_arrive_tagged_or_fragmented_either(guard: Guard, target: str) -> None:
    world, mark = guard.world, b"warren-acl-test!"
    allowed, denied = guard.frame("cli", target, 7002, mark), guard.frame("cli", target, 7003, mark)
    assert heard(world, "cli", target, allowed, mark)
    assert unheard(world, "cli", target, denied, mark)
    flood = mac("ff:ff:ff:ff:ff:ff")
    assert heard(world, "cli", target, flood + allowed[6:], mark)
    assert unheard(world, "cli", target, flood + denied[6:], mark)
    assert unheard(world, "cli", target, fragment(denied, 0x2000), mark)  # a later one alone is worth nothing, and passes


def fragment(frame: bytes, field: int) -> bytes:
    """A frame with IPv4's flags and fragment offset (RFC 791): 0x2000 makes it a first one, which has ports; 2 a later one."""
    cut = bytearray(frame)
    cut[20:22] = field.to_bytes(2, "big")
    cut[24:26] = b"\0\0"
    total = sum(int.from_bytes(cut[i : i + 2], "big") for i in range(14, 34, 2))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    cut[24:26] = (0xFFFF - total).to_bytes(2, "big")
    return bytes(cut)


@pytest.mark.parametrize("target", ["tagnear", "tagtwo"])
def test_fragments_do_not_bypass_a_rule_about_ports(guard: Guard, target: str) -> None:
    """In a network that tracks no connections, where nobody puts fragments together."""
    world, mark = guard.world, b"warren-frag-test"
    shut, open_ = guard.frame("shutter", target, 7200, mark), guard.frame("shutter", target, 7201, mark)
    assert unheard(world, "shutter", target, shut, mark)
    assert unheard(world, "shutter", target, fragment(shut, 0x2000), mark)
    assert heard(world, "shutter", target, open_, mark)
    assert heard(world, "shutter", target, fragment(open_, 0x2000), mark)


def test_a_label_moves_an_endpoint_between_policies_at_once(guard: Guard) -> None:
    """Red may send to 7101 and green to 7102; nobody at any moment to 7103."""
    world = guard.world
    marks = [f"warren-label-{port}".encode() for port in (7101, 7102, 7103)]
    frames = [guard.frame("cli", "far", port, mark) for port, mark in zip((7101, 7102, 7103), marks, strict=True)]
    listener = ready(world.background("far", *program("count_marks", *(mark.hex() for mark in marks))))
    sender = ready(world.background("cli", *program("spray_frames", 3600, 0.001, *(frame.hex() for frame in frames))))
    for turn in range(8):
        guard.label("cli", role="client", colour=("red", "green")[turn % 2])
        time.sleep(0.3)  # some packets under each label
    finish(sender, LIMIT_S)
    red, green, never = map(int, finish(listener, LIMIT_S).split())
    guard.label("cli", role="client")
    assert red > 0
    assert green > 0
    assert never == 0


def test_one_changed_rule_touches_its_own_flows_only(guard: Guard) -> None:
    before = guard.world.cookies("h1")
    began = time.monotonic()
    ping = guard.world.background("cli", "ping", "-q", "-i", "0.01", "-c", "300", guard.v4["far"])
    time.sleep(0.5)
    rules = [*ACLS["talk"]]
    rules[1] = {"rule": {"dl_type": 0x800, "nw_proto": 17, "udp_dst": 7999, "actions": {"allow": 1}}}
    guard.apply(acls={"talk": rules})
    seconds = time.monotonic() - began  # before the look, which takes its time
    after = guard.world.cookies("h1")
    assert len(set(before) - set(after)) == 1
    assert len(set(after) - set(before)) == 1
    assert all(after[cookie] > seconds for cookie in set(after) & set(before) if before[cookie] > 0)
    output = ping.communicate()[0]
    guard.apply(acls=ACLS)
    assert re.search(r"300 packets transmitted, 300 received", output), output


def test_an_acl_that_does_not_exist_closes_the_port_and_says_so(guard: Guard) -> None:
    world = guard.world
    assert world.reaches("free", guard.v4["hush"])
    guard.apply(endpoints=[{"name": "free", "network": "quiet", "host": "h1", "acls": ["nowhere"]}])
    assert not world.pings("free", guard.v4["hush"])
    assert not world.pings("hush", guard.v4["free"])
    host = run.api(world.plan.hosts[0], "GET", "/hosts/h1")["host"]
    assert any("ACL nowhere does not exist" in problem for problem in host["problems"])
    assert run.api(world.plan.hosts[0], "GET", "/endpoints/quiet/free")["endpoint"]["state"] == "closed"
    guard.apply(endpoints=[{"name": "free", "network": "quiet", "host": "h1", "acls": ["tagged:all"]}])
    assert world.reaches("free", guard.v4["hush"]), "a list of other networks only leaves the default in force"
    guard.apply(endpoints=[{"name": "free", "network": "quiet", "host": "h1", "acls": ["all"]}])
    assert world.reaches("free", guard.v4["hush"])


def test_an_invalid_acl_written_past_the_agent_leaves_the_last_valid_one_in_force(guard: Guard) -> None:
    """For those who were there, for a controller that starts later, and for one whose past etcd has forgotten."""
    world, first = guard.world, guard.world.plan.hosts[0]

    def write(text: str) -> None:
        put = program("store_keys", "http://198.18.1.1:2379", "put", text, "spec/acls/brief")
        subprocess.run(run.in_netns(world.plan.netns, *put), check=True)

    def problems() -> str:
        return " ".join(run.api(first, "GET", "/hosts/h1")["host"]["problems"])

    guard.apply(acls={"brief": [{"rule": {"dl_type": 0x800, "nw_proto": 1, "actions": {"allow": 1}}}]})
    guard.apply(endpoints=[{"name": "free", "network": "quiet", "host": "h1", "acls": ["brief"]}])
    assert world.reaches("free", guard.v4["hush"])
    before = world.cookies("h1")
    write('{"name": "brief", "rules": [{"tcp_dst": 99999}]}')
    write('{"name": "brief"')
    eventually(lambda: "spec/acls/brief" in problems())
    assert "its last valid value stays in force" in problems()
    assert world.reaches("free", guard.v4["hush"])
    assert world.cookies("h1").keys() == before.keys(), "neither less nor more"
    run.stop(world.plan, "h1", "controller", signal.SIGKILL)
    run.start(world.plan, "h1", "controller")
    run.wait_until_up(world.plan)
    eventually(lambda: "its last valid value stays in force" in problems())
    assert world.reaches("free", guard.v4["hush"])
    assert world.cookies("h1").keys() == before.keys()
    guard.apply(acls={"brief": [{"rule": {"dl_type": 0x800, "nw_proto": 1, "actions": {"allow": 0}}}]})
    eventually(lambda: "spec/acls/brief" not in problems())
    assert not world.pings("free", guard.v4["hush"])
    guard.apply(endpoints=[{"name": "free", "network": "quiet", "host": "h1", "acls": ["all"]}])


@pytest.mark.parametrize("target", ["hush", "hushfar"])
def test_vlan_out_acl_filters_what_a_network_receives(guard: Guard, target: str) -> None:
    mark = b"warren-out-acl!!"
    assert guard.world.reaches("free", guard.v4[target])
    frame = guard.frame("free", target, 9999, mark)
    assert unheard(guard.world, "free", target, frame, mark)
    assert unheard(guard.world, "free", target, mac("ff:ff:ff:ff:ff:ff") + frame[6:], mark)
    guard.apply(networks=[{"name": "quiet", "vlan_out_acl": []}])
    assert heard(guard.world, "free", target, frame, mark)
    guard.apply(networks=[{"name": "quiet", "vlan_out_acl": "deaf"}])
    assert unheard(guard.world, "free", target, frame, mark)


def test_a_meter_holds_the_rate(guard: Guard) -> None:
    """A megabit per second of some ten that are sent."""
    guard.apply(networks=[{"name": "quiet", "vlan_out_acl": []}])
    mark, size = b"warren-meter", 1000
    frame = udp(guard.mac["hush"], guard.mac["hushfar"], guard.v4["hush"], guard.v4["hushfar"], mark.ljust(size, b"."))
    listener = ready(guard.world.background("hushfar", *program("count_marks", mark.hex())))
    began = time.monotonic()
    sent = int(guard.world.inside("hush", *program("spray_frames", 3, 0.001, frame.hex(), frame.hex())).stdout.split()[-1])
    seconds = time.monotonic() - began
    arrived = int(finish(listener, LIMIT_S))
    guard.apply(networks=[{"name": "quiet", "vlan_out_acl": "deaf"}])
    assert 0 < arrived * size * 8 < 1_000_000 * (seconds + 1.5), "its rate, and a burst"
    if sent * size * 8 > 6_000_000:  # else this machine is too slow to send more than the meter lets by
        assert arrived < sent


@pytest.mark.parametrize("target", ["tagtwo", "tagnear"])
@pytest.mark.parametrize("tags", [b"\x81\x00\x00\x64", b"\x88\xa8\x00\x05\x81\x00\x00\x64"], ids=["one tag", "QinQ"])
def test_tags_pass_a_transparent_network_as_they_are(guard: Guard, target: str, tags: bytes) -> None:
    mark = b"warren-tag-test!"
    plain = udp(guard.mac["tagone"], guard.mac[target], "192.0.2.1", "192.0.2.2", mark)
    tagged = plain[:12] + tags + plain[12:]
    inside = tags[4:] + plain[12:30] if len(tags) == 8 else plain[12:30]  # the kernel takes the outer tag off for the socket
    assert heard(guard.world, "tagone", target, tagged, inside)
    foreign = mac("02:57:0a:00:00:63").join([tagged[:6], tagged[12:]])
    assert unheard(guard.world, "tagone", target, foreign, inside)
    closed = udp(guard.mac["cli"], guard.mac["far"], guard.v4["cli"], guard.v4["far"], mark)
    assert unheard(guard.world, "cli", "far", closed[:12] + tags + closed[12:], mark)


def test_logged_rules_write_lines_and_count_packets(guard: Guard) -> None:
    world, host = guard.world, guard.world.plan.hosts[0]

    def packets() -> int:
        rules = run.api(host, "GET", "/acls/talk")["acl"]["rules"]
        return int(next(rule["packets"] for rule in rules if rule["number"] == 3))

    before = packets()
    assert world.reaches("cli", guard.v4["far"], count=5)
    eventually(lambda: packets() >= before + 10)  # five requests on h1, five answers on h2; OVS adds them up now and then
    log = (host.directory / "controller.log").read_text()
    assert re.search(rf"acl\.hit rule=talk#3 .*icmp type 8 code 0 {guard.v4['cli']} > {guard.v4['far']}", log)


def test_host_and_tenant_acls_come_after_the_networks(guard: Guard) -> None:
    """In `guard` UDP 7002 is allowed by the endpoint's list; 7500 by the host's; 7600 by the tenant's."""
    mark = b"warren-base-acl!"
    allow = [{"dl_type": 0x800, "nw_proto": 17, "udp_dst": port, "actions": {"allow": 1}} for port in (7500, 7600)]
    vtep = guard.world.plan.hosts[0].vtep
    frames = {port: guard.frame("cli", "far", port, mark) for port in (7002, 7500, 7600)}
    guard.apply(acls={"ofhost": [allow[0]], "base": [allow[1]]})
    assert unheard(guard.world, "cli", "far", frames[7500], mark)
    guard.apply(hosts=[{"name": "h1", "vtep": vtep, "acls": ["ofhost"]}], tenants=[{"name": "default", "acls": ["base"]}])
    try:
        for frame in frames.values():
            assert heard(guard.world, "cli", "far", frame, mark)
    finally:
        guard.apply(hosts=[{"name": "h1", "vtep": vtep, "acls": []}], tenants=[{"name": "default", "acls": []}])
    assert unheard(guard.world, "cli", "far", frames[7600], mark)


@pytest.mark.parametrize(
    ("source", "target", "packet", "allow", "rules"),
    [
        ("cli", "far", {"proto": "tcp", "port": 7001}, True, ["talk#1"]),
        ("cli", "near", {"proto": "tcp", "port": 7012}, True, ["talk#1"]),
        ("cli", "far", {"proto": "tcp", "port": 7003}, False, []),
        ("far", "cli", {"proto": "tcp", "port": 7001}, False, []),
        ("far", "cli", {"proto": "icmp"}, True, ["talk#3"]),
        ("near", "far", {"proto": "udp", "port": 7002}, True, ["talk#2"]),
        ("free", "hush", {"proto": "udp", "port": 7002}, False, ["all#1", "deaf#1"]),
        ("hush", "hushfar", {"proto": "tcp", "port": 1}, True, ["slow#2", "deaf#2"]),
    ],
)
def test_evaluator_and_switches_agree(
    guard: Guard, source: str, target: str, packet: dict[str, Any], allow: bool, rules: list[str]
) -> None:
    network = {"free": "quiet", "hush": "quiet"}.get(source, "guard")
    acl = "deaf" if network == "quiet" else "talk"
    body = {"src": f"{network}/{source}", "dst": f"{network}/{target}", **packet}
    answer = run.api(guard.world.plan.hosts[0], "POST", f"/acls/{acl}/check", **body)
    assert answer["agree"], answer
    assert (answer["allow"], answer["rules"]) == (allow, rules)
