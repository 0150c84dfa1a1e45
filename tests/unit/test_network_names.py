"""Names of networks that tenants share: TENANT/NAME finds one, in keys, paths, documents, policies and names of hosts alike."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from acl.policy import network_of
from agent.names.index import NameIndex
from specs import keys
from specs.checks import called
from specs.documents.difference import diff
from specs.documents.document import parse
from specs.documents.export import export
from specs.model.base import decode
from specs.model.endpoint import Endpoint
from specs.model.names import full, is_network_name, names_of, near, short, tenant_in
from specs.model.network import Network
from specs.model.tenant import Tenant
from specs.snapshot import Snapshot
from tests.unit import worlds
from tools.cli.client import Failure
from tools.cli.mirror import _source, _target
from warren.client import Invalid as ClientInvalid
from warren.client.calls import endpoint_path, path
from warren.errors import Invalid

words = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", fullmatch=True).filter(lambda word: word not in ("default", ".", ".."))


@pytest.mark.parametrize("name", ["blue", "acme/blue", "a/b", "1/2", "A.b_c-d/x", f"{'t' * 63}/{'n' * 63}"])
def test_names(name: str) -> None:
    assert is_network_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "/", "acme/", "/blue", "a/b/c", "acme//blue", "default/blue", "acme/-b", "-a/b", "a b/c", "a/b\n", "a\n/b", "ä/b", "a/..", "../b",
     f"{'t' * 64}/n", f"t/{'n' * 64}", "acme:blue", "acme%2Fblue"],
)  # fmt: skip
def test_what_is_no_name(name: str) -> None:
    assert not is_network_name(name)
    for text in (f"networks: [{{name: {json.dumps(name)}}}]", f"adopt: [{{match: tap0, network: {json.dumps(name)}}}]"):
        with pytest.raises(Invalid) as error:
            parse(text)
        assert error.value.path in ("networks[0].name", "adopt[0].network")
    with pytest.raises(Invalid):
        decode(Network, {"id": "n1", "name": name, "vxlan_vni": 1})


@given(st.none() | words, words)
@example("acme", "blue")
def test_a_name_is_found_again(tenant: str | None, name: str) -> None:
    both = full(name, tenant)
    assert is_network_name(both)
    assert (tenant_in(both), short(both)) == (tenant, name)
    assert full(both, tenant) == both
    assert names_of(name, tenant) == tuple(dict.fromkeys((name, both)))
    assert names_of(both, tenant) == (both,)
    key = keys.claim_network_name(both)
    assert key.removeprefix(keys.claim_network_name("")) == both
    if set(both.split("/")).isdisjoint((".", "..")):
        assert unquote(path("networks", both)) == f"/networks/{both}"
        assert unquote(endpoint_path(f"{both}/web")) == f"/endpoints/{both}/web"


@given(st.lists(st.tuples(st.none() | words, words), min_size=2, max_size=5, unique_by=lambda pair: full(pair[1], pair[0])))
def test_no_two_networks_have_one_key(pairs: list[tuple[str | None, str]]) -> None:
    assert len({keys.claim_network_name(full(name, tenant)) for tenant, name in pairs}) == len(pairs)


@pytest.mark.parametrize("name", ["acme/", "/blue", "a/b/c", "", "/", "../x", "x/.."])
def test_paths_of_what_is_no_name(name: str) -> None:
    with pytest.raises(ClientInvalid):
        path("networks", name)
    for reference in (f"{name}/web/x" if name != "" else "", "a/b/c/d"):
        with pytest.raises(ClientInvalid):
            endpoint_path(reference)
    with pytest.raises(ClientInvalid):
        path("hosts", "a/b")


def network(identity: str, name: str, tenant: str | None = None, vni: int = 7, **fields: Any) -> Network:
    return decode(Network, {"id": identity, "name": name, "vxlan_vni": vni, "tenant": tenant, **fields})


def test_the_name_says_the_tenant() -> None:
    assert network("n1", "acme/blue").tenant == "acme"
    assert network("n1", "acme/blue", "acme").references == ("n1", "acme/blue")
    assert network("n1", "blue", "acme").references == ("n1", "blue", "acme/blue")
    assert network("n1", "blue").references == network("n1", "blue", "default").references == ("n1", "blue")
    with pytest.raises(Invalid) as error:
        network("n1", "acme/blue", "globex")
    assert (error.value.path, "acme/blue" in str(error.value)) == ("tenant", True)
    with pytest.raises(Invalid) as error:
        parse("tenants: [{name: globex}]\nnetworks:\n  - {name: acme/blue, tenant: globex}\n")
    assert (error.value.path, error.value.line) == ("networks[0].tenant", 3)


def test_references() -> None:
    networks = {
        n.id: n for n in (network("n1", "blue", "acme"), network("n2", "globex/blue", vni=8), network("n3", "red", vni=9))
    }
    by_reference = called(networks)
    for reference, identity in (("blue", "n1"), ("acme/blue", "n1"), ("globex/blue", "n2"), ("n2", "n2"), ("red", "n3")):
        assert by_reference[reference].id == identity
        assert network_of(reference, networks) == identity
    for reference in ("default/red", "acme/red", "other/blue", "globex"):
        assert reference not in by_reference
        assert network_of(reference, networks) is None
    assert near("blue", by_reference) == ["acme/blue", "blue", "globex/blue"]
    assert near("red/blue", ["acme/blue", "red"]) == ["acme/blue"]
    assert near("", ["acme/blue"]) == []


STORE = Snapshot(
    networks={"n1": network("n1", "blue", "acme"), "n2": network("n2", "globex/blue", vni=8), "n3": network("n3", "red", vni=9)},
    tenants={name: decode(Tenant, {"name": name}) for name in ("acme", "globex", "third")},
)


def changes(text: str, state: Snapshot = STORE) -> list[tuple[str, str, str]]:
    return [(change.action, change.kind, change.name) for change in diff(parse(text), state)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("networks: [{name: blue, tenant: acme}]", []),
        ("networks: [{name: acme/blue}]", []),
        ("networks: [{name: acme/blue, tenant: acme}]", []),
        ("networks: [{name: blue}]", []),
        ("networks: [{name: globex/blue}]", []),
        ("networks: [{name: blue, tenant: globex}]", []),
        ("networks: [{id: n1, name: acme/blue}]", []),
        ("networks: [{name: blue, tenant: acme}, {name: blue, tenant: globex}]", []),
        ("networks: [{name: blue, tenant: third}]", [("create", "network", "third/blue")]),
        ("networks: [{name: third/blue}]", [("create", "network", "third/blue")]),
        ("networks: [{name: green, tenant: third}]", [("create", "network", "green")]),
        ("networks: [{name: green, tenant: third}, {name: green, tenant: acme}]",
         [("create", "network", "third/green"), ("create", "network", "acme/green")]),
        ("networks: [{name: green, tenant: third}, {name: green}]", [("create", "network", "third/green"), ("create", "network", "green")]),
        ("networks: [{name: globex/blue, mtu: 1300}]", [("update", "network", "globex/blue")]),
        ("networks: [{name: acme/blue, mtu: 1300}]", [("update", "network", "blue")]),
    ],
)  # fmt: skip
def test_documents(text: str, expected: list[tuple[str, str, str]]) -> None:
    assert changes(text) == expected


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("networks: [{name: blue, tenant: acme}, {name: acme/blue}]", "networks[1].name"),
        ("hosts: [{name: h1, vtep: 192.0.2.1}]\nendpoints: [{name: e, network: third/blue, host: h1}]", "endpoints[0].network"),
        ("networks: [{name: blue, tenant: third}]\nhosts: [{name: h1, vtep: 192.0.2.1}]\nendpoints: [{name: e, network: blue, host: h1}]",
         "endpoints[0].network"),
        ("networks: [{name: green, tenant: third, mode: nat, ip_range: 10.8.0.0/24}, {name: green, tenant: acme, mode: nat, ip_range: 10.8.0.0/24}]\n"
         "services: [{name: s, network: green, host_port: 80, port: 80, endpoints: [e]}]", "services[0].network"),
    ],
)  # fmt: skip
def test_documents_that_are_refused(text: str, path: str) -> None:
    with pytest.raises(Invalid) as error:
        changes(text)
    assert error.value.path == path
    assert "/" in error.value.expected or path == "networks[1].name", "the message has the name that would be right"


def test_a_router_joins_networks_of_two_tenants_in_one_document() -> None:
    lines = (
        "{name: green, tenant: third, mode: nat, ip_range: 10.8.0.0/24}",
        "{name: green, tenant: acme, mode: nat, ip_range: 10.9.0.0/24}",
    )
    text = f"networks: [{', '.join(lines)}]\nrouters: [{{name: core, networks: [third/green, acme/green]}}]"
    assert changes(text)[-1] == ("create", "router", "core")


def test_an_export_applied_is_no_change() -> None:
    text = export(STORE)
    assert "name: globex/blue" in text
    assert not diff(parse(text), STORE, prune=True)
    names = [name for action, kind, name in changes(text, Snapshot()) if kind == "network"]
    assert names == ["blue", "globex/blue", "red"], "a short name is kept"


def test_names_of_hosts() -> None:
    index = NameIndex()
    entries = [
        worlds.network("amber", 7, mode="nat", named=True), worlds.network("green", 8, mode="nat", named=True),
        worlds.network("teal", 9, mode="nat", named=True), worlds.router("core", "amber", "green", "teal"),
        worlds.endpoint("a", "amber", "h1", 2, 1), worlds.endpoint("b", "green", "h1", 3, 2), worlds.endpoint("b", "teal", "h1", 4, 3),
    ]  # fmt: skip
    names = {"amber": ("acme/red", "acme"), "green": ("acme/blue", "acme"), "teal": ("globex/blue", "globex")}
    for born, (key, value) in enumerate(entries, 1):
        data = json.loads(value)
        if key.startswith(keys.NETWORKS):
            data |= dict(zip(("name", "tenant"), names[data["id"]], strict=True))
        if key.startswith(keys.ENDPOINTS):
            data |= {"name": data["id"], "id": f"{data['network_id']}-{data['id']}"}
            key = keys.endpoint(data["network_id"], data["id"])
        index.put(key, json.dumps(data), born)
    red, far = index.network(7), index.network(9)
    assert red is not None
    assert far is not None

    def address(network: Network, name: str) -> str | None:
        answer = index.addresses(network, name)
        return str(answer.ipv4[0]) if answer and answer.ipv4 else None

    two, other = (address(red, "b.blue.acme"), address(red, "b.blue.globex"))
    assert None not in (two, other)
    assert two != other
    assert address(red, "b.blue") == two, "the tenant's own network comes first"
    assert address(far, "b.blue") == other
    assert address(red, "a") == address(red, "a.red") == address(red, "a.red.acme") == address(far, "a.red.acme")
    with pytest.raises(LookupError):
        address(far, "a.red")
    endpoint = Endpoint.model_validate(json.loads(worlds.endpoint("b", "teal", "h1", 4, 3)[1]))
    assert index.name(red, endpoint.ipv4_address) == "b.blue.globex"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("amber", {"network": "amber"}),
        ("amber/web", {"network": "amber", "endpoint": "web"}),
        ("acme/blue/", {"network": "acme/blue"}),
        ("acme/blue/web", {"network": "acme/blue", "endpoint": "web"}),
        ("acme/blue/role=web", {"network": "acme/blue", "label": "role=web"}),
        ("acme/blue/role=", {"network": "acme/blue", "label": "role"}),
        ("amber/path=/a/b", {"network": "amber", "label": "path=/a/b"}),
    ],
)
def test_sources_of_mirrors(text: str, expected: dict[str, str]) -> None:
    assert _source(text) == expected


def test_what_is_no_source_of_a_mirror() -> None:
    for text in ("", "/", "amber/", "/web", "=", "role=web", "/role=web", "amber/="):
        with pytest.raises(Failure):
            _source(text)
    assert _target("acme/blue/web") == {"network": "acme/blue", "endpoint": "web"}
