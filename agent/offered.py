"""A full read of the store that the cache has not taken yet: the agent first decides whether it may act on it (specs/lineage.py)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from specs import keys
from specs.lineage import Offer, StoreOrigin, former_hosts, hold, lost
from specs.snapshot import Snapshot, updated
from specs.store.values import Entry, WatchEvent


class OfferedStore:
    """A full read of etcd, and the changes since."""

    def __init__(self, origin: StoreOrigin, snapshot: Snapshot, entries: Sequence[Entry]) -> None:
        self.origin, self.snapshot = origin, snapshot
        self._values = {entry.key: entry.value for entry in entries}
        self.newest = max((entry.mod_revision for entry in entries), default=0)  # the newest revision that touched a spec

    def add(self, events: Iterable[WatchEvent], revision: int) -> None:
        """Add changes that came after the read."""
        for event in events:
            self.newest = max(self.newest, event.mod_revision)
            if event.value is None:
                self._values.pop(event.key, None)
            else:
                self._values[event.key] = event.value
        self.snapshot, _ = updated(self.snapshot, [(e.key, e.value, e.create_revision) for e in events])
        self.origin = StoreOrigin(cluster=self.origin.cluster, lineage=self.origin.lineage, revision=revision)

    def hold(self, host: str, known: StoreOrigin | None, before: Snapshot | None, veths: Collection[str]) -> str | None:
        """Return why the host must not act on this, or None. `before` is what it acts on now; None: it has just started, and all that it
        knows are the veths of its endpoints."""
        former: tuple[str, ...] = ()
        if before is not None:
            missing = lost(before, self._values)
        else:
            hosts = {endpoint.veth: endpoint.host for endpoint in self.snapshot.endpoints.values()}
            missing = tuple(sorted(f"interface {name}" for name in veths if name not in hosts))
            former = former_hosts(host, [hosts.get(name) for name in veths])
        offer = Offer(
            origin=self.origin,
            accepted=self._values.get(keys.accepted()),
            networks=len(self.snapshot.networks),
            lost=missing,
            former=former,
        )
        return hold(host, known, offer)
