"""A full read of the store that the cache has not taken yet: the agent first decides whether it may act on it (specs/lineage.py)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from specs import keys
from specs.lineage import Offer, StoreOrigin, former_hosts, hold, lost
from specs.snapshot import Snapshot, updated
from specs.store.values import Entry, WatchEvent

NOTHING: Mapping[str, str] = {}


class OfferedStore:
    """A full read of etcd, and the changes since."""

    def __init__(
        self,
        origin: StoreOrigin,
        snapshot: Snapshot,
        entries: Sequence[Entry],
        followed: Collection[str] | None = None,
        elsewhere: Mapping[str, str] = NOTHING,
    ) -> None:
        """`followed` are the networks whose endpoints were read (None: all), `elsewhere` says for veths whose host has their endpoint."""
        self.origin, self.snapshot = origin, snapshot
        self._entries = {entry.key: entry for entry in entries}
        self._followed, self._elsewhere = followed, elsewhere

    def entries(self) -> Collection[Entry]:
        """Return all that is offered."""
        return self._entries.values()

    def forget(self, networks: Collection[str]) -> None:
        """Leave out the endpoints of networks."""
        left = [key for key in self._entries if keys.network_of(key) in networks]
        for key in left:
            del self._entries[key]
        self.snapshot, _ = updated(self.snapshot, [(key, None, 0) for key in left])

    def add(self, events: Iterable[WatchEvent], revision: int) -> None:
        """Add changes that came after the read."""
        events = list(events)
        for event in events:
            self._entries.pop(event.key, None)
            if event.value is not None:
                self._entries[event.key] = Entry(event.key, event.value, event.create_revision, event.mod_revision)
        self.snapshot, _ = updated(self.snapshot, [(e.key, e.value, e.create_revision) for e in events])
        self.origin = StoreOrigin(cluster=self.origin.cluster, lineage=self.origin.lineage, revision=revision)

    def hold(self, host: str, known: StoreOrigin | None, before: Snapshot | None, veths: Collection[str]) -> str | None:
        """Return why the host must not act on this, or None. `before` is what it acts on now; None: it has just started, and all that it
        knows are the veths of its endpoints."""
        former: tuple[str, ...] = ()
        if before is not None:
            missing = lost(before, self._entries, host, self._followed)
        else:
            hosts = {**self._elsewhere, **{endpoint.veth: endpoint.host for endpoint in self.snapshot.endpoints.values()}}
            missing = tuple(sorted(f"interface {name}" for name in veths if name not in hosts))
            former = former_hosts(host, [hosts.get(name) for name in veths])
        offer = Offer(
            origin=self.origin,
            accepted=accepted.value if (accepted := self._entries.get(keys.accepted())) is not None else None,
            networks=len(self.snapshot.networks),
            lost=missing,
            former=former,
        )
        return hold(host, known, offer)
