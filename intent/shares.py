"""Values that several endpoints may share (`allowed`): addresses, ranges and MACs that no other endpoint may have as its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

from intent.views import Claim
from pipeline.protocols import IpAddress, IpNetwork
from specs.model.endpoint import Endpoint

Shared = tuple[str, IpNetwork | str]  # the scope, and a prefix or a MAC
Rank = tuple[int, str]
_Kind = tuple[int, int]  # version of IP (0: a MAC), prefix length
_MAC: _Kind = (0, 0)


def shared(endpoint: Endpoint) -> tuple[Shared, ...]:
    """The values that an endpoint shares with whoever else is allowed them."""
    scope = endpoint.network_id
    return (*((scope, mac) for mac in endpoint.macs[1:]), *((scope, entry.address) for entry in endpoint.allowed))


@dataclass(slots=True)
class Shares:
    """Who shares what. Finding who shares a value takes as many steps as there are prefix lengths in use, not as there are endpoints."""

    _ids: dict[str, dict[_Kind, dict[int | str, set[str]]]] = field(default_factory=dict)  # by scope

    def add(self, endpoint_id: str, values: Iterable[Shared]) -> None:
        """An endpoint shares these values."""
        for scope, value in values:
            kind, place = _place(value)
            self._ids.setdefault(scope, defaultdict(lambda: defaultdict(set)))[kind][place].add(endpoint_id)

    def remove(self, endpoint_id: str, values: Iterable[Shared]) -> None:
        """An endpoint no longer shares these values."""
        for scope, value in values:
            kind, place = _place(value)
            kinds = self._ids[scope]
            kinds[kind][place].discard(endpoint_id)
            if not kinds[kind][place]:
                del kinds[kind][place]
            if not kinds[kind]:
                del kinds[kind]
            if not kinds:
                del self._ids[scope]

    def of(self, claim: Claim) -> Iterator[str]:
        """The endpoints that share a value, alone or in a range."""
        kinds = self._ids.get(claim[0])
        if kinds is None:
            return
        yield from kinds.get(_MAC, {}).get(claim[1], ())
        address = _address(claim[1])
        for (version, length), places in kinds.items() if address is not None else ():
            if address is not None and version == address.version:
                yield from places.get(int(address) >> (address.max_prefixlen - length), ())


def _place(value: IpNetwork | str) -> tuple[_Kind, int | str]:
    if isinstance(value, str):
        return _MAC, value
    return (value.version, value.prefixlen), int(value.network_address) >> (value.max_prefixlen - value.prefixlen)


def _address(value: str) -> IpAddress | None:
    try:
        return ip_address(value)
    except ValueError:  # a MAC, a port
        return None


def inside(value: Shared, taken: Collection[Claim]) -> list[Claim]:
    """The claims on a shared value, or on addresses of a shared range. Costs what the range has or what is taken, whichever is less."""
    scope, prefix = value
    if isinstance(prefix, str):
        return [(scope, prefix)]
    if prefix.num_addresses <= len(taken):
        return [claim for address in prefix if (claim := (scope, str(address))) in taken]
    return [c for c in taken if c[0] == scope and (address := _address(c[1])) is not None and address in prefix]


def crossing(
    endpoint: Endpoint, claimed: Iterable[Claim], holders: Mapping[Claim, str], shares: Shares, rank: Callable[[str], Rank]
) -> str | None:
    """Why an endpoint loses against one created before it: a value that one of them has as its own is allowed to the other. None if it does
    not. `claimed` are its own values; `rank` orders endpoints by their creation."""
    before = rank(endpoint.id)
    for claim in claimed:
        if sharers := [other for other in shares.of(claim) if rank(other) < before]:
            return f"{claim[1]} is allowed to endpoint {min(sharers, key=rank)}"
    for value in shared(endpoint):
        if owned := [(rank(holders[c]), c) for c in inside(value, holders) if c in holders and rank(holders[c]) < before]:
            claim = min(owned)[1]
            return f"{claim[1]} belongs to endpoint {holders[claim]}"
    return None
