"""Documents in a real etcd: everything is checked before the first write, many changes are one transaction, and other writers go on."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agent.api.apply import Application, ApplyProgress, NotApplied
from agent.api.changes import Changes
from agent.switch import read_snapshot
from specs import keys
from specs.documents.difference import diff
from specs.documents.document import parse
from specs.model.endpoint import Endpoint
from specs.model.network import Network
from specs.model.publish import Publish
from specs.store import bitmap
from specs.store.etcd import Store
from specs.store.repository import Repository
from specs.store.staged import OPERATIONS_LIMIT
from specs.store.values import Compare, Outcome, TxnOperation, below
from warren.errors import Conflict

HOSTS = "hosts: [{name: h1, vtep: 192.0.2.1}, {name: h2, vtep: 192.0.2.2}]\n"


@pytest.fixture
def specs(store: Store) -> Repository:
    repository = Repository(store)
    apply(repository, HOSTS)
    return repository


def application(specs: Repository, text: str, prune: bool = False) -> Application:
    assert isinstance(specs.store, Store)
    return Application(specs.store, specs, parse(text), prune=prune)


def apply(specs: Repository, text: str, prune: bool = False) -> list[ApplyProgress]:
    work = application(specs, text, prune)
    list(work.check())
    return list(work.write())


def contents(specs: Repository) -> dict[str, str]:
    return {entry.key: entry.value for entry in specs.store.list("")[1]}


def many(count: int, network: str = "big", first: int = 0) -> str:
    lines = [f"- {{name: e{i}, network: {network}, host: h{i % 2 + 1}}}" for i in range(first, first + count)]
    return f"networks: [{{name: {network}, ip_range: 10.0.0.0/16}}]\nendpoints:\n" + "\n".join(lines)


EXISTING = """
networks:
  - {name: amber, id: amber, ip_range: 10.0.0.0/24, mode: nat, vxlan_vni: 7}
  - {name: blue, id: blue, ip_range: 10.1.0.0/24, mode: nat}
endpoints:
  - {name: web, id: web, network: amber, host: h1, mac_address: "02:00:00:00:00:01", ipv4_address: 10.0.0.9, ofport: 5, publish: [{host_port: 8080, port: 80}]}
meters: [{name: slow, rate: 10, meter_id: 3}]
routers: [{name: core, networks: [amber, blue]}]
services: [{name: shop, network: amber, host_port: 9090, port: 80, label: role=web}]
acls: [{name: wall, rules: [{actions: {allow: 0, meter: slow}}]}]
mirrors: [{name: copy, sources: [{network: amber}], to: {gre: 192.0.2.9}}]
"""
NEW = "network: amber, host: h1"
REFUSED = {
    "a VNI of the store": ("networks: [{name: new}, {name: red, vxlan_vni: 7}]", "networks[1]"),
    "one VNI twice": ("networks: [{name: red, vxlan_vni: 9}, {name: green, vxlan_vni: 9}]", "networks[1]"),
    "a VNI that is allocated before": ("networks: [{name: red, vxlan_vni: 8}, {name: green, vxlan_vni: 8}]", "networks[1]"),
    "an id of another name": ("networks: [{name: red, id: amber}]", "networks[0]"),
    "a changed range": ("networks: [{name: red}, {name: amber, ip_range: 10.9.0.0/24}]", "networks[1]"),
    "an address of the store": (f"endpoints: [{{name: a, {NEW}}}, {{name: b, {NEW}, ipv4_address: 10.0.0.9}}]", "endpoints[1]"),
    "one address twice": (
        f"endpoints: [{{name: a, {NEW}, ipv4_address: 10.0.0.5}}, {{name: b, {NEW}, ipv4_address: 10.0.0.5}}]", "endpoints[1]"),
    "an address that is allocated before": (
        f"endpoints: [{{name: a, {NEW}}}, {{name: b, {NEW}, ipv4_address: 10.0.0.2}}]", "endpoints[1]"),
    "the gateway's address": (f"endpoints: [{{name: a, {NEW}}}, {{name: b, {NEW}, ipv4_address: 10.0.0.1}}]", "endpoints[1]"),
    "an address outside": (
        f"endpoints: [{{name: a, {NEW}}}, {{name: b, {NEW}, ipv4_address: 10.9.0.1}}]", "endpoints[1].ipv4_address"),
    "an address in a new network": (
        "{networks: [{name: red, ip_range: 10.3.0.0/30}], endpoints: [{name: a, network: red, host: h1}, {name: b, network: red, host: h1}]}",
        "endpoints[1]"),
    "an own address that is allowed before": (
        f"endpoints: [{{name: a, {NEW}, allowed: [10.0.0.5]}}, {{name: b, {NEW}, ipv4_address: 10.0.0.5}}]", "endpoints[1]"),
    "an allowed range with an own address": (
        f"endpoints: [{{name: a, {NEW}}}, {{name: b, {NEW}, allowed: [10.0.0.8/29]}}]", "endpoints[1]"),
    "the allowed gateway": (
        f"endpoints: [{{name: a, {NEW}}}, {{name: b, {NEW}, allowed: [10.1.9.9, 10.0.0.1]}}]", "endpoints[1].allowed[1].address"),
    "a MAC of the store": (f"endpoints: [{{name: a, {NEW}}}, {{name: b, {NEW}, mac_address: '02:00:00:00:00:01'}}]", "endpoints[1]"),
    "one MAC twice": (
        f"endpoints: [{{name: a, {NEW}, mac_address: '02:00:00:00:00:05'}}, {{name: b, {NEW}, mac_address: '02:00:00:00:00:05'}}]",
        "endpoints[1]"),
    "one name by two references": ("endpoints: [{name: a, network: red, host: h1}, {name: a, network: red-id, host: h2}]\n"
                                   "networks: [{name: red, id: red-id}]", "endpoints[1]"),
    "an OpenFlow port of the store": (f"endpoints: [{{name: a, {NEW}}}, {{name: b, {NEW}, ofport: 5}}]", "endpoints[1]"),
    "one OpenFlow port twice": (f"endpoints: [{{name: a, {NEW}, ofport: 6}}, {{name: b, {NEW}, ofport: 6}}]", "endpoints[1]"),
    "a published port of the store": (
        f"endpoints: [{{name: a, {NEW}}}, {{name: b, {NEW}, publish: [{{host_port: 8080, port: 80}}]}}]", "endpoints[1]"),
    "one published port twice": (
        f"endpoints: [{{name: a, {NEW}, publish: [{{host_port: 81, port: 80}}]}}, {{name: b, {NEW}, publish: [{{host_port: 80-82, port: 80-82}}]}}]",
        "endpoints[1]"),
    "a published port of a service": (
        f"endpoints: [{{name: a, {NEW}}}, {{name: b, {NEW}, publish: [{{host_port: 9090, port: 80}}]}}]", "endpoints[1]"),
    "the tunnel's port": (
        f"endpoints: [{{name: a, {NEW}}}, {{name: b, {NEW}, publish: [{{host_port: 4789, port: 80, proto: udp}}]}}]", "endpoints[1]"),
    "a VTEP of the store": ("hosts: [{name: h8, vtep: 192.0.2.8}, {name: h9, vtep: 192.0.2.1}]", "hosts[1]"),
    "one VTEP twice": ("hosts: [{name: h8, vtep: 192.0.2.8}, {name: h9, vtep: 192.0.2.8}]", "hosts[1]"),
    "a meter id of the store": ("meters: [{name: m, rate: 1}, {name: n, rate: 1, meter_id: 3}]", "meters[1]"),
    "one meter id twice": ("meters: [{name: m, rate: 1, meter_id: 9}, {name: n, rate: 1, meter_id: 9}]", "meters[1]"),
    "a service's port of the store": (
        "{networks: [{name: red}], services: [{name: s, network: amber, host_port: 9090, port: 1, label: x}]}", "services[0]"),
    "one service's port twice": (
        "services: [{name: s, network: amber, host_port: 91, port: 1, label: x}, {name: t, network: amber, host_port: 91, port: 1, label: x}]",
        "services[1]"),
    "a service's port that is published": ("services: [{name: s, network: amber, host_port: 8080, port: 1, label: x}]", "services[0]"),
    "a parent on its own network": (f"endpoints: [{{name: a, {NEW}}}, {{name: b, {NEW}, parent: a, vlan: 5}}]", "endpoints[1].parent"),
    "one tag twice": (
        "endpoints: [{name: a, network: blue, host: h1, parent: web, vlan: 5}, {name: b, network: red, host: h1, parent: web, vlan: 5}]\n"
        "networks: [{name: red}]", "endpoints[1]"),
    "a flat network under a service and a router": ("networks: [{name: new}, {name: amber, mode: flat}]", "networks[1]"),
    "a flat network under a router": ("networks: [{name: new}, {name: blue, mode: flat}]", "networks[1]"),
    "a routed network under a service": ("networks: [{name: new}, {name: amber, mode: routed}]", "networks[1]"),
    "a wide transit range": ("{networks: [{name: red}], clusters: [{name: default, transit4: 10.0.0.0/15}]}", "clusters[0]"),
}  # fmt: skip
PRUNED = {
    "a network that a router joins": ("{networks: [{name: new}, {name: blue}], endpoints: []}", "delete network amber"),
    "a network with endpoints": ("networks: [{name: new}, {name: blue}]", "delete network amber"),
    "a meter that an ACL names": ("{meters: [], networks: [{name: new}, {name: amber}, {name: blue}]}", "delete meter slow"),
    "a host with endpoints": ("{hosts: [{name: h2, vtep: 192.0.2.2}], networks: [{name: n}, {name: amber}, {name: blue}]}", "delete host h1"),
}  # fmt: skip


@pytest.mark.parametrize("case", [*REFUSED, *PRUNED])
def test_what_would_be_refused_is_found_before_the_first_write(specs: Repository, case: str) -> None:
    apply(specs, EXISTING)
    before = contents(specs)
    text, path = (REFUSED | PRUNED)[case]
    work = application(specs, text, prune=case in PRUNED)
    with pytest.raises(NotApplied) as error:
        list(work.check())
    assert str(error.value).startswith(f"{path}:"), error.value
    assert " were made" not in str(error.value)
    assert contents(specs) == before


def test_a_document_of_many_endpoints_takes_few_transactions_and_applies_once(specs: Repository) -> None:
    assert isinstance(specs.store, Store)
    before = specs.store.calls
    progress = apply(specs, many(1000))
    assert specs.store.calls - before < 60
    assert [progress[-1].phase, progress[-1].done, progress[-1].total] == ["written", 1001, 1001]
    assert all(one.done < other.done for one, other in zip(progress, progress[1:], strict=False))
    endpoints = specs.endpoints()
    assert len({e.ipv4_address for e in endpoints}) == len({(e.host, e.ofport) for e in endpoints}) == 1000
    assert [str(e.ipv4_address) for e in sorted(endpoints, key=lambda e: int(str(e.name)[1:]))[:2]] == ["10.0.0.2", "10.0.0.3"]
    state = contents(specs)
    assert apply(specs, many(1000)) == []
    assert contents(specs) == state
    apply(specs, "{networks: [], endpoints: []}", prune=True)
    left = contents(specs)
    assert not [key for key in left if key.startswith((keys.ENDPOINTS, keys.NETWORKS, "claim/endpoint", "claim/network"))]
    assert {bitmap.parse(text) for key, text in left.items() if key.startswith("pool/ofport/")} == {0}


def test_no_transaction_is_larger_than_etcd_allows(specs: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    plain = specs.store.txn

    def txn(compares: list[Compare], success: list[TxnOperation], failure: list[TxnOperation] = ()) -> Outcome:  # type: ignore[assignment]
        sizes.append(max(len(compares), len(success), len(failure)))
        return plain(compares, success, failure)

    monkeypatch.setattr(specs.store, "txn", txn)
    apply(specs, many(300))
    apply(specs, "hosts:\n" + "\n".join(f"- {{name: x{i}, vtep: 198.51.100.{i}}}" for i in range(1, 200)))
    apply(specs, "{networks: [], endpoints: []}", prune=True)
    assert OPERATIONS_LIMIT / 2 < max(sizes) <= 128


def test_a_network_may_become_flat_with_what_needs_its_gateway_gone(specs: Repository) -> None:
    apply(specs, EXISTING)
    apply(specs, "{networks: [{name: amber, mode: flat}, {name: blue, mode: routed}], routers: [], services: []}", prune=True)
    assert {network.name: network.mode for network in specs.networks()} == {"amber": "flat", "blue": "routed"}


def records(specs: Repository) -> dict[str, Any]:
    """All specs without the time of their creation."""
    entries = specs.store.list(keys.SPEC)[1]
    return {e.key: {k: v for k, v in json.loads(e.value).items() if k != "created_at"} for e in entries}


def test_one_transaction_for_many_changes_gives_what_one_for_each_gives(specs: Repository) -> None:
    """Moves, swaps, new references to what goes, and numbers that are free again."""
    other = Repository(Store(specs.store.endpoints, prefix=f"{specs.store.prefix}other"))  # type: ignore[attr-defined]
    first = HOSTS + EXISTING.replace("role=web}]", "role=web}, {name: cafe, network: blue, host_port: 99, port: 1, label: x}]")
    second = """
        networks: [{name: amber, id: amber, mtu: 1400}, {name: red, id: red, ip_range: 10.0.0.0/24, vxlan_vni: 8}]
        endpoints:
          - {name: web, id: web, network: red, host: h2}
          - {name: db, id: db, network: amber, host: h1, ipv4_address: 10.0.0.9, ofport: 5, publish: [{host_port: 8080, port: 80}]}
          - {name: lan, id: lan, network: amber, host: h2, parent: web, vlan: 5}
        routers: []
        services: [{name: cafe, network: amber, host_port: 99, port: 1, label: x}, {name: shop, network: amber, host_port: 9090, port: 80, proto: udp, label: y}]
        meters: [{name: slow, rate: 20}]
        mirrors: []
        """
    for number, text in enumerate((first, second, first)):
        apply(specs, text, prune=True)
        current = read_snapshot(other.store)  # type: ignore[arg-type]
        work = Changes(other, current)
        for change in diff(parse(text), current, prune=True):
            work.make(change)
        assert records(specs) == records(other), f"document {number}"
        pools = [{k: v for k, v in contents(each).items() if k.startswith(("pool/", "claim/"))} for each in (specs, other)]
        assert pools[0] == pools[1], f"document {number}"


def test_what_is_given_up_half_way_goes_on_with_the_same_document(specs: Repository) -> None:
    work = application(specs, many(500))
    list(work.check())
    first = next(work.write())  # and nobody reads more
    made = len(specs.endpoints()) + len(specs.networks())
    assert 0 < made == first.done < 200
    again = application(specs, many(500))
    list(again.check())
    assert len(again.changes) == 501 - made
    list(again.write())
    assert len({e.ipv4_address for e in specs.endpoints()}) == 500


def test_one_document_may_be_applied_twice_at_once(specs: Repository) -> None:
    barrier = threading.Barrier(2)

    def one(_: int) -> None:
        repository = Repository(Store(specs.store.endpoints, specs.store.prefix))  # type: ignore[attr-defined]
        work = application(repository, many(300))
        list(work.check())
        barrier.wait()
        list(work.write())

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(one, range(2)))
    assert sorted(str(e.name) for e in specs.endpoints()) == sorted(f"e{i}" for i in range(300))


def test_containers_are_attached_while_a_document_is_applied(specs: Repository) -> None:
    network, _ = specs.create_network({"name": "big", "ip_range": "10.0.0.0/16"})
    over = threading.Event()
    attached: list[Endpoint] = []

    def attach(_: int) -> None:
        repository = Repository(Store(specs.store.endpoints, specs.store.prefix))  # type: ignore[attr-defined]
        while not over.is_set():
            attached.append(repository.create_endpoint({"network_id": network.id, "host": "h1"})[0])

    with ThreadPoolExecutor(2) as threads:
        running = [threads.submit(attach, number) for number in range(2)]
        try:
            apply(specs, many(400))
        finally:
            over.set()
        for future in running:
            future.result()
    endpoints = specs.endpoints()
    assert attached
    assert len(endpoints) == 400 + len(attached)
    assert len({e.ipv4_address for e in endpoints}) == len({(e.host, e.ofport) for e in endpoints}) == len(endpoints)


def test_a_value_taken_between_the_check_and_the_write_is_refused_with_what_was_made(specs: Repository) -> None:
    apply(specs, "networks: [{name: big, ip_range: 10.0.0.0/16}]")
    text = many(200) + "\n- {name: last, network: big, host: h1, ipv4_address: 10.0.9.9}"
    work = application(specs, text)
    list(work.check())
    (network,) = specs.networks()
    Repository(specs.store).create_endpoint({"network_id": network.id, "host": "h2", "ipv4_address": "10.0.9.9", "name": "thief"})
    with pytest.raises(
        NotApplied, match=r"^endpoints\[200\]: 10\.0\.9\.9 is taken by endpoint thief \(\d+ of 201 changes were made\)$"
    ):
        list(work.write())


def test_another_writers_change_of_another_field_stays(specs: Repository) -> None:
    apply(specs, EXISTING)
    work = application(specs, f"endpoints: [{{name: web, {NEW}, labels: {{role: web}}}}]")
    list(work.check())
    web = specs.endpoints("amber")[0]
    specs.update_endpoint(web.model_copy(update={"acls": ("wall",)}))
    list(work.write())
    assert [(e.acls, e.labels) for e in specs.endpoints("amber")] == [(("wall",), {"role": "web"})]


def test_each_host_is_asked_once_for_all_ports_and_the_refusal_names_the_item(store: Store) -> None:
    checks: list[tuple[str | None, int]] = []

    def check_ports(host: str | None, network: Network, publish: tuple[Publish, ...]) -> None:
        checks.append((host, len(publish)))
        if host == "h2" and any(87 in dict(p.pairs) for p in publish):
            raise Conflict("tcp port 87 of host h2 is in use by sshd", field="publish")

    repository = Repository(store, check_ports=check_ports)
    apply(repository, HOSTS)
    item = "- {{name: e{0}, network: new, host: h{1}, publish: [{{host_port: {2}, port: 80}}]}}"
    lines = [item.format(i, i % 2 + 1, 80 + i) for i in range(7)]
    text = "networks: [{name: new, ip_range: 10.0.0.0/24, mode: nat}]\nendpoints:\n" + "\n".join(lines)
    apply(repository, text)
    assert sorted(checks, key=str) == [("h1", 4), ("h2", 3)]  # of a network that the document makes, too
    with pytest.raises(NotApplied, match=r"^endpoints\[7\]: tcp port 87 of host h2 is in use by sshd$"):
        apply(repository, text + "\n" + item.format(7, 2, 87))


def test_a_record_that_etcd_would_refuse_for_its_size_is_found_first(specs: Repository) -> None:
    text = f"networks: [{{name: first}}, {{name: huge, labels: {{a: {'x' * 1_000_001}}}}}]"
    with pytest.raises(NotApplied, match=r"^networks\[1\]: it takes \d+ bytes in etcd: expected at most 1000000$"):
        apply(specs, text)
    assert specs.networks() == []


POLICY = "acls: [{name: wall, rules: [{proto: tcp, tcp_dst: 80, actions: {allow: 1}}]}]\n"


@pytest.mark.parametrize(
    ("text", "reads", "warns"),
    [
        (POLICY, False, False),
        (POLICY + "networks: [{name: amber, default_acl: wall}]", False, False),
        ("meters: [{name: slow, rate: 20}]\nsites: [{name: here}]", False, False),
        ("acls: [{name: wall, rules: [{from: {endpoint: web}, actions: {allow: 1}}]}]", True, False),
        ("acls: [{name: wall, rules: [{from: {endpoint: nobody}, actions: {allow: 1}}]}]", True, True),
        ("endpoints: [{name: web, network: amber, host: h1, labels: {a: b}}]", True, False),
    ],
)
def test_a_document_that_names_no_endpoint_reads_none(
    specs: Repository, text: str, reads: bool, warns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(specs, EXISTING)
    assert isinstance(specs.store, Store)
    first, last = (specs.store._bytes(key) for key in below(keys.ENDPOINTS))
    read: list[bool] = []
    plain = Store._read

    def noted(store: Store, key: bytes, end: bytes, *rest: Any, **options: Any) -> Any:
        read.append(key < last and first < end)
        return plain(store, key, end, *rest, **options)

    monkeypatch.setattr(Store, "_read", noted)
    work = application(specs, text)
    list(work.check())
    list(work.write())
    assert bool(work.changes)
    assert any(read) == reads
    assert bool(work.warnings) == warns
