"""Routers: networks whose endpoints reach each other through their gateways. Pure.

routers: [{name: core, networks: [amber, blue]}]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from specs.model.base import Item, Name, Record
from specs.model.names import NetworkName

NETWORKS_LIMIT = 64  # of one router: every network is routed to every other


def _joins(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(value)) != len(value) or not 2 <= len(value) <= NETWORKS_LIMIT:
        raise ValueError(f"two networks or more (at most {NETWORKS_LIMIT}), each once")
    return value


Joins = Annotated[tuple[NetworkName, ...], AfterValidator(_joins)]


class Router(Record):
    """A router between networks (names or ids) in mode nat or routed. Their ranges do not overlap."""

    name: Name
    networks: Joins
    created_at: str | None = None


class RouterItem(Item):
    """A router in a document."""

    name: Name
    networks: Joins


@dataclass(frozen=True, slots=True)
class Route:
    """A route from one network to another with the VNI `vni`: for packets to its `ranges`; its `gateways` answer pings. `zone` is the
    conntrack zone of the other network if this host tracks its connections, else 0. `mtu` is the MTU (bytes) of the other network if it
    is smaller than that of the first, else 0."""

    router: str
    vni: int
    zone: int
    ranges: tuple[str, ...]
    gateways: tuple[str, ...]
    mtu: int = 0
