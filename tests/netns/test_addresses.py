"""Addresses and routes from a DHCP lease on a container's interface, in a real kernel."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Interface

import pytest

from agent.dhcp_client import addresses
from agent.dhcp_client.lease_file import LeaseRoute
from agent.linux import inspect
from specs.model.derived import veth_name
from tests.netns.test_veth import Cables, cables, container, ip

__all__ = ["cables", "container"]
FIRST, SECOND = IPv4Interface("100.64.0.10/24"), IPv4Interface("100.64.0.11/24")
ROUTER: LeaseRoute = ("default", "100.64.0.1")


@pytest.fixture
def put(cables: Cables, container: Callable[[], str]) -> Callable[..., tuple[str, str]]:
    """Puts an address and routes; addresses and routes as `ip` shows them then."""
    name = container()
    cables.plug("e", name, 2, addresses=[])

    def do(address: IPv4Interface | None, *routes: LeaseRoute) -> tuple[str, str]:
        cables.on_host(lambda: addresses.put(name, veth_name("e"), address, routes))
        return ip("-n", name, "-4", "-o", "addr", "show", "dev", "eth0"), ip("-n", name, "-4", "route")

    do.name = name  # type: ignore[attr-defined]
    return do


def test_an_address_comes_with_the_hosts_end_of_its_veth_pair(cables: Cables, container: Callable[[], str]) -> None:
    """So that two endpoints with one address and MAC, in two networks, are told apart."""
    one, two = container(), container()
    for endpoint, name in (("a", one), ("b", two)):
        cables.plug(endpoint, name, 2)
        ip("-n", name, "link", "add", "other", "type", "veth", "peer", "name", "inside")
        ip("-n", name, "addr", "add", "192.0.2.9/24", "dev", "other")
    read = {name: cables.on_host(lambda name=name: inspect.addresses(name)) for name in (one, two)}
    peers = {(name, each.interface): each.peer for name in read for each in read[name]}
    assert peers[one, "eth0"] == veth_name("a")
    assert peers[two, "eth0"] == veth_name("b")
    assert {each.mac for name in read for each in read[name] if each.interface == "eth0"} == {"02:57:0a:00:00:02"}


def test_an_address_of_the_same_range_replaces_the_earlier_one(put: Callable[..., tuple[str, str]]) -> None:
    """The kernel takes others of a range away with the first of it."""
    for _ in range(2):
        lines, routes = put(FIRST, ROUTER)
        assert f"inet {FIRST} " in lines
        assert "default via 100.64.0.1 dev eth0 proto dhcp onlink" in routes
    lines, routes = put(SECOND, ROUTER)
    assert lines.count("inet ") == 1
    assert f"inet {SECOND} " in lines
    assert routes.count("default") == 1
    assert put(None) == ("", "")


def test_leased_routes_are_added_and_removed_and_others_stay(put: Callable[..., tuple[str, str]]) -> None:
    put(FIRST, ("10.0.0.0/8", "100.64.0.9"), ("192.0.2.1/32", "0.0.0.0"))
    ip("-n", put.name, "route", "add", "198.51.100.0/24", "via", "100.64.0.77", "dev", "eth0")  # type: ignore[attr-defined]
    _, routes = put(FIRST, ("192.0.2.1/32", "0.0.0.0"), ROUTER)
    assert "10.0.0.0/8" not in routes
    assert "192.0.2.1 dev eth0 proto dhcp scope link" in routes
    assert "198.51.100.0/24 via 100.64.0.77" in routes
    assert "default via 100.64.0.1" in routes


def test_a_router_outside_the_range_and_a_default_route_of_another_network(put: Callable[..., tuple[str, str]]) -> None:
    _, routes = put(IPv4Interface("100.64.0.10/32"), ("default", "192.0.2.254"))
    assert "default via 192.0.2.254 dev eth0 proto dhcp onlink" in routes
    put(None)
    name = put.name  # type: ignore[attr-defined]
    ip("-n", name, "addr", "add", "10.9.0.2/24", "dev", "lo")
    ip("-n", name, "link", "set", "lo", "up")
    ip("-n", name, "route", "add", "default", "via", "10.9.0.1", "dev", "lo")
    _, routes = put(FIRST, ROUTER)
    assert routes.count("default") == 1
    assert "default via 10.9.0.1 dev lo" in routes
    _, routes = put(None)
    assert "default via 10.9.0.1 dev lo" in routes


def test_removing_what_does_not_exist_is_no_error(put: Callable[..., tuple[str, str]], cables: Cables) -> None:
    cables.on_host(lambda: addresses.put(put.name, veth_name("nobody"), FIRST, ()))  # type: ignore[attr-defined]
    cables.on_host(lambda: addresses.sent(put.name))  # type: ignore[attr-defined]
