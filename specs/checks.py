"""Who wins: which networks may be, the conntrack zone of each, and which of them routers join, by rules that all hosts share. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from specs.model.base import decode
from specs.model.network import Network
from specs.model.router import Route, Router, RouterItem
from specs.model.service import Service, ServiceItem
from specs.snapshot import Snapshot
from warren.errors import Invalid

ZONES = 65_535  # 16 bits, and 0 is nobody's


def order(snapshot: Snapshot, kind: str, identity: str) -> tuple[int, str]:
    """The order in which conflicts are settled: first created first, then by id."""
    return snapshot.born.get(f"{kind}/{identity}", 0), identity


def routers_in_order(snapshot: Snapshot) -> list[Router]:
    """First created first."""
    return [snapshot.routers[name] for name in sorted(snapshot.routers, key=lambda n: order(snapshot, "router", n))]


def called(networks: Mapping[str, Network]) -> dict[str, Network]:
    """Networks by what refers to them: the id, else the name (of two that somebody gave one name, the first by id)."""
    names = {network.name: network for _, network in sorted(networks.items(), reverse=True)}
    return names | dict(networks)


def served(snapshot: Snapshot, networks: Mapping[str, Network]) -> tuple[dict[str, tuple[Service, ...]], dict[str, str]]:
    """The services that may be, by network, and why the others may not: a port leads to one, the first created."""
    found: dict[str, tuple[Service, ...]] = {}
    problems: dict[str, str] = {}
    holders: dict[tuple[str, int], str] = {}
    known = called(networks)
    for name in sorted(snapshot.services, key=lambda n: order(snapshot, "service", n)):
        service = snapshot.services[name]
        network = known.get(service.network)
        if network is None or network.mode != "nat":
            problems[name] = f"network {service.network} " + ("does not exist" if network is None else "is not in mode nat")
        elif (first := holders.setdefault((service.proto, service.host_port), name)) != name:
            problems[name] = f"{service.proto} port {service.host_port} belongs to service {first}"
        else:
            found[network.id] = (*found.get(network.id, ()), service)
    return found, problems


def zones(snapshot: Snapshot, networks: Iterable[str]) -> dict[str, int]:
    """The connection-tracking zone of each network, from their ids, first created first: the VNI where that is a zone (16 bits),
    else the next free one. Networks that come later never move those before them."""
    found: dict[str, int] = {}
    taken: set[int] = set()
    for network_id in networks:
        zone = (snapshot.networks[network_id].vxlan_vni - 1) % ZONES + 1
        while zone in taken and len(taken) < ZONES:
            zone = zone % ZONES + 1
        taken.add(zone)
        found[network_id] = zone
    return found


def valid_networks(snapshot: Snapshot) -> tuple[dict[str, Network], dict[str, str]]:
    """The networks that may be, first created first, and why the others may not: one has a VNI, and one a routed range."""
    networks: dict[str, Network] = {}
    problems: dict[str, str] = {}
    holders: dict[int, str] = {}
    routed: list[Network] = []
    for network_id in sorted(snapshot.networks, key=lambda n: order(snapshot, "network", n)):
        network = snapshot.networks[network_id]
        first = holders.setdefault(network.vxlan_vni, network_id)
        crossed = next((other for other in routed if overlap(network, other)), None) if network.mode == "routed" else None
        if first != network_id:
            problems[network_id] = f"VNI {network.vxlan_vni} belongs to network {first}"
        elif crossed is not None:
            problems[network_id] = f"its range overlaps that of network {crossed.name}, which is routed too"
        else:
            networks[network_id] = network
            routed += [network] if network.mode == "routed" else []
    return networks, problems


def overlap(one: Network, other: Network) -> bool:
    """Whether two networks have addresses in common."""
    four = one.ip_range is not None and other.ip_range is not None and one.ip_range.overlaps(other.ip_range)
    six = one.ipv6_range is not None and other.ipv6_range is not None and one.ipv6_range.overlaps(other.ipv6_range)
    return four or six


Joined = Mapping[str, Mapping[str, str]]  # network -> those that it is routed to -> the router


class Misfit(NamedTuple):
    """Which network of a router (its position in the list) cannot be joined, and why."""

    position: int
    reason: str


def joined(routers: Iterable[Router], networks: Mapping[str, Network]) -> tuple[Joined, dict[str, Misfit]]:
    """What routers, first created first, join; and the first network of each that they cannot. Such a network is left out: what
    goes to an address must have one way from any network."""
    found: dict[str, dict[str, str]] = {}
    misfits: dict[str, Misfit] = {}
    known = called(networks)
    for router in routers:
        members: list[Network] = []
        for position, reference in enumerate(router.networks):
            network = known.get(reference)
            if network is None:
                reason: str | None = f"network {reference} does not exist"
            elif network in members:
                reason = f"network {reference} is there already"
            elif network.mode == "flat":
                reason = f"network {network.name} is flat: it has no gateway (mode nat or routed has one)"
            else:
                reason = _crossing(network, members, found, networks)
            if reason is not None or network is None:
                misfits.setdefault(router.name, Misfit(position, str(reason)))
                continue
            for member in members:
                found.setdefault(member.id, {}).setdefault(network.id, router.name)
                found.setdefault(network.id, {}).setdefault(member.id, router.name)
            members.append(network)
    return found, misfits


def _crossing(network: Network, members: list[Network], found: Joined, networks: Mapping[str, Network]) -> str | None:
    """Why a network would give an address two ways: its range overlaps that of a member, or of what one is routed to already."""
    for member in members:
        for here, there in ((network, member), (member, network)):
            for other in (there, *(networks[n] for n in found.get(there.id, ()) if n != here.id)):
                if overlap(here, other):
                    whose = "" if other in (network, member) else f", which {there.name} is routed to"
                    return f"the range of network {here.name} overlaps that of {other.name}{whose}"
    return None


def routes(
    network: Network, to: Mapping[str, str], networks: Mapping[str, Network], zone: Callable[[str], int]
) -> tuple[Route, ...]:
    """The routes of a network `to` others (each with its router). A version of IP is routed where both have a gateway for it."""
    found = []
    for other, router in ((networks[n], router) for n, router in to.items()):
        versions = [
            (their_range, gateway.ip)
            for mine, gateway, their_range in (
                (network.gateway, other.gateway, other.ip_range),
                (network.ipv6_gateway, other.ipv6_gateway, other.ipv6_range),
            )
            if mine is not None and gateway is not None
        ]
        ranges, gateways = (tuple(str(version[i]) for version in versions) for i in (0, 1))
        found.append(Route(router, other.vxlan_vni, zone(other.id), ranges, gateways, _narrower(network, other)))
    return tuple(sorted(found, key=lambda route: route.vni))


def _narrower(network: Network, other: Network) -> int:
    """The MTU of the other network when it is less than what a packet of the first may have; else 0. What fits the underlay counts
    for both alike."""
    return other.mtu if other.mtu and (network.mtu is None or other.mtu < network.mtu) else 0


def check_router(router: Router, state: Snapshot, path: str) -> None:
    """Raises `Invalid` when a router cannot join all its networks, the other routers of the store given."""
    others = [other for other in routers_in_order(state) if other.name != router.name]
    misfit = joined([*others, router], state.networks)[1].get(router.name)
    if misfit is not None:
        where = f"{path}.networks[{misfit.position}]"
        raise Invalid(where, router.networks[misfit.position], f"a network that can be routed to the others: {misfit.reason}")


def check_service(service: Service | ServiceItem, networks: Mapping[str, Network], path: str) -> None:
    """Raises `Invalid` when the network of a service has no ports to give."""
    network = called(networks).get(service.network)
    if network is None or network.mode != "nat":
        raise Invalid(f"{path}.network", service.network, "a network in mode nat")


def planned(old: Network | None, stated: Mapping[str, Any], path: str) -> Network:
    """A network as a document will make it of what there is; what is allocated for it does not matter. Raises `Invalid` where its fields
    do not fit together."""
    data = {"id": stated["name"], "vxlan_vni": 1} | (old.data() if old else {}) | dict(stated)
    return decode(Network, {field: value for field, value in data.items() if value is not None}, path)


def check_routing(
    routers: Iterable[RouterItem],
    services: Iterable[ServiceItem],
    current: Snapshot,
    networks: Iterable[Mapping[str, Any]],
    prune: bool,
) -> None:
    """The same for the routers and services of a document, with its networks as they will be. Raises `Invalid`."""
    after = Snapshot(networks=dict(current.networks), routers={} if prune else dict(current.routers), born=current.born)
    ids = {network.name: network.id for network in current.networks.values()}
    for stated in networks:
        identity = stated.get("id") or ids.get(stated["name"]) or stated["name"]
        after.networks[identity] = planned(current.networks.get(identity), stated, "network").model_copy(update={"id": identity})
    for i, item in enumerate(routers):
        router = decode(Router, item.stated(), "router")
        check_router(router, after, f"routers[{i}]")
        after.routers[router.name] = router
    for i, service in enumerate(services):
        check_service(service, after.networks, f"services[{i}]")
