"""Allocation in a real etcd: no value is given twice, none leaks, and it takes few round trips."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address, ip_interface

import pytest

from specs import keys
from specs.model.endpoint import Endpoint
from specs.model.host import Host
from specs.store import bitmap
from specs.store.etcd import Store
from specs.store.repository import Repository
from specs.store.values import Put
from warren.errors import Conflict, Exhausted, Invalid, NotFound


@pytest.fixture
def specs(store: Store) -> Repository:
    return Repository(store)


def taken_numbers(store: Store, prefix: str) -> set[int]:
    numbers = set()
    for entry in store.list(prefix)[1]:
        bits, block = bitmap.parse(entry.value), int(entry.key.rpartition("/")[2])
        numbers |= {block * bitmap.BLOCK_BITS + i for i in range(bits.bit_length()) if bits >> i & 1}
    return numbers


def test_two_networks_may_have_the_same_range(specs: Repository) -> None:
    amber, _ = specs.create_network({"name": "amber", "ip_range": "10.0.0.0/24", "ipv6_range": "fd00::/64"})
    blue, _ = specs.create_network({"name": "blue", "ip_range": "10.0.0.0/24"})
    assert (amber.vxlan_vni, blue.vxlan_vni) == (1, 2)
    assert (str(amber.gateway), str(amber.ipv6_gateway)) == ("10.0.0.1/24", "fd00::1/64")
    one, _, _ = specs.create_endpoint({"network_id": amber.id, "host": "h1"})
    two, _, _ = specs.create_endpoint({"network_id": blue.id, "host": "h1"})
    assert str(one.ipv4_address) == str(two.ipv4_address) == "10.0.0.2"
    assert (str(one.ipv6_address), one.mac_address) == ("fd00::2", "02:57:0a:00:00:02")
    assert (one.ofport, two.ofport) == (1, 2)


def test_a_conflict_names_the_holder(specs: Repository) -> None:
    amber, _ = specs.create_network({"name": "amber", "ip_range": "10.0.0.0/29", "vxlan_vni": 7})
    with pytest.raises(Conflict, match="VNI 7 is taken by network amber"):
        specs.create_network({"name": "blue", "vxlan_vni": 7})
    with pytest.raises(Conflict, match="the name amber belongs to network"):
        specs.create_network({"name": "amber"})
    specs.create_endpoint({"network_id": amber.id, "host": "h1", "ipv4_address": "10.0.0.4", "name": "web"})
    with pytest.raises(Conflict, match="10.0.0.4 is taken by endpoint web"):
        specs.create_endpoint({"network_id": amber.id, "host": "h2", "ipv4_address": "10.0.0.4"})
    with pytest.raises(Conflict, match="gateway"):
        specs.create_endpoint({"network_id": amber.id, "host": "h2", "ipv4_address": "10.0.0.1"})
    for outside in ("10.0.1.4", "10.0.0.7", "10.0.0.0"):
        with pytest.raises(Invalid, match="a host address of 10.0.0.0/29"):
            specs.create_endpoint({"network_id": amber.id, "host": "h2", "ipv4_address": outside})
    with pytest.raises(Conflict, match="network amber has 1 endpoint"):
        specs.delete_network(amber.id)
    with pytest.raises(NotFound):
        specs.create_endpoint({"network_id": "nowhere", "host": "h1"})


def test_an_exhausted_pool_refuses_and_released_values_are_given_again(specs: Repository) -> None:
    amber, _ = specs.create_network({"name": "amber", "ip_range": "10.0.0.0/29"})
    made = [specs.create_endpoint({"network_id": amber.id, "host": "h1"})[0] for _ in range(5)]
    with pytest.raises(Exhausted, match="network amber: no free address is left in 10.0.0.0/29"):
        specs.create_endpoint({"network_id": amber.id, "host": "h1"})
    specs.delete_endpoint(amber.id, made[2].id)
    again, _, _ = specs.create_endpoint({"network_id": amber.id, "host": "h1"})
    assert again.ipv4_address == made[2].ipv4_address


def test_concurrent_writers_never_get_the_same_value(etcd, request) -> None:  # type: ignore[no-untyped-def]
    prefix = f"/{request.node.name}"
    agents = [Repository(Store([etcd.url], prefix=prefix)) for _ in range(4)]
    amber, _ = agents[0].create_network({"name": "amber", "ip_range": "10.0.0.0/22"})

    def attach(number: int) -> Endpoint:
        return agents[number % 4].create_endpoint({"network_id": amber.id, "host": f"h{number % 2}"})[0]

    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(attach, range(80)))
        assert len({e.ipv4_address for e in made}) == 80
        assert len({(e.host, e.ofport) for e in made}) == 80
        list(threads.map(lambda e: agents[0].delete_endpoint(amber.id, e.id), made[::2]))
    store, left = agents[0].store, agents[0].endpoints(amber.id)
    base = int(amber.ip_range.network_address)  # type: ignore[union-attr]
    assert taken_numbers(store, keys.pool_v4(amber.id)) == {int(e.ipv4_address) - base for e in left}  # type: ignore[arg-type]
    for host in ("h0", "h1"):
        assert taken_numbers(store, keys.pool_ofport(host)) == {e.ofport for e in left if e.host == host}


def test_a_full_slash_16_allocates_in_few_round_trips(specs: Repository) -> None:
    big, _ = specs.create_network({"name": "big", "ip_range": "10.0.0.0/16"})
    for block in range(16):
        bits = bitmap.FULL if block < 15 else bitmap.FULL >> 500
        specs.store.txn([], [Put(f"{keys.pool_v4(big.id)}{block}", bitmap.format_block(bits))])
    before = specs.store.calls
    endpoint, _, _ = specs.create_endpoint({"network_id": big.id, "host": "h1"})
    assert int(endpoint.ipv4_address) - int(big.ip_range.network_address) == 65536 - 500  # type: ignore[arg-type, union-attr]
    assert specs.store.calls - before <= 3


def test_a_network_cannot_go_under_a_new_endpoint(specs: Repository) -> None:
    for number in range(10):
        network, _ = specs.create_network({"name": f"n{number}", "ip_range": "10.0.0.0/24"})
        results: list[str] = []

        def create(network_id: str = network.id, results: list[str] = results) -> None:
            try:
                specs.create_endpoint({"network_id": network_id, "host": "h1"})
                results.append("created")
            except NotFound:
                results.append("no network")

        thread = threading.Thread(target=create)
        thread.start()
        try:
            specs.delete_network(network.id)
            deleted = True
        except Conflict:
            deleted = False
        thread.join()
        assert results == (["no network"] if deleted else ["created"])
        assert len(specs.endpoints(network.id)) == (0 if deleted else 1)


def test_a_vtep_has_one_host_and_nothing_is_written_twice(specs: Repository) -> None:
    first = specs.put_host(Host(name="h1", vtep="198.18.0.11"))  # type: ignore[arg-type]
    assert specs.put_host(Host(name="h1", vtep="198.18.0.11")) == first  # type: ignore[arg-type]
    with pytest.raises(Conflict, match="VTEP 198.18.0.11 belongs to host h1"):
        specs.put_host(Host(name="h2", vtep="198.18.0.11"))  # type: ignore[arg-type]
    specs.put_host(Host(name="h1", vtep="198.18.0.12"))  # type: ignore[arg-type]
    specs.put_host(Host(name="h2", vtep="198.18.0.11"))  # type: ignore[arg-type]


def test_a_mac_is_unique_in_its_network(specs: Repository) -> None:
    amber, _ = specs.create_network({"name": "amber", "ip_range": "10.0.0.0/24"})
    blue, _ = specs.create_network({"name": "blue", "ip_range": "10.0.0.0/24"})
    fields = {"host": "h1", "mac_address": "02:57:0a:00:00:03"}
    one, _, _ = specs.create_endpoint({"network_id": amber.id, "name": "one", **fields})
    specs.create_endpoint({"network_id": blue.id, **fields})
    with pytest.raises(Conflict, match="02:57:0a:00:00:03 is taken by endpoint one"):
        specs.create_endpoint({"network_id": amber.id, **fields})
    two, _, _ = specs.create_endpoint({"network_id": amber.id, "host": "h1"})  # its address would give it one's MAC
    assert (str(two.ipv4_address), two.mac_address[:5]) == ("10.0.0.3", "02:59")
    specs.delete_endpoint(amber.id, one.id)
    specs.create_endpoint({"network_id": amber.id, **fields})


def test_a_mac_requested_twice_at_once_is_given_once(specs: Repository) -> None:
    amber, _ = specs.create_network({"name": "amber", "ip_range": "10.0.0.0/24"})

    def create(_: int) -> bool:
        try:
            Repository(specs.store).create_endpoint({"network_id": amber.id, "host": "h1", "mac_address": "02:00:00:00:00:07"})
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(create, range(8))) == 1


def test_a_gateway_cannot_move_onto_an_endpoint(specs: Repository) -> None:
    amber, _ = specs.create_network({"name": "amber", "ip_range": "10.0.0.0/24"})
    specs.create_endpoint({"network_id": amber.id, "host": "h1", "ipv4_address": "10.0.0.9"})
    moved = amber.model_copy(update={"gateway": ip_interface("10.0.0.9/24")})
    with pytest.raises(Conflict, match="gateway 10.0.0.9 belongs to an endpoint"):
        specs.update_network(moved)
    specs.update_network(amber.model_copy(update={"gateway": ip_interface("10.0.0.254/24")}))
    with pytest.raises(Conflict, match="is the gateway"):
        specs.create_endpoint({"network_id": amber.id, "host": "h1", "ipv4_address": "10.0.0.254"})


def test_a_host_cannot_go_while_an_endpoint_comes(specs: Repository) -> None:
    """Whoever wins, no endpoint is left on a host that is gone with its port given out again."""
    amber, _ = specs.create_network({"name": "amber", "ip_range": "10.0.0.0/24"})
    for number in range(10):
        name = f"h{number}"
        specs.put_host(Host(name=name, vtep=ip_address(f"192.0.2.{number + 1}")))
        barrier = threading.Barrier(2)

        def delete(name: str = name, barrier: threading.Barrier = barrier) -> bool:
            barrier.wait()
            try:
                Repository(specs.store).delete_host(name)
            except Conflict:
                return False
            return True

        def create(name: str = name, barrier: threading.Barrier = barrier) -> Endpoint:
            barrier.wait()
            return Repository(specs.store).create_endpoint({"network_id": amber.id, "host": name})[0]

        with ThreadPoolExecutor(2) as threads:
            deleted, created = threads.submit(delete), threads.submit(create)
        endpoint = created.result()
        deleted.result()
        assert taken_numbers(specs.store, keys.pool_ofport(name)) == {endpoint.ofport}
