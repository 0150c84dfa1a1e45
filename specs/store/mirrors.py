"""Writes mirror sessions: the VNI is claimed in the same transaction."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

from specs import keys
from specs.model.base import decode
from specs.model.mirror import CAPTURE_PREFIX, Mirror
from specs.store.networks import free_vni
from specs.store.pool import Pool
from specs.store.tenants import tenants_of
from specs.store.values import Delete, Get, Put, Unchanged
from specs.store.writer import Writer, dated, decoded
from warren.errors import Invalid, NotFound


class MirrorWriter(Writer):
    """The mirror sessions of a store."""

    def put_mirror(self, draft: dict[str, Any]) -> tuple[Mirror, int]:
        """Create or change a mirror session; it keeps its VNI, or gets the lowest free one. Returns it with the revision.
        Raises `Invalid`, `Exhausted`."""
        probe = decode(Mirror, {**draft, "vni": 1}, "mirror")
        name = probe.name
        if name.startswith(CAPTURE_PREFIX):
            raise Invalid("mirror.name", name, f"a name that does not begin with {CAPTURE_PREFIX} (those are of warren capture)")

        if (collector := probe.to.collector) is not None and not _reachable(collector[1]):
            raise Invalid(f"mirror.to.{collector[0]}", str(collector[1]), "the address of another machine, such as 192.0.2.7")

        def attempt() -> tuple[Mirror, int] | None:
            read = self.store.txn((), (Get(keys.mirror(name)), Get(keys.pool_vni(), prefix=True), Get(keys.TENANTS, prefix=True)))
            entry = read.found[0][0] if read.found[0] else None
            old = decoded(Mirror, entry) if entry else None
            pool = Pool.read(keys.pool_vni(), read.found[1])
            vni = old.vni if old else free_vni(pool, None, tenants_of(read.found[2]))
            new = dated(decode(Mirror, {**draft, "vni": vni}, "mirror"), old)
            if old == new:
                return new, entry.mod_revision  # type: ignore[union-attr]
            if old is None:
                pool.take(vni)
            compares = [Unchanged(keys.mirror(name), entry.mod_revision if entry else 0), *pool.compares()]
            outcome = self.commit(compares, [Put(keys.mirror(name), new.encode()), *pool.puts()])
            return (new, outcome.revision) if outcome.succeeded else None

        return self.retry(attempt)  # type: ignore[no-any-return]

    def delete_mirror(self, name: str) -> int:
        """Raises `NotFound`."""

        def attempt() -> int | None:
            read = self.store.txn((), (Get(keys.mirror(name)), Get(keys.pool_vni(), prefix=True)))
            if not read.found[0]:
                raise NotFound("mirror", name)
            entry = read.found[0][0]
            old, pool = decoded(Mirror, entry), Pool.read(keys.pool_vni(), read.found[1])
            if old is not None:
                pool.give_back(old.vni)
            compares = [Unchanged(entry.key, entry.mod_revision), *pool.compares()]
            outcome = self.commit(compares, [Delete(entry.key), *pool.puts()])
            return outcome.revision if outcome.succeeded else None

        return self.retry(attempt)  # type: ignore[no-any-return]


def _reachable(address: IPv4Address) -> bool:
    """Whether an address can be that of a machine which takes copies. Copies to a group or to the host itself would go round or nowhere."""
    return not (address.is_unspecified or address.is_loopback or address.is_multicast or address.is_reserved)
