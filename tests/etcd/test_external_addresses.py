"""Addresses of external DHCP servers in a real etcd: they belong to no pool, and only one writer may change them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface

import pytest

from specs import keys
from specs.store.etcd import Store
from specs.store.repository import Repository
from warren.errors import Conflict, Invalid, NotFound

ADDRESS = IPv4Interface("100.64.0.10/24")


@pytest.fixture
def specs(store: Store) -> Repository:
    return Repository(store)


def test_an_external_address_is_recorded_changed_and_removed(specs: Repository, store: Store) -> None:
    lan, _ = specs.create_network({"name": "lan", "dhcp": "external"})
    made, _, _ = specs.create_endpoint({"network_id": lan.id, "host": "h1"})
    assert made.ipv4_address is None
    leased, revision = specs.lease(lan.id, made.id, ADDRESS)
    assert (leased.ipv4_address, leased.leased_prefix) == (IPv4Address("100.64.0.10"), 24)
    assert specs.lease(lan.id, made.id, ADDRESS) == (leased, revision), "no news, no write"
    assert store.list(keys.pool_v4(lan.id))[1] == []
    specs.update_endpoint(made.model_copy(update={"labels": {"web": ""}}))  # by somebody who has not seen it
    assert specs.endpoints(lan.id) == [leased.model_copy(update={"labels": {"web": ""}})]
    other, _ = specs.lease(lan.id, made.id, IPv4Interface("100.64.1.7/16"))
    assert (str(other.ipv4_address), other.leased_prefix, other.labels) == ("100.64.1.7", 16, {"web": ""})
    lost, _ = specs.lease(lan.id, made.id, None)
    assert (lost.ipv4_address, lost.leased_prefix) == (None, None)
    specs.update_endpoint(leased)
    assert specs.endpoints(lan.id)[0].ipv4_address is None, "an old copy brings no lease back"
    specs.lease(lan.id, made.id, ADDRESS)
    specs.delete_endpoint(lan.id, made.id)
    specs.delete_network(lan.id)
    with pytest.raises(NotFound):
        specs.lease(lan.id, made.id, ADDRESS)


def test_external_addresses_with_a_wrong_writer_or_range_are_refused(specs: Repository) -> None:
    lan, _ = specs.create_network({"name": "lan", "dhcp": "external"})
    amber, _ = specs.create_network({"name": "amber", "ip_range": "10.0.0.0/24"})
    fixed, _, _ = specs.create_endpoint({"network_id": amber.id, "host": "h1", "name": "fixed"})
    with pytest.raises(Conflict, match="fixed: its network has no dhcp: external"):
        specs.lease(amber.id, fixed.id, ADDRESS)
    assert specs.lease(amber.id, fixed.id, None)[0] == fixed
    with pytest.raises(Invalid, match="has no such range"):
        specs.create_endpoint({"network_id": lan.id, "host": "h1", "ipv4_address": "100.64.0.10"})
    with pytest.raises(Invalid, match="no client can ask"):
        specs.create_endpoint({"network_id": lan.id, "host": "h1", "parent": fixed.id})
