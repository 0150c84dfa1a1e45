"""The host's routes to the gateways: the wanted routes, their difference from those that the host has, and their reconciler.

Warren's routes carry a protocol number of their own, are added only where the host has no route to the same addresses, and are the only ones
that Warren removes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from agent.gateway.rules import Outside
from agent.linux import uplink
from agent.linux.uplink import GatewayRoute
from specs.model.hostnet import HostPrefix
from specs.obstacles import in_the_way


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The routes to remove first, and then to add. `conflicts` are wanted prefixes that collide with the host's own network."""

    remove: tuple[GatewayRoute, ...]
    add: tuple[GatewayRoute, ...]
    conflicts: tuple[tuple[IPv4Network | IPv6Network, HostPrefix], ...]


def plan(desired: Iterable[GatewayRoute], ours: Iterable[GatewayRoute], prefixes: Iterable[HostPrefix]) -> Plan:
    """Return the difference. `ours` are the routes of the host that Warren has made, `prefixes` those that the host reaches without Warren."""
    prefixes = tuple(prefixes)
    obstacles = {route: in_the_way(route.prefix, prefixes, routes=True) for route in set(desired)}
    possible = {route for route, obstacle in obstacles.items() if obstacle is None}
    present = set(ours)
    return Plan(
        remove=_sorted(present - possible),
        add=_sorted(possible - present),
        conflicts=tuple((route.prefix, obstacle) for route in _sorted(obstacles) if (obstacle := obstacles[route]) is not None),
    )


def wanted_routes(desired: Outside) -> list[GatewayRoute]:
    """Return the routes that the host should have."""
    source = desired.source
    return [
        GatewayRoute(
            prefix=prefix,
            gateway=desired.transit.next_hop4 if prefix.version == 4 else desired.transit.next_hop6,
            mtu=desired.mtu,
            source=source if source is not None and str(prefix) in desired.routed and prefix.version == source.version else None,
        )
        for prefix in map(ip_network, desired.routes)
    ]


def route_differences(difference: Plan) -> list[str]:
    """Return a line for each route that is missing, cannot be made, or is superfluous."""
    lines = [f"route {route.prefix} via {route.gateway}: missing" for route in difference.add]
    lines += [f"route {route.prefix} via {route.gateway}: not wanted" for route in difference.remove]
    return lines + [f"route {prefix}: not made, the host uses {obstacle.prefix}" for prefix, obstacle in difference.conflicts]


class GatewayRoutes:
    """Reconciles the routes. `host_prefixes` returns the prefixes that Warren must leave alone on the host."""

    def __init__(self, host_prefixes: Callable[[], tuple[HostPrefix, ...]]) -> None:
        self._host_prefixes = host_prefixes

    def reconcile(self, desired: Outside) -> None:
        """Add and remove routes until they are as they should be. Raises `Unavailable`."""
        difference = self._plan(desired)
        if difference.remove or difference.add:
            uplink.change_routes(difference.remove, difference.add)

    def differences(self, desired: Outside) -> list[str]:
        """Return a line for each route that is not as it should be. Raises `Unavailable`."""
        return route_differences(self._plan(desired))

    def _plan(self, desired: Outside) -> Plan:
        return plan(wanted_routes(desired), uplink.routes(), self._host_prefixes())


def _sorted(routes: Iterable[GatewayRoute]) -> tuple[GatewayRoute, ...]:
    return tuple(
        sorted(routes, key=lambda route: (route.prefix.version, route.prefix, route.mtu, str(route.gateway), str(route.source)))
    )
