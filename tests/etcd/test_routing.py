"""Routers and services in a real etcd: contradicting concurrent writers, and refusals."""

from __future__ import annotations

import threading

import pytest

from specs.model.host import Host
from specs.model.publish import Publish
from specs.store.etcd import Store
from specs.store.repository import Repository
from warren.errors import Conflict, Invalid, NotFound

NETWORKS = {"amber": "10.0.0.0/24", "blue": "10.0.0.0/16", "green": "10.1.0.0/24"}


@pytest.fixture
def specs(store: Store) -> Repository:
    specs = Repository(store)
    for name, ip_range in NETWORKS.items():
        specs.create_network({"name": name, "ip_range": ip_range, "mode": "nat"})
    return specs


def test_a_router_is_written_changed_and_deleted(specs: Repository) -> None:
    router, first = specs.put_router({"name": "core", "networks": ["amber", "green"]})
    assert specs.put_router({"name": "core", "networks": ["amber", "green"]}) == (router, first)
    changed, second = specs.put_router({"name": "core", "networks": ["green", "blue"]})
    assert (changed.created_at, second > first) == (router.created_at, True)
    blue = next(n for n in specs.networks() if n.name == "blue")
    with pytest.raises(Conflict, match="network blue is joined by router core"):
        specs.delete_network(blue.id)
    specs.delete_router("core")
    specs.put_service({"name": "web", "network": "blue", "host_port": 1, "port": 1, "label": "a"})
    with pytest.raises(Conflict, match="network blue has service web"):
        specs.delete_network(blue.id)
    specs.delete_service("web")
    specs.delete_network(blue.id)
    with pytest.raises(NotFound):
        specs.delete_router("core")


def test_a_network_that_nothing_names_gets_another_name(specs: Repository) -> None:
    amber, blue = (next(n for n in specs.networks() if n.name == name) for name in ("amber", "blue"))
    specs.rename_network(blue.id, "violet")
    assert specs.rename_network(blue.id, "violet") == specs.rename_network(blue.id, "violet")
    with pytest.raises(Conflict, match=f"the name amber belongs to network {amber.id}"):
        specs.rename_network(blue.id, "amber")
    specs.create_network({"name": "blue"})  # the former name is free
    specs.put_router({"name": "core", "networks": ["violet", "green"]})
    with pytest.raises(Conflict, match="network violet is joined by router core"):
        specs.rename_network(blue.id, "indigo")
    with pytest.raises(NotFound):
        specs.rename_network("nowhere", "indigo")
    assert {n.name for n in specs.networks()} == {"amber", "violet", "green", "blue"}


def test_of_two_contradicting_concurrent_writers_one_is_refused(specs: Repository) -> None:
    refused: list[str] = []

    def put(name: str, network: str) -> None:
        repository = Repository(specs.store)  # without the lock that the threads of one process share
        try:
            repository.put_router({"name": name, "networks": [network, "green"]})
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


def test_a_published_port_has_one_holder_and_is_free_after_deletion(specs: Repository) -> None:
    web = {"name": "web", "network": "amber", "host_port": 80, "port": 8080, "label": "web"}
    specs.put_host(Host(name="h1", vtep="192.0.2.1"))
    amber = next(n for n in specs.networks() if n.name == "amber")
    service, first = specs.put_service(web)
    assert specs.put_service(web) == (service, first)
    with pytest.raises(Conflict, match="tcp port 80 of all hosts leads to service web"):
        specs.put_service(web | {"name": "other"})
    published = {"network_id": amber.id, "host": "h1", "publish": [{"host_port": "79-81", "port": "1-3"}]}
    with pytest.raises(Conflict, match="tcp port 80 of all hosts is a service's"):
        specs.create_endpoint(published)
    specs.put_service(web | {"host_port": 8000})
    specs.create_endpoint(published)
    with pytest.raises(Conflict, match="tcp port 80 of host h1 is published by an endpoint"):
        specs.put_service(web)
    specs.put_service(web | {"proto": "udp"})
    specs.put_service(web | {"name": "other", "host_port": 8000})
    for name in ("web", "other"):
        specs.delete_service(name)
    specs.put_service(web | {"host_port": 8000})
    with pytest.raises(Invalid, match="service.network: 'nowhere': expected a network in mode nat"):
        specs.put_service(web | {"network": "nowhere"})


@pytest.mark.parametrize("ports", ["4789", "4700-4800"])
def test_the_ports_of_the_tunnel_cannot_be_published(specs: Repository, ports: str) -> None:
    """The host would lead what other hosts send it into a container."""
    specs.put_host(Host(name="h1", vtep="192.0.2.1"))
    amber = next(n for n in specs.networks() if n.name == "amber")
    where = {"network_id": amber.id, "host": "h1"}
    published = [{"host_port": ports, "port": ports, "proto": "udp"}]
    with pytest.raises(Conflict, match="udp port 4789 of all hosts is the tunnel's"):
        specs.create_endpoint({**where, "publish": published})
    endpoint, _, _ = specs.create_endpoint({**where, "publish": [{**published[0], "proto": "tcp"}]})
    with pytest.raises(Conflict, match="udp port 4789 of all hosts is the tunnel's"):
        specs.update_endpoint(endpoint.model_copy(update={"publish": (Publish(**published[0]),)}))
    with pytest.raises(Conflict, match="udp port 4789 of all hosts is the tunnel's"):
        specs.put_service({"name": "web", "network": "amber", "host_port": 4789, "port": 1, "proto": "udp", "label": "web"})


@pytest.mark.parametrize("whom", [{}, {"label": "a", "endpoints": ["b"]}])
def test_a_service_names_its_members_by_label_or_by_list(specs: Repository, whom: dict[str, object]) -> None:
    with pytest.raises(Invalid, match="endpoints or label, one of the two"):
        specs.put_service({"name": "web", "network": "amber", "host_port": 80, "port": 80, **whom})
