"""Resolves conflicts between networks, routers and services by rules that all hosts share: the object created first wins. Assigns
conntrack zones. Checks routers and services before they are written. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

from specs.model.base import decode, restated
from specs.model.names import full, short
from specs.model.network import Network
from specs.model.router import Route, Router, RouterItem
from specs.model.service import Service, ServiceItem
from specs.snapshot import Snapshot
from warren.errors import Invalid

ZONES = 65_535  # 16 bits; zone 0 is the default zone, which no network gets


def order(snapshot: Snapshot, kind: str, identity: str) -> tuple[int, str]:
    """The order in which conflicts are resolved: by creation, then by id."""
    return snapshot.born.get(f"{kind}/{identity}", 0), identity


def routers_in_order(snapshot: Snapshot, names: Iterable[str] | None = None) -> list[Router]:
    """All routers, or those of these names that exist, in the order of their creation."""
    present = snapshot.routers if names is None else [name for name in names if name in snapshot.routers]
    return [snapshot.routers[name] for name in sorted(present, key=lambda n: order(snapshot, "router", n))]


def called(networks: Mapping[str, Network]) -> dict[str, Network]:
    """Networks by their ids and names. An id hides an equal name; of two networks with one name the lower id has it."""
    names = {name: network for _, network in sorted(networks.items(), reverse=True) for name in network.references}
    return names | dict(networks)


def services_in_order(snapshot: Snapshot, names: Iterable[str] | None = None) -> list[Service]:
    """All services, or those of these names that exist, in the order of their creation."""
    present = snapshot.services if names is None else [name for name in names if name in snapshot.services]
    return [snapshot.services[name] for name in sorted(present, key=lambda n: order(snapshot, "service", n))]


def served(
    services: Iterable[Service], by_reference: Mapping[str, Network]
) -> tuple[dict[str, tuple[Service, ...]], dict[str, str]]:
    """The valid services by network, and the reasons why the others are not valid. `services` come in the order of creation: a port
    belongs to the first. `by_reference` is as from `called`."""
    valid: dict[str, tuple[Service, ...]] = {}
    problems: dict[str, str] = {}
    holders: dict[tuple[str, int], str] = {}
    for service in services:
        name = service.name
        network = by_reference.get(service.network)
        if network is None or network.mode != "nat":
            problems[name] = f"network {service.network} " + ("does not exist" if network is None else "is not in mode nat")
        elif (first := holders.setdefault((service.proto, service.host_port), name)) != name:
            problems[name] = f"{service.proto} port {service.host_port} belongs to service {first}"
        else:
            valid[network.id] = (*valid.get(network.id, ()), service)
    return valid, problems


def home_zone(vni: int, count: int = ZONES) -> int:
    """The conntrack zone that a network gets if no older one has it."""
    return (vni - 1) % count + 1


def next_zone(zone: int, count: int = ZONES) -> int:
    """The zone to try where one is taken."""
    return zone % count + 1


def zones(snapshot: Snapshot, networks: Iterable[str], count: int = ZONES) -> dict[str, int]:
    """The conntrack zone of each network; `networks` are ids in the order of creation. The zone is the VNI (modulo the number of zones) or, if
    that is taken, the next free one. So a new network never changes the zones of older ones."""
    zone_of: dict[str, int] = {}
    taken: set[int] = set()
    for network_id in networks:
        zone = home_zone(snapshot.networks[network_id].number, count)
        while zone in taken and len(taken) < count:
            zone = next_zone(zone, count)
        taken.add(zone)
        zone_of[network_id] = zone
    return zone_of


def valid_networks(snapshot: Snapshot) -> tuple[dict[str, Network], dict[str, str]]:
    """The valid networks in the order of their creation, and the reasons why the others are not valid: a VNI belongs to one network, and so
    does an address in the ranges of routed networks."""
    networks: dict[str, Network] = {}
    problems: dict[str, str] = {}
    holders: dict[int, str] = {}
    routed: list[Network] = []
    for network_id in sorted(snapshot.networks, key=lambda n: order(snapshot, "network", n)):
        network = snapshot.networks[network_id]
        first = holders.setdefault(network.number, network_id)
        crossed = next((other for other in routed if overlap(network, other)), None) if network.mode == "routed" else None
        reason = network_problem(network, first, crossed)
        if reason is not None:
            problems[network_id] = reason
        else:
            networks[network_id] = network
            routed += [network] if network.mode == "routed" else []
    return networks, problems


class ValidNetworks:
    """The valid networks of a snapshot that nobody changes any more, and what follows from them alone. Computed when it is first asked for,
    and then kept for later snapshots with the same networks: an endpoint more must not cost what all networks cost."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def of(self, snapshot: Snapshot) -> ValidNetworks:
        """Return the valid networks of another snapshot: these, if it has the very same networks."""
        return self if snapshot.networks is self._snapshot.networks else ValidNetworks(snapshot)

    @cached_property
    def by_id(self) -> dict[str, Network]:
        """The valid networks by id, in the order of their creation."""
        return valid_networks(self._snapshot)[0]

    @cached_property
    def zones(self) -> dict[str, int]:
        """The conntrack zone of each."""
        return zones(self._snapshot, self.by_id)

    @cached_property
    def by_zone(self) -> dict[int, Network]:
        """The network of each conntrack zone."""
        return {zone: self.by_id[network_id] for network_id, zone in self.zones.items()}

    @cached_property
    def by_reference(self) -> dict[str, Network]:
        """The networks by their ids and names."""
        return called(self.by_id)


def network_problem(network: Network, holder: str, crossed: Network | None) -> str | None:
    """Why a network is not valid: its VNI belongs to `holder` (an id), or its range crosses that of a routed network."""
    if holder != network.id:
        return f"VNI {network.vxlan_vni} belongs to network {holder}"
    return f"its range overlaps that of network {crossed.name}, which is routed too" if crossed is not None else None


def overlap(one: Network, other: Network) -> bool:
    """Whether two networks have addresses in common."""
    four = one.ip_range is not None and other.ip_range is not None and one.ip_range.overlaps(other.ip_range)
    six = one.ipv6_range is not None and other.ipv6_range is not None and one.ipv6_range.overlaps(other.ipv6_range)
    return four or six


Joined = Mapping[str, Mapping[str, str]]  # network -> those that it is routed to -> the router


class Misfit(NamedTuple):
    """The network of a router (its position in the list) that cannot be joined, and why."""

    position: int
    reason: str


def joined(routers: Iterable[Router], by_reference: Mapping[str, Network]) -> tuple[dict[str, dict[str, str]], dict[str, Misfit]]:
    """The networks that each network is routed to, and the first misfit of each router. `routers` come in the order of creation. A misfit
    is left out: from any network, one route at most may lead to an address. `by_reference` is as from `called`."""
    routed_to: dict[str, dict[str, str]] = {}
    misfits: dict[str, Misfit] = {}
    for router in routers:
        members: list[Network] = []
        for position, reference in enumerate(router.networks):
            network = by_reference.get(reference)
            if network is None:
                reason: str | None = f"network {reference} does not exist"
            elif network in members:
                reason = f"network {reference} is listed twice"
            elif network.mode == "flat":
                reason = f"network {network.name} is flat: it has no gateway (mode nat or routed has one)"
            else:
                reason = _crossing(network, members, routed_to, by_reference)
            if reason is not None or network is None:
                misfits.setdefault(router.name, Misfit(position, str(reason)))
                continue
            for member in members:
                routed_to.setdefault(member.id, {}).setdefault(network.id, router.name)
                routed_to.setdefault(network.id, {}).setdefault(member.id, router.name)
            members.append(network)
    return routed_to, misfits


def _crossing(network: Network, members: list[Network], routed_to: Joined, networks: Mapping[str, Network]) -> str | None:
    """Why a network cannot join the members: two routes would lead to an address, because its range overlaps that of a member or of a
    network that a member is routed to."""
    for member in members:
        for first, second in ((network, member), (member, network)):
            for other in (second, *(networks[n] for n in routed_to.get(second.id, ()) if n != first.id)):
                if overlap(first, other):
                    via = "" if other in (network, member) else f", which {second.name} is routed to"
                    return f"the range of network {first.name} overlaps that of {other.name}{via}"
    return None


def routes(
    network: Network, to: Mapping[str, str], networks: Mapping[str, Network], zone: Callable[[str], int]
) -> tuple[Route, ...]:
    """The routes of a network to others; `to` maps their ids to the router. A version of IP is routed if both have a gateway for it."""
    all_routes = []
    for other, router in ((networks[n], router) for n, router in to.items()):
        versions = [
            (their_range, gateway.ip)
            for own_gateway, gateway, their_range in (
                (network.gateway, other.gateway, other.ip_range),
                (network.ipv6_gateway, other.ipv6_gateway, other.ipv6_range),
            )
            if own_gateway is not None and gateway is not None
        ]
        ranges, gateways = (tuple(str(version[i]) for version in versions) for i in (0, 1))
        all_routes.append(Route(router, other.number, zone(other.id), ranges, gateways, _narrower(network, other)))
    return tuple(sorted(all_routes, key=lambda route: route.vni))


def _narrower(network: Network, other: Network) -> int:
    """The MTU of the other network if it is less than that of the first, else 0. The limit of the underlay is the same for both."""
    return other.mtu if other.mtu and (network.mtu is None or other.mtu < network.mtu) else 0


def check_router(router: Router, state: Snapshot, path: str) -> None:
    """Raises `Invalid` if a router cannot join all its networks beside the other routers of the store."""
    others = [other for other in routers_in_order(state) if other.name != router.name]
    misfit = joined([*others, router], called(state.networks))[1].get(router.name)
    if misfit is not None:
        where = f"{path}.networks[{misfit.position}]"
        raise Invalid(where, router.networks[misfit.position], f"a network that can be routed to the others: {misfit.reason}")


def check_service(service: Service | ServiceItem, networks: Mapping[str, Network], path: str) -> None:
    """Raises `Invalid` if the network of a service does not exist or is not in mode nat."""
    network = called(networks).get(service.network)
    if network is None or network.mode != "nat":
        raise Invalid(f"{path}.network", service.network, "a network in mode nat")


def planned(old: Network | None, stated: Mapping[str, Any], path: str) -> Network:
    """A network as it will be after a document is applied; allocated fields have placeholders. Raises `Invalid` if its fields contradict
    each other."""
    return decode(Network, restated({"id": short(stated["name"]), "vxlan_vni": 1} | (old.data() if old else {}), stated), path)


def check_routing(
    routers: Iterable[RouterItem],
    services: Iterable[ServiceItem],
    current: Snapshot,
    networks: Iterable[Mapping[str, Any]],
    prune: bool,
) -> None:
    """Checks the routers and services of a document with the networks as they will be. Raises `Invalid`."""
    after = Snapshot(networks=dict(current.networks), routers={} if prune else dict(current.routers), born=current.born)
    ids = {name: network.id for network in current.networks.values() for name in network.references[1:]}
    for stated in networks:
        name = full(stated["name"], stated.get("tenant"))
        identity = stated.get("id") or ids.get(name) or ids.get(stated["name"]) or name
        after.networks[identity] = planned(current.networks.get(identity), stated, "network").model_copy(update={"id": identity})
    for i, item in enumerate(routers):
        router = decode(Router, item.stated(), "router")
        check_router(router, after, f"routers[{i}]")
        after.routers[router.name] = router
    for i, service in enumerate(services):
        check_service(service, after.networks, f"services[{i}]")
