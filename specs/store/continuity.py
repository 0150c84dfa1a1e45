"""Remembers across restarts which etcd a process has read, and keeps the lineage in etcd (specs/lineage.py)."""

from __future__ import annotations

import dataclasses
import json
import logging
import uuid
from collections.abc import Iterable
from pathlib import Path

from specs import keys
from specs.lineage import StoreOrigin, continues
from specs.store.etcd import Store
from specs.store.values import Entry, Put, Reread, Unchanged, WatchEvent

log = logging.getLogger("warren.continuity")


class Continuity:
    """Remembers in a file where the specs that the process acts on come from: `known`. The file outlives the process, not a reboot, after
    which no container runs."""

    def __init__(self, store: Store, path: Path) -> None:
        self._store, self._path = store, path
        self.known = _load(path)
        self._warned = False

    def origin(self, revision: int, entries: Iterable[Entry]) -> StoreOrigin:
        """Return where a full read comes from. Creates the lineage in etcd, and replaces it when the read does not continue what is
        known. Raises `Unavailable`."""
        entry = next((entry for entry in entries if entry.key == keys.lineage()), None)
        origin = StoreOrigin(cluster=self._store.cluster, lineage=entry.value if entry else "", revision=revision)
        while entry is None or (
            self.known is not None and self.known.lineage == entry.value and not continues(self.known, origin)
        ):
            fresh = str(uuid.uuid4())
            compare = Unchanged(keys.lineage(), entry.mod_revision if entry else 0)
            if self._store.txn((compare,), (Put(keys.lineage(), fresh),)).succeeded:
                log.info("etcd.lineage lineage=%s before=%s", fresh, entry.value if entry else "none")
                return dataclasses.replace(origin, lineage=fresh)
            entry = self._store.get(keys.lineage())
            origin = dataclasses.replace(origin, lineage=entry.value if entry else "")
        return origin

    def follow(self, revision: int, events: Iterable[WatchEvent]) -> None:
        """Remember that the process has taken these changes. Raises `Reread` if another process has replaced the lineage, because it has
        seen etcd go back."""
        if self.known is None:
            return
        for event in events:
            if event.key == keys.lineage() and event.value != self.known.lineage:
                raise Reread("the lineage was replaced")
        self.remember(dataclasses.replace(self.known, revision=revision))

    def remember(self, origin: StoreOrigin) -> None:
        """Remember that the process acts on what it has read up to this revision."""
        if origin == self.known:
            return
        self.known = origin
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            new = self._path.with_suffix(".new")
            new.write_text(json.dumps(dataclasses.asdict(origin)))
            new.replace(self._path)
        except OSError as error:
            if not self._warned:
                log.warning("etcd.not_remembered path=%s reason=%s", self._path, error)
            self._warned = True


def _load(path: Path) -> StoreOrigin | None:
    try:
        data = json.loads(path.read_text())
        return StoreOrigin(cluster=int(data["cluster"]), lineage=str(data["lineage"]), revision=int(data["revision"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
