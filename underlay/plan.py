"""Plans the kernel's state for the NICs of the metadata: addresses, a routing table for each NIC, rules, MTUs. Pure.

A NIC's table is 9999 + its ifindex, as in cloud-network. These rules lead packets from (and to) its addresses there:

  30210  from all lookup main, without default routes and without routes by NICs: docker0, Warren's networks, a VPN
  30211  from ADDRESS lookup TABLE, to ADDRESS lookup TABLE

Without the first rule, an answer to a container would leave by the NIC's gateway. The first rule recognises NICs by their link group.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import IPv4Address, ip_network
from itertools import chain, starmap
from typing import TypeVar

from underlay.model import AnyAddress, AnyInterface, AnyNetwork, Nic

Item = TypeVar("Item")
MARK = 211  # protocol of our addresses, routes and rules, and group of the NICs' links
TABLE_BASE = 9999
MAIN = 254
GUARD, RULE = 30210, 30211  # priorities
_METRIC6 = 1024  # the kernel's, for IPv6 routes without one
_STACKED = frozenset(("vlan", "macvlan", "macvtap", "ipvlan", "ipvtap"))  # they share a MAC with the link below
_INSIDE = frozenset(
    (*_STACKED, "bridge", "dummy", "ifb", "vxlan", "geneve", "gre", "gretap", "tun", "wireguard", "openvswitch", "veth-peer")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetLink:
    """An interface of the kernel. `enslaved`: it belongs to a bridge, a bond or a switch."""

    index: int
    name: str
    mac: str
    mtu: int
    up: bool
    group: int = 0
    kind: str = ""
    enslaved: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OnLink:
    """An address on a link."""

    index: int
    address: AnyInterface


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRoute:
    """A route by a link; without `gateway` the range is on the link. `source` is the preferred source address."""

    table: int
    prefix: AnyNetwork
    index: int
    gateway: AnyAddress | None = None
    source: AnyAddress | None = None
    metric: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingRule:
    """A routing rule for packets from `source` or to `destination`. Without either it is the rule for the main table, for an IP version."""

    version: int
    table: int
    source: AnyNetwork | None = None
    destination: AnyNetwork | None = None

    @property
    def priority(self) -> int:
        """Return its priority: the kernel looks at low numbers first."""
        return GUARD if self.source is None and self.destination is None else RULE


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """Addresses, routes and rules with our mark: the planned ones, or those of the kernel."""

    addresses: frozenset[OnLink] = frozenset()
    routes: frozenset[TableRoute] = frozenset()
    rules: frozenset[RoutingRule] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A reading of the kernel: all links, the state with our mark, the addresses of others, and the gateways of others' default routes
    (in order of preference) as (ifindex, gateway)."""

    links: tuple[NetLink, ...] = ()
    ours: Marked = Marked()
    foreign: frozenset[OnLink] = frozenset()
    gateways: tuple[tuple[int, AnyAddress], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPlan:
    """The planned state with our mark, and the links that must change. `nics` are the links by the MACs of their NICs."""

    state: Marked
    links: tuple[NetLink, ...]
    nics: Mapping[str, NetLink]
    problems: tuple[str, ...] = ()


def plan(nics: Collection[Nic], kernel: Kernel, supplementary: Collection[str] = ()) -> NetworkPlan:
    """Return the plan for the kernel. `supplementary` names links that get a table and rules for any addresses that they have."""
    links = {nic.mac: link for nic in nics if (link := link_of(nic, kernel)) is not None}
    further = [link for link in kernel.links if link.name in supplementary]
    unique, problems = _once([(nic, links[nic.mac]) for nic in nics if nic.mac in links])
    placed = [(_with_gateway6(nic, link, kernel), link) for nic, link in unique]
    routed = list(_with_supplementary(placed, further, kernel)) if _several_ways(kernel, placed) else []
    rules = _each(_rules, routed)
    grouped = {link.index for _, link in routed}
    state = Marked(
        addresses=_each(partial(_addresses, kernel=kernel), placed),
        routes=_each(_subnet_routes, placed) | _each(_table_routes, routed),
        rules=rules | {RoutingRule(version=rule.version, table=MAIN) for rule in rules},
    )
    problems += _missing(nics, links, set(supplementary) - {link.name for link in further})
    problems += sorted(_each(_without_gateway, routed)) + sorted(_each(_foreign_group, routed))
    return NetworkPlan(state=state, links=tuple(_links(kernel, placed, grouped)), nics=links, problems=tuple(problems))


def _each(of: Callable[[Nic, NetLink], Iterable[Item]], pairs: list[tuple[Nic, NetLink]]) -> frozenset[Item]:
    """Return the results of a function for all NICs and links."""
    return frozenset(chain.from_iterable(starmap(of, pairs)))


def _missing(nics: Collection[Nic], links: Mapping[str, NetLink], names: Collection[str]) -> list[str]:
    """Return a line for each NIC, and each name of Supplementary, without a link."""
    lines = [f"no interface has the MAC {nic.mac} of the metadata" for nic in nics if nic.mac not in links]
    return lines + [f"no interface has the name {name} of Supplementary" for name in sorted(names)]


def _foreign_group(nic: Nic, link: NetLink) -> list[str]:
    lines = [f"{link.name}: group {link.group} is not ours, so packets from other NICs may take its routes"]
    return lines if link.group not in (0, MARK) else []


def link_of(nic: Nic, kernel: Kernel) -> NetLink | None:
    """Return the link of a NIC. Of several with its MAC, that is the one with its addresses (a bridge over it), else the one below the others."""
    having = {(item.index, item.address.ip) for item in (*kernel.foreign, *kernel.ours.addresses)}

    def rank(link: NetLink) -> tuple[bool, bool, int]:
        has = any((link.index, address.ip) in having for address in nic.addresses)
        return not has, link.kind in _STACKED, link.index

    return min((link for link in kernel.links if link.mac == nic.mac and not link.enslaved), key=rank, default=None)


def _once(placed: list[tuple[Nic, NetLink]]) -> tuple[list[tuple[Nic, NetLink]], list[str]]:
    """Return the NICs, each address at the first that has it, and the problems: a rule cannot tell two equal addresses apart."""
    holders: dict[AnyAddress, str] = {}
    unique, problems = [], []
    for nic, link in placed:
        for address in nic.addresses:
            holder = holders.setdefault(address.ip, link.name)
            if holder != link.name:
                problems.append(f"{link.name}: {address.ip} is also an address of {holder}, and stays there")
        kept = tuple(address for address in nic.addresses if holders[address.ip] == link.name)
        unique.append((replace(nic, addresses=kept), link))
    return unique, problems


def _several_ways(kernel: Kernel, placed: list[tuple[Nic, NetLink]]) -> bool:
    """Return whether packets could leave by more than one link: with one, no rules are needed."""
    macs = {link.mac for _, link in placed}
    others = [link for link in kernel.links if link.mac not in macs and not link.enslaved and link.kind not in _INSIDE]
    return len(placed) + len(others) > 1


def _with_supplementary(
    placed: list[tuple[Nic, NetLink]], further: list[NetLink], kernel: Kernel
) -> Iterator[tuple[Nic, NetLink]]:
    """Yield the NICs, and the supplementary links as NICs of their own, with the addresses that others have put on them."""
    names = {link.index for link in further}
    for nic, link in placed:
        extra = _foreign(link, kernel) if link.index in names else ()
        held = {address.ip for address in nic.addresses}
        yield replace(nic, addresses=nic.addresses + tuple(address for address in extra if address.ip not in held)), link
    cloud = {link.index for _, link in placed}
    for link in further:
        if link.index not in cloud:
            gateways = [gateway for index, gateway in sorted(kernel.gateways, key=lambda pair: pair[0] != link.index)]
            gateway4 = next((gateway for gateway in gateways if isinstance(gateway, IPv4Address)), None)
            yield Nic(mac=link.mac, addresses=_foreign(link, kernel), gateway4=gateway4), link


def _foreign(link: NetLink, kernel: Kernel) -> tuple[AnyInterface, ...]:
    """Return the addresses that others have put on a link, without link-local ones."""
    rows = [item.address for item in kernel.foreign if item.index == link.index and not item.address.is_link_local]
    return tuple(sorted(rows, key=lambda address: (address.version, int(address.ip))))


def _with_gateway6(nic: Nic, link: NetLink, kernel: Kernel) -> Nic:
    """Return the NIC with the gateway that router advertisements have given its link, unless the metadata names one."""
    advertised = (gateway for index, gateway in kernel.gateways if index == link.index)
    learnt = next((gateway for gateway in advertised if not isinstance(gateway, IPv4Address)), None)
    return replace(nic, gateway6=nic.gateway6 or learnt)


def _addresses(nic: Nic, link: NetLink, kernel: Kernel) -> set[OnLink]:
    """Return the addresses that we must add. An address that others have added, such as a DHCP client, stays theirs."""
    foreign = {item.address.ip for item in kernel.foreign if item.index == link.index}
    return {OnLink(index=link.index, address=address) for address in nic.addresses if address.ip not in foreign}


def _versions(nic: Nic) -> Iterator[tuple[list[AnyInterface], AnyAddress | None]]:
    """Yield the addresses and the gateway, for each version of IP that the NIC has addresses of."""
    gateways: tuple[tuple[int, AnyAddress | None], ...] = ((4, nic.gateway4), (6, nic.gateway6))
    for version, gateway in gateways:
        addresses = [address for address in nic.addresses if address.version == version]
        if addresses:
            yield addresses, gateway


def _on_link(
    addresses: list[AnyInterface], gateway: AnyAddress | None, table: int, link: NetLink, metric: int
) -> Iterator[TableRoute]:
    """Yield the routes to destinations on the link: subnets, and a gateway that is in none of them."""
    subnets = sorted({address.network for address in addresses if address.network.prefixlen < address.max_prefixlen}, key=str)
    prefixes: list[AnyNetwork] = list(subnets)
    if gateway is not None and not gateway.is_link_local and not any(gateway in subnet for subnet in subnets):
        prefixes.append(ip_network(gateway))
    for prefix in prefixes:
        inside = [address.ip for address in addresses if address.ip in prefix]
        yield TableRoute(table=table, prefix=prefix, index=link.index, source=(inside or [addresses[0].ip])[0], metric=metric)


def _table_routes(nic: Nic, link: NetLink) -> Iterator[TableRoute]:
    """Yield the routes of the NIC's table: to destinations on the link, and by the gateway to all others."""
    table = TABLE_BASE + link.index
    for addresses, gateway in _versions(nic):
        metric = 0 if addresses[0].version == 4 else _METRIC6
        yield from _on_link(addresses, gateway, table, link, metric)
        if gateway is not None:
            everything = ip_network("0.0.0.0/0" if gateway.version == 4 else "::/0")
            yield TableRoute(table=table, prefix=everything, index=link.index, gateway=gateway, metric=metric)


def _subnet_routes(nic: Nic, link: NetLink) -> Iterator[TableRoute]:
    """Yield the routes to the NIC's subnets in the main table, less preferred than those of others. Of two NICs in one subnet, the first is
    preferred."""
    metric = TABLE_BASE + link.index
    for addresses, gateway in _versions(nic):
        connected = list(_on_link(addresses, gateway, MAIN, link, metric))
        yield from connected
        near = {route.prefix for route in connected}
        for subnet in nic.subnets:
            if subnet.version == addresses[0].version and subnet not in near and gateway is not None:
                yield TableRoute(
                    table=MAIN, prefix=subnet, index=link.index, gateway=gateway, source=addresses[0].ip, metric=metric
                )


def _rules(nic: Nic, link: NetLink) -> Iterator[RoutingRule]:
    table = TABLE_BASE + link.index
    for address in nic.addresses:
        single = ip_network(address.ip)
        yield RoutingRule(version=address.version, table=table, source=single)
        yield RoutingRule(version=address.version, table=table, destination=single)
    for prefix in nic.prefixes:
        yield RoutingRule(version=prefix.version, table=table, source=prefix)


def _without_gateway(nic: Nic, link: NetLink) -> list[str]:
    return [
        f"{link.name}: no gateway for IPv{addresses[0].version} is known, so packets from {addresses[0].ip} leave by the default route"
        for addresses, gateway in _versions(nic)
        if gateway is None
    ]


def _links(kernel: Kernel, placed: list[tuple[Nic, NetLink]], grouped: set[int]) -> Iterator[NetLink]:
    """Yield the planned state of links that differ: up, with the MTU of the metadata, and in our group if rules depend on it."""
    desired = {link.index: nic for nic, link in placed}
    for link in kernel.links:
        nic = desired.get(link.index)
        group = link.group
        if group in (0, MARK):
            group = MARK if link.index in grouped else 0
        after = replace(link, group=group)
        if nic is not None:
            after = replace(after, up=True, mtu=nic.mtu or link.mtu)
        if after != link:
            yield after


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The state to remove and to add, and the links that must change."""

    remove: Marked
    add: Marked
    links: tuple[NetLink, ...] = ()

    def __bool__(self) -> bool:
        """Return whether there is anything to do."""
        return bool(self.links or self.remove != Marked() or self.add != Marked())


def difference(planned: NetworkPlan, kernel: Kernel) -> Difference:
    """Return the difference between the plan and the state with our mark. Nothing else is ever removed."""
    after, before = planned.state, kernel.ours

    def less(first: Marked, second: Marked) -> Marked:
        return Marked(
            addresses=first.addresses - second.addresses, routes=first.routes - second.routes, rules=first.rules - second.rules
        )

    return Difference(remove=less(before, after), add=less(after, before), links=planned.links)


def phrases(differing: Difference, kernel: Kernel) -> list[str]:
    """Return a phrase for each difference."""
    names = {link.index: link.name for link in kernel.links}
    lines = [f"{link.name} should be up with MTU {link.mtu} in group {link.group}" for link in differing.links]
    for verb, state in (("is missing", differing.add), ("should not be there", differing.remove)):
        lines += [f"address {item.address} on {_name(names, item.index)} {verb}" for item in state.addresses]
        lines += [
            f"route to {route.prefix} in table {route.table} by {_name(names, route.index)} {verb}" for route in state.routes
        ]
        lines += [f"rule {_words(rule)} {verb}" for rule in state.rules]
    return sorted(lines)


def _name(names: Mapping[int, str], index: int) -> str:
    return names.get(index, f"interface {index}")


def _words(rule: RoutingRule) -> str:
    ends = [f"{word} {end}" for word, end in (("from", rule.source), ("to", rule.destination)) if end is not None]
    return " ".join([*ends, f"IPv{rule.version} lookup {rule.table}"])
