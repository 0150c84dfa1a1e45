"""What the kernel tells of a host's addresses and routes, read from a namespace."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import pytest

from agent.gateway.host_prefixes import prefixes
from agent.linux import host_routes, netns, uplink
from agent.linux.uplink import ROUTE_PROTOCOL, GatewayRoute
from ovsdb.rows import UPLINK_PORT


@pytest.fixture
def host() -> Iterator[str]:
    name = f"hr{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    yield name
    subprocess.run(["ip", "netns", "del", name], check=True)


def ip(host: str, *lines: str) -> None:
    for line in lines:
        subprocess.run(["ip", "-n", host, *line.split()], check=True)


def test_addresses_and_routes_of_every_table_that_a_rule_looks_up(host: str) -> None:
    ip(
        host, "link set lo up", "link add eth0 type veth peer name eth1", "link set eth0 up", "link set eth1 up",
        f"link add {UPLINK_PORT} type veth peer name other", f"link set {UPLINK_PORT} up", f"addr add 100.126.0.1/30 dev {UPLINK_PORT}",
        "addr add 192.0.2.1/24 dev eth0", "addr add 10.1.0.1 peer 10.1.0.2 dev eth0", "addr add 10.255.0.7/32 dev lo",
        "-6 addr add 2001:db8::1/64 dev eth0 nodad", "route add default via 192.0.2.9", "route add 10.5.0.0/16 via 192.0.2.9",
        "route add blackhole 10.6.0.0/16", "route add 10.7.0.0/16 nexthop via 192.0.2.8 nexthop via 192.0.2.9",
        "-6 route add fd05::/48 via 2001:db8::9", f"route add 10.8.0.0/16 dev {UPLINK_PORT}",
        "route add 100.64.0.0/10 dev eth0 table 52", "rule add pref 5270 lookup 52",
        "route add 10.9.0.0/16 dev eth0 table 53", "route add throw 10.10.0.0/16", "route add 10.11.0.0/16 dev eth0 table 1000",
        "rule add pref 5271 lookup 1000",
    )  # fmt: skip
    addresses, routes = netns.inside(host, host_routes.read)
    reached = prefixes(addresses, routes, etcd=[], dns=[])
    assert {(str(p.prefix), p.kind, p.via) for p in reached} == {
        ("192.0.2.0/24", "interface", "eth0"), ("10.1.0.1/32", "interface", "eth0"), ("10.1.0.2/32", "interface", "eth0"),
        ("10.255.0.7/32", "interface", "lo"), ("2001:db8::/64", "interface", "eth0"),
        ("10.5.0.0/16", "route", "a route via 192.0.2.9"), ("10.6.0.0/16", "route", "a route that drops packets"),
        ("10.7.0.0/16", "route", "a route via several gateways"), ("fd05::/48", "route", "a route via 2001:db8::9"),
        ("100.64.0.0/10", "interface", "eth0"), ("10.11.0.0/16", "interface", "eth0"),
    }  # fmt: skip


def test_routes_of_warren_are_those_with_its_mark_and_no_other_is_touched(host: str) -> None:
    ip(
        host, f"link add {UPLINK_PORT} type veth peer name other", "link set other up", f"link set {UPLINK_PORT} up",
        f"addr add 100.126.0.1/30 dev {UPLINK_PORT}", f"-6 addr add fd57::1/64 dev {UPLINK_PORT} nodad",
        f"route add 10.20.0.0/24 via 100.126.0.2 dev {UPLINK_PORT}", f"route add 10.21.0.0/24 via 100.126.0.2 dev {UPLINK_PORT} proto static",
    )  # fmt: skip
    desired = {
        GatewayRoute(prefix=ip_network(prefix), gateway=ip_address(gateway), mtu=1400)
        for prefix, gateway in (("10.21.0.0/24", "100.126.0.2"), ("10.22.0.0/24", "100.126.0.2"), ("fd22::/64", "fd57::2"))
    }
    theirs = GatewayRoute(prefix=ip_network("10.20.0.0/24"), gateway=ip_address("100.126.0.2"), mtu=1400)
    refused = netns.inside(host, lambda: uplink.change_routes((), (*desired, theirs)))
    assert refused == [theirs], "somebody has added it by hand; that of an earlier version of Warren is taken over"
    assert netns.inside(host, uplink.routes) == desired
    shown = subprocess.run(["ip", "-n", host, "route"], capture_output=True, text=True, check=True).stdout
    assert shown.count(f"proto {ROUTE_PROTOCOL}") == 2
    netns.inside(host, lambda: uplink.change_routes(tuple(desired), ()))
    assert netns.inside(host, uplink.routes) == set()
    assert "10.20.0.0/24" in subprocess.run(["ip", "-n", host, "route"], capture_output=True, text=True, check=True).stdout
