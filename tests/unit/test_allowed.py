"""Allowed addresses: what a spec may say, who conflicts with whom, and what rules and connections make of them."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from acl.policy import PolicyKey, resolve
from agent.connections.changes import concerned
from agent.docker.options import ENDPOINT_OPTIONS, read
from agent.trace import TracedEnds, follow
from controller.compiler.compile import compile_view
from intent.connections import Allowed as AllowedConnections
from intent.connections import Connection
from intent.identity import identity
from intent.recompute import _Names, view
from intent.record_policies import RecordPolicies
from intent.shares import Shares
from pipeline.tables import Table
from specs.checks import ValidNetworks
from specs.model.base import decode
from specs.model.endpoint import Endpoint
from specs.snapshot import Snapshot, snapshot, updated
from tests.unit import worlds
from warren.errors import Invalid

ROUTER_MAC = "00:00:5e:00:01:0a"


def record(*allowed: Any, **fields: Any) -> Endpoint:
    base = {"id": "e", "network_id": "n", "host": "h1", "mac_address": "02:57:0a:00:00:02", "ofport": 1}
    return decode(Endpoint, base | {"allowed": list(allowed)} | fields, "endpoint")


def test_an_entry_is_an_address_or_a_range_with_or_without_a_mac() -> None:
    endpoint = record("10.0.0.100", {"address": "10.0.9.0/24", "mac": "00-00-5E-00-01-0A"}, f"fd00::64, {ROUTER_MAC}", "fe80::1")
    assert endpoint.data()["allowed"] == [
        {"address": "10.0.0.100"}, {"address": "10.0.9.0/24", "mac": ROUTER_MAC}, {"address": "fd00::64", "mac": ROUTER_MAC},
        {"address": "fe80::1"},
    ]  # fmt: skip
    assert endpoint.macs == ("02:57:0a:00:00:02", ROUTER_MAC)
    assert decode(Endpoint, endpoint.data()) == endpoint
    assert "allowed" not in record().data()  # an agent of an earlier version can read it


@pytest.mark.parametrize(
    ("entry", "path", "reason"),
    [
        ("10.0.0.1/24", "address", "an address such as"),
        ("10.0.0.0/15", "address", "wider than /16"),
        ("fd00::/47", "address", "wider than /48"),
        ("0.0.0.0/0", "address", "wider than /16"),
        ("224.0.0.18", "address", "multicast"),
        ("ff02::12", "address", "multicast"),
        ("255.255.255.255", "address", "reserved"),
        ("127.0.0.1", "address", "loopback"),
        ("::", "address", "reserved"),
        ("::ffff:10.0.0.1", "address", "reserved"),
        ("169.254.0.0/24", "address", "only single addresses"),
        ("fe80::/64", "address", "only single addresses"),
        ("fe80::1%eth0", "address", "an address such as"),
        ("fe80::200:5eff:fe00:10a", "address", "derives from a MAC"),
        ("169.254.67.1", "address", "the DHCP server's"),
        (167772260, "", "a mapping"),
        ({"address": 167772260}, "address", "text"),
        ({"mac": ROUTER_MAC}, "address", "required"),
        ("10.0.0.9,01:00:5e:00:00:12", "mac", "unicast"),
        ("10.0.0.9,ff:ff:ff:ff:ff:ff", "mac", "unicast"),
        ("10.0.0.9,02:57:00:00:00:01", "mac", "not the gateway's"),
        ("10.0.0.9,02:57:00:00:00:02", "mac", "not the gateway's"),
        ("10.0.0.9,", "mac", "a MAC address"),
        ({"address": "10.0.0.9", "macs": []}, "macs", "no such field"),
    ],
)
def test_wrong_entries_are_refused_with_their_path(entry: Any, path: str, reason: str) -> None:
    with pytest.raises(Invalid, match=reason) as error:
        record("10.0.0.8", entry)
    assert error.value.path == f"endpoint.allowed[1].{path}".rstrip(".")


def test_the_entries_of_an_endpoint_are_few_and_do_not_overlap() -> None:
    record(*(f"10.0.1.{number}" for number in range(32)))
    with pytest.raises(Invalid, match="at most 32"):
        record(*(f"10.0.1.{number}" for number in range(33)))
    with pytest.raises(Invalid, match="10.0.0.8/29 and 10.0.0.9 overlap"):
        record("10.0.0.8/29", "10.0.0.9")
    with pytest.raises(Invalid, match="no addresses"):
        record("10.0.0.9", port="eno1")


def test_dockers_option_has_entries_with_spaces_between_them() -> None:
    given = read(ENDPOINT_OPTIONS, {"warren.allowed": f"10.0.0.9,{ROUTER_MAC} fd00:9::/64  10.9.0.0/24"}, ("amber",))
    assert given["allowed"] == [
        {"address": "10.0.0.9", "mac": ROUTER_MAC},
        {"address": "fd00:9::/64"},
        {"address": "10.9.0.0/24"},
    ]
    for wrong in ("10.0.0.9 x", "10.0.0.9 10.0.0.8/29", "10.0.0.9,x"):
        with pytest.raises(Invalid) as error:
            read(ENDPOINT_OPTIONS, {"warren.allowed": wrong}, ("amber",))
        assert error.value.path == "warren.allowed"


# ---- conflicts -------------------------------------------------------------------------------------------------------------


def state(*entries: tuple[str, str], **network: Any) -> Snapshot:
    beginning = [worlds.host("h1", "198.18.0.11"), worlds.host("h2", "198.18.0.12"), worlds.network("amber", 7, **network)]
    return snapshot((key, value, born) for born, (key, value) in enumerate([*beginning, *entries], 1))


def problems(*entries: tuple[str, str]) -> dict[str, str]:
    return dict(view(state(*entries), "h1", {}, 65279).problems)


@pytest.mark.parametrize("entry", ["10.0.0.5", "10.0.0.4/30", "fd00::5", "10.0.0.9,02:57:0a:00:00:05"])
def test_the_first_created_wins_over_a_value_that_is_own_here_and_allowed_there(entry: str) -> None:
    """Nothing that the writers let happen: somebody wrote to etcd himself."""
    owner, sharer = worlds.endpoint("own", "amber", "h1", 5, 1), worlds.endpoint("sharer", "amber", "h2", 9, 1, allowed=[entry])
    [(about, reason)] = problems(owner, sharer).items()
    assert about == "endpoint/sharer"
    assert reason.endswith("belongs to endpoint own")
    [(about, reason)] = problems(sharer, owner).items()
    assert about == "endpoint/own"
    assert reason.endswith("is allowed to endpoint sharer")


def test_values_may_be_shared_and_lie_around_an_own_address() -> None:
    entries = ["10.0.0.8/29", f"fd00::64,{ROUTER_MAC}"]
    one = worlds.endpoint("one", "amber", "h1", 9, 1, allowed=entries)
    assert problems(one, worlds.endpoint("two", "amber", "h2", 3, 1, allowed=[entries[1], "10.0.0.100"])) == {}
    assert list(problems(one, worlds.endpoint("two", "amber", "h2", 3, 1, allowed=entries))) == [
        "endpoint/two"
    ]  # one's own address


@pytest.mark.parametrize("entry", ["10.0.0.1", "10.0.0.0/30", "fd00::/126"])
def test_an_endpoint_that_is_allowed_the_gateways_address_is_closed(entry: str) -> None:
    assert (
        "is the gateway of network amber"
        in problems(worlds.endpoint("web", "amber", "h1", 9, 1, allowed=[entry]))["endpoint/web"]
    )


def test_who_shares_a_value_is_found_by_prefix() -> None:
    shares = Shares()
    endpoint = record("10.0.8.0/24", f"10.0.9.9,{ROUTER_MAC}", "fd00:9::/64")
    values = [("n", entry.address) for entry in endpoint.allowed] + [("n", ROUTER_MAC)]
    shares.add("e", values)  # type: ignore[arg-type]
    for value in ("10.0.8.0", "10.0.8.255", "10.0.9.9", "fd00:9::1", ROUTER_MAC):
        assert list(shares.of(("n", value))) == ["e"]
        assert list(shares.of(("m", value))) == []
    for value in ("10.0.9.0", "fd00:9:0:1::", "02:57:0a:00:00:02", "tcp port 80"):
        assert list(shares.of(("n", value))) == []
    shares.remove("e", values)  # type: ignore[arg-type]
    assert shares == Shares()


# ---- rules and connections --------------------------------------------------------------------------------------------------


def test_rules_that_name_an_endpoint_mean_its_allowed_addresses_too() -> None:
    rules = [{"from": {"label": "web"}, "actions": {"allow": 1}}]
    entries = (
        worlds.acl("web", rules), worlds.endpoint("web", "amber", "h1", 2, 1, labels={"web": ""}, allowed=["10.9.0.0/24", "10.0.0.100"]),
        worlds.endpoint("two", "amber", "h2", 3, 1, v6=False, labels={"web": ""}, allowed=["10.0.0.100"]),
    )  # fmt: skip
    specs = state(*entries)
    names = _Names(specs, specs.endpoints, {})
    sources = resolve(PolicyKey("amber", "in", ("web",)), names).rules[0].sources
    expected = ["10.0.0.2/32", "10.0.0.3/32", "10.0.0.100/32", "10.9.0.0/24", "fd00::2/128"]
    assert list(map(str, sources or ())) == expected
    who = specs.acls["web"].parsed[0].source
    assert who is not None
    assert {str(prefix) for prefix in RecordPolicies(specs).members("amber", who)} == set(expected)


WEB = worlds.endpoint("web", "amber", "h1", 2, 1, allowed=["10.0.0.100", "10.9.0.0/24"], labels={"web": ""})
TWO = worlds.endpoint("two", "amber", "h2", 3, 1, allowed=["10.0.0.100"])


def objection(specs: Snapshot, source: str, ends: tuple[int, int] = (0, 0), target: str = "10.0.0.4") -> str | None:
    connection = Connection(
        zone=7, proto=17, source=ip_address(source), target=ip_address(target), replier=ip_address(target), source_port=4000,
        target_port=53, replier_port=53, ends=ends,
    )  # fmt: skip
    return AllowedConnections(specs, ValidNetworks(specs)).objection(connection)


def test_connections_of_allowed_addresses_stay_while_somebody_may_have_begun_them() -> None:
    rest = worlds.endpoint("db", "amber", "h1", 4, 2)
    specs = state(WEB, TWO, rest)
    web, two, db = (identity(specs.endpoints[name]) for name in ("web", "two", "db"))
    for ends in ((0, 0), (web, 0), (two, 0)):
        assert objection(specs, "10.0.0.100", ends) is None
        assert objection(specs, "10.0.0.4", ends[::-1], "10.0.0.100") is None
    assert objection(specs, "10.9.0.7", (web, 0)) is None
    assert objection(specs, "10.0.0.100", (db, 0)) == "10.0.0.100 belonged to another endpoint than two"
    without = state(worlds.endpoint("web", "amber", "h1", 2, 1), TWO, rest)
    assert objection(without, "10.0.0.100", (two, 0)) is None
    assert objection(without, "10.0.0.100", (web, 0)) == "10.0.0.100 belonged to another endpoint than two"
    assert objection(without, "10.9.0.7", (web, 0)) == "web is not allowed 10.9.0.7 any more"
    nobody = state(worlds.endpoint("web", "amber", "h1", 2, 1), rest)
    assert objection(nobody, "10.0.0.100") == "no endpoint of network amber has 10.0.0.100"


def test_a_connection_between_sharers_is_judged_for_any_of_them() -> None:
    rules = worlds.acl("open", [{"proto": "udp", "actions": {"allow": 1}}]), worlds.acl("shut", [{"actions": {"allow": 0}}])
    open_, shut = (
        worlds.endpoint(name, "amber", host, number, 1, allowed=["10.0.0.100"], acls=(name,))
        for name, host, number in (("open", "h1", 2), ("shut", "h2", 3))
    )
    specs = state(*rules, open_, shut, worlds.endpoint("db", "amber", "h1", 4, 2))
    assert objection(specs, "10.0.0.100") is None
    assert objection(specs, "10.0.0.100", (identity(specs.endpoints["shut"]), 0)) == "refused by shut#1"


def test_changed_allowed_addresses_have_the_networks_connections_judged() -> None:
    before = state(WEB, TWO)
    for key, value in (worlds.endpoint("web", "amber", "h1", 2, 1, allowed=["10.0.0.100"], labels={"web": ""}), (WEB[0], None)):
        after, changes = updated(before, [(key, value, 9)])
        assert concerned(before, after, changes).networks == {"amber"}


def test_two_virtual_addresses_of_one_network_never_share_a_flow() -> None:
    """A range around another one's address, with and without a MAC."""
    entries = (
        worlds.endpoint("web", "amber", "h1", 2, 1, allowed=["10.0.0.96/28", f"fd00::64,{ROUTER_MAC}"]),
        worlds.endpoint("two", "amber", "h2", 3, 1, allowed=["10.0.0.100", "fd00::60/124"]),
    )
    specs = view(state(*entries, mode="nat"), "h1", {"web": 1}, 65279, 65278)
    flows = compile_view(specs).flows
    assert len({(flow.table, flow.priority, flow.match) for flow in flows}) == len(flows)
    towards = {dict(f.match).get("ipv4_dst"): f.priority for f in flows if f.table is Table.ROUTE and f.origin.kind == "virtual"}
    assert towards["10.0.0.100"] > towards["10.0.0.96", "255.255.255.240"]


# ---- traces -----------------------------------------------------------------------------------------------------------------


def traced(ends: TracedEnds) -> tuple[str, str]:
    """The packet of a trace from web to two, which SPOOF_GUARD drops, and the reason."""
    specs = state(worlds.endpoint("web", "amber", "h1", 2, 1, allowed=[f"10.0.0.100,{ROUTER_MAC}", "10.9.0.0/24"]), TWO)
    packets: list[str] = []

    def dropped(host: str, flow: str, enters: str) -> dict[str, Any]:
        packets.append(flow)
        end = {
            "branch": "",
            "kind": "drop",
            "problem": "",
            "table": "SPOOF_GUARD",
            "origin": "endpoint/web",
            "endpoint": None,
            "vtep": None,
        }
        return {"host": host, "packet": flow, "steps": [], "tunnels": [], "ends": [end], "delivered_to": []}

    web, two = specs.endpoints["web"], specs.endpoints["two"]
    answer = follow(web, two, "icmp", None, {"h1": "198.18.0.11", "h2": "198.18.0.12"}, dropped, ends)
    assert answer["verdict"] == "dropped"
    return packets[0], answer["reason"]


@pytest.mark.parametrize(
    ("address", "mac", "reason"),
    [
        ("10.0.0.9", None, "source 10.0.0.9 does not belong to endpoint web"),
        ("fd00::9", None, "source fd00::9 does not belong to endpoint web"),
        (None, "02:57:0a:00:00:03", "source MAC 02:57:0a:00:00:03 does not belong to endpoint web"),
        ("10.9.0.7", ROUTER_MAC, f"source 10.9.0.7 does not belong to endpoint web with MAC {ROUTER_MAC}"),
    ],
)
def test_a_trace_says_what_of_a_sender_is_not_the_endpoints(address: str | None, mac: str | None, reason: str) -> None:
    packet, shown = traced(TracedEnds(ip_address(address) if address else None, mac))
    assert shown == f"in SPOOF_GUARD on h1: {reason}"
    assert f"_src={address or '10.0.0.2'}" in packet
    assert f"dl_src={mac or '02:57:0a:00:00:02'}" in packet


def test_a_trace_may_lead_to_an_allowed_address() -> None:
    packet, _ = traced(TracedEnds(dst_address=ip_address("10.0.0.100")))
    assert "nw_dst=10.0.0.100" in packet
    assert "dl_dst=02:57:0a:00:00:03" in packet  # two has it with its own MAC
    with pytest.raises(Invalid, match="an address that dst has or is allowed"):
        traced(TracedEnds(dst_address=ip_address("10.0.0.7")))
    with pytest.raises(Invalid, match="the version of IP that dst has"):
        traced(TracedEnds(src_address=ip_address("fd00::9"), dst_address=ip_address("10.0.0.100")))
