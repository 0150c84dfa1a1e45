"""Routers in a real etcd: two writers that contradict each other, and what is refused."""

from __future__ import annotations

import threading

import pytest

from specs.allocation import Specs
from specs.errors import Invalid, NotFound
from specs.store import Store

NETWORKS = {"amber": "10.0.0.0/24", "blue": "10.0.0.0/16", "green": "10.1.0.0/24"}


@pytest.fixture
def specs(store: Store) -> Specs:
    specs = Specs(store)
    for name, ip_range in NETWORKS.items():
        specs.create_network({"name": name, "ip_range": ip_range, "mode": "nat"})
    return specs


def test_a_router_is_written_changed_and_deleted(specs: Specs) -> None:
    router, first = specs.put_router({"name": "core", "networks": ["amber", "green"]})
    assert specs.put_router({"name": "core", "networks": ["amber", "green"]}) == (router, first)
    changed, second = specs.put_router({"name": "core", "networks": ["green", "blue"]})
    assert (changed.created_at, second > first) == (router.created_at, True)
    specs.delete_router("core")
    with pytest.raises(NotFound):
        specs.delete_router("core")


def test_of_two_writers_that_contradict_each_other_one_is_refused(specs: Specs) -> None:
    refused: list[str] = []

    def put(name: str, network: str) -> None:
        own = Specs(specs.store)  # without the lock that the threads of one process share
        try:
            own.put_router({"name": name, "networks": [network, "green"]})
        except Invalid as error:
            refused.append(str(error))

    for round_ in range(5):
        threads = [threading.Thread(target=put, args=(f"{name}{round_}", name)) for name in ("amber", "blue")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(refused) == 1, refused
        assert "overlaps that of" in refused.pop()
        for name in ("amber", "blue"):
            try:
                specs.delete_router(f"{name}{round_}")
            except NotFound:
                continue
