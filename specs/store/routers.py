"""Writes routers: each is checked against the others and its networks in the transaction that writes it."""

from __future__ import annotations

from typing import Any

from specs import keys
from specs.checks import check_router
from specs.model.base import decode
from specs.model.router import Router
from specs.snapshot import snapshot
from specs.store.values import Compare, Get, Put, Unchanged
from specs.store.writer import Writer, dated, decoded


class RouterWriter(Writer):
    """The routers of a store."""

    def put_router(self, draft: dict[str, Any]) -> tuple[Router, int]:
        """Create or change a router; returns it with the revision. Raises `Invalid` for a network that it cannot join."""
        router = decode(Router, draft, "router")
        key = keys.router(router.name)

        def attempt() -> tuple[Router, int] | None:
            gets = (Get(keys.ROUTERS, prefix=True), Get(keys.NETWORKS, prefix=True), Get(keys.claim_routing()))
            routers, networks, claim = self.store.txn((), gets).found
            state = snapshot((e.key, e.value, e.create_revision) for e in (*routers, *networks))
            check_router(router, state, "router")
            joined = {keys.network(n.id) for n in state.networks.values() if set(n.references) & set(router.networks)}
            entry = next((e for e in routers if e.key == key), None)
            old = decoded(Router, entry) if entry else None
            new = dated(router, old)
            if entry is not None and old == new:
                return new, entry.mod_revision
            compares: list[Compare] = [Unchanged(e.key, e.mod_revision) for e in networks if e.key in joined]
            compares.append(Unchanged(keys.claim_routing(), claim[0].mod_revision if claim else 0))
            outcome = self.commit(compares, [Put(key, new.encode()), Put(keys.claim_routing(), new.name)])
            return (new, outcome.revision) if outcome.succeeded else None

        with self.one_at_a_time("routing"):
            return self.retry(attempt)  # type: ignore[no-any-return]

    def delete_router(self, name: str) -> int:
        """Raises `NotFound`. Returns the revision."""
        return self.delete_record("router", name, keys.router(name))
