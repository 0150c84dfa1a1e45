"""Incrementally resolves conflicts over unique values (MAC, address, OpenFlow port, published port): the endpoint created first has
the value.

Whether an endpoint wins depends on those alone that claim a value of its own. So a change concerns the endpoint itself, the former and
the new holders of its values and, where the holder is another, the endpoints of this host that are closed over that value.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field

from intent.shares import Shares, crossing, inside, shared
from intent.views import Claim, claims
from specs.checks import order
from specs.model.endpoint import Endpoint
from specs.snapshot import Snapshot


@dataclass(slots=True)
class Claims:
    """The claims of endpoints, as `host` looks at them. Add, reject and remove endpoints, then `resolve`."""

    host: str
    snapshot: Snapshot
    endpoints: dict[str, Endpoint] = field(default_factory=dict)  # the endpoints that claim values
    winners: set[str] = field(default_factory=set)
    _rejected: dict[str, str] = field(default_factory=dict)  # endpoints that claim nothing, and why
    _losers: set[str] = field(default_factory=set)
    _holders: dict[Claim, str] = field(default_factory=dict)
    _rivals: dict[Claim, list[tuple[int, str]]] = field(default_factory=dict)  # all that claim a value, if several do, in order
    _shares: Shares = field(default_factory=Shares)
    _changed: set[str] = field(default_factory=set)  # endpoints, and those on the other side of what one shares and the other has
    _before: dict[Claim, str | None] = field(default_factory=dict)  # holders at the last `resolve`, of claims changed since

    def remove(self, endpoint_id: str) -> None:
        """Remove an endpoint."""
        self._rejected.pop(endpoint_id, None)
        endpoint = self.endpoints.pop(endpoint_id, None)
        for claim in claims(endpoint, self.host) if endpoint is not None else ():
            self._before.setdefault(claim, self._holders[claim])
            rivals = [rival for rival in self._rivals.pop(claim, ()) if rival[1] != endpoint_id]
            if len(rivals) > 1:
                self._rivals[claim] = rivals
            if rivals:
                self._holders[claim] = rivals[0][1]
            else:
                del self._holders[claim]
        self.winners.discard(endpoint_id)
        self._losers.discard(endpoint_id)
        if endpoint is not None:
            self._shares.remove(endpoint_id, shared(endpoint))
            self._note_crossing(endpoint)

    def reject(self, endpoint_id: str, reason: str) -> None:
        """Take note that an endpoint cannot be, and why: it claims nothing."""
        self._rejected[endpoint_id] = reason

    def add(self, endpoint_id: str, endpoint: Endpoint) -> None:
        """Add an endpoint that claims its values."""
        self.endpoints[endpoint_id] = endpoint
        self._changed.add(endpoint_id)
        for claim in claims(endpoint, self.host):
            holder = self._holders.setdefault(claim, endpoint_id)
            self._before.setdefault(claim, None if holder == endpoint_id else holder)
            if holder != endpoint_id:
                rivals = self._rivals.setdefault(claim, [order(self.snapshot, "endpoint", holder)])
                insort(rivals, order(self.snapshot, "endpoint", endpoint_id))
                self._holders[claim] = rivals[0][1]
        self._shares.add(endpoint_id, shared(endpoint))
        self._note_crossing(endpoint)

    def _note_crossing(self, endpoint: Endpoint) -> None:
        """Take note of the endpoints that share what an endpoint has as its own, or have as their own what it shares."""
        for claim in claims(endpoint, self.host):
            self._changed.update(self._shares.of(claim))
        for claim in (claim for value in shared(endpoint) for claim in inside(value, self._holders) if claim in self._holders):
            self._changed.update((self._holders[claim], *(rival for _, rival in self._rivals.get(claim, ()))))

    def resolve(self) -> set[str]:
        """Decide who wins after the changes since the last time. Returns the endpoints for which this may differ."""
        concerned, self._changed = {e for e in self._changed if e in self.endpoints}, set()
        for claim, before in self._before.items():
            after = self._holders.get(claim)
            if after != before:
                concerned |= {holder for holder in (before, after) if holder in self.endpoints}
                rivals = (rival for _, rival in self._rivals.get(claim, ()))
                concerned |= {rival for rival in rivals if self.endpoints[rival].host == self.host}
        self._before = {}
        for endpoint_id in concerned:
            won = self._reason(endpoint_id) is None
            (self.winners if won else self._losers).add(endpoint_id)
            (self._losers if won else self.winners).discard(endpoint_id)
        return concerned

    def _reason(self, endpoint_id: str) -> str | None:
        """Why an endpoint loses; None if all its values are its own, and nobody else is allowed them."""
        endpoint = self.endpoints[endpoint_id]
        claimed = claims(endpoint, self.host)
        taken = next((claim for claim in claimed if self._holders[claim] != endpoint_id), None)
        if taken is not None:
            return f"{taken[1]} belongs to endpoint {self._holders[taken]}"
        return crossing(endpoint, claimed, self._holders, self._shares, lambda e: order(self.snapshot, "endpoint", e))

    def problem_of(self, endpoint_id: str) -> str | None:
        """Why an endpoint is closed everywhere; None if it is not."""
        return self._reason(endpoint_id) if endpoint_id in self._losers else self._rejected.get(endpoint_id)

    def problems(self) -> Iterator[tuple[str, str]]:
        """All endpoints that are closed everywhere, and why."""
        yield from self._rejected.items()
        yield from ((loser, reason) for loser in self._losers if (reason := self.problem_of(loser)) is not None)
