"""Allowed addresses in a real etcd: nobody gets as its own what others are allowed, and nobody is allowed what is another's own."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from agent.api.apply import Application, NotApplied
from specs import keys
from specs.documents.document import parse
from specs.model.endpoint import Endpoint
from specs.model.host import Host
from specs.model.network import Network
from specs.store.etcd import Store
from specs.store.repository import Repository
from specs.store.values import Outcome, Put
from warren.errors import Conflict, Exhausted, Invalid

VIP, ROUTER_MAC = "10.0.0.2", "00:00:5e:00:01:0a"


@pytest.fixture
def specs(store: Store) -> Repository:
    return Repository(store)


@pytest.fixture
def amber(specs: Repository) -> Network:
    return specs.create_network({"name": "amber", "ip_range": "10.0.0.0/28", "ipv6_range": "fd00::/64"})[0]


def create(specs: Repository, network: Network, *allowed: str, **fields: Any) -> Endpoint:
    return specs.create_endpoint({"network_id": network.id, "host": "h1", "allowed": list(allowed), **fields})[0]


def test_allocation_passes_over_allowed_addresses_and_ranges(specs: Repository, amber: Network) -> None:
    one = create(specs, amber, VIP, "10.0.0.4/31", "fd00::2/127", name="one")
    assert (str(one.ipv4_address), str(one.ipv6_address)) == ("10.0.0.3", "fd00::4")
    two = create(specs, amber, VIP)  # they may share it
    assert (str(two.ipv4_address), str(two.ipv6_address)) == ("10.0.0.6", "fd00::5")
    for endpoint in (one, two):
        with pytest.raises(Conflict, match="10.0.0.2 is allowed to endpoint"):
            create(specs, amber, ipv4_address=VIP)
        specs.delete_endpoint(amber.id, endpoint.id)
    assert str(create(specs, amber).ipv4_address) == VIP
    assert specs.store.get(keys.claim_allowed(amber.id)) is None


def test_a_network_whose_free_addresses_are_all_allowed_is_full(specs: Repository, amber: Network) -> None:
    create(specs, amber, "10.0.0.4/30", "10.0.0.8/29", ipv4_address=VIP)
    assert str(create(specs, amber).ipv4_address) == "10.0.0.3"
    with pytest.raises(Exhausted, match="no free address is left"):
        create(specs, amber)


def test_what_is_anothers_own_cannot_be_allowed(specs: Repository, amber: Network) -> None:
    web = create(specs, amber, name="web")
    for entry, reason in (
        ("10.0.0.2", "allowed: 10.0.0.2 belongs to endpoint web"),
        ("10.0.0.2/31", "allowed: 10.0.0.2 belongs to endpoint web"),
        ("fd00::/126", "fd00::1 is the gateway of network amber"),
        ("fd00::2", "allowed: fd00::2 belongs to endpoint web"),
        ("10.0.0.9,02:57:0a:00:00:02", f"allowed: 02:57:0a:00:00:02 belongs to endpoint {web.id}"),
        ("10.0.0.1", "10.0.0.1 is the gateway of network amber"),
        ("10.0.0.0/28", "10.0.0.1 is the gateway of network amber"),
        ("10.0.0.0", "no host address of 10.0.0.0/28"),
        ("10.0.0.15", "no host address of 10.0.0.0/28"),
    ):
        with pytest.raises((Conflict, Invalid), match=reason):
            create(specs, amber, "10.77.0.8", entry, name="late")
        with pytest.raises((Conflict, Invalid), match=reason):
            change(specs, create(specs, amber, "10.77.0.8", name="later"), "10.77.0.8", entry)
        specs.delete_endpoint(amber.id, next(e.id for e in specs.endpoints(amber.id) if e.name == "later"))
    with pytest.raises(Invalid) as error:
        create(specs, amber, "10.77.0.8", "10.0.0.1")
    assert error.value.path == "endpoint.allowed[1].address"
    create(specs, amber, "10.0.0.9", "fd01::/64", "10.200.0.0/16", "fd00::1:0/112")


def change(specs: Repository, endpoint: Endpoint, *allowed: str) -> Endpoint:
    changed = Endpoint.model_validate({**endpoint.data(), "allowed": list(allowed)})
    specs.update_endpoint(changed)
    return changed


def test_an_own_mac_and_an_allowed_one_exclude_each_other(specs: Repository, amber: Network) -> None:
    create(specs, amber, f"10.0.0.9,{ROUTER_MAC}", "10.0.0.10,02:57:0a:00:00:03", name="one")
    with pytest.raises(Conflict, match=f"{ROUTER_MAC} is allowed to endpoint one"):
        create(specs, amber, mac_address=ROUTER_MAC)
    derived = create(specs, amber)  # its address would give it an allowed MAC
    assert (str(derived.ipv4_address), derived.mac_address[:5]) == ("10.0.0.3", "02:59")
    same = create(specs, amber, "10.0.0.11,02:57:00:00:00:77", mac_address="02:57:00:00:00:77")  # says what holds anyway
    assert same.macs == ("02:57:00:00:00:77",)


def test_allowed_addresses_change_in_place(specs: Repository, amber: Network) -> None:
    one = change(specs, create(specs, amber, "10.0.0.9"), "10.0.0.10", "10.0.0.12/30")
    assert str(create(specs, amber, ipv4_address="10.0.0.9").ipv4_address) == "10.0.0.9"
    with pytest.raises(Conflict, match="10.0.0.13 is allowed to endpoint"):
        create(specs, amber, ipv4_address="10.0.0.13")
    change(specs, one, "10.0.0.10")
    create(specs, amber, ipv4_address="10.0.0.13")
    assert [text for entry in specs.endpoints(amber.id) for text in entry.data().get("allowed", [])] == [{"address": "10.0.0.10"}]


def test_an_endpoint_may_be_allowed_a_range_around_its_own_address(specs: Repository, amber: Network) -> None:
    node = create(specs, amber, "10.0.0.8/30", ipv4_address="10.0.0.9")
    specs.update_endpoint(node.model_copy(update={"active": False}))
    moved = node.model_copy(update={"active": False, "ipv4_address": node.ipv4_address + 1})  # type: ignore[operator]
    specs.update_endpoint(moved)
    with pytest.raises(Conflict, match="10.0.0.10 belongs to endpoint"):
        create(specs, amber, "10.0.0.10")
    other = create(specs, amber)
    inactive = other.model_copy(update={"active": False})
    specs.update_endpoint(inactive)
    with pytest.raises(Conflict, match="10.0.0.9 is allowed to endpoint"):
        specs.update_endpoint(inactive.model_copy(update={"ipv4_address": node.ipv4_address}))


def test_a_gateway_cannot_move_onto_an_allowed_address(specs: Repository, amber: Network) -> None:
    create(specs, amber, "10.0.0.8/30")
    with pytest.raises(Conflict, match="gateway 10.0.0.9 is allowed to an endpoint"):
        specs.update_network(amber.model_copy(update={"gateway": ip_interface("10.0.0.9/28")}))
    specs.update_network(amber.model_copy(update={"gateway": ip_interface("10.0.0.14/28")}))


class Interrupted(Repository):
    """Another writer is faster once: `interlude` runs between what the first transaction has read and what it writes."""

    interlude: Callable[[], object] | None = None

    def commit(self, *args: Any) -> Outcome:
        interlude, self.interlude = self.interlude, None
        if interlude is not None:
            interlude()
        return super().commit(*args)


@pytest.mark.parametrize("address", ["10.0.0.9", "fd00::7:9"])
@pytest.mark.parametrize("entry", ["{}", "{}/{}"])
@pytest.mark.parametrize("owner_first", [True, False])
def test_an_address_is_never_both_own_and_allowed(
    specs: Repository, amber: Network, store: Store, address: str, entry: str, owner_first: bool
) -> None:
    version = 6 if ":" in address else 4
    prefix = ip_network((address, 112 if version == 6 else 31), strict=False) if "/" in entry else address
    early = create(specs, amber)

    def take(repository: Repository) -> Endpoint:
        return create(repository, amber, **{f"ipv{version}_address": address})

    def allow(repository: Repository) -> Endpoint:
        return change(repository, early, str(prefix))

    slow, fast = (allow, take) if owner_first else (take, allow)
    late = Interrupted(store)
    late.interlude = lambda: fast(specs)
    with pytest.raises(Conflict, match=f"{address} belongs to" if owner_first else f"{address} is allowed to"):
        slow(late)
    assert len(specs.endpoints(amber.id)) == 1 + owner_first


@pytest.mark.parametrize("owner_first", [True, False])
def test_a_mac_is_never_both_own_and_allowed(specs: Repository, amber: Network, store: Store, owner_first: bool) -> None:
    early, other = create(specs, amber), create(specs, amber)
    specs.update_endpoint(inactive := other.model_copy(update={"active": False}))

    def take(repository: Repository) -> object:
        return repository.update_endpoint(inactive.model_copy(update={"mac_address": ROUTER_MAC}))

    def allow(repository: Repository) -> object:
        return change(repository, early, f"10.0.0.9,{ROUTER_MAC}")

    slow, fast = (allow, take) if owner_first else (take, allow)
    late = Interrupted(store)
    late.interlude = lambda: fast(specs)
    with pytest.raises(Conflict, match=ROUTER_MAC):
        slow(late)


def test_a_document_allows_addresses_that_no_endpoint_of_it_gets(specs: Repository, amber: Network, store: Store) -> None:
    """All in one transaction; an address that another writer takes meanwhile is refused."""
    specs.put_host(Host(name="h1", vtep=ip_address("192.0.2.1")))
    entry = "network: amber, host: h1"

    def application(*lines: str) -> Application:
        return Application(store, specs, parse("endpoints:\n" + "\n".join(lines)), prune=False)

    def apply(*lines: str) -> None:
        work = application(*lines)
        list(work.check())
        list(work.write())

    shared = f"allowed: [{VIP}, 10.0.0.8/29]"
    apply(f"- {{name: a, {entry}, {shared}}}", f"- {{name: b, {entry}, {shared}}}", f"- {{name: c, {entry}}}")
    addresses = {e.name: (str(e.ipv4_address), len(e.allowed)) for e in specs.endpoints(amber.id)}
    assert addresses == {"a": ("10.0.0.3", 2), "b": ("10.0.0.4", 2), "c": ("10.0.0.5", 0)}
    apply(f"- {{name: a, {entry}, allowed: null}}", f"- {{name: b, {entry}, allowed: []}}", f"- {{name: d, {entry}}}")
    assert {e.name: str(e.ipv4_address) for e in specs.endpoints(amber.id)}["d"] == VIP
    assert store.get(keys.claim_allowed(amber.id)) is None
    work = application(f"- {{name: c, {entry}, allowed: [fd00::7:0/112]}}")
    list(work.check())
    create(specs, amber, name="fast", ipv6_address="fd00::7:9")
    with pytest.raises(NotApplied, match="fd00::7:9 belongs to endpoint fast"):
        list(work.write())


def test_a_count_that_nobody_can_read_blocks_nothing(specs: Repository, amber: Network, store: Store) -> None:
    store.txn([], [Put(keys.claim_allowed(amber.id), "[1")])
    one = create(specs, amber, "10.0.0.9")
    specs.delete_endpoint(amber.id, one.id)
    specs.delete_network(amber.id)
    assert [entry.key for entry in store.list("claim/")[1]] == [keys.claim_networks()]  # which every creation of a network writes
    assert store.list("pool/v4/")[1] == []
