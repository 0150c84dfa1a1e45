"""Tenants in etcd: whatever writers race, no number has two owners."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from specs.store.etcd import Store
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
