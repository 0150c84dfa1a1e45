"""Names of endpoints: who sees which, and DNS messages in and out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.names.answer import Forward, answer, failed, shortened
from agent.names.index import NameIndex
from agent.names.upstream import Upstream, addresses, answers, configured
from intent.names import PREFIX4, PREFIX6, inner4, inner6, zone_of
from specs import keys
from specs.model.base import decode
from specs.model.endpoint import Endpoint
from specs.model.network import Network
from specs.model.ranges import unusable
from tests.unit import worlds
from warren.errors import Invalid

AMBER, BLUE, GREEN = 7, 8, 9


def named(name: str, net: str, number: int, **fields: Any) -> tuple[str, str]:
    """A store entry of an endpoint whose name is not its id."""
    key, value = worlds.endpoint(f"id-{net}-{number}", net, "h2", number, number)
    return key, json.dumps(json.loads(value) | {"name": name} | fields)


def network(name: str, vni: int, mode: str = "nat", **fields: Any) -> tuple[str, str]:
    """A store entry of a network with a name server."""
    key, value = worlds.network(name, vni, mode=mode, named=True)
    return key, json.dumps(json.loads(value) | fields)


WORLD = [
    network("amber", AMBER, domain="Example.org"),
    network("blue", BLUE, mode="flat"),
    network("green", GREEN),
    worlds.network("mute", 10, mode="nat"),
    worlds.router("core", "amber", "green"),
    named("Web", "amber", 2, aliases=["www", "api"]),
    named("db", "amber", 3, aliases=["api"]),
    named("v4", "amber", 4, ipv6_address=None),
    named("web.1", "amber", 5),
    named("a..b", "amber", 6),
    named("asleep", "amber", 7, active=False),
    named("red", "blue", 2),
    named("shop", "green", 2),
    named("amber", "green", 3),
]


def index(*more: tuple[str, str | None]) -> NameIndex:
    result = NameIndex()
    for born, (key, value) in enumerate((*WORLD, *more), start=1):
        result.put(key, value, born)
    return result


INDEX = index()


def resolve(
    name: str, kind: str = "A", vni: int = AMBER, names: NameIndex | None = INDEX, tcp: bool = False, **options: Any
) -> Any:
    """The answer to a question as a message, or `Forward`."""
    wire = dns.message.make_query(name, kind, **options).to_wire()
    reply = answer(wire, names, names.network(vni) if names is not None else None, tcp=tcp)
    return dns.message.from_wire(reply) if isinstance(reply, bytes) else reply


def values(reply: dns.message.Message) -> list[str]:
    return [item.to_text() for rrset in reply.answer for item in rrset]


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("web", "A", ["10.0.0.2"]),
        ("WEB", "AAAA", ["fd00::2"]),
        ("web.amber", "A", ["10.0.0.2"]),
        ("wEb.AmBeR.", "A", ["10.0.0.2"]),
        ("web.example.ORG", "A", ["10.0.0.2"]),
        ("www", "A", ["10.0.0.2"]),
        ("www.amber", "A", ["10.0.0.2"]),
        ("api", "A", ["10.0.0.2", "10.0.0.3"]),
        ("web.1", "A", ["10.0.0.5"]),
        ("web.1.amber", "A", ["10.0.0.5"]),
        ("shop.green", "A", ["10.1.0.2"]),
        ("amber.green", "A", ["10.1.0.3"]),
        ("2.0.0.10.in-addr.arpa", "PTR", ["web.example.org."]),
        ("3.0.0.10.IN-ADDR.arpa", "PTR", ["db.example.org."]),
        ("2.0.1.10.in-addr.arpa", "PTR", ["shop.green."]),
        (f"{'.'.join(reversed('fd000000000000000000000000000002'))}.ip6.arpa", "PTR", ["web.example.org."]),
    ],
)
def test_an_endpoint_resolves_the_names_of_its_network_and_of_joined_ones(name: str, kind: str, expected: list[str]) -> None:
    reply = resolve(name, kind)
    assert reply.rcode() == dns.rcode.NOERROR
    assert reply.flags & dns.flags.AA
    assert sorted(values(reply)) == expected
    assert all(rrset.ttl == 5 for rrset in reply.answer)


def test_the_question_comes_back_as_it_was_asked() -> None:
    assert resolve("wEB.aMber").question[0].name.to_text() == "wEB.aMber."
    assert resolve("wEB.aMber").answer[0].name.to_text() == "wEB.aMber."


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("v4", "AAAA"),
        ("web", "MX"),
        ("web", "TXT"),
        ("web", "PTR"),
        ("amber", "A"),
        ("amber", "SOA"),
        ("2.0.0.10.in-addr.arpa", "A"),
    ],
)
def test_a_name_without_such_a_record_has_no_data(name: str, kind: str) -> None:
    reply = resolve(name, kind)
    assert (reply.rcode(), values(reply)) == (dns.rcode.NOERROR, [])
    assert reply.authority[0].rdtype == dns.rdatatype.SOA
    assert reply.question[0].name.is_subdomain(reply.authority[0].name)


@pytest.mark.parametrize(
    "name",
    [
        "nobody.amber",
        "asleep.amber",
        "web.green",
        "shop.amber",
        "red.amber",
        "x.web.amber",
        "nobody.example.org",
        "9.0.0.10.in-addr.arpa",
    ],
)
def test_a_name_of_the_network_that_nobody_has_does_not_exist(name: str) -> None:
    reply = resolve(name)
    assert reply.rcode() == dns.rcode.NXDOMAIN
    assert reply.authority[0].ttl == 5


@pytest.mark.parametrize(
    "name",
    ["example.com", "asleep", "red", "red.blue", "shop", "org", "1.2.0.192.in-addr.arpa", "10.in-addr.arpa", "x.arpa", "."],
)
def test_other_names_are_asked_outside_and_not_from_flat_networks(name: str) -> None:
    assert resolve(name) == Forward(512)
    assert resolve(name, use_edns=0, payload=4096) == Forward(1232)
    assert resolve(name, tcp=True) == Forward(65_535)
    if name not in ("red", "red.blue"):
        assert resolve(name, vni=BLUE).rcode() == dns.rcode.REFUSED


def test_an_endpoint_sees_no_other_network() -> None:
    assert values(resolve("red", vni=BLUE)) == ["10.0.0.2"]
    assert resolve("web.amber", vni=BLUE).rcode() == dns.rcode.REFUSED
    assert values(resolve("2.0.0.10.in-addr.arpa", "PTR", vni=BLUE)) == ["red.blue."]
    assert values(resolve("db.amber", vni=GREEN)) == ["10.0.0.3"]
    for vni in (10, 11, 0):  # without a name server, and without a network
        assert resolve("web", vni=vni).rcode() == dns.rcode.REFUSED


def test_changes_are_seen() -> None:
    key, _ = named("db", "amber", 3)
    router = keys.router("core")
    assert resolve("db.amber", names=index((key, None))).rcode() == dns.rcode.NXDOMAIN
    assert values(resolve("api", names=index((key, None)))) == ["10.0.0.2"]
    assert isinstance(resolve("shop.green", names=index((router, None))), Forward)
    renamed = index(named("data", "amber", 3))
    assert values(resolve("data", names=renamed)) == ["10.0.0.3"]
    assert isinstance(resolve("db", names=renamed), Forward)
    left = index()
    left.forget({keys.endpoints_of("amber")})
    assert resolve("web.amber", names=left).rcode() == dns.rcode.NXDOMAIN
    assert values(resolve("shop", names=left, vni=GREEN)) == ["10.1.0.2"]
    assert resolve("web", names=None).rcode() == dns.rcode.SERVFAIL


def test_endpoints_with_one_alias_take_turns() -> None:
    query = dns.message.make_query("api", "A")
    first = set()
    for number in (10, 11):
        query.id = number
        reply = answer(query.to_wire(), INDEX, INDEX.network(AMBER), tcp=False)
        assert isinstance(reply, bytes)
        first.add(values(dns.message.from_wire(reply))[0])
    assert first == {"10.0.0.2", "10.0.0.3"}


def test_an_answer_that_does_not_fit_is_truncated_and_whole_over_tcp() -> None:
    many = index(*(named(f"m{i}", "amber", i, aliases=["many"]) for i in range(20, 120)))
    for options, limit in (({}, 512), ({"use_edns": 0, "payload": 100}, 512), ({"use_edns": 0, "payload": 4096}, 1232)):
        wire = dns.message.make_query("many", "A", **options).to_wire()
        reply = answer(wire, many, many.network(AMBER), tcp=False)
        assert isinstance(reply, bytes)
        assert len(reply) <= limit
        assert dns.message.from_wire(reply).flags & dns.flags.TC
    whole = resolve("many", names=many, tcp=True)
    assert len(values(whole)) == 100
    assert not whole.flags & dns.flags.TC
    assert len(values(resolve("many", "ANY", names=many, tcp=True))) == 200


def test_what_is_no_question_is_refused_or_ignored() -> None:
    query = dns.message.make_query("web", "A")
    network = INDEX.network(AMBER)
    assert answer(b"\0" * 11, INDEX, network, tcp=False) is None
    assert answer(dns.message.make_response(query).to_wire(), INDEX, network, tcp=False) is None

    def code(wire: bytes) -> int:
        reply = answer(wire, INDEX, network, tcp=False)
        assert isinstance(reply, bytes)
        return int(dns.message.from_wire(reply).rcode())

    assert code(dns.message.make_query("web", "A", "CH").to_wire()) == dns.rcode.REFUSED
    assert code(dns.message.make_query("amber", "AXFR").to_wire()) == dns.rcode.REFUSED
    later = dns.message.make_query("web", "A")
    later.use_edns(1)
    assert code(later.to_wire()) == dns.rcode.BADVERS
    assert code(query.to_wire()[:4] + b"\0\2" + query.to_wire()[6:]) == dns.rcode.FORMERR
    assert code(query.to_wire()[:-3]) == dns.rcode.FORMERR
    assert code(query.to_wire()[:2] + b"\x28\0" + query.to_wire()[4:]) == dns.rcode.NOTIMP


headers = st.builds(
    lambda number, flags, counts: number + flags + counts,
    st.binary(min_size=2, max_size=2),
    st.sampled_from((b"\0\0", b"\1\0", b"\1\x20")),
    st.sampled_from((b"\0\1\0\0\0\0\0\1", b"\0\1\0\0\0\0\0\0", b"\0\1\0\1\0\1\0\2")),
)
queries = st.builds(
    lambda name, kind, edns: dns.message.make_query(name, kind, use_edns=edns).to_wire(),
    st.sampled_from(("web", "api.amber", "x.example.org", "2.0.0.10.in-addr.arpa", "a.b.ip6.arpa", "example.com")),
    st.sampled_from((1, 28, 12, 255, 6, 41, 249, 250, 65_280)),
    st.sampled_from((-1, 0, 1)),
)
damaged = st.builds(
    lambda wire, place, junk: wire[: place % len(wire)] + junk + wire[place % len(wire) + 1 :],
    queries,
    st.integers(0, 200),
    st.binary(max_size=4),
)


@given(
    st.one_of(st.binary(max_size=80), st.builds(bytes.__add__, headers, st.binary(max_size=60)), queries, damaged), st.booleans()
)
def test_any_bytes_get_an_answer_or_none(wire: bytes, tcp: bool) -> None:
    reply = answer(wire, INDEX, INDEX.network(AMBER), tcp=tcp)
    if isinstance(reply, bytes):
        assert reply[:2] == wire[:2]
        assert reply[2] & 0x80
        assert len(reply) <= (65_535 if tcp else 1232)
        dns.message.from_wire(reply)
    if len(wire) >= 12:
        failed(wire)
        shortened(wire, 20)


def test_a_failure_and_a_shortened_answer_repeat_the_question() -> None:
    query = dns.message.make_query("web.example.com", "A")
    reply = dns.message.from_wire(failed(query.to_wire()))
    assert (reply.id, reply.rcode(), reply.question) == (query.id, dns.rcode.SERVFAIL, query.question)
    short = dns.message.from_wire(shortened(dns.message.make_response(query).to_wire() + bytes(600), 512))
    assert (short.question, bool(short.flags & dns.flags.TC)) == (query.question, True)


def test_an_answer_must_have_the_number_and_the_question() -> None:
    query = dns.message.make_query("web.example.com", "A")
    wire, reply = query.to_wire(), dns.message.make_response(query).to_wire()
    other = dns.message.make_response(dns.message.make_query("web.example.net", "A", id=query.id)).to_wire()
    assert answers(wire, reply)
    assert answers(wire, reply.replace(b"example", b"EXAMPLE"))
    assert not answers(wire, other)
    assert not answers(wire, b"xx" + reply[2:])
    assert not answers(wire, wire)
    assert not answers(wire, reply[:11])


def test_name_servers_of_the_host(tmp_path: Path) -> None:
    text = "# x\nnameserver 192.0.2.1\nsearch a\nnameserver\nnameserver fe80::1%eth0\nnameserver nonsense\nnameserver ::1\nnameserver 9.9.9.9\n"
    assert configured(text) == ("192.0.2.1", "fe80::1%eth0", "::1")
    assert addresses("WARREN_DNS", " 192.0.2.1, 2001:db8::1,") == ("192.0.2.1", "2001:db8::1")
    with pytest.raises(Invalid, match="WARREN_DNS"):
        addresses("WARREN_DNS", "dns.example.org")
    path = tmp_path / "resolv.conf"
    upstream = Upstream((), path)
    assert upstream.servers() == ()
    path.write_text("nameserver 192.0.2.7\n")
    assert upstream.servers() == ("192.0.2.7",)
    assert Upstream(("192.0.2.9",), path).servers() == ("192.0.2.9",)


@pytest.mark.parametrize("zone", [1, 255, 65_535])
def test_each_network_has_addresses_of_its_own_in_the_resolver(zone: int) -> None:
    assert zone_of(inner4(zone)) == zone_of(inner6(zone)) == zone
    assert inner4(zone) in PREFIX4
    assert inner6(zone) in PREFIX6


def test_no_network_can_have_these_addresses() -> None:
    for prefix in (PREFIX4, PREFIX6):
        assert unusable(prefix) is not None


def test_records_without_names_read_as_before() -> None:
    network = decode(Network, json.loads(worlds.network("amber", 7)[1]))
    assert "dns_server" not in network.data()
    assert network.name_servers == ()
    served = decode(Network, json.loads(WORLD[0][1]))
    assert [str(server) for server in served.name_servers] == ["10.0.0.1", "fd00::1"]
    assert served.data()["dns_server"] is True
    endpoint = decode(Endpoint, json.loads(worlds.endpoint("e", "amber", "h1", 2, 1)[1]))
    assert "aliases" not in endpoint.data()
    with pytest.raises(Invalid, match="aliases"):
        decode(Endpoint, {**endpoint.data(), "aliases": ["no name"]})
    with pytest.raises(Invalid, match="ip_range"):
        decode(Network, {"id": "x", "name": "x", "vxlan_vni": 1, "dns_server": True})
