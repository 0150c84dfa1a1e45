"""The admin overlay in a real etcd: hosts alone are on it, and each has the address that it is given."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from specs.model.admin import HOST_NAMESPACE, host_endpoint_id
from specs.model.host import Host
from specs.model.network import Network
from specs.store.etcd import Store
from specs.store.repository import Repository
from warren.errors import Conflict, Exhausted, Invalid, WarrenError

DRAFT = {"name": "admin", "ip_range": "10.44.44.0/29", "vxlan_vni": 2}


@pytest.fixture
def specs(store: Store) -> Repository:
    specs = Repository(store)
    for number in (1, 2, 3):
        specs.put_host(Host(name=f"h{number}", vtep=f"192.0.2.{number}"))  # type: ignore[arg-type]
    return specs


def overlay(specs: Repository, **addresses: str) -> Network:
    return specs.create_network({**DRAFT, "admin": {"addresses": addresses}})[0]


def join(specs: Repository, network: Network, host: str, **fields: Any) -> str:
    draft = {
        "id": host_endpoint_id(network.id, host),
        "name": host,
        "network_id": network.id,
        "host": host,
        "netns": HOST_NAMESPACE,
    }
    return str(specs.create_endpoint(draft | {"interface": "warren-admin"} | fields)[0].ipv4_address)


def test_hosts_get_what_is_free_and_not_what_another_one_is_given(specs: Repository) -> None:
    network = overlay(specs, h3="10.44.44.1")
    assert network.gateway is None
    assert [join(specs, network, host) for host in ("h1", "h2")] == ["10.44.44.2", "10.44.44.3"]
    assert join(specs, network, "h3", ipv4_address="10.44.44.1") == "10.44.44.1"
    with pytest.raises(Conflict, match="exists already"):
        join(specs, network, "h1")


def test_nobody_else_is_on_it_and_hosts_are_on_no_other_network(specs: Repository) -> None:
    network, other = overlay(specs), specs.create_network({"name": "amber", "ip_range": "10.0.0.0/24"})[0]
    for refused in ({"network_id": network.id, "netns": "/run/netns/c"}, {"network_id": network.id, "netns": HOST_NAMESPACE},
                    {"network_id": network.id}, {"network_id": other.id, "netns": HOST_NAMESPACE},
                    {"network_id": network.id, "port": "eth9"}):  # fmt: skip
        with pytest.raises(Invalid, match="admin overlay"):
            specs.create_endpoint({"host": "h1", **refused})
    assert specs.endpoints() == []


def test_an_address_that_a_host_keeps_is_given_to_no_other(specs: Repository) -> None:
    network = overlay(specs)
    first = join(specs, network, "h1")

    def give(**addresses: str) -> int:
        changed = Network.model_validate({**specs.network(network.id).data(), "admin": {"addresses": addresses}})
        return specs.update_network(changed)

    with pytest.raises(Conflict, match="is host h1's"):
        give(h2=first)
    give(h2=first, h1="10.44.44.5")
    with pytest.raises(Conflict, match="cannot become"):
        amber, _ = specs.create_network({"name": "amber", "ip_range": "10.9.0.0/24"})
        specs.update_network(Network.model_validate({**amber.data(), "gateway": None, "admin": {}}))


def test_a_small_range_runs_out_with_a_clear_word(specs: Repository) -> None:
    network = overlay(specs)
    for number in range(4, 10):
        join(specs, network, f"h{number}")
    with pytest.raises(Exhausted, match="10.44.44.0/29"):
        join(specs, network, "h1")


def test_deleting_it_takes_the_endpoints_of_hosts_along(specs: Repository) -> None:
    network = overlay(specs)
    for host in ("h1", "h2"):
        join(specs, network, host)
    specs.delete_network(network.id)
    assert (specs.networks(), specs.endpoints()) == ([], [])
    again = overlay(specs)
    assert (again.vxlan_vni, join(specs, again, "h2")) == (2, "10.44.44.1")


def test_of_two_at_once_one_is_made(store: Store, specs: Repository) -> None:
    def make(number: int) -> bool:
        try:
            draft = {"name": f"a{number}", "vxlan_vni": 10 + number, "ip_range": f"10.44.{number}.0/24", "admin": {}}
            Repository(store).create_network(draft)
        except WarrenError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(make, range(6))) == 1
    assert len(specs.networks()) == 1
