"""Fills a laboratory's etcd with records of hosts that do not exist. Runs inside the laboratory's namespace:

    python -m benchmarks.seed ETCD endpoints NETWORK FIRST LAST HOSTS   more endpoints of a network that exists
    python -m benchmarks.seed ETCD networks FIRST LAST ENDPOINTS HOSTS  more networks, each with so many endpoints
    python -m benchmarks.seed ETCD storm NETWORKS ENDPOINTS HOSTS RATE SECONDS   changes in these networks
    python -m benchmarks.seed ETCD changes NETWORK HOSTS   one change for each line of its input: `put NUMBER` or `delete NUMBER` of an
                                                           endpoint, `acl JSON`

What it writes is what the agents and controllers of such hosts would have written, pools of addresses included.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from specs import keys
from specs.model.base import VNI_FIRST, VNI_LAST
from specs.model.derived import default_mac
from specs.model.endpoint import Endpoint
from specs.model.host import Host
from specs.model.network import Network
from specs.store import bitmap
from specs.store.etcd import Store
from specs.store.placements import index
from specs.store.pool import Pool
from specs.store.repository import Repository
from specs.store.values import Delete, Put, TxnOperation

FIRST_NUMBER = 256  # the addresses below are left to the endpoints that are attached for real
BATCH = 100  # operations in one etcd transaction (its default limit is 128)
FIRST_VTEP = ip_address("198.19.0.0")  # half of the range for benchmarks; the laboratory's underlay is in the other half


def endpoint_records(endpoint: Endpoint) -> list[Put]:
    """All keys of an endpoint: those that its agent writes, and the state that its controller reports."""
    state = json.dumps({"state": "up", "reason": "", "revision": 1}, sort_keys=True)
    return [
        Put(keys.endpoint(endpoint.network_id, endpoint.id), endpoint.encode()),
        Put(keys.claim_endpoint_mac(endpoint.network_id, endpoint.mac_address), endpoint.id),
        Put(keys.status_endpoint(endpoint.host, endpoint.id), state),
        *(Put(key, value) for key, value in index(endpoint).items()),
    ]


def network_records(network: Network) -> list[Put]:
    """All keys of a network but its VNI's."""
    return [
        Put(keys.network(network.id), network.encode()),
        Put(keys.claim_network_name(network.name), network.id),
    ]


def put_hosts(specs: Repository, hosts: int) -> None:
    """Write the records of the hosts that are not there yet."""
    present = {host.name for host in specs.hosts()}
    for number in range(1, hosts + 1):
        if f"ghost{number}" not in present:
            specs.put_host(Host(name=f"ghost{number}", vtep=FIRST_VTEP + number))


def seed_endpoints(specs: Repository, network: Network, first: int, last: int, hosts: int) -> None:
    """Endpoints number first..last-1 of a network, spread over the hosts."""
    put_hosts(specs, hosts)
    ghosts = list(endpoints_of(network, first, last, hosts))
    _put(specs.store, (put for endpoint in ghosts for put in endpoint_records(endpoint)))
    _take_addresses(specs.store, network, ghosts)


def seed_networks(specs: Repository, first: int, last: int, endpoints: int, hosts: int) -> None:
    """Networks number first..last-1 with their endpoints."""
    put_hosts(specs, hosts)
    vnis = Pool.read(keys.pool_vni(), specs.store.list(keys.pool_vni())[1])
    for number in range(first, last):
        vni = bitmap.lowest_free(vnis.blocks, VNI_FIRST, VNI_LAST)
        assert vni is not None
        vnis.take(vni)
        network = ghost_network(number, vni)
        ghosts = list(endpoints_of(network, 0, endpoints, hosts, number * endpoints))
        _put(specs.store, [*network_records(network), *(put for e in ghosts for put in endpoint_records(e))])
        _take_addresses(specs.store, network, ghosts)
    specs.store.txn(vnis.compares(), vnis.puts())


def storm(store: Store, networks: int, endpoints: int, hosts: int, rate: int, seconds: int) -> float:
    """Let endpoints of all networks that `seed_networks` made come and go; returns the changes per second that it managed."""
    began = time.monotonic()
    for change in range(rate * seconds):
        number = change // 2 % (networks - 1) + 1
        endpoint = next(endpoints_of(ghost_network(number, 1), 0, 1, hosts, number * endpoints))
        puts = endpoint_records(endpoint)
        operations: list[TxnOperation] = [Delete(put.key) for put in puts] if change % 2 == 0 else list(puts)
        store.txn((), operations)
        time.sleep(max(0.0, began + (change + 1) / rate - time.monotonic()))
    return rate * seconds / (time.monotonic() - began)


def follow(specs: Repository, network: Network, hosts: int) -> None:
    """Carry out the lines of standard input, and print when each has begun."""
    for line in sys.stdin:
        command, argument = line.split(maxsplit=1)
        if command == "acl":
            acl = json.loads(argument)
            print(time.monotonic(), flush=True)
            specs.put_acl(acl)
            continue
        (endpoint,) = endpoints_of(network, int(argument), int(argument) + 1, hosts)
        puts = endpoint_records(endpoint)
        operations: list[TxnOperation] = list(puts) if command == "put" else [Delete(put.key) for put in puts]
        print(time.monotonic(), flush=True)
        specs.store.txn((), operations)


def ghost_network(number: int, vni: int) -> Network:
    """One of the networks that only hosts have that do not exist."""
    name = f"ghosts-{number}"
    return Network.model_validate(
        {"id": name, "name": name, "vxlan_vni": vni, "ip_range": "10.66.0.0/15", "ipv6_range": "fd01::/64"}
    )


def endpoints_of(network: Network, first: int, last: int, hosts: int, before: int = 0) -> Iterator[Endpoint]:
    """The endpoints number first..last-1 of a network, as values; other networks have `before` endpoints on the same hosts."""
    assert network.ip_range is not None
    assert network.ipv6_range is not None
    for number in range(first, last):
        address, place = network.ip_range[FIRST_NUMBER + number], before + number
        yield Endpoint(
            id=f"ghost-{network.name}-{number}",
            network_id=network.id,
            host=f"ghost{place % hosts + 1}",
            mac_address=default_mac("", address, None),
            ipv4_address=address,
            ipv6_address=network.ipv6_range[FIRST_NUMBER + number],
            ofport=place // hosts + 1,
        )


def _put(store: Store, puts: Iterable[TxnOperation]) -> None:
    operations = list(puts)
    for start in range(0, len(operations), BATCH):
        store.txn((), operations[start : start + BATCH])


def _take_addresses(store: Store, network: Network, endpoints: Iterable[Endpoint]) -> None:
    assert network.ip_range is not None
    pools = [Pool.read(prefix, store.list(prefix)[1]) for prefix in (keys.pool_v4(network.id), keys.pool_v6(network.id))]
    for endpoint in endpoints:
        assert endpoint.ipv4_address is not None
        for pool in pools:
            pool.take(int(endpoint.ipv4_address) - int(network.ip_range.network_address))
    for pool in pools:
        store.txn(pool.compares(), pool.puts())


def main() -> None:
    """Entry of the process."""
    url, command, *words = sys.argv[1:]
    specs = Repository(Store([url]))
    if command == "endpoints":
        seed_endpoints(specs, specs.network(words[0]), *map(int, words[1:]))
    elif command == "networks":
        seed_networks(specs, *map(int, words))
    elif command == "changes":
        follow(specs, specs.network(words[0]), int(words[1]))
    else:
        print(storm(specs.store, *map(int, words)))


if __name__ == "__main__":
    main()
