"""YAML documents: refusals with their path, differences, and that export followed by import changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs.documents.difference import Change, diff
from specs.documents.document import SECTIONS, parse
from specs.documents.export import export
from specs.model.endpoint import Endpoint
from specs.model.host import Host
from specs.model.network import Network
from specs.snapshot import Snapshot
from tests.depth import examples, short_texts, texts
from warren.errors import Invalid


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("networks: [{name: amber, ip_range: 10.0.0.1/24}]", "networks[0].ip_range"),
        ("networks: [{name: amber}, {name: amber}]", "networks[1].name"),
        ("networks: [{ip_range: 10.0.0.0/24}]", "networks[0].name"),
        ("networks: [{name: amber, colour: red}]", "networks[0].colour"),
        ("networks: [{name: amber, type: bridge}]", "networks[0].type"),
        ("networks: [{name: amber, labels: {a: 1}}]", "networks[0].labels.a"),
        ("networks: {name: amber}", "networks"),
        ("networks: [amber]", "networks[0]"),
        ("endpoints: [{network: amber, host: h1}]", "endpoints[0].name"),
        ("endpoints: [{name: a, network: n, host: h}, {name: a, network: n, host: h2}]", "endpoints[1].name"),
        ("endpoints: [{name: a, network: n, host: h, mac_address: 1}]", "endpoints[0].mac_address"),
        ("hosts: [{name: h1}]", "hosts[0].vtep"),
        ("hosts: [{name: h1, vtep: null, underlay: null}]", "hosts[0].vtep"),
        ("bridges: []", "bridges"),
        ("- 1", "document"),
        ("networks: []\nnetworks: []", "line 2"),
        ("a: &a [1]\nb: *a", "line 2"),
        ("[" * 100_000, "line 1"),
        ("networks: [{name: amber", "line"),
        ("networks:\n\t- a", "line 2"),
        ("!!python/object/apply:os.system [id]", "line 1"),
        ("\x00", "document"),
        ("? [a]\n: b", "line 1"),
        ("x" * 1_048_577, "document"),
    ],
    ids=range(24),
)
def test_refused_with_the_path(text: str, path: str) -> None:
    with pytest.raises(Invalid) as error:
        parse(text)
    assert error.value.path.rpartition(": ")[2].startswith(path)
    assert "\n" not in str(error.value)


def test_a_bomb_costs_nothing() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 20)]
    with pytest.raises(Invalid, match="no YAML aliases"):
        parse("\n".join(lines))


def test_words_like_yes_and_on_stay_text() -> None:
    document = parse("endpoints: [{name: no, network: on, host: h1, mac_address: 12:34:56:11:22:33}]")
    assert document.endpoints is not None
    assert document.endpoints[0].stated() == {"name": "no", "network": "on", "host": "h1", "mac_address": "12:34:56:11:22:33"}


HOST = Host(name="h1", vtep="192.0.2.1")
AMBER = Network(id="n1", name="amber", vxlan_vni=7, ip_range="10.0.0.0/24", labels={"a": "b"})
WEB = Endpoint(
    id="e1", name="web", network_id="n1", host="h1", mac_address="02:00:00:00:00:01", ipv4_address="10.0.0.2", ofport=1
)
STORE = Snapshot(hosts={"h1": HOST}, networks={"n1": AMBER}, endpoints={"e1": WEB})


def changes_of(text: str, prune: bool = False, store: Snapshot = STORE) -> list[tuple[str, str, str]]:
    return [(c.action, c.kind, c.name) for c in diff(parse(text), store, prune)]


def test_fields_missing_from_a_document_stay() -> None:
    assert changes_of("networks: [{name: amber}]\nendpoints: [{name: web, network: amber, host: h1}]") == []
    assert changes_of("networks: [{name: amber, labels: {a: b}}]") == []


def test_fields_that_differ_in_a_document_are_changed() -> None:
    (change,) = diff(parse("networks: [{name: amber, labels: {}, mtu: 1400}]"), STORE)
    assert (change.action, change.id, change.path) == ("update", "n1", "networks[0]")
    assert change.fields == {"labels": ({"a": "b"}, {}), "mtu": (None, 1400)}
    (change,) = diff(parse("endpoints: [{name: web, network: n1, host: h1, ipv4_address: null}]"), STORE)
    assert change.fields == {"ipv4_address": ("10.0.0.2", None)}


def test_a_registered_host_of_a_cloud_needs_no_address() -> None:
    """Its agent finds VTEP, site, outside address and MTU, which may have changed since the document was written."""
    cloudy = Snapshot(hosts={"h1": HOST.model_copy(update={"underlay": "cloud", "site": "aws.x"})})
    item = "name: h1, underlay: cloud"
    earlier = "vtep: 192.0.2.9, site: elsewhere, outside: {address: 192.0.2.8, interface: eth1}, underlay_mtu: 9001, api: http://192.0.2.9:1"
    for text in (item, f"{item}, {earlier}", f"name: h1, {earlier}", f"{item}, vtep: null, site: null"):
        assert changes_of(f"hosts: [{{{text}}}]", store=cloudy) == [], text
    (change,) = diff(parse(f"hosts: [{{{item}, labels: {{a: b}}, {earlier}}}]"), cloudy)
    assert change.fields == {"labels": ({}, {"a": "b"})}
    (change,) = diff(parse(f"hosts: [{{{item}}}]"), STORE)
    assert (change.action, change.fields) == ("update", {"underlay": (None, "cloud")})
    (change,) = diff(parse("hosts: [{name: h1, vtep: 192.0.2.9, underlay: null}]"), cloudy)  # no longer the cloud's
    assert change.fields == {"underlay": ("cloud", None), "vtep": ("192.0.2.1", "192.0.2.9")}


@pytest.mark.parametrize("text", ["name: h1", "name: h1, underlay: null, vtep: null", "name: h1, vtep: null"])
def test_a_host_has_an_address_or_follows_a_cloud(text: str) -> None:
    with pytest.raises(Invalid, match=r"hosts\[0\]\.vtep is missing: an address on the underlay.*underlay: cloud"):
        parse(f"hosts: [{{{text}}}]")


@pytest.mark.parametrize("text", ["", ", vtep: null"])
def test_a_host_of_a_cloud_that_has_not_registered_needs_an_address(text: str) -> None:
    with pytest.raises(Invalid, match=r"hosts\[1\]\.vtep is missing: .* host c1 has not registered yet"):
        diff(parse(f"hosts: [{{name: h1, vtep: 192.0.2.1}}, {{name: c1, underlay: cloud{text}}}]"), STORE)


def test_new_objects_are_created_after_what_they_refer_to() -> None:
    text = "endpoints: [{name: db, network: blue, host: h2}]\nnetworks: [{name: blue}]\nhosts: [{name: h2, vtep: 192.0.2.2}]"
    assert changes_of(text) == [("create", "host", "h2"), ("create", "network", "blue"), ("create", "endpoint", "db")]


def test_pruning_deletes_only_in_sections_of_the_document() -> None:
    assert changes_of("networks: []", prune=True) == [("delete", "network", "amber")]
    assert changes_of("endpoints: []", prune=True) == [("delete", "endpoint", "web")]
    everything = [("delete", "endpoint", "web"), ("delete", "network", "amber"), ("delete", "host", "h1")]
    assert changes_of("{hosts: [], networks: [], endpoints: []}", prune=True) == everything
    assert changes_of("", prune=True) == changes_of("networks: []") == []


def test_addresses_are_freed_before_they_are_taken() -> None:
    text = "endpoints: [{name: new, network: amber, host: h1, ipv4_address: 10.0.0.2}]"
    assert changes_of(text, prune=True) == [("delete", "endpoint", "web"), ("create", "endpoint", "new")]


def test_references_to_missing_objects_are_refused() -> None:
    for text, path in (
        ("endpoints: [{name: a, network: nope, host: h1}]", "endpoints[0].network"),
        ("endpoints: [{name: a, network: amber, host: nope}]", "endpoints[0].host"),
    ):
        with pytest.raises(Invalid) as error:
            diff(parse(text), STORE)
        assert error.value.path == path


# ---- there and back -----------------------------------------------------------------------------------------------

words = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,10}\Z") | st.sampled_from(
    ["no", "null", "1.5", "007", "0x10", "true", "on"]
)
labels = st.dictionaries(st.text("ab:- #'\"\n", max_size=5), short_texts.filter(lambda t: t.isprintable()), max_size=2)


@st.composite
def stores(draw: st.DrawFn, one_name_per_id: bool = False) -> Snapshot:
    hosts = {
        name: Host(name=name, vtep=f"192.0.2.{i + 1}", api=draw(st.none() | st.just("http://x:1")), labels=draw(labels))
        for i, name in enumerate(draw(st.lists(words, min_size=1, max_size=3, unique=True)))
    }
    networks = {}
    for i, name in enumerate(draw(st.lists(words, max_size=3, unique=True))):
        v6 = {"ipv6_range": f"fd00:{i}::/64", "ipv6_gateway": f"fd00:{i}::1/64"} if draw(st.booleans()) else {}
        networks[f"id-{i}"] = Network(
            id=f"id-{i}", name=f"n{i}" if one_name_per_id else name, vxlan_vni=i + 1, ip_range=draw(st.sampled_from([None, "10.0.0.0/24"])),
            mtu=draw(st.none() | st.integers(576, 9000)), labels=draw(labels), created_at="2026-01-01T00:00:00Z", **v6,
        )  # fmt: skip
    endpoints: dict[str, Endpoint] = {}
    for i in range(draw(st.integers(0, 4)) if networks else 0):
        network = draw(st.sampled_from(sorted(networks)))
        endpoints[f"e{i}"] = Endpoint(
            id=f"e{i}", name=draw(st.sampled_from([None, f"name{i}"])), network_id=network,
            host=draw(st.sampled_from(sorted(hosts))),
            mac_address=f"12:34:56:11:22:{i:02d}",
            ipv4_address=draw(st.sampled_from([None, f"10.0.0.{i + 2}"])), ofport=i + 1,
            netns=draw(st.sampled_from([None, "/run/netns/a b"])), interface=draw(st.sampled_from([None, "eth0"])),
            active=draw(st.booleans()), labels=draw(labels),
        )  # fmt: skip
    return Snapshot(hosts=hosts, networks=networks, endpoints=endpoints)


@settings(max_examples=examples(150))
@given(stores())
def test_an_exported_document_applied_again_changes_nothing(store: Snapshot) -> None:
    text = export(store)
    assert diff(parse(text), store, prune=True) == ()
    assert export(store) == text


@settings(max_examples=examples(150))
@given(stores(one_name_per_id=True), stores(one_name_per_id=True))  # a network's name never changes: allocation refuses
def test_applying_a_document_with_prune_makes_any_store_equal_to_it(target: Snapshot, start: Snapshot) -> None:
    document = parse(export(target))
    after = applied(start, diff(document, start, prune=True))
    assert diff(document, after, prune=True) == ()
    assert set(after.hosts) == set(target.hosts)
    assert set(after.networks) == set(target.networks)
    assert set(after.endpoints) == set(target.endpoints)


def applied(start: Snapshot, changes: tuple[Change, ...]) -> Snapshot:
    """What a store would hold: an oracle on plain dictionaries."""
    plain: dict[str, dict[str, dict[str, Any]]] = {
        "host": {k: v.model_dump(mode="json") for k, v in start.hosts.items()},
        "network": {k: v.model_dump(mode="json") for k, v in start.networks.items()},
        "endpoint": {k: v.model_dump(mode="json") for k, v in start.endpoints.items()},
    }
    for change in changes:
        objects, identity = plain[change.kind], change.id or change.name
        if change.action == "delete":
            del objects[identity]
            continue
        data = dict(objects.get(identity, {})) | dict(change.stated)
        if change.kind == "endpoint" and "network" in data:
            reference = data.pop("network")
            data["network_id"] = next(n["id"] for n in plain["network"].values() if reference in (n["name"], n["id"]))
        objects[identity] = data
    return Snapshot(
        hosts={k: Host.model_validate(v) for k, v in plain["host"].items()},
        networks={k: Network.model_validate(v) for k, v in plain["network"].items()},
        endpoints={k: Endpoint.model_validate(v) for k, v in plain["endpoint"].items()},
    )


def test_a_record_that_is_wrong_as_a_whole_is_not_said_to_be_missing() -> None:
    with pytest.raises(Invalid) as error:
        parse("endpoints: [{name: e, network: n, host: h, publish: [{host_port: 1-2, port: 1}]}]")
    assert str(error.value) == "line 1: endpoints[0].publish[0]: expected as many ports in host_port (1-2) as in port (1)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "networks: [{name: a, dhcp: true}]",
            "networks[0].ip_range is missing: dhcp needs ip_range or ipv6_range",
        ),
        (
            "networks: [{name: a}, {name: b, mode: nat}]",
            "networks[1].ip_range is missing: mode nat needs ip_range or ipv6_range",
        ),
        ("networks: [{name: there, gateway: null, mode: nat}]", ""),
        (
            "networks: [{name: bare, mode: routed}]",
            "networks[0].ip_range is missing: mode routed needs ip_range or ipv6_range",
        ),
        ("networks: [{name: a, gateway: 10.0.0.1/24}]", "networks[0].ip_range is missing: gateway needs one"),
        (
            "networks: [{name: there, gateway: 10.1.0.1/24}]",
            "networks[0].gateway: '10.1.0.1/24': expected a host address of 10.0.0.0/24",
        ),
        (
            "networks: [{name: there, gateway: 10.0.0.255/24}]",
            "networks[0].gateway: '10.0.0.255/24': expected not the broadcast address",
        ),
        (
            "networks: [{name: there, dhcp: true, dhcp_routes: [{to: 10.9.0.0/16, via: 10.7.0.9}]}]",
            "networks[0].dhcp_routes[0].via: '10.7.0.9': expected an address of the network's ip_range (10.0.0.0/24)",
        ),
    ],
    ids=range(8),
)
def test_fields_that_do_not_fit_together_are_refused_before_anything_is_written(text: str, message: str) -> None:
    """Also with what the network has already."""
    existing = Network(id="n1", name="there", vxlan_vni=7, ip_range="10.0.0.0/24", gateway="10.0.0.1/24")  # type: ignore[arg-type]
    current = Snapshot(networks={"n1": existing, "n2": Network(id="n2", name="bare", vxlan_vni=8)})
    if not message:
        diff(parse(text), current)
        return
    with pytest.raises(Invalid) as error:
        diff(parse(text), current)
    assert str(error.value).startswith(message)


# ---- what people and programs write by mistake ------------------------------------------------------------------------

WHOLE_NUMBERS = [
    (section, field)
    for section, fields in {
        "networks": ("vxlan_vni", "mtu", "vlan", "preallocate", "ct_limit", "dhcp_lease_s"),
        "endpoints": ("ofport", "vlan"),
        "hosts": ("underlay_mtu",),
        "meters": ("meter_id", "rate", "burst"),
        "mirrors": ("snap", "vlan"),
        "services": ("host_port", "port"),
    }.items()
    for field in fields
]
ITEMS: dict[str, dict[str, Any]] = {
    "hosts": {"name": "h1", "vtep": "192.0.2.1"},
    "networks": {"name": "amber"},
    "endpoints": {"name": "web", "network": "amber", "host": "h1"},
    "meters": {"name": "m", "rate": 1},
    "mirrors": {"name": "m", "sources": [{"network": "amber"}], "to": {"host": "h1", "interface": "tap0"}},
    "services": {"name": "s", "network": "amber", "host_port": 80, "port": 80, "label": "x"},
    "routers": {"name": "r", "networks": ["amber", "blue"]},
    "acls": {"name": "a", "rules": [{"actions": {"allow": 1}}]},
    "tenants": {"name": "default"},
    "clusters": {"name": "default"},
}


@pytest.mark.parametrize(("section", "field"), WHOLE_NUMBERS)
@pytest.mark.parametrize("value", [True, False])
def test_a_truth_value_is_no_number(section: str, field: str, value: bool) -> None:
    with pytest.raises(Invalid, match="expected a whole number") as error:
        parse(json.dumps({section: [ITEMS[section] | {field: value}]}))
    assert error.value.path == f"{section}[0].{field}"


@pytest.mark.parametrize(
    ("section", "field"), [("endpoints", "netns"), ("hosts", "api"), ("networks", "domain"), ("endpoints", "interface")]
)
def test_an_empty_text_is_not_taken_for_a_value_that_is_left_out(section: str, field: str) -> None:
    with pytest.raises(Invalid) as error:
        parse(json.dumps({section: [ITEMS[section] | {field: ""}]}))
    assert error.value.path == f"{section}[0].{field}"


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | short_texts | st.sampled_from(["10.0.0.1", "::1", "a:b", "1-9"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(short_texts | st.sampled_from(["network", "host_port", "to", "actions"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def refusal(work: Callable[[], object]) -> Invalid | None:
    """The refusal of what somebody wrote, in one line of a sensible length; None if it is taken."""
    try:
        work()
    except Invalid as error:
        refused = error
    else:
        return None
    assert "\n" not in str(refused)
    assert len(str(refused)) < 1000
    return refused


@settings(max_examples=examples(2000))
@given(st.data())
def test_any_value_in_any_field_is_taken_or_refused_in_one_line(data: st.DataObject) -> None:
    section = data.draw(st.sampled_from(sorted(ITEMS)))
    field = data.draw(st.sampled_from(sorted(SECTIONS[section].model_fields)))
    item = ITEMS[section] | {field: data.draw(values)}
    prune = data.draw(st.booleans())
    refused = refusal(lambda: diff(parse(json.dumps({section: [item]})), STORE, prune=prune))
    assert refused is None or refused.path.startswith((f"{section}[0]", "line 1", section))


@settings(max_examples=examples(500))
@given(texts)
def test_any_text_is_a_document_or_refused_in_one_line(text: str) -> None:
    refusal(lambda: diff(parse(text), STORE))


def test_an_export_reads_the_same_for_every_record() -> None:
    """A field a line, and the fields by which a reader knows the record come first."""
    item = Endpoint.model_validate(WEB.data() | {"labels": {"a": "b"}, "publish": [{"host_port": 80, "port": 80}]})
    text = export(Snapshot(hosts={"h1": HOST}, networks={"n1": AMBER}, endpoints={"e1": item}))
    lines = text.splitlines()
    assert not any("{" in line or "[" in line for line in lines)
    assert [line for line in lines if line.startswith("- ")] == ["- name: h1", "- name: amber", "- name: web"]
    first = lines.index("- name: web")
    assert lines[first + 1 : first + 4] == ["  id: e1", "  network: amber", "  host: h1"]
