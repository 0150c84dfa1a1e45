"""Ranges of networks and of transit against what hosts have published, in a real etcd."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from specs.model.endpoint import ADOPTED
from specs.model.host import Host
from specs.model.hostnet import HostNetwork, HostPrefix
from specs.store.etcd import Store
from specs.store.repository import Repository
from warren.errors import Conflict, Invalid, NotFound


def taken(prefix: str, kind: Any = "interface", via: str = "eth0") -> HostPrefix:
    return HostPrefix(prefix=ip_network(prefix), kind=kind, via=via)


@pytest.fixture
def specs(store: Store) -> Repository:
    specs = Repository(store)
    for number, name in enumerate(("h1", "h2"), 1):
        specs.put_host(Host(name=name, vtep=f"192.0.2.{number}"))
    prefixes = (
        taken("192.0.2.0/24"),
        taken("10.8.0.0/14", "route", "a route via 192.0.2.9"),
        taken("100.64.0.0/10", via="tailscale0"),
    )
    specs.put_hostnet(HostNetwork(name="h2", prefixes=prefixes))
    return specs


def test_networks_in_the_way_of_a_host_are_refused_and_nothing_is_written(specs: Repository) -> None:
    for draft, reason in (
        ({"ip_range": "192.0.2.128/25", "mode": "nat"}, "on interface eth0 of host h2"),
        ({"ip_range": "10.0.0.0/8", "mode": "routed"}, "which host h2 reaches by a route via 192.0.2.9"),
        ({"ip_range": "192.0.2.0/30", "mode": "routed"}, "the VTEP of host h1"),
        ({"ip_range": "100.126.0.0/24"}, "transit4 100.126.0.0/15"),
        ({"ipv6_range": "fd57:7272:656e:1::/64", "mode": "nat"}, "transit6"),
    ):
        with pytest.raises(Conflict, match=reason):
            specs.create_network({"name": "clash", **draft})
    assert specs.networks() == []
    network, _ = specs.create_network({"name": "clash", "ip_range": "192.0.2.128/25"})
    with pytest.raises(Conflict, match="overlaps"):
        specs.update_network(network.model_copy(update={"mode": "nat"}))
    specs.create_network({"name": "within", "ip_range": "10.9.0.0/24", "mode": "routed"})  # an exception to the wider route


def test_a_deleted_host_is_in_nobodys_way(specs: Repository) -> None:
    specs.delete_host("h2")
    specs.create_network({"name": "free", "ip_range": "192.0.2.128/25", "mode": "nat"})


def test_a_transit_range_that_a_host_uses_is_refused_with_the_host_and_the_reason(specs: Repository) -> None:
    for value, reason in (
        ("100.64.0.0/15", "100.64.0.0/10 on interface tailscale0 of host h2"),
        ("10.8.0.0/15", "10.8.0.0/14, which host h2 reaches by a route via 192.0.2.9"),  # a wider route is one, too
        ("192.0.0.0/14", "of host h1"),
    ):
        with pytest.raises(Conflict, match=reason) as error:
            specs.put_cluster({"transit4": value})
        assert error.value.field == "transit4"
    with pytest.raises(Invalid, match="too small"):
        specs.put_cluster({"transit4": "172.16.0.0/16"})
    specs.put_cluster({"transit6": "fd12::/63"})  # the default transit4 overlaps a route, and does not change
    specs.put_cluster({"transit4": "172.16.0.0/15", "transit6": "fd12::/63"})


def test_a_transit_range_of_a_network_is_refused_and_a_network_in_the_new_range_is(specs: Repository) -> None:
    specs.create_network({"name": "amber", "ip_range": "172.17.0.0/24"})
    with pytest.raises(Conflict, match="network amber: ip_range 172.17.0.0/24 overlaps transit4 172.16.0.0/15"):
        specs.put_cluster({"transit4": "172.16.0.0/15"})
    specs.put_cluster({"transit4": "172.18.0.0/15"})
    with pytest.raises(Conflict, match="overlaps transit4 172.18.0.0/15"):
        specs.create_network({"name": "blue", "ip_range": "172.19.0.0/24"})
    specs.create_network({"name": "blue", "ip_range": "100.126.0.0/24"})


def test_transit_ranges_in_use_change_by_force_alone(specs: Repository) -> None:
    network, _ = specs.create_network({"name": "amber", "ip_range": "172.17.0.0/24", "mode": "nat"})
    endpoint, _, _ = specs.create_endpoint({"network_id": network.id, "host": "h1", "netns": "/run/netns/x"})
    with pytest.raises(Conflict, match="network amber .* has 1 active endpoint") as error:
        specs.put_cluster({"transit4": "172.18.0.0/15"})
    assert error.value.holder == "amber"
    cluster, first = specs.put_cluster({"transit4": "172.18.0.0/15"}, force=True)
    assert specs.put_cluster({"transit4": "172.18.0.0/15"}) == (cluster, first)
    specs.delete_endpoint(network.id, endpoint.id)
    specs.put_hostnet(HostNetwork(name="h2"))
    specs.delete_cluster("default")
    with pytest.raises(NotFound):
        specs.delete_cluster("default")


def test_an_interface_with_the_hosts_addresses_is_no_port_unless_it_is_on_the_bridge_already(specs: Repository) -> None:
    network, _ = specs.create_network({"name": "lan"})
    draft = {"network_id": network.id, "host": "h2", "port": "eth0"}
    for port, reason in (("eth0", "192.0.2.0/24 on interface eth0 of host h2"), ("lo", "machinery")):
        with pytest.raises(Invalid, match=reason):
            specs.create_endpoint({**draft, "port": port})
    assert specs.endpoints(network.id) == []
    specs.create_endpoint({**draft, "labels": {ADOPTED: ""}})
    specs.create_endpoint({**draft, "host": "h1"})


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "240.0.0.1"])
@pytest.mark.parametrize("kind", ["gre", "erspan", "vxlan"])
def test_copies_go_to_another_machine(specs: Repository, kind: str, address: str) -> None:
    with pytest.raises(Invalid, match="the address of another machine") as refused:
        specs.put_mirror({"name": "m", "sources": [{"network": "lan"}], "to": {kind: address}})
    assert refused.value.path == f"mirror.to.{kind}"
