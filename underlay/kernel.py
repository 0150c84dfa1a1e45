"""Reads links, addresses, routes and rules from the kernel, and carries out a difference (rtnetlink(7)). Removes only what has our mark."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import struct
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from underlay.model import AnyAddress
from underlay.plan import (
    GUARD,
    MAIN,
    MARK,
    RULE,
    Difference,
    Kernel,
    Marked,
    NetLink,
    NetworkPlan,
    OnLink,
    RoutingRule,
    TableRoute,
    difference,
)
from warren.errors import Unavailable
from warren.netlink_dump import ADDRESSES, LINKS, ROUTES, RULES, attributes, dump, number

log = logging.getLogger("warren.underlay.kernel")

ROUNDS = 4  # the kernel removes routes together with addresses that they name, so a difference may leave another
_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_UP, _LOOPBACK = 0x1, 0x8
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_GROUP, _INFO_KIND = 1, 3, 4, 10, 18, 27, 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_PROTO = 1, 2, 11
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_TABLE = 1, 4, 5, 6, 7, 15
_FRA_DST, _FRA_SRC, _FRA_PRIORITY, _FRA_TABLE, _FRA_PROTOCOL = 1, 2, 6, 15, 21
_GONE = (errno.ESRCH, errno.ENOENT, errno.EADDRNOTAVAIL, errno.ENODEV)  # somebody else has removed it
_NODAD, _NOPREFIXROUTE, _ONLINK, _SCOPE_LINK, _UNICAST = 0x02, 0x200, 4, 253, 1


def read() -> Kernel:
    """Return the kernel's state. Raises `Unavailable`."""
    try:
        links = tuple(_links())
        addresses = list(_addresses())
        routes = list(_routes())
        rules = frozenset(_rules())
    except OSError as error:
        raise Unavailable("the kernel", f"links, addresses and routes cannot be read ({error})") from None
    looped = {index for index, link in links if link is None}
    gateways = sorted(
        (route.metric, route.index, route.gateway) for route, ours in routes if not ours and route.gateway is not None
    )
    return Kernel(
        links=tuple(link for _, link in links if link is not None),
        ours=Marked(
            addresses=frozenset(item for item, ours in addresses if ours),
            routes=frozenset(route for route, ours in routes if ours),
            rules=rules,
        ),
        foreign=frozenset(item for item, ours in addresses if not ours and item.index not in looped),
        gateways=tuple((index, gateway) for _, index, gateway in gateways),
    )


def _links() -> Iterator[tuple[int, NetLink | None]]:
    """Yield links by their indexes; None for loopback."""
    for fixed, rest in dump(LINKS, socket.AF_UNSPEC):
        _, _, index, flags, _ = struct.unpack("=BxHiII", fixed)
        values = attributes(rest)
        if flags & _LOOPBACK:
            yield index, None
            continue
        info = attributes(values.get(_IFLA_LINKINFO, b""))
        yield (
            index,
            NetLink(
                index=index,
                name=_word(values.get(_IFLA_IFNAME)),
                mac=values.get(_IFLA_ADDRESS, b"").hex(":"),
                mtu=number(values.get(_IFLA_MTU)),
                up=bool(flags & _UP),
                group=number(values.get(_IFLA_GROUP)),
                kind=_word(info.get(_INFO_KIND)),
                enslaved=_IFLA_MASTER in values,
            ),
        )


def _word(data: bytes | None) -> str:
    return (data or b"").rstrip(b"\0").decode(errors="replace")


def _addresses() -> Iterator[tuple[OnLink, bool]]:
    """Yield addresses, and whether each is ours."""
    for family in _FAMILIES:
        for fixed, rest in dump(ADDRESSES, family):
            _, length, _, _, index = struct.unpack("=BBBBI", fixed)
            values = attributes(rest)
            address = ip_interface((values.get(_IFA_LOCAL) or values[_IFA_ADDRESS], length))
            yield OnLink(index=index, address=address), values.get(_IFA_PROTO, b"\0")[0] == MARK


def _routes() -> Iterator[tuple[TableRoute, bool]]:
    """Yield our routes, and the default routes of others in the main table; whether each is ours."""
    for family in _FAMILIES:
        for fixed, rest in dump(ROUTES, family):
            _, length, _, _, small_table, protocol, _, kind = fixed[:8]
            ours = protocol == MARK
            if kind != _UNICAST or not (ours or (length == 0 and small_table == MAIN)):
                continue
            values = attributes(rest)
            if _RTA_OIF not in values:
                continue  # several next hops, or none
            yield _route(family, length, number(values.get(_RTA_TABLE)) or small_table, values), ours


def _route(family: int, length: int, table: int, values: dict[int, bytes]) -> TableRoute:
    destination = values.get(_RTA_DST, bytes(4 if family == socket.AF_INET else 16))
    return TableRoute(
        table=table,
        prefix=ip_network((destination, length)),
        index=number(values[_RTA_OIF]),
        gateway=_ip(values.get(_RTA_GATEWAY)),
        source=_ip(values.get(_RTA_PREFSRC)),
        metric=number(values.get(_RTA_PRIORITY)),
    )


def _ip(data: bytes | None) -> AnyAddress | None:
    return ip_address(data) if data else None


def _rules() -> Iterator[RoutingRule]:
    """Yield our rules: with our mark, and one of our priorities."""
    for family in _FAMILIES:
        for fixed, rest in dump(RULES, family):
            _, destination, source, _, small_table = fixed[:5]
            values = attributes(rest)
            priority = number(values.get(_FRA_PRIORITY))
            if values.get(_FRA_PROTOCOL, b"\0")[0] == MARK and priority in (GUARD, RULE):
                yield RoutingRule(
                    version=4 if family == socket.AF_INET else 6,
                    table=number(values.get(_FRA_TABLE)) or small_table,
                    source=ip_network((values[_FRA_SRC], source)) if _FRA_SRC in values else None,
                    destination=ip_network((values[_FRA_DST], destination)) if _FRA_DST in values else None,
                )


def converge(planned: Callable[[Kernel], NetworkPlan]) -> tuple[NetworkPlan, Kernel, list[str]]:
    """Plan for the kernel's state and carry out the difference, until nothing differs. Returns the last plan and reading, and a line for each
    refusal. Raises `Unavailable`."""
    problems: list[str] = []
    for _ in range(ROUNDS):
        kernel = read()
        plan = planned(kernel)
        differing = difference(plan, kernel)
        if not differing:
            return plan, kernel, []
        before, problems = problems, carry_out(differing, kernel)
        if problems and problems == before:  # the first time, the kernel may have changed since it was read
            break
    return plan, kernel, problems


def carry_out(differing: Difference, kernel: Kernel) -> list[str]:
    """Carry out a difference; return a line for each refusal of the kernel. Raises `Unavailable`."""
    try:
        with IPRoute() as netlink:
            writer = _Writer(netlink, kernel)
            for link in differing.links:
                writer.set_link(link)
            for verb, state in _steps(differing):
                writer.write(verb, state)
    except OSError as error:
        raise Unavailable("the kernel", str(error)) from None
    return writer.problems


class _Writer:
    """Writes by one netlink socket. `problems` has a line for each refusal of the kernel; the other writes go on."""

    def __init__(self, netlink: Any, kernel: Kernel) -> None:
        self._netlink, self._links = netlink, {link.index: link for link in kernel.links}
        self.problems: list[str] = []

    def set_link(self, link: NetLink) -> None:
        """Set the values of a link that differ."""
        arguments = _link_arguments(link, self._links[link.index])
        self._attempt(f"link={link.name} mtu={link.mtu} group={link.group}", self._netlink.link, "set", **arguments)

    def write(self, verb: str, state: Marked) -> None:
        """Add or remove (`add`, `del`) addresses, routes and rules."""
        for item in sorted(state.addresses, key=str):
            if verb == "del" and item.address.version == 4:
                _promote(self._name(item.index))
            what = f"address={item.address} link={self._name(item.index)}"
            self._attempt(what, self._netlink.addr, verb, **_address_arguments(item, verb))
        for route in sorted(state.routes, key=lambda route: (route.gateway is not None, str(route))):
            what = f"route={route.prefix} table={route.table} link={self._name(route.index)}"
            self._attempt(what, self._netlink.route, verb, **_route_arguments(route))
        for rule in sorted(state.rules, key=str):
            what = f"rule={rule.source or rule.destination or 'main'} table={rule.table}"
            self._attempt(what, self._netlink.rule, verb, **_rule_arguments(rule))

    def _name(self, index: int) -> str:
        return self._links[index].name if index in self._links else f"interface {index}"

    def _attempt(self, what: str, call: Callable[..., Any], verb: str, **arguments: Any) -> None:
        try:
            call(verb, **arguments)
        except NetlinkError as error:
            if not (verb == "del" and error.code in _GONE):
                self.problems.append(f"{what}: {verb}: {error.args[1] if len(error.args) > 1 else error}")
        else:
            log.info("underlay.%s %s", {"add": "added", "del": "removed"}.get(verb, "set"), what)


def _steps(differing: Difference) -> Iterator[tuple[str, Marked]]:
    """Yield what to remove and add, in this order: removals that make room for something new, then additions, then other removals."""
    add, remove = differing.add, differing.remove
    taken = {(item.index, item.address.ip) for item in add.addresses}
    keys = {(route.table, route.prefix, route.metric) for route in add.routes}
    first = Marked(
        addresses=frozenset(item for item in remove.addresses if (item.index, item.address.ip) in taken),
        routes=frozenset(route for route in remove.routes if (route.table, route.prefix, route.metric) in keys),
    )
    rest = Marked(addresses=remove.addresses - first.addresses, routes=remove.routes - first.routes)
    yield "del", first
    yield "add", add
    yield "del", Marked(rules=remove.rules)
    yield "del", Marked(routes=rest.routes)
    yield "del", Marked(addresses=rest.addresses)


def _link_arguments(link: NetLink, before: NetLink) -> dict[str, Any]:
    arguments: dict[str, Any] = {"index": link.index}
    if link.mtu != before.mtu:
        arguments["mtu"] = link.mtu
    if link.group != before.group:
        arguments["group"] = link.group
    if link.up != before.up:
        arguments["state"] = "up"
    return arguments


def _address_arguments(item: OnLink, verb: str) -> dict[str, Any]:
    address = item.address
    arguments = {"index": item.index, "address": str(address.ip), "prefixlen": address.network.prefixlen}
    if verb == "add":
        arguments |= {"proto": MARK, "flags": _NOPREFIXROUTE | (_NODAD if address.version == 6 else 0)}
    return arguments


def _route_arguments(route: TableRoute) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "family": socket.AF_INET if route.prefix.version == 4 else socket.AF_INET6,
        "dst": str(route.prefix),
        "oif": route.index,
        "table": route.table,
        "proto": MARK,
    }
    arguments |= {"priority": route.metric} if route.metric else {}
    arguments |= {"prefsrc": str(route.source)} if route.source is not None else {}
    if route.gateway is not None:
        return arguments | {"gateway": str(route.gateway), "flags": _ONLINK}
    return arguments | ({"scope": _SCOPE_LINK} if route.prefix.version == 4 else {})


def _rule_arguments(rule: RoutingRule) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "family": socket.AF_INET if rule.version == 4 else socket.AF_INET6,
        "table": rule.table,
        "priority": rule.priority,
        "protocol": MARK,
    }
    if rule.source is not None:
        arguments |= {"src": str(rule.source.network_address), "src_len": rule.source.prefixlen}
    if rule.destination is not None:
        arguments |= {"dst": str(rule.destination.network_address), "dst_len": rule.destination.prefixlen}
    if rule.priority == GUARD:
        arguments |= {"FRA_SUPPRESS_PREFIXLEN": 0, "FRA_SUPPRESS_IFGROUP": MARK}
    return arguments


def _promote(name: str) -> None:
    """Let the kernel keep the other addresses of a subnet when its first one is removed, because somebody else may have added them."""
    with contextlib.suppress(OSError):
        setting = Path(f"/proc/sys/net/ipv4/conf/{name}/promote_secondaries")
        if setting.read_text().strip() == "0":
            setting.write_text("1")
