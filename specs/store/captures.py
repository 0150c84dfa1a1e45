"""Writes captures. The session has a lease; the claim of its VNI has none, so that after an agent is killed the next one can give the
VNI back."""

from __future__ import annotations

from specs import keys
from specs.model.mirror import capture_name
from specs.store.networks import free_vni
from specs.store.pool import Pool
from specs.store.tenants import tenants_of
from specs.store.values import Delete, Get, Put, Unchanged
from specs.store.writer import Writer
from warren.errors import Conflict

CAPTURES_LIMIT = 16  # of one agent at one time


class CaptureWriter(Writer):
    """The captures of a store."""

    def take_capture(self, host: str) -> tuple[str, int]:
        """Claims a name that no capture of this host has, and a VNI for it. Raises `Conflict`, `Exhausted`."""

        def attempt() -> tuple[str, int] | None:
            prefix = keys.claim_captures(host)
            read = self.store.txn(
                (), (Get(prefix, prefix=True), Get(keys.pool_vni(), prefix=True), Get(keys.TENANTS, prefix=True))
            )
            taken = {entry.key.removeprefix(prefix) for entry in read.found[0]}
            names = (capture_name(host, number) for number in range(1, CAPTURES_LIMIT + 1))
            name = next((name for name in names if name not in taken), None)
            if name is None:
                raise Conflict(f"the agent of {host} has {CAPTURES_LIMIT} captures already: end one of them")
            pool = Pool.read(keys.pool_vni(), read.found[1])
            vni = free_vni(pool, None, tenants_of(read.found[2]))
            pool.take(vni)
            claim = f"{prefix}{name}"
            outcome = self.commit([Unchanged(claim, 0), *pool.compares()], [Put(claim, str(vni)), *pool.puts()])
            return (name, vni) if outcome.succeeded else None

        return self.retry(attempt)  # type: ignore[no-any-return]

    def give_back_capture(self, host: str, name: str) -> int:
        """Deletes a capture if it still exists, and frees its name and VNI. Returns the revision."""

        def attempt() -> int | None:
            claim = f"{keys.claim_captures(host)}{name}"
            read = self.store.txn((), (Get(claim), Get(keys.pool_vni(), prefix=True)))
            pool, compares = Pool.read(keys.pool_vni(), read.found[1]), [Unchanged(claim, 0)]
            if read.found[0]:
                compares = [Unchanged(claim, read.found[0][0].mod_revision)]
                pool.give_back(int(read.found[0][0].value))
            outcome = self.commit([*compares, *pool.compares()], [Delete(keys.capture(name)), Delete(claim), *pool.puts()])
            return outcome.revision if outcome.succeeded else None

        return self.retry(attempt)  # type: ignore[no-any-return]

    def captures_of(self, host: str) -> list[str]:
        """The names of the captures that this host's agents have taken and not given back."""
        prefix = keys.claim_captures(host)
        return [entry.key.removeprefix(prefix) for entry in self.store.list(prefix)[1]]
