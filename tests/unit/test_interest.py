"""A host that reads the endpoints of the networks that concern it arrives at what a host arrives at that reads all."""

from __future__ import annotations

import dataclasses
import json
import random
import threading
from collections.abc import Callable, Generator, Iterable
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intent.history import standing
from intent.incremental.index import Index
from intent.recompute import view
from specs import keys
from specs.interest import Interest, networks_of
from specs.snapshot import snapshot
from specs.store.feed import Feed
from specs.store.values import Compacted, Entry, KeyRange, Reread, WatchEvent
from tests.depth import examples
from tests.unit import worlds
from tests.unit.test_incremental import BEGINNING, TUNNEL
from warren.errors import Unavailable

Change = tuple[str, str | None]
PLUGGED = {name: number for number, name in enumerate(worlds.ENDPOINTS, 1)}


class Deeds(NamedTuple):
    """What befalls the store while a host reads it: changes, and what becomes of the stream after some deliveries."""

    changes: list[Change]
    lost: int | None = None  # the stream is lost after so many deliveries
    compacted: bool = False  # etcd forgets its past first
    meanwhile: str | None = None  # what befalls while the next network arrives: compacted, lost, restored


class History:
    """An etcd in memory, with all that it has been; its watches deliver in any order, but for one range in the right one."""

    def __init__(self, seed: int) -> None:
        self.versions: list[dict[str, Entry]] = [{}]
        self.events: list[WatchEvent] = []
        self.compacted = 0
        self.chance = random.Random(seed)
        self.cluster = 1
        self.idle: Callable[[], bool] = lambda: False  # makes the next change; False: there is none
        self.losing: int | None = None
        self.meanwhile: str | None = None

    @property
    def revision(self) -> int:
        return len(self.versions) - 1

    def write(self, changes: Iterable[Change]) -> None:
        """One transaction."""
        entries, revision = dict(self.versions[-1]), self.revision + 1
        for key, value in changes:
            before = entries.pop(key, None)
            if value is not None:
                entries[key] = Entry(key, value, before.create_revision if before else revision, revision)
            if value is not None or before is not None:
                born = entries[key].create_revision if value is not None else 0
                self.events.append(WatchEvent(key, value, born, revision))
        self.versions.append(entries)

    def before(self, entry: Entry) -> Entry | None:
        """The version of a key before this one."""
        earlier = self.versions[entry.mod_revision - 1].get(entry.key)
        return earlier if earlier is not None and earlier.create_revision == entry.create_revision else None

    # what a feed asks of a store

    def read(self, within: KeyRange, revision: int = 0) -> tuple[int, list[Entry]]:
        if revision and self.meanwhile is not None:
            self.befall()
        revision = revision or self.revision
        if revision < self.compacted:
            raise Compacted("etcd", "compacted")
        return revision, [e for k, e in sorted(self.versions[revision].items()) if within.first <= k < within.end]

    def befall(self) -> None:
        """What befalls while a network arrives."""
        deed, self.meanwhile = self.meanwhile, None
        if deed == "compacted":
            self.compacted = self.revision
            raise Compacted("etcd", "compacted")
        if deed == "restored":
            self.cluster += 1
            self.versions = self.versions[: max(2, self.revision // 2)]
            self.events = [event for event in self.events if event.mod_revision <= self.revision]
            self.compacted = 0
        raise Unavailable("etcd", "lost")

    def check_same(self, cluster: int, revision: int, witness: Entry | None) -> None:
        if revision > self.revision or cluster != self.cluster:
            raise Reread("another etcd")

    def watch(self, seen: Callable[[], int], stop: threading.Event) -> Stream:
        return Stream(self, stop)

    def add_watch(self, stream: Stream, within: KeyRange, start: int) -> None:
        if start <= self.compacted:
            stream.forgotten = True
        stream.positions[within] = start

    def event(self, event: WatchEvent) -> WatchEvent:
        return event


@dataclasses.dataclass
class Message:
    events: list[WatchEvent]


class Stream:
    """Delivers what is due: any of the ranges first, one revision or several at once."""

    def __init__(self, history: History, stop: threading.Event) -> None:
        self.history, self.stop = history, stop
        self.positions: dict[KeyRange, int] = {}
        self.forgotten = False

    def remove(self, within: KeyRange) -> None:
        del self.positions[within]

    def responses(self) -> Generator[tuple[KeyRange, Message]]:
        history = self.history
        while True:
            if self.forgotten:
                raise Reread("compacted")
            due = {within: news for within, start in self.positions.items() if (news := self.due(within, start))}
            if not due:
                if not history.idle():
                    self.stop.set()
                    raise Unavailable("etcd", "the end")
                continue
            if history.losing is not None:
                history.losing -= 1
                if history.losing < 0:
                    history.losing = None
                    raise Unavailable("etcd", "lost")
            within = history.chance.choice(sorted(due))
            news = due[within]
            last = history.chance.choice([event.mod_revision for event in news])
            self.positions[within] = last + 1
            yield within, Message([event for event in news if event.mod_revision <= last])

    def due(self, within: KeyRange, start: int) -> list[WatchEvent]:
        return [e for e in self.history.events if e.mod_revision >= start and within.first <= e.key < within.end]


class AtOnce(threading.Event):
    """A stop that nobody waits for."""

    def wait(self, timeout: float | None = None) -> bool:
        return self.is_set()


class Reader:
    """A host that reads what concerns it."""

    def __init__(self, history: History, name: str) -> None:
        self.history, self.name = history, name
        self.index = Index(name)
        self.state: dict[str, Entry | WatchEvent] = {}
        self.interest = Interest(name)
        complete: Callable[[list[Entry]], list[Entry]] = lambda entries: list(standing(entries, history.before))  # noqa: E731
        self.feed = Feed(
            history,  # type: ignore[arg-type]
            self.interest,
            self.read,
            self.changed,
            lambda reason: None,
            self.left,
            complete,
        )
        self.snapshots = 0

    def read(self, revision: int, entries: list[Entry]) -> None:
        self.snapshots += 1
        for key in set(self.state) - {entry.key for entry in entries}:
            self.index.put(key, None, 0)
            del self.state[key]
        self.put(entries)

    def changed(self, revision: int, events: list[WatchEvent]) -> None:
        self.put(events)

    def put(self, entries: Iterable[Entry | WatchEvent]) -> None:
        self.index.followed = networks_of(self.feed.followed)
        for entry in entries:
            self.index.put(entry.key, entry.value, entry.create_revision)
            if entry.value is None:
                self.state.pop(entry.key, None)
            else:
                self.state[entry.key] = entry

    def left(self, prefixes: frozenset[str]) -> None:
        for key in [key for key in self.state if key.startswith(tuple(prefixes))]:
            self.index.put(key, None, 0)
            del self.state[key]

    def compare(self) -> None:
        """Compare with what a host arrives at that reads all."""
        entries = standing(self.history.versions[-1].values(), self.history.before)
        past = [(entry.key, entry.value, entry.create_revision) for entry in entries]
        full = view(snapshot(past), self.name, PLUGGED, TUNNEL, 65278, {"tap0": 900})
        self.index.flush()
        mine = self.index.view()
        assert dataclasses.replace(mine, problems=full.problems) == full
        assert mine.problems <= full.problems, "what it does not know it does not complain about"


def with_placements(changes: Iterable[Change], store: dict[str, Entry]) -> list[Change]:
    """The changes, with the placements that the same transactions write. An id is in one network at a time."""
    done: dict[str, str | None] = {}
    for key, value in changes:
        done[key] = value
        if not key.startswith(keys.ENDPOINTS):
            continue
        name = key.rpartition("/")[2]
        for other in [k for k in (*store, *done) if k.startswith(keys.ENDPOINTS) and k.endswith(f"/{name}") and k != key]:
            done[other] = None if value is not None else done.get(other, store[other].value if other in store else None)
        if value == "{":
            continue  # written by hand: the placement stays as it is
        for host in worlds.HOSTS:
            done[keys.placement(host, name)] = None
        if value is not None:
            done[keys.placement(json.loads(value)["host"], name)] = key.split("/")[-2]
    return list(done.items())


PLACING: list[Change] = [(keys.placing(host), "1") for host in worlds.HOSTS]
written = st.one_of(
    worlds.endpoints, worlds.endpoints, worlds.endpoints, worlds.acls, worlds.networks, worlds.hosts, worlds.tenants,
    worlds.mirrors, worlds.captures, worlds.routers, worlds.services, worlds.malformed, worlds.subports,
    st.sampled_from(PLACING), st.sampled_from([(key, None) for key, _ in PLACING[1:2]]),
)  # fmt: skip
deleted = st.sampled_from(sorted({key for key, _ in BEGINNING})).map(lambda key: (key, None))
deeds = st.builds(
    Deeds,
    st.lists(written | written | deleted, min_size=1, max_size=3),
    st.none() | st.none() | st.integers(0, 3),
    st.sampled_from((False, False, False, True)),
    st.sampled_from((None, None, "compacted", "lost", "restored")),
)


@settings(max_examples=examples(1000))
@given(st.sampled_from(worlds.HOSTS), st.lists(deeds, max_size=8), st.integers(0, 1000), st.sampled_from((0.0, 1e9)))
def test_a_host_that_reads_what_concerns_it_arrives_where_one_does_that_reads_all(
    name: str, sequence: list[Deeds], seed: int, linger_s: float
) -> None:
    history = History(seed)
    history.write(with_placements([*BEGINNING, *PLACING], {}))
    host = Reader(history, name)
    host.index.set_endpoint_ports(PLUGGED)
    host.index.tunnels.set_default(TUNNEL)
    host.index.set_uplink(65278)
    host.index.set_interfaces({"tap0": 900})
    steps = iter(sequence)

    def next_deeds() -> bool:
        host.compare()
        done = next(steps, None)
        if done is None:
            return False
        for change in done.changes:
            history.write(with_placements([change], history.versions[-1]))
        history.losing, history.meanwhile = done.lost, done.meanwhile
        if done.compacted:
            history.compacted = history.revision
        return True

    history.idle = next_deeds
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("specs.store.feed.LINGER_S", linger_s)
        host.feed.run(AtOnce())


AMBER, BLUE, GREEN, TEAL = "amber", "blue", "green", "teal"
HERE: list[Change] = [
    *((keys.placing(name), "1") for name in worlds.HOSTS),
    *(worlds.host(name, f"198.18.0.1{name[1:]}") for name in worlds.HOSTS),
    *(worlds.network(name, number, mode="nat") for number, name in enumerate((AMBER, BLUE, GREEN, TEAL), 7)),
    (keys.placement("h1", "e0"), AMBER),
]


def concerned(*changes: Change, name: str = "h1") -> frozenset[str] | None:
    interest = Interest(name)
    for key, value in (*HERE, *changes):
        interest.put(key, value)
        interest.prefixes()
    return networks_of(interest.prefixes())


def naming(network: str, name: str = "web") -> Change:
    return worlds.acl(name, [{"from": {"network": network}, "actions": {"allow": 1}}])


@pytest.mark.parametrize(
    ("changes", "networks"),
    [
        ([], {AMBER}),
        ([(keys.placement("h2", "e1"), BLUE), worlds.endpoint("e1", BLUE, "h2", 3, 1)], {AMBER}),
        ([worlds.endpoint("e1", BLUE, "h1", 3, 1)], {AMBER, BLUE}),  # written by hand: it has no placement
        ([(keys.placement("h1", "e0"), None)], set()),
        # routers: the second decides whether the first tracks connections
        ([worlds.router("core", AMBER, GREEN), worlds.router("edge", GREEN, TEAL)], {AMBER, GREEN, TEAL}),
        (
            [worlds.router("core", AMBER, GREEN), worlds.router("edge", GREEN, TEAL), worlds.router("far", TEAL, BLUE)],
            {AMBER, GREEN, TEAL},
        ),
        ([worlds.router("core", BLUE, GREEN)], {AMBER}),
        # ACLs that are in force here: of an endpoint, the network, the host, the tenant
        ([naming(BLUE)], {AMBER}),
        ([naming(BLUE), worlds.endpoint("e0", AMBER, "h1", 2, 1, acls=("amber:web",))], {AMBER, BLUE}),
        ([naming(BLUE), worlds.endpoint("e0", AMBER, "h2", 2, 1, acls=("web",))], {AMBER}),
        ([naming(BLUE), worlds.network(AMBER, 7, default=("web",))], {AMBER, BLUE}),
        ([naming(BLUE), worlds.network(AMBER, 7, out=("web",))], {AMBER, BLUE}),
        ([naming(BLUE), worlds.network(AMBER, 7, mode="nat", nat=("web",))], {AMBER, BLUE}),
        ([naming(BLUE), worlds.network(GREEN, 7, default=("web",))], {AMBER}),
        ([naming(BLUE), worlds.host("h1", "198.18.0.11", ("web",))], {AMBER, BLUE}),
        ([naming(BLUE), worlds.host("h2", "198.18.0.12", ("web",))], {AMBER}),
        ([naming(BLUE), worlds.tenant(("web",))], {AMBER, BLUE}),
        ([naming(BLUE), worlds.tenant(("web",)), (keys.acl("web"), '{"name": "web", "rules": 7}')], {AMBER, BLUE}),
        ([naming(BLUE), worlds.tenant(("web",)), (keys.acl("web"), None)], {AMBER}),
        # mirrors: a source here, or a target here
        ([worlds.mirror("all", [{"network": AMBER}], {"network": TEAL, "endpoint": "e9"})], {AMBER, TEAL}),
        ([worlds.mirror("all", [{"network": BLUE}], {"network": AMBER, "endpoint": "e0"})], {AMBER, BLUE}),
        ([worlds.mirror("all", [{"network": BLUE}], {"network": TEAL, "endpoint": "e9"})], {AMBER}),
        ([worlds.mirror("all", [{"network": BLUE}], {"host": "h1", "interface": "tap0"})], {AMBER, BLUE}),
        ([worlds.mirror("all", [{"network": BLUE}], {"host": "h2", "interface": "tap0"})], {AMBER}),
        ([worlds.capture("c", {"network": BLUE, "endpoint": "e3"}, "h1", 4000)], {AMBER, BLUE}),
        # names that only later mean something, and mean something else
        ([worlds.router("core", AMBER, "late"), (keys.network("n9"), '{"id": "n9", "name": "late"}')], {AMBER, "n9"}),
        (
            [
                worlds.router("core", AMBER, "late"),
                (keys.network("n9"), '{"id": "n9", "name": "late"}'),
                (keys.network("n9"), '{"id": "n9", "name": "later"}'),
            ],
            {AMBER},
        ),
        # names of tenants
        ([worlds.router("core", AMBER, f"acme/{GREEN}"), worlds.network(GREEN, 9, tenant="acme")], {AMBER, GREEN}),
        ([worlds.router("core", AMBER, f"acme/{GREEN}"), worlds.network(GREEN, 9, tenant="acme/")], {AMBER, GREEN}),
        ([worlds.router("core", AMBER, f"acme/{GREEN}"), worlds.network(GREEN, 9, tenant="other")], {AMBER}),
        ([naming(f"acme/{BLUE}"), worlds.network(BLUE, 8, tenant="acme"), worlds.tenant(("web",))], {AMBER, BLUE}),
        # what somebody wrote by hand
        ([(keys.router("core"), "{"), (keys.mirror("m"), "[1]"), (keys.endpoint(BLUE, "e5"), '"h1"')], {AMBER}),
        # an agent that writes no placements, and that is upgraded
        ([worlds.host("old", "198.18.0.99")], None),
        ([worlds.host("old", "198.18.0.99"), (keys.placing("old"), "1")], {AMBER}),
        ([worlds.host("old", "198.18.0.99"), (keys.host("old"), None)], {AMBER}),
        ([(keys.placing("h2"), None)], None),
    ],
)
def test_which_networks_concern_a_host(changes: list[Change], networks: set[str] | None) -> None:
    assert concerned(*changes) == networks


def test_a_host_without_endpoints_reads_none() -> None:
    assert concerned(name="h2") == frozenset()
