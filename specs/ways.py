"""Writing routers: each is checked against the others and its networks in the transaction that writes it."""

from __future__ import annotations

from typing import Any

from specs import keys
from specs.errors import NotFound
from specs.records import decode, now
from specs.routers import Router
from specs.settle import check_router
from specs.snapshot import snapshot
from specs.store import Compare, Delete, Get, Put, Unchanged
from specs.writer import Writer, decoded


class Ways(Writer):
    """The routers of a store."""

    def put_router(self, draft: dict[str, Any]) -> tuple[Router, int]:
        """Create or change a router; returns it with the revision. Raises `Invalid` for a network that it cannot join."""
        wanted = decode(Router, draft, "router")
        key = keys.router(wanted.name)

        def attempt() -> tuple[Router, int] | None:
            gets = (Get(keys.ROUTERS, prefix=True), Get(keys.NETWORKS, prefix=True), Get(keys.claim_routers()))
            routers, networks, claim = self.store.txn((), gets).found
            state = snapshot((e.key, e.value, e.create_revision) for e in (*routers, *networks))
            check_router(wanted, state, "router")
            joined = {keys.network(n.id) for n in state.networks.values() if {n.id, n.name} & set(wanted.networks)}
            entry = next((e for e in routers if e.key == key), None)
            old = decoded(Router, entry) if entry else None
            new = wanted.model_copy(update={"created_at": (old and old.created_at) or wanted.created_at or now()})
            if entry is not None and old == new:
                return new, entry.mod_revision
            compares: list[Compare] = [Unchanged(e.key, e.mod_revision) for e in networks if e.key in joined]
            compares.append(Unchanged(keys.claim_routers(), claim[0].mod_revision if claim else 0))
            outcome = self.store.txn(compares, [Put(key, new.encode()), Put(keys.claim_routers(), new.name)])
            return (new, outcome.revision) if outcome.succeeded else None

        with self.one_at_a_time("routers"):
            return self.retry(attempt)  # type: ignore[no-any-return]

    def delete_router(self, name: str) -> int:
        """Raises `NotFound`. Returns the revision."""

        def attempt() -> int | None:
            entry = self.store.get(keys.router(name))
            if entry is None:
                raise NotFound("router", name)
            outcome = self.store.txn([Unchanged(entry.key, entry.mod_revision)], [Delete(entry.key)])
            return outcome.revision if outcome.succeeded else None

        return self.retry(attempt)  # type: ignore[no-any-return]
