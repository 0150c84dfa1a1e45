"""Which connections today's specs allow, as a pure function of the specs and an entry of connection tracking."""

from __future__ import annotations

import struct
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from agent.connections import dump
from agent.connections.changes import concerned
from agent.gateway.published_connections import contradicts
from agent.gateway.rules import Published
from agent.linux.conntrack import HostConnection
from intent.connections import Allowed, Connection
from intent.identity import identity
from pipeline.protocols import checksum
from specs.checks import ValidNetworks
from specs.model.cluster import transit
from specs.snapshot import Snapshot, snapshot, updated
from tests.unit import worlds

ZONE = 7  # of a network with VNI 7
TEXT = """\
udp,orig=(src=10.0.0.2,dst=10.0.0.3,sport=45002,dport=7000),reply=(src=10.0.0.3,dst=10.0.0.2,sport=7000,dport=45002),zone=7,mark=1,labels=0x2000000010000000000000000
icmp,orig=(src=10.0.0.2,dst=8.8.8.8,id=12,type=8,code=0),reply=(src=8.8.8.8,dst=100.127.0.7,id=12,type=0,code=0),zone=7
tcp,orig=(src=fd00::2,dst=fd00::3,sport=1,dport=2),reply=(src=fd00::3,dst=fd00::2,sport=2,dport=1),zone=9,protoinfo=(state=ESTABLISHED)
47,orig=(src=10.0.0.2,dst=10.0.0.3,sport=0,dport=0),reply=(src=10.0.0.3,dst=10.0.0.2,sport=0,dport=0),zone=7
"""


def allows(specs: Snapshot) -> Allowed:
    return Allowed(specs, ValidNetworks(specs))


def state(*more: tuple[str, str], acls: tuple[str, ...] = ("requests",), **network: Any) -> Snapshot:
    entries = [
        worlds.host("h1", "198.18.0.11"), worlds.host("h2", "198.18.0.12"),
        worlds.network("amber", 7, default=acls, **network),
        worlds.acl("requests", [{"proto": "udp", "udp_dst": 7000, "allow_related": True}]),
        worlds.endpoint("web", "amber", "h1", 2, 2), worlds.endpoint("db", "amber", "h2", 3, 3), *more,
    ]  # fmt: skip
    return snapshot((key, value, born) for born, (key, value) in enumerate(entries, 1))


def connection(**changes: Any) -> Connection:
    fields: dict[str, Any] = {
        "zone": ZONE, "proto": 17, "source": "10.0.0.2", "target": "10.0.0.3", "source_port": 45002, "target_port": 7000,
        "replier_port": 7000, "mark": 1,
    } | changes  # fmt: skip
    fields["replier"] = fields.get("replier", fields["target"])
    return Connection(**{name: ip_address(v) if name in ("source", "target", "replier") else v for name, v in fields.items()})


def test_a_dump_is_read_and_written() -> None:
    udp, icmp, tcp, gre = dump.parse(TEXT)
    assert udp.ends == (1, 2)
    assert udp.mark == 1
    assert (udp.source_port, udp.target_port, udp.replier_port, udp.zone) == (45002, 7000, 7000, 7)
    assert (icmp.icmp, icmp.icmp_id, str(icmp.replier)) == ((8, 0), 12, "8.8.8.8")
    assert (tcp.zone, tcp.source.version, gre.proto) == (9, 6, 47)
    assert dump.tuple_of(udp) == "ct_nw_src=10.0.0.2,ct_nw_dst=10.0.0.3,ct_nw_proto=17,ct_tp_src=45002,ct_tp_dst=7000"
    assert dump.tuple_of(icmp) == "ct_nw_src=10.0.0.2,ct_nw_dst=8.8.8.8,ct_nw_proto=1,icmp_type=8,icmp_code=0,icmp_id=12"
    assert dump.tuple_of(tcp) == "ct_ipv6_src=fd00::2,ct_ipv6_dst=fd00::3,ct_nw_proto=6,ct_tp_src=1,ct_tp_dst=2"


def test_one_flush_ends_many_connections_but_none_that_stays() -> None:
    many = [connection(source_port=port) for port in range(1000, 1100)]
    assert list(dump.batches(many, [])) == [("zone=7", "", "ct_nw_src=10.0.0.3,ct_nw_proto=17,ct_tp_src=7000")]
    other = connection(source="10.0.0.4", source_port=5)
    assert list(dump.batches(many, [other])) == [("zone=7", "ct_nw_src=10.0.0.2,ct_nw_proto=17")]
    assert list(dump.batches([many[0]], [])) == [("zone=7", dump.tuple_of(many[0]))]
    assert len(list(dump.batches(many, [other, connection(source_port=7, target="10.0.0.9")]))) == 100
    elsewhere = connection(zone=8)
    assert list(dump.batches(many, [elsewhere])) == [("zone=7", "", "ct_nw_src=10.0.0.3,ct_nw_proto=17,ct_tp_src=7000")]


def test_no_flush_matches_a_connection_of_icmpv6() -> None:
    ends = {"source": "fd00::2", "target": "fd00::3", "target_port": 0, "replier_port": 0}
    ping = connection(proto=58, source_port=0, icmp=(128, 0), icmp_id=5, **ends)
    udp = connection(**ends | {"target_port": 7000, "replier_port": 7000})
    for flush in dump.batches([ping, ping, udp, udp], []):
        assert "ct_nw_proto=17" in flush[-1]
    assert list(dump.batches([ping], [])) == []
    line = dump.endings_of_icmpv6([udp, ping])
    assert line.startswith("packet-out in_port=controller packet=")
    assert line.endswith(" actions=ct(commit,force,zone=7)\n")
    packet = bytes.fromhex(line.split("packet=")[1].split()[0])
    assert (packet[14:15], packet[20], packet[54], packet[58:60]) == (b"\x60", 58, 129, b"\x00\x05")
    assert (packet[22:38], packet[38:54]) == (ip_address("fd00::3").packed, ip_address("fd00::2").packed)
    assert checksum(packet[22:54] + struct.pack("!II", 8, 58) + packet[54:]) == 0


def test_what_the_specs_allow_stays() -> None:
    allowed = allows(state())
    ends = tuple(identity(allowed.snapshot.endpoints[name]) for name in ("web", "db"))
    assert allowed.objection(connection()) is None
    assert allowed.objection(connection(ends=ends)) is None
    assert allowed.objection(connection(zone=4711, source="1.2.3.4")) is None  # another program's zone


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"target": "10.0.0.9"}, "no endpoint of network amber has 10.0.0.9"),
        ({"source": "10.0.0.9"}, "no endpoint of network amber has 10.0.0.9"),
        ({"ends": (0, 77)}, "10.0.0.3 belonged to another endpoint than db"),
        ({"ends": (77, 0)}, "10.0.0.2 belonged to another endpoint than web"),
        ({"target_port": 7001, "replier_port": 7001}, "no rule of requests allows it"),
        ({"proto": 6}, "no rule of requests allows it"),
        ({"proto": 1, "icmp": (8, 0), "target_port": 0, "replier_port": 0}, "no rule of requests allows it"),
    ],
)
def test_what_the_specs_do_not_allow_ends(changes: dict[str, Any], reason: str) -> None:
    assert allows(state()).objection(connection(**changes)) == reason


def test_replies_that_no_rule_lets_back_any_more_end_with_their_connection() -> None:
    plain = worlds.acl("plain", [{"proto": "udp", "udp_dst": 7000, "actions": {"allow": 1}}])
    assert allows(state(plain, acls=("plain",))).objection(connection()) == "no rule with allow_related allows it any more"
    assert allows(state(plain, acls=("plain",))).objection(connection(mark=0)) is None


def test_what_an_entry_does_not_tell_is_decided_in_its_favour() -> None:
    marked = worlds.acl("marked", [{"ip_dscp": 46, "eth_type": 0x800, "actions": {"allow": 1}}])
    unmarked = worlds.acl(
        "unmarked", [{"ip_dscp": 46, "eth_type": 0x800, "actions": {"allow": 0}}, {"proto": "udp", "actions": {"allow": 1}}]
    )
    for name, acl in (("marked", marked), ("unmarked", unmarked)):
        assert allows(state(acl, acls=(name,))).objection(connection(mark=0)) is None
    refused = connection(mark=0, proto=6)
    assert allows(state(unmarked, acls=("unmarked",))).objection(refused) == "no rule of unmarked allows it"


def test_connections_through_a_router_begin_and_end_with_endpoints_of_both_networks() -> None:
    joint = [worlds.network("green", 8, mode="nat"), worlds.router("joint", "amber", "green")]
    held = state(*joint, worlds.endpoint("api", "green", "h2", 5, 4), mode="nat")
    passed = connection(target="10.1.0.5")
    assert allows(held).objection(passed) is None
    assert allows(held).objection(connection(target="10.1.0.5", ends=(0, 99))) == "10.1.0.5 belonged to another endpoint than api"
    assert allows(state(*joint, mode="nat")).objection(passed) == "no endpoint of network green has 10.1.0.5"
    assert allows(state(joint[0], mode="nat")).objection(passed) is None, "no router: an address of the outside"


def test_a_published_port_must_still_lead_there() -> None:
    published = [{"host_port": 80, "port": 8080, "proto": "tcp"}]
    shop = worlds.endpoint("shop", "amber", "h1", 5, 5, publish=published)
    came = {"proto": 6, "source": "192.0.2.9", "target": "100.127.0.7", "replier": "10.0.0.5", "mark": 0}
    allowed = allows(state(shop, acls=(), mode="nat"))
    assert allowed.objection(connection(**came, target_port=80, replier_port=8080)) is None
    target = identity(allowed.snapshot.endpoints["shop"])  # which stands at both ends of what comes in by the gateway
    assert allowed.objection(connection(**came, target_port=80, replier_port=8080, ends=(target, target))) is None
    for ports in ((81, 8080), (80, 8081)):
        reason = allowed.objection(connection(**came, target_port=ports[0], replier_port=ports[1]))
        assert reason == f"port {ports[0]} is not published to 10.0.0.5 port {ports[1]}"
    moved = connection(**came | {"replier": "10.0.0.2"}, target_port=80, replier_port=8080)
    assert allowed.objection(moved) == "port 80 is not published to 10.0.0.2 port 8080"


def test_a_change_concerns_what_it_touches_only() -> None:
    before = state()
    for change, addresses, networks in (
        (("spec/endpoints/amber/db", None), {"10.0.0.3", "fd00::3"}, set()),
        (worlds.endpoint("db", "amber", "h1", 3, 3), {"10.0.0.3", "fd00::3"}, set()),
        (worlds.endpoint("db", "amber", "h2", 4, 4), {"10.0.0.3", "fd00::3"}, set()),
        (worlds.endpoint("db", "amber", "h2", 3, 3, active=False), {"10.0.0.3", "fd00::3"}, set()),
        (worlds.endpoint("new", "amber", "h2", 9, 9), set(), set()),
        (worlds.endpoint("db", "amber", "h2", 3, 3, labels={"tier": "db"}), set(), {"amber"}),
        (worlds.network("amber", 7), set(), {"amber"}),
        (worlds.acl("requests", [{"actions": {"allow": 1}}]), set(), None),
        (worlds.cluster("172.16.0.0/15"), set(), None),  # published ports are recognised by the transit range
    ):  # fmt: skip
        after, changes = updated(before, [(*change, 99)])
        concern = concerned(before, after, changes)
        assert {str(given_up.address) for given_up in concern.addresses} == addresses, change
        assert concern.networks == networks, change


OWN = {ip_address("198.18.0.11")}
DNS = Published("udp", 53, None, ip_address("100.127.0.7"))


@pytest.mark.parametrize(
    ("target", "replier", "published", "ends"),
    [
        ("198.18.0.11", "198.18.0.11", (DNS,), True),  # it began before the port was published
        ("198.18.0.11", "100.127.0.7", (DNS,), False),
        ("198.18.0.11", "100.127.0.9", (DNS,), True),  # the port leads to another network now
        ("198.18.0.11", "100.127.0.7", (), True),  # it is published no more
        ("198.18.0.11", "198.18.0.11", (), False),  # a process of the host
        ("203.0.113.1", "203.0.113.1", (DNS,), False),  # to another machine's port 53
        ("198.18.0.11", "10.9.0.2", (), True),  # a network in mode routed
        ("198.18.0.11", "10.9.0.2", (Published("udp", 53, None, ip_address("10.9.0.2")),), False),
        ("198.18.0.11", "10.9.0.2", (Published("udp", 53, None, ip_address("10.9.0.2"), 54),), True),  # to another port there
        ("198.18.0.11", "172.17.0.2", (), False),  # somebody else's translation
    ],
)
def test_connections_of_the_host_follow_published_ports(
    target: str, replier: str, published: tuple[Published, ...], ends: bool
) -> None:
    entry = HostConnection(
        proto=17, source=ip_address("192.0.2.9"), source_port=4000, target=ip_address(target), target_port=53,
        replier=ip_address(replier), replier_port=53,
    )  # fmt: skip
    assert contradicts(entry, published, OWN, (transit().zones4, ip_network("10.9.0.0/24"))) is ends
