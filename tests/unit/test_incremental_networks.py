"""Networks, routers and services change by change: the same as all at once, and at a cost that follows the change."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from intent.incremental.index import Index
from intent.incremental.networks import Networks
from intent.incremental.routes import Routes
from intent.incremental.services import Services
from intent.incremental.zones import Zones
from specs import keys
from specs.checks import called, joined, routers_in_order, served, services_in_order, valid_networks, zones
from specs.snapshot import Snapshot, put
from tests.depth import examples
from tests.unit import worlds

NAMES = tuple("abcdefgh")
COUNT = 5  # zones, so that they run out


def network(
    name: str,
    vni: int,
    ip_range: str | None = None,
    mode: str = "flat",
    v6: str | None = None,
    called_as: str | None = None,
    tenant: str | None = None,
) -> tuple[str, str]:
    """A store entry."""
    fields = {"ip_range": ip_range, "ipv6_range": v6, "mode": mode if ip_range or v6 else "flat", "name": called_as or name}
    fields |= {"tenant": tenant} if tenant else {}
    return keys.network(name), json.dumps({"id": name, "vxlan_vni": vni} | fields)


ranges = st.sampled_from(
    (None, "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.128/25", "10.1.3.0/24", "10.2.0.0/15", "192.0.2.0/24")
)
tangled = st.builds(
    network,
    st.sampled_from(NAMES),
    st.sampled_from((1, 2, 2, 3, 6, 7, 11, 2 ^ 1 << 23)),
    ranges,
    st.sampled_from(("routed", "routed", "nat")),
    st.none() | st.sampled_from(("fd00::/48", "fd00:0:0:1::/64", "fd00:0:1::/48")),
    st.none() | st.sampled_from((*NAMES, "t/a", "t/b")),
    st.sampled_from((None, "t")),
)
# most networks are beside each other: otherwise few are valid, and nothing depends on anything
tidy = st.builds(
    lambda name, mode: network(name, 1 + NAMES.index(name), f"10.{100 + NAMES.index(name)}.0.0/24", mode),
    st.sampled_from(NAMES),
    st.sampled_from(("nat", "routed")),
)
routers = st.builds(
    lambda name, members: worlds.router(name, *members),
    st.sampled_from(("r", "s", "t")),
    st.lists(st.sampled_from((*NAMES, "t/a", "t/b")), min_size=2, max_size=4),
)
services = st.builds(
    lambda name, network_name, port: worlds.service(name, network_name, port, endpoints=["e0"]),
    st.sampled_from(("u", "v", "w")),
    st.sampled_from(NAMES),
    st.sampled_from((80, 81)),
)
gone = st.sampled_from(
    [*(keys.network(n) for n in NAMES), *(keys.router(n) for n in "rst"), *(keys.service(n) for n in "uvw")]
).map(lambda key: (key, None))
written = st.tuples(tidy | tidy | tangled | routers | services | gone, st.booleans())  # whether it was deleted before, unseen
changes = st.lists(written, max_size=30)
BESIDE = [network(name, 1 + i, f"10.{100 + i}.0.0/24", "nat") for i, name in enumerate(NAMES)]


class Parts:
    """The parts of an index that are under test, and the changes that they announced."""

    def __init__(self) -> None:
        self.state = Snapshot()
        self.networks = Networks(self.state)
        self.networks.zones.count = COUNT
        self.routes = Routes(self.state, self.networks.by_reference)
        self.services = Services(self.state, self.networks.by_reference)
        self.zones: dict[str, int] = {}
        self.of: dict[str, object] = {}

    def put(self, key: str, value: str | None, born: int) -> None:
        decoded = put(self.state, key, value, born)
        assert decoded is not None
        if decoded.kind == "network":
            delta = self.networks.update(decoded.id)
            self.routes.take_references(delta.references)
            self.follow(delta.moved, self.services.take_references(delta.references))
        elif decoded.kind == "router":
            self.routes.take_routers({decoded.id})
        else:
            self.follow((), self.services.take_services({decoded.id}))

    def follow(self, moved: Iterable[str], served_anew: Iterable[str]) -> None:
        self.zones.update((n, self.networks.zones.of[n]) for n in moved)
        self.of.update((n, self.services.of.get(n)) for n in served_anew)


def unseen(*entries: tuple[str, str | None]) -> list[tuple[tuple[str, str | None], bool]]:
    return [(entry, True) for entry in entries]


@settings(max_examples=examples(1500))
@example(  # the second overlaps both others: without the first it is valid, and the third no more
    unseen(
        network("a", 1, "10.1.2.0/24", "routed"), network("b", 2, "10.1.0.0/16", "routed"), network("c", 3, "10.1.3.0/24", "routed"),
        (keys.network("a"), None),
    )
)  # fmt: skip
@example(unseen(network("a", 1), network("b", 1 + COUNT), network("a", 1)))  # the older is new again, and both want one zone
# two wait for a zone
@example(unseen(network("a", 1), network("b", 1 + COUNT), network("c", 1 + 2 * COUNT), (keys.network("a"), None)))
@example(unseen(*BESIDE, worlds.router("r", "a", "b"), worlds.router("s", "b", "c")))  # a router meets others
@example(unseen(*BESIDE, worlds.router("r", "a", "b"), worlds.router("s", "b", "c"), worlds.router("s", "c", "d")))
@example(
    unseen(
        *BESIDE,
        worlds.service("u", "a", 80, endpoints=["e0"]),
        worlds.service("v", "b", 80, endpoints=["e0"]),
        worlds.service("u", "a", 81, endpoints=["e0"]),
    )
)
@given(changes)
def test_change_by_change_is_as_all_at_once(sequence: list[tuple[tuple[str, str | None], bool]]) -> None:
    parts = Parts()
    state, born = parts.state, dict[str, int]()
    for revision, ((key, value), is_new) in enumerate(sequence, 1):
        if is_new:
            born.pop(key, None)
        parts.put(key, value, born.setdefault(key, revision))
        if value is None:
            born.pop(key, None)
        valid, problems = valid_networks(state)
        assert (parts.networks.valid, parts.networks.problems) == (valid, problems)
        assert parts.networks.by_reference == called(valid)
        assert parts.networks.of_vni == {n.vxlan_vni: n.id for n in valid.values()}
        assert parts.networks.zones.of == zones(state, valid, COUNT)
        assert {n: parts.zones[n] for n in valid} == parts.networks.zones.of, "a zone moved, and nobody was told"
        to, misfits = joined(routers_in_order(state), called(valid))
        assert parts.routes.to == to
        assert parts.routes.problems == {name: misfit.reason for name, misfit in misfits.items()}
        of, not_served = served(services_in_order(state), called(valid))
        assert (parts.services.of, parts.services.problems) == (of, not_served)
        assert {n: s for n, s in parts.of.items() if s is not None} == of, "services changed, and nobody was told"


def index_of(count: int) -> Index:
    """An index with so many routed networks beside each other, a router and a service for every two of them."""
    index = Index("h1")
    for i in range(count):
        index.put(*network(f"n{i}", i + 1, f"10.{i // 256}.{i % 256}.0/24", "routed" if i % 2 else "nat"), i + 1)
        if i % 2:
            index.put(*worlds.router(f"r{i}", f"n{i - 1}", f"n{i}"), i + 1)
            index.put(*worlds.service(f"s{i}", f"n{i - 1}", i + 1, endpoints=["e0"]), i + 1)
    index.flush()
    return index


CHANGES: tuple[tuple[tuple[str, str | None], ...], ...] = (
    (network("new", 60_000, "10.200.0.0/24", "routed"), (keys.network("new"), None)),
    (network("new", 4, "10.200.0.0/24"), (keys.network("new"), None)),  # the VNI of n3
    (network("new", 60_000, "10.0.3.0/25", "routed"), (keys.network("new"), None)),  # in the range of n3
    (network("n3", 4, "10.0.3.0/24", "nat"),),
    ((keys.network("n3"), None), network("n3", 4, "10.0.3.0/24", "routed")),
    (worlds.router("r3", "n2", "n3", "n4"), (keys.router("r3"), None)),
    (worlds.service("s3", "n4", 4, endpoints=["e1"]), worlds.service("s3", "n4", 6, endpoints=["e1"])),
)


@pytest.mark.parametrize("entries", CHANGES, ids=range(len(CHANGES)))
def test_a_change_costs_the_same_beside_many_networks_as_beside_few(entries: tuple[tuple[str, str | None], ...]) -> None:
    assert work(index_of(40), entries) == work(index_of(400), entries) < 40


def work(index: Index, entries: Iterable[tuple[str, str | None]]) -> int:
    """How many networks, zones, routers and services an index looks at for some changes."""
    parts = (index._networks, index._networks.zones, index.routes, index.services)
    before = sum(part.steps for part in parts)
    for born, (key, value) in enumerate(entries, 10_000):
        index.put(key, value, born)
    assert len(index.flush().networks) < 10
    return sum(part.steps for part in parts) - before


def test_a_network_that_finds_its_zone_taken_costs_the_zones_that_follow() -> None:
    state = Snapshot()
    for i in range(100):
        put(state, *network(f"n{i}", i + 1), i + 1)
    table = Zones(state)
    table.update((), [(n, (i, n), state.networks[n].vxlan_vni) for i, n in enumerate(state.networks)])
    assert table.steps == 100
    put(state, *network("late", 65_536 + 50), 200)  # its home is that of n50
    assert table.update((), [("late", (200, "late"), 65_536 + 50)]) == {"late"}
    assert (table.of["late"], table.steps) == (101, 151)
    assert table.update({"n70"}, ()) == {"late"}
    assert table.of["late"] == 71
