"""What one host does for services: where the packets that come to a service's port go. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from acl.language import Who
from intent.gateway import Gateway
from intent.identity import identity
from specs.model.endpoint import Endpoint
from specs.model.service import Service

MEMBERS_LIMIT = 512  # members that share the load of a service: a group message must fit 64 KiB (pipeline/tables.py)


class MemberView(NamedTuple):
    """A member of a service: one of its addresses, and its identity (intent/identity.py)."""

    address: str
    identity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceView:
    """A service on one host: packets to `host_port` of the network's transit addresses go to `port` of one of the members."""

    name: str
    vni: int
    proto: str
    host_port: int
    port: int
    gateway: Gateway
    members4: tuple[MemberView, ...]
    members6: tuple[MemberView, ...]


def service_members(service: Service, network_id: str, members: Callable[[str, Who], Iterable[Endpoint]]) -> tuple[Endpoint, ...]:
    """The endpoints that a service names or whose label it has, in an order that all hosts share."""
    by_id = {e.id: e for who in service.selectors for e in members(network_id, who)}
    return tuple(by_id[e] for e in sorted(by_id))


def service_view(service: Service, vni: int, gateway: Gateway, reachable: Iterable[Endpoint]) -> ServiceView:
    """A service on one host with the members that can be reached, at most MEMBERS_LIMIT."""
    members = list(islice(reachable, MEMBERS_LIMIT))
    return ServiceView(
        name=service.name,
        vni=vni,
        proto=service.proto,
        host_port=service.host_port,
        port=service.port,
        gateway=gateway,
        members4=tuple(MemberView(str(e.ipv4_address), identity(e)) for e in members if e.ipv4_address is not None),
        members6=tuple(MemberView(str(e.ipv6_address), identity(e)) for e in members if e.ipv6_address is not None),
    )
