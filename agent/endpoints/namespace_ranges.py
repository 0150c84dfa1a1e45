"""Refuses a second network with the same addresses in one network namespace: the kernel sends to the first interface alone, so the second would be dead."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping

from agent.cache import Cache, CacheView
from agent.exclusive import Exclusive
from agent.linux import inspect
from agent.linux.inspect import NamespaceAddress
from specs.checks import overlap
from specs.model.network import Network
from specs.obstacles import ranges
from warren.errors import Conflict, Invalid


class NamespaceRanges:
    """Compares a network with what a namespace has already. Thread-safe."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._exclusive = Exclusive()  # one attach at a time into a namespace, so that each sees the addresses of those before
        self._joined: dict[str, dict[str, str]] = {}  # sandbox of an engine -> endpoint id -> network id

    @contextlib.contextmanager
    def checked(self, netns: str, network_id: str) -> Iterator[None]:
        """A context for an attach into a namespace. Raises `Conflict` if an interface there has addresses of the network's
        ranges, `Invalid` for an unusable namespace."""
        network = self._cache.view.snapshot.networks.get(network_id)
        with self._exclusive.hold(":".join(map(str, inspect.identity(netns)))):
            if network is not None:
                check_addresses(network, inspect.addresses(netns), self._cache.view, netns)
            yield

    def join(self, sandbox: str, endpoint_id: str, network: Network) -> None:
        """Check an endpoint of an engine and remember it: an engine may make the namespace `sandbox` after it has joined all networks. Raises
        `Conflict`."""
        view = self._cache.view
        joined = {i: n for i, n in self._joined.get(sandbox, {}).items() if _active(view, i) and i != endpoint_id}
        check_networks(network, (view.snapshot.networks[n] for n in joined.values() if n in view.snapshot.networks), sandbox)
        with contextlib.suppress(Invalid):  # it does not exist yet
            check_addresses(network, inspect.addresses(sandbox), view, sandbox)
        kept = {s: ids for s, ids in self._joined.items() if any(_active(view, i) for i in ids)}
        self._joined = {**kept, sandbox: {**joined, endpoint_id: network.id}}


def _active(view: CacheView, endpoint_id: str) -> bool:
    endpoint = view.local_endpoints.get(endpoint_id)
    return endpoint is not None and endpoint.active


def check_networks(network: Network, others: Iterable[Network], netns: str) -> None:
    """Raises `Conflict` if the network has addresses in common with another one of the namespace."""
    for other in others:
        if other.id != network.id and overlap(network, other):
            common = next(
                str(r) for _, r in ranges(other) for _, mine in ranges(network) if r.version == mine.version and r.overlaps(mine)
            )
            raise _conflict(network, f"network {other.name} ({common})", netns, other.name)


def check_addresses(network: Network, addresses: Iterable[NamespaceAddress], view: CacheView, netns: str) -> None:
    """Raises `Conflict` if an interface of the namespace has a prefix that overlaps a range of the network. Interfaces on the network itself
    do not count."""
    for each in addresses:
        for _, network_range in ranges(network):
            if network_range.version != each.address.version or not network_range.overlaps(each.address.network):
                continue
            other = _network_of(each, view)
            if other is None:
                raise _conflict(network, f"interface {each.interface} ({each.address})", netns, each.interface)
            if other.id != network.id:
                raise _conflict(network, f"network {other.name} ({each.address.network})", netns, other.name)


def _network_of(each: NamespaceAddress, view: CacheView) -> Network | None:
    """Return the network of the endpoint that has this address and MAC; None for an interface that is not Warren's. Endpoints of two networks
    may have the same address and MAC; the veth pair tells them apart."""
    networks: Mapping[str, Network] = view.snapshot.networks
    alike = (
        endpoint
        for endpoint in view.local_endpoints.values()
        if endpoint.mac_address == each.mac and each.address.ip in (endpoint.ipv4_address, endpoint.ipv6_address)
    )
    inside = min(alike, key=lambda endpoint: endpoint.veth != each.peer, default=None)
    return networks.get(inside.network_id) if inside is not None else None


def _conflict(network: Network, other: str, netns: str, holder: str) -> Conflict:
    mine = " and ".join(str(r) for _, r in ranges(network))
    reason = f"network {network.name} ({mine}) overlaps {other} in {netns}: the container would reach only one of the two"
    return Conflict(f"{reason}; use a network with another range", field="network_id", holder=holder)
