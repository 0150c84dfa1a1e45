"""The status of many hosts: what it says, and that it costs no reading of their endpoints."""

from __future__ import annotations

import json
from ipaddress import ip_address

from agent.cache import CacheView
from agent.revisions import Revisions
from agent.status import overview
from specs import keys
from specs.model.host import Host
from specs.store.etcd import Store
from specs.store.values import Put

HOSTS = 250
REVISIONS = Revisions({"": 7})


def fill(store: Store) -> None:
    """Hosts with three endpoints each; every second controller lives."""
    puts = []
    for i in range(HOSTS):
        host = Host(name=f"h{i}", vtep=ip_address("198.18.0.0") + i)
        puts.append(Put(keys.host(host.name), host.encode()))
        puts += [Put(keys.status_endpoint(host.name, f"e{i}-{j}"), "never read") for j in range(3)]
        if i % 2:
            report = {"revision": 7, "connected": True, "endpoints": {"up": 2, "closed": 1}}
            puts.append(Put(keys.status_controller(host.name), json.dumps(report)))
    for start in range(0, len(puts), 100):
        store.txn((), puts[start : start + 100])


def test_living_controllers_count_their_endpoints_and_etcd_counts_those_of_others(store: Store) -> None:
    fill(store)
    store.put(keys.status_controller("h3"), '{"revision": 7}')  # of a version that does not count
    before = store.calls
    hosts = {host["name"]: host for host in overview(store, REVISIONS, CacheView())["hosts"]}
    assert store.calls - before == 3, "one read, and two transactions that count below 126 prefixes"
    assert len(hosts) == HOSTS
    assert hosts["h1"]["endpoints"] == {"closed": 1, "up": 2}
    assert hosts["h1"]["current"] is True
    assert hosts["h2"]["endpoints"] == hosts["h3"]["endpoints"] == {"unknown": 3}
    store.delete(keys.status_endpoint("h2", "e2-0"))
    assert next(host for host in overview(store, REVISIONS, CacheView())["hosts"] if host["name"] == "h2")["endpoints"] == {
        "unknown": 2
    }


def test_hosts_alone_are_one_read(store: Store) -> None:
    fill(store)
    before = store.calls
    assert "endpoints" not in overview(store, REVISIONS)["hosts"][0]
    assert store.calls - before == 1
