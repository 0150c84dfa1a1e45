"""Compares the incremental view with the full recompute after random changes, with ACLs in use from the start."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from acl.policy import PolicyView
from controller.compiler.compile import compile_view
from intent.incremental.index import Index
from intent.recompute import view
from intent.services import ServiceView
from intent.views import EndpointView, NetworkView, View, VirtualView
from mirror.sessions import MirrorSession
from pipeline.tables import RESOLVER_PORT
from pipeline.tunnels import tunnel_port
from specs.snapshot import snapshot
from tests.depth import examples
from tests.unit import worlds

Change = tuple[str, str | None]
Sequence = list[list[Change] | dict[str, int]]
TUNNEL = 65279
PLUGGED = {f"e{i}": i + 1 for i in (0, 1, 2, 3, 6)}
BEGINNING: tuple[Change, ...] = (
    *worlds.BEGINNING,
    worlds.network("blue", 65_542, default=("web",), mode="nat"),  # wants amber's conntrack zone
    worlds.endpoint("e1", "blue", "h1", 3, 2, labels={"web": ""}),
    worlds.endpoint("e2", "amber", "h1", 4, 3, acls=("blue:web", "amber:base")),
    worlds.mirror("all", [{"network": "blue"}, {"network": "amber", "label": "web"}], {"network": "amber", "endpoint": "e2"}),
    worlds.endpoint("e4", "blue", "h2", 6, 5, labels={"role": "db"}),
    # amber to green to teal: amber's ACLs decide whether teal tracks connections to green
    worlds.network("amber", 7, mode="nat"),
    worlds.network("green", 9, mode="routed"),
    worlds.network("teal", 10, mode="nat"),
    worlds.endpoint("e3", "green", "h1", 5, 4),
    worlds.endpoint("e5", "green", "h3", 7, 6),
    worlds.endpoint("e6", "teal", "h1", 8, 7),
    worlds.router("core", "green", "amber"),
    worlds.router("edge", "green", "teal"),
    worlds.service("shop", "blue", 80, endpoints=["e1", "e4"]),
)

RANGE = worlds.endpoint("e8", "amber", "h2", 20, 10, allowed=["10.0.0.8/29"])
VIRTUAL = worlds.endpoint("e8", "amber", "h2", 20, 10, allowed=["10.0.0.100,02:57:0a:00:00:0a"])

written = st.one_of(
    worlds.endpoints,
    worlds.endpoints,
    worlds.subports,
    worlds.acls,
    worlds.networks,
    worlds.hosts | worlds.hostnets | worlds.clusters | worlds.profiles,
    worlds.meters | worlds.tenants,
    worlds.malformed,
    worlds.mirrors,
    worlds.routers | worlds.services,
)
deleted = st.sampled_from(sorted({key for key, _ in BEGINNING})).map(lambda key: (key, None))
changes = st.lists(st.lists(written | written | deleted, min_size=1, max_size=3) | worlds.quarrels | worlds.ports, max_size=8)


leased = st.lists(st.lists(written | deleted, min_size=1, max_size=3) | worlds.leases | worlds.ports, max_size=6)


@settings(max_examples=examples(1500))
@example(
    [[(worlds.endpoint("e5", "green", "h3", 7, 6)[0], None)], [worlds.network("green", 11, mode="routed")]]
)  # its neighbours' routes have its VNI
@example([[worlds.inside("e7", "green", "h1", 9, 5, "e0", 10)], {"e0": 9}])  # a cable moves, and who is on it
@example(
    [[worlds.behind("e7", "amber", "h2", 6, "tap0")], [worlds.endpoint("e7", "amber", "h2", 9, 7)]]
)  # nobody unknown there any more
# amber and teal get what green's endpoints send from h3, by its new address
@example([[worlds.endpoint("e9", "green", "h3", 9, 9)], [worlds.host("h3", "198.18.0.14")]])
@example([[worlds.endpoint("e9", "green", "h2", 9, 9)]])  # another host routes from green to them
# green, with nobody here, is routed to one less: teal looks again whether green tracks connections
@example([[worlds.behind("e3", "blue", "h1", 1, "tap0", 10, 10)], [worlds.network("amber", 7)]])
# an own address or MAC in what another is allowed: the later one is closed, and opens when the first one goes or gives it up
@example([[worlds.endpoint("e7", "amber", "h1", 10, 9)], [RANGE], [(worlds.endpoint("e7", "amber", "h1", 10, 9)[0], None)]])
@example([[RANGE], [worlds.endpoint("e7", "amber", "h1", 10, 9)], [worlds.endpoint("e8", "amber", "h2", 20, 10)]])
@example([[VIRTUAL], [worlds.endpoint("e7", "amber", "h1", 10, 9)], [(VIRTUAL[0], None)]])
# networks of two profiles with one VNI; a profile's hosts, encryption and port change, and it goes and comes back
@example(
    [
        [worlds.profile("far"), worlds.profile("safe", ("h1", "h2"), "always"), worlds.network("amber", 7, profile="far")],
        [worlds.network("blue", 7, mode="nat", profile="safe", named=True), worlds.host("h2", "198.18.0.12", site="s1")],
        {"e0": 1, "e1": 2, "e4": 5},
        [worlds.profile("far", ("h1",))],
        [worlds.profile("far", port=5000), worlds.profile("safe", encryption="never")],
        [(worlds.profile("far")[0], None)],
        [worlds.profile("far", ("site:s1",))],
    ]
)
# h2 moves to another site while the tunnel to it is down, which then comes up
@example([{"e0": 1, "e2": 3}, [worlds.host("h2", "198.18.0.12", site="s2")], {"e0": 1, "e1": 2, "e2": 3}])
@given(changes)
def test_every_change_leads_to_the_full_view(sequence: Sequence) -> None:
    follow(sequence)


@settings(max_examples=examples(300))
@given(leased)
def test_changes_of_external_addresses_lead_to_the_full_view(sequence: Sequence) -> None:
    follow(sequence)


def follow(sequence: Sequence) -> None:
    """Change by change, with the full recompute after each."""
    index = Index("h1")
    store: dict[str, list[tuple[str, int]]] = {}  # all that a key has been since it was created
    ports: dict[str, int] = {}
    revision = 0
    endpoints: dict[str, EndpointView] = {}
    networks: dict[str, NetworkView] = {}
    policies: dict[object, PolicyView] = {}
    index.tunnels.set_default(TUNNEL)
    uplink: int | None = None
    interfaces: dict[str, int] = {}
    encrypted: frozenset[str] = frozenset()
    sessions: dict[str, MirrorSession] = {}
    services: dict[str, ServiceView] = {}
    virtuals: dict[object, VirtualView] = {}
    peers: dict[str, str] = {}
    tunnels: dict[int, int | None] = {}
    tunnel_ports: frozenset[int] = frozenset()
    for step in (list(BEGINNING), PLUGGED, *sequence):
        if isinstance(step, dict):
            index.set_endpoint_ports(step)
            ports = step
            uplink = None if uplink and "e5" in step else 65278
            index.set_uplink(uplink)
            interfaces = {"tap0": 900, "warren-dns": 901, tunnel_port(1): 902} if "e4" in step else {}
            index.set_interfaces(interfaces)
            encrypted = frozenset(name for name, endpoint in (("h2", "e1"), ("h3", "e2")) if endpoint in step)
            index.set_encrypted(encrypted)
        else:
            for key, value in step:
                revision += 1
                born = store[key][0][1] if key in store else revision
                index.put(key, value, born)
                if value is None:
                    store.pop(key, None)
                else:
                    store.setdefault(key, []).append((value, born))
        delta = index.flush()
        for mine, news in (
            (endpoints, delta.endpoints),
            (networks, delta.networks),
            (policies, delta.policies),
            (sessions, delta.sessions),
            (services, delta.services),
            (virtuals, delta.virtuals),
            (peers, delta.peers),
        ):
            mine.update(news)  # type: ignore[arg-type]
        tunnels |= {number: index.tunnels.ofports.get(number) for number in delta.tunnels}
        tunnel_ports ^= delta.tunnel_ports
        entries = [(key, value, born) for key, past in store.items() for value, born in past]
        full = view(snapshot(entries), "h1", ports, TUNNEL, uplink, interfaces, encrypted)
        assert index.view() == full
        kept = {"networks": networks, "endpoints": endpoints, "policies": policies, "sessions": sessions, "services": services}
        kept |= {"virtuals": virtuals, "peers": peers}
        followed = {name: frozenset(v for v in views.values() if v is not None) for name, views in kept.items()}
        ofports = {number: ofport for number, ofport in tunnels.items() if ofport is not None}
        summed = View(host="h1", tunnels=ofports, tunnel_ports=tunnel_ports, problems=full.problems, **followed)
        assert summed == full, "the deltas do not add up"
    flows = compile_view(index.view()).flows
    assert len({(flow.table, flow.priority, flow.match) for flow in flows}) == len(flows), (
        "two flows want to be one in the switch"
    )


def test_a_changed_meter_reaches_the_policies_that_use_it() -> None:
    index = Index("h1")
    entries = (
        worlds.host("h1", "192.0.2.1"),
        worlds.network("amber", 7, default=("web",)),
        worlds.meter("slow", 1),
        worlds.acl("web", [{"proto": "tcp", "actions": {"allow": 1, "meter": "slow"}}]),
        worlds.endpoint("e0", "amber", "h1", 2, 1),
    )
    for revision, (key, value) in enumerate(entries, 1):
        index.put(key, value, revision)
    index.set_endpoint_ports({"e0": 1})
    first = index.flush().policies
    assert {meter.rate for policy in first.values() if policy for meter in policy.meters} == {1}
    index.put(*worlds.meter("slow", 3), 3)
    second = index.flush().policies
    assert second.keys() == first.keys()
    assert {meter.rate for policy in second.values() if policy for meter in policy.meters} == {3}


def test_an_endpoint_that_gets_a_label_reaches_the_policies_that_name_it() -> None:
    index = Index("h1")
    for born, (key, value) in enumerate(
        [
            worlds.host("h1", "198.18.0.11"), worlds.host("h2", "198.18.0.12"), worlds.network("amber", 7),
            worlds.acl("web", [{"from": {"label": "tier=db"}, "actions": {"allow": 1}}]),
            worlds.endpoint("here", "amber", "h1", 2, 1, acls=("web",)),
        ], 1,
    ):  # fmt: skip
        index.put(key, value, born)
    index.set_endpoint_ports({"here": 1})
    index.tunnels.set_default(65279)
    assert [policy.rules[0].sources for policy in index.flush().policies.values() if policy] == [()]
    key, value = worlds.endpoint("there", "amber", "h2", 3, 2, labels={"tier": "db"})
    index.put(key, value, 9)
    changed = [policy for policy in index.flush().policies.values() if policy]
    assert [str(source) for policy in changed for source in policy.rules[0].sources or ()] == ["10.0.0.3/32", "fd00::3/128"]


def test_the_port_of_the_resolver_reaches_the_networks_with_names() -> None:
    index = Index("h1")
    entries = (worlds.host("h1", "198.18.0.11"), worlds.network("amber", 7, named=True), worlds.network("blue", 8))
    for born, (key, value) in enumerate(
        (*entries, worlds.endpoint("e0", "amber", "h1", 2, 1), worlds.endpoint("e1", "blue", "h1", 3, 2)), 1
    ):
        index.put(key, value, born)
    index.set_endpoint_ports({"e0": 1, "e1": 2})
    index.set_interfaces({})
    assert index.flush().networks.keys() == {"amber", "blue"}
    index.set_interfaces({RESOLVER_PORT: 65277})
    assert index.flush().networks.keys() == {"amber"}
