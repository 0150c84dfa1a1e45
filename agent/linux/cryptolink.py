"""Reads and makes the interfaces and the namespace of encrypted tunnels (agent/encryption/link.py lists them)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from socket import AF_INET
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from agent.linux import named_namespaces
from agent.linux import netns as namespaces
from agent.linux.command import run
from specs.model.derived import veth_mac
from warren.errors import Unavailable

SETTINGS = "/proc/sys/net/ipv4/conf/{}/{}"
MAIN, LOCAL = 254, 255  # routing tables


def make_netns(netns: str) -> None:
    """Make a namespace without IPv6, in place of an earlier one of that name. Its loopback is up: without any local address, the kernel takes
    all others for broadcast. Raises `Unavailable`."""
    remove_netns(netns)
    named_namespaces.add(netns)
    run("sysctl", "-qew", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1", netns=netns)


def remove_netns(netns: str) -> None:
    """Remove a namespace with all interfaces in it. Raises `Unavailable`."""
    if named_namespaces.exists(netns):
        named_namespaces.delete(netns)


def make_veth(near: str, far: str, netns: str) -> None:
    """Make a veth pair whose far end is in a namespace, in place of the remains of an earlier pair. The MAC is always the same, because Open
    vSwitch keeps for 15 minutes what it has learned by ARP. Raises `Unavailable`."""
    with contextlib.suppress(Unavailable):
        run("ip", "link", "del", near)
    with contextlib.suppress(Unavailable):
        run("ip", "link", "del", far, netns=netns)
    run("ip", "link", "add", near, "type", "veth", "peer", "name", far, "address", veth_mac(far), "netns", netns)
    write_settings(near, {}, ipv6=False)


def remove_link(name: str, netns: str | None = None) -> None:
    """Remove an interface of the host or of a namespace, if it exists. Raises `Unavailable`."""
    if read(name, netns=netns) is not None:
        run("ip", "link", "del", name, netns=netns)


def move(name: str, netns: str) -> None:
    """Move an interface of the host into a namespace. Raises `Unavailable`."""
    run("ip", "link", "set", name, "netns", netns)


def read(name: str, settings: Iterable[str] = (), netns: str | None = None) -> dict[str, Any] | None:
    """Return the values of an interface (up, mtu, addresses, routes as `in_table` gives them, settings); None if it does not exist. Raises
    `Unavailable`."""

    def work() -> dict[str, Any] | None:
        try:
            with IPRoute() as netlink:
                if not (indexes := netlink.link_lookup(ifname=name)):
                    return None
                index = indexes[0]
                link = next(iter(netlink.get_links(index)))
                addresses = {
                    f"{a.get_attr('IFA_ADDRESS')}/{a['prefixlen']}" for a in netlink.get_addr(index=index) if a["scope"] != 253
                }
                routes = {_route(route) for route in netlink.get_routes(oif=index) if route.get_attr("RTA_DST")}
        except NetlinkError as error:
            raise Unavailable(f"interface {name}", str(error)) from None
        values = {setting: _setting(name, setting) for setting in settings}
        return {
            "up": bool(link["flags"] & 1),
            "mtu": int(link.get_attr("IFLA_MTU")),
            "addresses": frozenset(addresses),
            "routes": frozenset(routes),
            "settings": values,
        }

    return work() if netns is None else namespaces.inside(netns, work)


def in_table(prefix: str, table: int = MAIN) -> str:
    """Return a route's prefix and table as arguments of ip(8), without the table if that is the main one."""
    return prefix if table == MAIN else f"{prefix} table {table}"


def _route(route: Any) -> str:
    table = route.get_attr("RTA_TABLE")
    return in_table(f"{route.get_attr('RTA_DST')}/{route['dst_len']}", MAIN if table == LOCAL else table)


def port_rules(netns: str, table: int) -> frozenset[int]:
    """Return the UDP ports whose packets a table routes. Raises `Unavailable`."""

    def work() -> frozenset[int]:
        try:
            with IPRoute() as netlink:
                rules = [rule for rule in netlink.get_rules(family=AF_INET) if rule.get_attr("FRA_TABLE") == table]
        except NetlinkError as error:
            raise Unavailable(f"namespace {netns}", str(error)) from None
        return frozenset(int(ports.partition(":")[0]) for rule in rules if (ports := rule.get_attr("FRA_DPORT_RANGE")))

    return namespaces.inside(netns, work)


def change_port_rule(action: str, interface: str, port: int, table: int, *, netns: str) -> None:
    """Add (`add`) or remove (`del`) a rule by which a table routes the packets to a UDP port that an interface receives. Raises `Unavailable`."""
    match = ("iif", interface, "ipproto", "udp", "dport", str(port))
    run("ip", "rule", action, "priority", str(table), *match, "table", str(table), netns=netns)


def _setting(name: str, setting: str) -> str:
    try:
        with open(SETTINGS.format(name, setting)) as file:
            return file.read().strip()
    except OSError:
        return ""


def write_settings(name: str, settings: Mapping[str, str], *, netns: str | None = None, ipv6: bool = True) -> None:
    """Set kernel settings of an interface for IPv4, and forbid IPv6 on it unless `ipv6`. Raises `Unavailable`."""
    words = [f"net.ipv4.conf.{name}.{setting}={value}" for setting, value in settings.items()]
    words += [] if ipv6 else [f"net.ipv6.conf.{name}.disable_ipv6=1"]
    run("sysctl", "-qew", *words, netns=netns)


def remove_address(name: str, address: str) -> None:
    """Take an address from an interface of the host. Raises `Unavailable`."""
    run("ip", "addr", "del", address, "dev", name)


def bring_up(name: str, mtu: int, *, netns: str | None = None) -> None:
    """Give an interface its MTU, and set it up. Raises `Unavailable`."""
    run("ip", "link", "set", name, "mtu", str(mtu), "up", netns=netns)


def set_address(name: str, address: str) -> None:
    """Give an interface of the host one address, and no other. Raises `Unavailable`."""
    reading = read(name)
    for other in (reading or {}).get("addresses", frozenset()) - {address}:
        remove_address(name, other)
    run("ip", "addr", "replace", address, "dev", name, "nodad")


def set_route(prefix: str, name: str, *, netns: str) -> None:
    """Make a route (`in_table`) by an interface. Raises `Unavailable`."""
    run("ip", "route", "replace", *prefix.split(), "dev", name, netns=netns)


def remove_route(prefix: str, name: str, *, netns: str) -> None:
    """Remove a route (`in_table`) by an interface. Raises `Unavailable`."""
    run("ip", "route", "del", *prefix.split(), "dev", name, netns=netns)


def no_proxy_delay(name: str, *, netns: str) -> None:
    """Let an interface answer ARP for others at once: the kernel would wait up to 0.8 s."""
    run("sysctl", "-qew", f"net.ipv4.neigh.{name}.proxy_delay=0", netns=netns)
