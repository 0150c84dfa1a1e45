"""Tenants in etcd: whatever writers race, no number has two owners."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from specs import keys
from specs.store.etcd import Store
from specs.store.network_state import network_called
from specs.store.repository import Repository
from warren.errors import Conflict, Exhausted, Invalid, NotFound, WarrenError


def test_networks_get_numbers_of_their_tenant(store: Store) -> None:
    repository = Repository(store)
    repository.put_tenant({"name": "acme", "vni": "1-2,7000", "max_networks": 4})
    acme = [repository.create_network({"name": f"n{i}", "tenant": "acme"})[0].vxlan_vni for i in range(3)]
    assert acme == [1, 2, 7000]
    with pytest.raises(Exhausted, match="1-2,7000 of tenant acme"):
        repository.create_network({"name": "n4", "tenant": "acme"})
    assert repository.create_network({"name": "free"})[0].vxlan_vni == 3
    assert repository.put_mirror({"name": "m", "sources": [{"network": "free"}], "to": {"gre": "192.0.2.1"}})[0].vni == 4
    with pytest.raises(Invalid, match="1-2,7000"):
        repository.create_network({"name": "x", "tenant": "acme", "vxlan_vni": 9})
    with pytest.raises(Conflict, match="tenant acme, which has 1-2,7000"):
        repository.create_network({"name": "x", "vxlan_vni": 7000})
    with pytest.raises(NotFound):
        repository.create_network({"name": "x", "tenant": "nobody"})
    with pytest.raises(Conflict, match="n0"):
        repository.delete_tenant("acme")
    with pytest.raises(Conflict, match="outside 1-2"):
        repository.put_tenant({"name": "acme", "vni": "1-2"})
    repository.put_tenant({"name": "acme", "vni": "1-2,7000-7005", "max_networks": 3})
    with pytest.raises(Conflict, match="may have 3"):
        repository.create_network({"name": "n4", "tenant": "acme"})
    for network in repository.networks():
        repository.delete_network(network.id)
    repository.delete_tenant("acme")
    with pytest.raises(NotFound):
        repository.delete_tenant("acme")


def test_a_vlan_id_of_a_tenant_is_not_taken_by_a_change(store: Store) -> None:
    repository = Repository(store)
    repository.put_tenant({"name": "acme", "vlan": "100-199"})
    network, _ = repository.create_network({"name": "n"})
    with pytest.raises(Conflict, match="100-199"):
        repository.update_network(network.model_copy(update={"vlan": 150}))
    with pytest.raises(Conflict):
        repository.update_network(network.model_copy(update={"tenant": "acme"}))


def test_writers_that_race_give_no_number_two_owners(store: Store) -> None:
    def tenant(number: int) -> bool:
        try:
            Repository(store).put_tenant({"name": f"t{number}", "vni": f"{10 + number}-{14 + number}", "max_networks": 2})
        except WarrenError:
            return False
        return True

    def network(number: int) -> bool:
        try:
            Repository(store).create_network({"name": f"n{number}", "vxlan_vni": 10 + number % 20})
        except WarrenError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        made = [pool.submit(work, number) for number in range(12) for work in (tenant, network)]
        assert any(each.result() for each in made)
    repository = Repository(store)
    tenants = repository.tenants()
    owned = [number for each in tenants for low, high in each.vnis for number in range(low, high + 1)]
    assert len(owned) == len(set(owned))
    assert not {each.vxlan_vni for each in repository.networks()} & set(owned)
    name = tenants[0].name
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda i: _try(lambda: Repository(store).create_network({"name": f"o{i}", "tenant": name})), range(6)))
    assert sum(each.tenant == name for each in repository.networks()) == 2  # max_networks holds, however many ask at once


def _try(work: object) -> None:
    try:
        work()  # type: ignore[operator]
    except WarrenError:
        pass


def test_names_are_unique_within_a_tenant(store: Store) -> None:
    repository = Repository(store)
    for tenant in ("acme", "globex"):
        repository.put_tenant({"name": tenant})

    def create(**fields: str) -> str:
        return repository.create_network(dict(fields))[0].name

    assert create(name="blue", tenant="acme") == "blue"  # the short name was free
    assert create(name="blue", tenant="globex") == "globex/blue"
    assert create(name="acme/red") == "acme/red"
    assert create(name="red") == "red"
    assert create(name="globex/red", tenant="globex") == "globex/red"
    by_name = {network.name: network for network in repository.networks()}
    assert {name: network.tenant for name, network in by_name.items()} == {
        "blue": "acme", "globex/blue": "globex", "acme/red": "acme", "red": None, "globex/red": "globex",
    }  # fmt: skip
    for fields in (
        {"name": "blue", "tenant": "acme"}, {"name": "acme/blue"}, {"name": "blue", "tenant": "globex"}, {"name": "globex/blue"}, {"name": "blue"},
        {"name": "red", "tenant": "acme"}, {"name": "acme/red"}, {"name": "red"}, {"name": "red", "tenant": "default"},
    ):  # fmt: skip
        with pytest.raises(Conflict, match="belongs to network"):
            create(**fields)
    for name in ("acme/blue/x", "acme/", "/blue", "default/blue"):
        with pytest.raises(Invalid):
            create(name=name)
    with pytest.raises(Invalid, match="acme/new"):
        create(name="acme/new", tenant="globex")
    with pytest.raises(NotFound, match="nobody"):
        create(name="nobody/blue")
    with pytest.raises(Conflict, match="globex/blue, globex/red"):
        repository.delete_tenant("globex")
    repository.put_adoption({"name": "a", "match": "tap0", "network": "acme/blue"})
    with pytest.raises(NotFound):
        repository.put_adoption({"name": "b", "match": "tap1", "network": "globex/green"})
    repository.delete_network(by_name["blue"].id)
    assert create(name="acme/blue") == "acme/blue"  # nothing is left of the short name
    assert create(name="blue") == "blue"
    for network in repository.networks():
        repository.delete_network(network.id)
    assert not store.list("claim/network-name/")[1]


def test_a_network_that_was_made_before_names_had_tenants(store: Store) -> None:
    repository = Repository(store)
    for tenant in ("acme", "globex"):
        repository.put_tenant({"name": tenant})
    old, _ = repository.create_network({"name": "blue", "tenant": "acme"})
    store.delete(keys.claim_network_name("acme/blue"))  # it held its short name alone
    for fields in ({"name": "acme/blue"}, {"name": "blue", "tenant": "acme"}):
        with pytest.raises(Conflict, match=old.id):
            repository.create_network(fields)
    assert repository.create_network({"name": "globex/blue"})[0].name == "globex/blue"
    repository.put_adoption({"name": "a", "match": "tap0", "network": "acme/blue"})
    for reference, identity in (
        (old.id, old.id),
        ("blue", old.id),
        ("acme/blue", old.id),
        ("other/blue", None),
        ("acme", None),
        ("", None),
    ):
        network = network_called(store, reference)
        assert (network.id if network else None) == identity
    repository.rename_network(old.id, "violet")
    assert {entry.key.removeprefix("claim/network-name/") for entry in store.list("claim/network-name/")[1]} == {
        "violet", "acme/violet", "globex/blue",
    }  # fmt: skip


def test_writers_that_race_for_a_name_of_a_tenant(store: Store) -> None:
    repository = Repository(store)
    for tenant in ("acme", "globex"):
        repository.put_tenant({"name": tenant})
    drafts = [
        {"name": "blue", "tenant": "acme"},
        {"name": "acme/blue"},
        {"name": "blue", "tenant": "globex"},
        {"name": "globex/blue"},
    ]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda draft: _try(lambda: Repository(store).create_network(draft)), drafts * 3))
    networks = repository.networks()
    assert sorted(str(network.tenant) for network in networks) == ["acme", "globex"]
    assert {claim.value for claim in store.list("claim/network-name/")[1]} == {network.id for network in networks}
