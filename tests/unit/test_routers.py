"""Routers: which networks they join, which they cannot, and the flows between two networks."""

from __future__ import annotations

import pytest

from controller.compiler.compile import compile_network
from intent.incremental.index import Index
from intent.recompute import view
from intent.views import View
from pipeline.flow import Origin
from pipeline.tables import Table
from specs.checks import called, joined, routers_in_order
from specs.documents.difference import diff
from specs.documents.document import parse
from specs.documents.export import export
from specs.snapshot import Snapshot, snapshot
from tests.unit import worlds
from warren.errors import Invalid

BLUE, GREEN = worlds.network("blue", 8, v6=False, mode="nat"), worlds.network("green", 9, v6=False, mode="routed")
AMBER, TEAL = worlds.network("amber", 7, v6=False, mode="nat"), worlds.network("teal", 10, v6=False, mode="nat")
FLAT = worlds.network("wire", 11, v6=False)
HOSTS = [worlds.host(f"h{i}", f"198.18.0.1{i}") for i in (1, 2, 3)]


def state(*entries: tuple[str, str]) -> Snapshot:
    return snapshot((key, value, born) for born, (key, value) in enumerate((*HOSTS, AMBER, BLUE, GREEN, TEAL, FLAT, *entries), 1))


def pairs(*entries: tuple[str, str]) -> tuple[set[str], dict[str, str]]:
    specs = state(*entries)
    to, misfits = joined(routers_in_order(specs), called(specs.networks))
    return {"-".join(sorted((a, b))) for a in to for b in to[a]}, {name: misfit.reason for name, misfit in misfits.items()}


def test_every_network_of_a_router_has_a_route_to_every_other() -> None:
    assert pairs(worlds.router("r", "amber", "green", "teal")) == ({"amber-green", "amber-teal", "green-teal"}, {})
    assert pairs(worlds.router("r", "amber", "green"), worlds.router("s", "green", "teal")) == ({"amber-green", "green-teal"}, {})


@pytest.mark.parametrize(
    ("routers", "left", "reason"),
    [
        ([("r", "amber", "blue", "green")], {"amber-green"}, "r: the range of network blue overlaps that of amber"),
        ([("r", "amber", "wire", "green")], {"amber-green"}, "r: network wire is flat: it has no gateway (mode nat or routed has one)"),
        ([("r", "nowhere", "amber", "green")], {"amber-green"}, "r: network nowhere does not exist"),
        (
            [("r", "amber", "green"), ("s", "green", "blue", "teal")],
            {"amber-green", "green-teal"},
            "s: the range of network blue overlaps that of amber, which green is routed to",
        ),
        (
            [("r", "amber", "green"), ("s", "blue", "green")],
            {"amber-green"},
            "s: the range of network blue overlaps that of amber, which green is routed to",
        ),
    ],
    ids=range(5),
)  # fmt: skip
def test_networks_whose_ranges_overlap_are_not_routed(routers: list[tuple[str, ...]], left: set[str], reason: str) -> None:
    routed, problems = pairs(*(worlds.router(*router) for router in routers))
    assert routed == left
    assert [f"{name}: {text}" for name, text in problems.items()] == [reason]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("routers: [{name: r, networks: [amber]}]", "routers[0].networks"),
        ("routers: [{name: r, networks: [amber, amber]}]", "routers[0].networks"),
        ("routers: [{name: r, networks: [amber, nowhere]}]", "routers[0].networks[1]: 'nowhere': .*does not exist"),
        ("routers: [{name: r, networks: [green, wire]}]", r"routers\[0\].networks\[1\]: 'wire': .*is flat"),
        ("routers: [{name: r, networks: [amber, green, blue]}]", r"routers\[0\].networks\[2\]: 'blue': .*overlaps that of amber"),
        (
            "networks: [{name: new, ip_range: 10.1.0.0/16, mode: nat}]\nrouters: [{name: r, networks: [green, new]}]",
            r"routers\[0\].networks\[1\]: 'new': .*overlaps that of green",
        ),
        (
            "routers: [{name: r, networks: [amber, green]}, {name: s, networks: [blue, green]}]",
            r"routers\[1\].networks\[1\]: 'green': .*overlaps that of amber",
        ),
    ],
    ids=range(7),
)  # fmt: skip
def test_a_document_is_refused_with_the_path(text: str, message: str) -> None:
    with pytest.raises(Invalid, match=message if "\\" in message else None) as error:
        diff(parse(text), state())
    assert "networks" in str(error.value)
    assert "\n" not in str(error.value)


def test_routers_survive_export_and_import() -> None:
    specs = state(worlds.router("core", "amber", "green"))
    assert "routers:\n- name: core\n" in export(specs) or "routers:\n- {name: core" in export(specs)
    assert diff(parse(export(specs)), specs, prune=True) == ()
    (change,) = diff(parse("routers: []"), specs, prune=True)
    assert (change.action, change.kind, change.name) == ("delete", "router", "core")
    # a router lets go of a network before that goes
    text = "networks: [{name: green}, {name: teal}]\nrouters: [{name: core, networks: [green, teal]}]"
    kinds = [(c.action, c.kind) for c in diff(parse(text), specs, prune=True)]
    assert kinds == [("update", "router"), *[("delete", "network")] * 3]
    # a network that the document makes now, and one that takes the place of another
    text = "networks: [{name: new, ip_range: 10.7.0.0/16, mode: nat}]\nrouters: [{name: core, networks: [new, blue]}]"
    assert [(c.action, c.kind) for c in diff(parse(text), specs)] == [("create", "network"), ("update", "router")]


def seen(host: str, *entries: tuple[str, str]) -> View:
    specs = state(*entries)
    return view(specs, host, {e.id: e.ofport for e in specs.endpoints.values() if e.host == host}, 65279, 65278)


def test_a_host_has_only_the_networks_that_its_own_are_routed_to() -> None:
    entries = (
        worlds.endpoint("a1", "amber", "h1", 2, 1, v6=False),
        worlds.endpoint("g2", "green", "h2", 2, 1, v6=False),
        worlds.endpoint("t3", "teal", "h3", 2, 1, v6=False),
        worlds.router("r", "amber", "green"),
        worlds.router("s", "green", "teal"),
    )
    expected = {"h1": {"a1", "g2"}, "h2": {"a1", "g2", "t3"}, "h3": {"g2", "t3"}}
    assert {host: {e.id for e in seen(host, *entries).endpoints} for host in expected} == expected
    assert {e.id for e in seen("h1", *entries).endpoints if e.routed_remote} == {"g2"}
    assert {e.id for e in seen("h1", *entries[:3]).endpoints} == {"a1"}


def test_a_change_of_conntrack_two_routers_away_is_noticed() -> None:
    """Teal's route to green asks green's zone while amber, which green is routed to as well, has a rule that tracks connections."""
    entries = [
        *HOSTS, AMBER, GREEN, TEAL,
        worlds.router("r", "amber", "green"),
        worlds.router("s", "green", "teal"),
        *(worlds.endpoint(f"{net[0]}1", net, "h1", 2, ofport, v6=False) for ofport, net in enumerate(("amber", "green", "teal"), 1)),
        worlds.acl("ask", [{"proto": "tcp", "allow_related": True}]),
    ]  # fmt: skip
    entries.append(worlds.endpoint("a1", "amber", "h1", 2, 1, v6=False, acls=("ask",)))
    index, store = Index("h1"), {}
    index.set_endpoint_ports({"a1": 1, "g1": 2, "t1": 3})
    zones = []
    for born, (key, value) in enumerate(entries, 1):
        store[key] = value, store[key][1] if key in store else born
        index.put(key, *store[key])
        index.flush()
        full = view(snapshot((k, *entry) for k, entry in store.items()), "h1", {"a1": 1, "g1": 2, "t1": 3}, None)
        assert index.view() == full
        zones += [route.zone for n in full.networks if n.id == "teal" for route in n.routes]
    assert zones[-2:] == [0, 9]


@pytest.mark.parametrize(
    ("mine", "theirs", "limit"),
    [(None, None, 0), (None, 1300, 1300), (1400, 1300, 1300), (1300, 1300, 0), (1300, 1400, 0), (1300, None, 0)],
)
def test_the_size_is_checked_only_towards_networks_with_a_smaller_mtu(mine: int | None, theirs: int | None, limit: int) -> None:
    entries = (
        worlds.network("amber", 7, v6=False, mode="nat", mtu=mine),
        worlds.network("green", 9, v6=False, mode="nat", mtu=theirs),
        worlds.endpoint("a1", "amber", "h1", 2, 1, v6=False),
        worlds.router("r", "amber", "green"),
    )
    specs = snapshot((key, value, born) for born, (key, value) in enumerate((*HOSTS, *entries), 1))
    (amber,) = (n for n in view(specs, "h1", {"a1": 1}, 65279, 65278).networks if n.id == "amber")
    assert [route.mtu for route in amber.routes] == [limit]
    checked = {flow.table for flow in compile_network(amber, 65279).flows if flow.origin == Origin("router", "r")}
    assert checked == ({Table.ROUTE, Table.MTU_CHECK} if limit else {Table.ROUTE})
