"""The host's own network: what Warren leaves alone, which networks are refused, which routes are made."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.gateway.host_network import unpublished
from agent.gateway.host_prefixes import prefixes
from agent.gateway.routes import plan
from agent.linux.host_routes import HostAddress, HostRoute
from agent.linux.uplink import GatewayRoute
from intent.recompute import view
from intent.views import misfit
from specs.model.host import Host
from specs.model.hostnet import PREFIXES_LIMIT, HostNetwork, HostPrefix
from specs.model.network import Network
from specs.obstacles import check_hosts, check_interface, in_the_way, obstacle
from specs.snapshot import snapshot
from tests.unit import worlds
from warren.errors import Conflict, Invalid


def address(text: str, device: str = "eth0", peer: str | None = None) -> HostAddress:
    return HostAddress(address=ip_interface(text), peer=ip_interface(peer or text), device=device)


def route(prefix: str, gateway: str = "192.0.2.9", device: str = "eth0") -> HostRoute:
    return HostRoute(prefix=ip_network(prefix), device=device, gateway=gateway, table=254)


def taken(prefix: str, kind: str = "interface") -> HostPrefix:
    return HostPrefix(prefix=ip_network(prefix), kind=kind, via="x")  # type: ignore[arg-type]


def network(mode: str, **ranges: str) -> Network:
    return Network(id="n", name="n", vxlan_vni=1, mode=mode, **(ranges or {"ip_range": "10.0.0.0/24"}))  # type: ignore[arg-type]


# ---- what a host has --------------------------------------------------------------------------------------------------


def test_prefixes_are_those_of_addresses_and_routes_and_what_the_host_needs() -> None:
    reached = prefixes(
        [address("192.0.2.1/24"), address("10.1.1.1/32", "tun0", peer="10.1.1.2/32"), address("2001:db8::1/64")],
        [route("10.5.0.0/16"), route("10.6.0.0/16", gateway=""), route("10.7.0.0/16", gateway="", device="")],
        etcd=[ip_address("198.51.100.7")],
        dns=[ip_address("203.0.113.53")],
    )
    assert {(str(p.prefix), p.kind, p.via) for p in reached} == {
        ("192.0.2.0/24", "interface", "eth0"), ("10.1.1.1/32", "interface", "tun0"), ("10.1.1.2/32", "interface", "tun0"),
        ("2001:db8::/64", "interface", "eth0"), ("10.5.0.0/16", "route", "a route via 192.0.2.9"),
        ("10.6.0.0/16", "interface", "eth0"), ("10.7.0.0/16", "route", "a route that drops packets"),
        ("198.51.100.7/32", "etcd", ""), ("203.0.113.53/32", "dns", ""),
    }  # fmt: skip


def test_loopback_link_local_and_halves_of_a_default_route_are_left_out() -> None:
    addresses = [address("127.0.0.1/8", "lo"), address("::1/128", "lo"), address("fe80::1/64"), address("169.254.1.1/16")]
    routes = [route("0.0.0.0/1"), route("128.0.0.0/1"), route("ff00::/8"), route("::/1")]
    assert prefixes(addresses, routes, etcd=[ip_address("127.0.0.1")], dns=[ip_address("127.0.0.53")]) == ()


def test_of_too_many_prefixes_the_narrowest_routes_are_not_published_and_the_host_says_so() -> None:
    many = [route(f"10.{i >> 8}.{i & 255}.0/24") for i in range(PREFIXES_LIMIT)] + [route("10.0.0.0/8"), route("10.9.9.8/29")]
    used = prefixes([address("192.0.2.1/24"), address("172.16.0.1/12")], many, etcd=[ip_address("198.51.100.7")], dns=[])
    published = [str(each.prefix) for each in used[:PREFIXES_LIMIT]]
    assert published[:4] == ["172.16.0.0/12", "192.0.2.0/24", "198.51.100.7/32", "10.0.0.0/8"]
    assert "10.9.9.8/29" not in published
    assert str(used[-1].prefix) == "10.9.9.8/29", "the host itself compares all"
    assert unpublished(PREFIXES_LIMIT) == []
    (line,) = unpublished(len(used))
    assert line.startswith(f"host network: 5 of {PREFIXES_LIMIT + 5} routes and addresses are not published")


# ---- which networks are in the way ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "kind", "blocked"),
    [
        ("10.0.0.0/24", "interface", "nat routed"),
        ("10.0.0.0/8", "interface", "nat routed"),
        ("10.0.0.128/25", "interface", "nat routed"),
        ("10.0.0.7/32", "etcd", "nat routed"),
        ("10.0.0.7/32", "dns", "nat routed"),
        ("10.0.0.0/24", "route", "routed"),
        ("10.0.0.64/26", "route", "routed"),
        ("10.0.0.0/16", "route", ""),  # the network is an exception to a wider route
        ("10.0.1.0/24", "interface", ""),
        ("fd00::/64", "interface", ""),
    ],
)
def test_obstacles_by_mode(prefix: str, kind: str, blocked: str) -> None:
    hostnet = HostNetwork(name="h1", prefixes=(taken(prefix, kind),))
    host = Host(name="h1", vtep=ip_address("192.0.2.1"))
    for mode in ("flat", "nat", "routed"):
        assert (obstacle(network(mode), host, hostnet) is not None) == (mode in blocked.split()), mode


@pytest.mark.parametrize("api", ["http://10.0.0.5:9999", None])
def test_vtep_and_agent_address_are_obstacles_without_a_published_network(api: str | None) -> None:
    host = Host(name="h1", vtep=ip_address("192.0.2.1" if api else "10.0.0.5"), api=api)
    collision = obstacle(network("nat"), host, None)
    assert collision is not None
    assert str(collision) == (
        "ip_range 10.0.0.0/24 overlaps 10.0.0.5, " + ("the address of the agent of host h1" if api else "the VTEP of host h1")
    )
    assert obstacle(network("nat"), host.model_copy(update={"api": "http://h1.example:9999"}), None) is None or not api


@pytest.mark.parametrize(
    ("interface", "problem"),
    [
        ("lo", "not one of the host's own machinery"),
        ("ovs-system", "not one of the host's own machinery"),
        ("br-warren", "not one of the host's own machinery"),
        ("warren-gw", "not one of the host's own machinery"),
        ("wv0123456789ab", "not one of the host's own machinery"),
        ("mgmt0", "192.0.2.0/24 on interface mgmt0 of host h1, which would no longer be reached"),
        ("eno1", None),
        ("wg0", None),
        ("lo1", None),
        ("br-lan", None),
    ],
)
def test_an_interface_that_the_host_needs_is_no_port(interface: str, problem: str | None) -> None:
    prefixes = (HostPrefix(prefix=ip_network("192.0.2.0/24"), kind="interface", via="mgmt0"), taken("203.0.113.0/24", "route"))
    hostnet = HostNetwork(name="h1", prefixes=prefixes)
    if problem is None:
        check_interface(interface, "h1", hostnet)
        check_interface("mgmt0", "h1", None)
        return
    with pytest.raises(Invalid) as refused:
        check_interface(interface, "h1", hostnet)
    assert refused.value.path == "endpoint.port"
    assert problem in str(refused.value)


def test_a_refusal_names_network_range_and_host() -> None:
    hosts = {name: Host(name=name, vtep=ip_address(f"192.0.2.{i}")) for i, name in enumerate(("h1", "h2"), 1)}
    hostnets = {"h2": HostNetwork(name="h2", prefixes=(HostPrefix(prefix=ip_network("fd00::/48"), kind="interface", via="wg0"),))}
    with pytest.raises(Conflict) as error:
        check_hosts(network("routed", ip_range="10.0.0.0/24", ipv6_range="fd00::/64"), hosts, hostnets)
    assert (error.value.field, error.value.holder) == ("ipv6_range", "h2")
    assert "network n: ipv6_range fd00::/64 overlaps fd00::/48 on interface wg0 of host h2" in str(error.value)
    check_hosts(network("flat", ip_range="10.0.0.0/24", ipv6_range="fd00::/64"), hosts, hostnets)


def test_endpoints_of_a_routed_network_are_closed_on_the_host_that_it_collides_with_alone() -> None:
    entries = [
        worlds.host("h1", "192.0.2.1"),
        worlds.host("h2", "192.0.2.2"),
        worlds.hostnet("h1", ("10.0.0.0/16", "interface")),
        worlds.network("amber", 7, mode="routed"),
        worlds.network("blue", 8, mode="nat"),
        worlds.endpoint("e1", "amber", "h1", 2, 1),
        worlds.endpoint("e2", "amber", "h2", 3, 1),
        worlds.endpoint("e3", "blue", "h1", 4, 2),
    ]
    state = snapshot([(key, value, i) for i, (key, value) in enumerate(entries)])
    closed = {e.id: misfit(e, state.networks[e.network_id], state) for e in state.endpoints.values()}
    assert closed["e2"] is closed["e3"] is None
    assert "10.0.0.0/16 on interface x of host h1" in str(closed["e1"])
    problems = view(state, "h1", {"e1": 1, "e3": 2}, 9).problems
    assert [p.about for p in problems] == ["endpoint/e1"]


# ---- routes -----------------------------------------------------------------------------------------------------------

_ranges = st.builds(
    lambda number, length: ip_network((0x0A000000 + (number << 20), length), strict=False), st.integers(0, 15), st.integers(9, 24)
)
_routes = st.builds(lambda prefix, mtu: GatewayRoute(prefix=prefix, gateway=ip_address("100.126.0.2"), mtu=mtu), _ranges,
                    st.sampled_from((1400, 1446)))  # fmt: skip
_taken = st.builds(
    lambda prefix, kind: HostPrefix(prefix=prefix, kind=kind), _ranges, st.sampled_from(("interface", "route", "etcd"))
)


@given(st.lists(_routes, max_size=6), st.lists(_routes, max_size=6), st.lists(_taken, max_size=6))
def test_the_plan_makes_all_routes_that_the_host_allows_and_touches_no_others(
    needed: list[GatewayRoute], ours: list[GatewayRoute], host: list[HostPrefix]
) -> None:
    made = plan(needed, ours, host)
    after = (set(ours) - set(made.remove)) | set(made.add)
    assert set(made.remove) <= set(ours)
    assert not set(made.add) & set(ours)
    assert after == {route for route in needed if in_the_way(route.prefix, host, routes=True) is None}
    assert {prefix for prefix, _ in made.conflicts} == {route.prefix for route in set(needed) - after}
    again = plan(needed, after, host)
    assert not again.remove
    assert not again.add
    for route in after:
        for other in host:
            assert not (other.prefix.overlaps(route.prefix) and other.kind != "route"), "what is on a link is shadowed"
            assert other.prefix != route.prefix, "a route is replaced"
