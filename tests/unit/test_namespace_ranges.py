"""A namespace has one network for an address."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_interface

import pytest

from agent.cache import CacheView
from agent.endpoints.namespace_ranges import check_addresses, check_networks
from agent.linux.inspect import NamespaceAddress
from specs.model.network import Network
from specs.snapshot import snapshot
from tests.unit import worlds
from warren.errors import Conflict

ENTRIES = (worlds.host("h1", "192.0.2.1"), worlds.network("amber", 7), worlds.endpoint("e1", "amber", "h1", 2, 1))
STATE = snapshot([(key, value, i) for i, (key, value) in enumerate(ENTRIES)])
VIEW = CacheView(STATE, STATE.endpoints)
AMBER, E1 = STATE.networks["amber"], STATE.endpoints["e1"]


def network(name: str, **ranges: str) -> Network:
    return Network(id=name, name=name, vxlan_vni=9, **ranges)  # type: ignore[arg-type]


def address(text: str, mac: str = "02:00:00:00:00:01", interface: str = "eth0") -> NamespaceAddress:
    return NamespaceAddress(interface=interface, mac=mac, address=ip_interface(text))


@pytest.mark.parametrize(
    "ranges",
    [{"ip_range": "10.0.0.0/24"}, {"ip_range": "10.0.0.0/16"}, {"ip_range": "10.0.0.128/25"}, {"ipv6_range": "fd00::/48"},
     {"ip_range": "10.9.0.0/24", "ipv6_range": "fd00::/64"}],
)  # fmt: skip
def test_another_network_with_common_addresses_is_refused_by_name(ranges: dict[str, str]) -> None:
    inside = [address(f"{E1.ipv4_address}/24", E1.mac_address), address(f"{E1.ipv6_address}/64", E1.mac_address)]
    with pytest.raises(Conflict) as error:
        check_addresses(network("blue", **ranges), inside, VIEW, "web")
    assert (error.value.field, error.value.holder) == ("network_id", "amber")
    assert "network blue (" in str(error.value)
    assert "overlaps network amber (" in str(error.value)
    with pytest.raises(Conflict, match=r"network blue .* overlaps network amber"):
        check_networks(network("blue", **ranges), [AMBER], "web")


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_endpoints_with_one_address_and_mac_the_veth_pair_tells_which_is_inside(order: int) -> None:
    """An endpoint of the other network elsewhere on this host has the same address and MAC, and may come first in the view."""
    elsewhere = E1.model_copy(update={"id": "e2", "network_id": "blue"})
    endpoints = {endpoint.id: endpoint for endpoint in (elsewhere, E1)[::order]}
    blue = network("blue", ip_range="10.0.0.0/24")
    state = replace(STATE, networks={**STATE.networks, "blue": blue})
    inside = NamespaceAddress(interface="eth0", mac=E1.mac_address, address=ip_interface(f"{E1.ipv4_address}/24"), peer=E1.veth)
    with pytest.raises(Conflict, match=r"overlaps network amber"):
        check_addresses(blue, [inside], CacheView(state, endpoints), "web")


def test_an_interface_that_is_not_warrens_is_named() -> None:
    with pytest.raises(Conflict, match=r"overlaps interface net1 \(10.0.0.77/16\) in web"):
        check_addresses(network("blue", ip_range="10.0.0.0/24"), [address("10.0.0.77/16", interface="net1")], VIEW, "web")


def test_other_ranges_and_the_network_itself_are_no_conflict() -> None:
    inside = [address(f"{E1.ipv4_address}/24", E1.mac_address), address("fe80::1/64"), address("172.17.0.2/16")]
    check_addresses(AMBER, inside, VIEW, "web")
    check_addresses(network("blue", ip_range="10.9.0.0/24", ipv6_range="fd09::/64"), inside, VIEW, "web")
    check_addresses(network("bare"), inside, VIEW, "web")
    check_networks(AMBER, [AMBER, network("blue", ip_range="10.9.0.0/24")], "web")
