"""The IP ranges of networks, to be asked which of them overlap; part of intent/incremental/networks.py."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.protocols import IpNetwork
from specs.model.network import Network


@dataclass(slots=True)
class Ranges:
    """Of two ranges that overlap, one contains the other. Asking costs what overlaps, and the lengths of prefixes in use."""

    _inside: list[tuple[int, int, str]] = field(default_factory=list)  # (version, first address, network), sorted
    _exact: dict[tuple[int, int], dict[int, set[str]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(set))
    )  # (version, length) -> first address -> networks

    def add(self, network: Network) -> None:
        """Add the ranges of a network."""
        for prefix in _ranges(network):
            first = int(prefix.network_address)
            insort(self._inside, (prefix.version, first, network.id))
            self._exact[prefix.version, prefix.prefixlen][first].add(network.id)

    def remove(self, network: Network) -> None:
        """Remove the ranges of a network that was added."""
        for prefix in _ranges(network):
            first, same_length = int(prefix.network_address), self._exact[prefix.version, prefix.prefixlen]
            del self._inside[bisect_left(self._inside, (prefix.version, first, network.id))]
            same_length[first].discard(network.id)
            if not same_length[first]:
                del same_length[first]
            if not same_length:
                del self._exact[prefix.version, prefix.prefixlen]

    def overlapping(self, network: Network) -> set[str]:
        """The networks that have addresses in common with this one, which is among them if it was added."""
        overlapping: set[str] = set()
        for prefix in _ranges(network):
            first, last = int(prefix.network_address), int(prefix.broadcast_address)
            start = bisect_left(self._inside, (prefix.version, first, ""))
            end = bisect_right(self._inside, (prefix.version, last + 1, ""))
            overlapping.update(network_id for _, _, network_id in self._inside[start:end])
            for (version, length), at in self._exact.items():
                if version == prefix.version and length < prefix.prefixlen:
                    bits = prefix.max_prefixlen - length
                    overlapping |= at.get(first >> bits << bits, set())
        return overlapping


def _ranges(network: Network) -> Iterator[IpNetwork]:
    if network.ip_range is not None:
        yield network.ip_range
    if network.ipv6_range is not None:
        yield network.ipv6_range
