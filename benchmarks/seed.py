"""Fills a laboratory's etcd with endpoints of hosts that do not exist: `python -m benchmarks.seed ETCD NETWORK FIRST LAST`.

Runs inside the laboratory's namespace. What it writes is what the agents of such hosts would have written, pools included.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from ipaddress import ip_address

from specs import keys
from specs.model.derived import default_mac
from specs.model.endpoint import Endpoint
from specs.model.host import Host
from specs.model.network import Network
from specs.store.etcd import Store
from specs.store.pool import Pool
from specs.store.repository import Repository
from specs.store.values import Put, TxnOperation

HOSTS = 50
FIRST_NUMBER = 256  # the addresses below are left to the endpoints that are attached for real
BATCH = 100  # operations in one etcd transaction (its default limit is 128)


def seed(specs: Repository, network: Network, first: int, last: int) -> None:
    """Endpoints number first..last-1 of a network, spread over the hosts."""
    assert network.ip_range is not None
    for number in range(1, HOSTS + 1):
        specs.put_host(Host(name=f"ghost{number}", vtep=ip_address(f"198.18.3.{number}")))
    pool, pool6 = (Pool.read(p, specs.store.list(p)[1]) for p in (keys.pool_v4(network.id), keys.pool_v6(network.id)))
    puts: list[TxnOperation] = []
    for endpoint in ghosts(network, first, last):
        assert endpoint.ipv4_address is not None
        pool.take(int(endpoint.ipv4_address) - int(network.ip_range.network_address))
        pool6.take(int(endpoint.ipv4_address) - int(network.ip_range.network_address))
        puts.append(Put(keys.endpoint(network.id, endpoint.id), endpoint.encode()))
        puts.append(Put(keys.claim_endpoint_mac(network.id, endpoint.mac_address), endpoint.id))
    for start in range(0, len(puts), BATCH):
        specs.store.txn((), puts[start : start + BATCH])
    for each in (pool, pool6):
        specs.store.txn(each.compares(), each.puts())


def ghosts(network: Network, first: int, last: int) -> Iterator[Endpoint]:
    """The endpoints themselves."""
    assert network.ip_range is not None
    assert network.ipv6_range is not None
    for number in range(first, last):
        address = network.ip_range[FIRST_NUMBER + number]
        yield Endpoint(
            id=f"ghost-{network.name}-{number}",
            network_id=network.id,
            host=f"ghost{number % HOSTS + 1}",
            mac_address=default_mac("", address, None),
            ipv4_address=address,
            ipv6_address=network.ipv6_range[FIRST_NUMBER + number],
            ofport=number // HOSTS + 1,
        )


def main() -> None:
    """Entry of the process."""
    url, network_id, first, last = sys.argv[1:]
    specs = Repository(Store([url]))
    seed(specs, specs.network(network_id), int(first), int(last))


if __name__ == "__main__":
    main()
