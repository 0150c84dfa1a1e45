"""A full read of the store that the reconciler has not taken yet: it first decides whether it may act on it (specs/lineage.py)."""

from __future__ import annotations

from collections.abc import Collection

from controller.events import StoreChanged, StoreRead
from specs import keys
from specs.lineage import Offer, StoreOrigin, former_hosts, hold, lost
from specs.snapshot import Snapshot, put


class Offered:
    """The read, and what has changed since. `origin` is None for a read that is taken as it is."""

    def __init__(self, read: StoreRead) -> None:
        self.entries = list(read.entries)
        self.revision, self.reported, self.origin, self.known = read.revision, read.reported, read.origin, read.known
        self.followed, self._placements = read.followed, read.placements

    def add(self, change: StoreChanged) -> None:
        """Add changes that came after the read."""
        self.entries += change.entries
        self.revision, self.followed = max(self.revision, change.revision), change.followed

    def forget(self, networks: Collection[str]) -> None:
        """Leave out the endpoints of networks."""
        self.entries = [entry for entry in self.entries if keys.network_of(entry.key) not in networks]

    def keys(self) -> set[str]:
        """Return the keys that are offered."""
        return {key for key, value in self._values().items() if value is not None}

    def _values(self) -> dict[str, str | None]:
        return {entry.key: entry.value for entry in self.entries}

    def hold(self, host: str, before: Snapshot | None, plugged: Collection[str]) -> str | None:
        """Return why the host must not act on this, or None. `before` is what it acts on now; None: it has just started, and all that it
        knows are the endpoints that are plugged into its switch."""
        if self.origin is None:
            return None
        offered = self.keys()
        former: tuple[str, ...] = ()
        if before is not None:
            missing = lost(before, offered, host, self.followed)
        else:
            records = self._hosts(plugged)
            missing = tuple(sorted(f"endpoint {i}" for i in plugged if i not in records))
            former = former_hosts(host, [records.get(i) for i in plugged])
        offer = Offer(
            origin=self.origin,
            accepted=self._values().get(keys.accepted()),
            networks=sum(key.startswith(keys.NETWORKS) for key in offered),
            lost=missing,
            former=former,
        )
        return hold(host, self.known, offer)

    def taken_from(self) -> StoreOrigin | None:
        """Return the origin of all that is offered."""
        origin = self.origin
        return origin and StoreOrigin(cluster=origin.cluster, lineage=origin.lineage, revision=self.revision)

    def _hosts(self, plugged: Collection[str]) -> dict[str, str]:
        """Return the hosts of these endpoints by id, as far as they have records."""
        snapshot = Snapshot()
        for entry in self.entries:
            if entry.key.startswith(keys.ENDPOINTS) and entry.key.rpartition("/")[2] in plugged:
                put(snapshot, entry.key, entry.value, entry.created)
        return {**self._placements, **{endpoint.id: endpoint.host for endpoint in snapshot.endpoints.values()}}
