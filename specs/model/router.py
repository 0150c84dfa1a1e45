"""Routers: networks whose endpoints reach each other through their gateways. Pure.

routers: [{name: core, networks: [amber, blue]}]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from specs.model.base import Item, Name, Record

NETWORKS_LIMIT = 64  # of one router: each leads to every other


def _joins(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(value)) != len(value) or not 2 <= len(value) <= NETWORKS_LIMIT:
        raise ValueError(f"two networks or more (at most {NETWORKS_LIMIT}), each once")
    return value


Joins = Annotated[tuple[Name, ...], AfterValidator(_joins)]


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
    """Where a router leads from a network: to another one (`vni`) for what goes to its `ranges`; its `gateways` answer pings.
    `zone` is its conntrack zone where its connections are tracked on this host; 0: they are not. `mtu` is the other's, in bytes, where
    packets may be too large for it; 0: none is."""

    router: str
    vni: int
    zone: int
    ranges: tuple[str, ...]
    gateways: tuple[str, ...]
    mtu: int = 0
