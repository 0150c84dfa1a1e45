"""Virtual addresses and MACs (`allowed`): which endpoints may have one now. Nobody learns which of them has it: packets go to all. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from ipaddress import ip_network
from typing import NamedTuple

from intent.views import EndpointView, VirtualView
from specs.model.allowed import LINKS, overlap

Key = tuple[int, str]  # VNI; an address, a range or a MAC


class Holder(NamedTuple):
    """An endpoint that may have a virtual address or MAC. `mac` is the one that it has with the address."""

    endpoint: EndpointView
    mac: str


def held(e: EndpointView) -> Iterator[tuple[Key, Holder]]:
    """The virtual addresses and MACs of an endpoint."""
    for address, mac in e.allowed:
        yield (e.vni, address), Holder(e, mac)
        if mac != e.mac:
            yield (e.vni, mac), Holder(e, mac)


def virtual_view(key: Key, holders: Iterable[Holder]) -> VirtualView:
    """One virtual address or MAC."""
    vni, value = key
    endpoints = {holder.endpoint for holder in holders}
    one = next(iter(endpoints))
    if value in {holder.mac for holder in holders}:
        ports = tuple(sorted(e.ofport for e in endpoints if e.ofport is not None))
        vteps = tuple(sorted({e.vtep for e in endpoints if e.vtep is not None}))
        policy_out = max(e.policy_out for e in endpoints)  # the network's; endpoints of other hosts have none here
        return VirtualView(vni=vni, value=value, ports=ports, vteps=vteps, policy_out=policy_out, routed_remote=one.routed_remote)
    macs = tuple(sorted({holder.mac for holder in holders}))
    of_link = any(overlap(ip_network(value), link) for link in LINKS)
    return VirtualView(
        vni=vni,
        value=value,
        macs=macs,
        gateway=one.gateway,
        routed=one.routed,
        routed_remote=one.routed_remote,
        led_to=not of_link and (one.routed or one.gateway is not None),
    )


def virtual_views(endpoints: Iterable[EndpointView]) -> frozenset[VirtualView]:
    """All virtual addresses and MACs of a host's endpoints."""
    holders: dict[Key, list[Holder]] = defaultdict(list)
    for endpoint in endpoints:
        for key, holder in held(endpoint):
            holders[key].append(holder)
    return frozenset(virtual_view(key, of_key) for key, of_key in holders.items())
