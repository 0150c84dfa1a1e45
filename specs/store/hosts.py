"""Writes hosts: the VTEP address is claimed in the same transaction."""

from __future__ import annotations

from ipaddress import IPv4Address

from pipeline.tunnels import TUNNEL_RANGE
from specs import keys
from specs.model.base import now
from specs.model.endpoint import Endpoint
from specs.model.host import Host
from specs.model.hostnet import HostNetwork
from specs.store.values import Compare, Delete, Empty, Get, Put, TxnOperation, Unchanged
from specs.store.writer import Writer, decoded
from warren.errors import Conflict, Invalid, NotFound


class HostWriter(Writer):
    """The hosts of a store."""

    def put_host(self, host: Host) -> int:
        """Registers or changes a host; allocates its tunnel address with its first outside address. Raises `Conflict` if another host has the
        VTEP address, and `Invalid`. Returns the revision."""
        _check_outside(host)
        if host.site is not None and self.store.get(keys.site(host.site)) is None:
            raise Invalid("site", host.site, f"a site that exists (warren site create {host.site})")

        def attempt() -> int | None:
            key, claim = keys.host(host.name), keys.claim_host_vtep(str(host.vtep))
            read = self.store.txn((), (Get(key), Get(claim)))
            if read.found[1] and read.found[1][0].value != host.name:
                name = read.found[1][0].value
                remedy = (
                    f"set WARREN_HOST={name} if this machine is {name}; if {name} is gone for good: warren host remove {name}"
                )
                raise Conflict(f"VTEP {host.vtep} belongs to host {name}: {remedy}", field="vtep", holder=name)
            entry = read.found[0][0] if read.found[0] else None
            old = decoded(Host, entry) if entry else None
            fields = {
                "created_at": (old and old.created_at) or host.created_at or now(),
                "tunnel_address": old and old.tunnel_address,
            }
            new = host.model_copy(update=fields)
            claimed = self._claim_tunnel_address(new)
            if claimed is not None:
                new = new.model_copy(update={"tunnel_address": claimed})
            if entry is not None and old == new and read.found[1]:
                return entry.mod_revision
            compares = [
                Unchanged(key, entry.mod_revision if entry else 0),
                Unchanged(claim, read.found[1][0].mod_revision if read.found[1] else 0),
            ]
            changes: list[TxnOperation] = [Put(key, new.encode()), Put(claim, host.name)]
            if claimed is not None:
                compares.append(Unchanged(keys.claim_tunnel_address(str(claimed)), 0))
                changes.append(Put(keys.claim_tunnel_address(str(claimed)), host.name))
            if entry is None:  # its endpoints will all have placements
                changes.append(Put(keys.placing(host.name), "{}"))
            if old is not None and old.vtep != new.vtep:
                before = keys.claim_host_vtep(str(old.vtep))
                holder = self.store.get(before)
                if holder is not None and holder.value == host.name:  # a wrong record may name the VTEP of another host
                    compares.append(Unchanged(before, holder.mod_revision))
                    changes.append(Delete(before))
            outcome = self.commit(compares, changes)
            return outcome.revision if outcome.succeeded else None

        return self.retry(attempt)  # type: ignore[no-any-return]

    def _claim_tunnel_address(self, host: Host) -> IPv4Address | None:
        """Return a free address for a host that needs one; None for others."""
        if host.outside is None or host.tunnel_address is not None:
            return None
        taken = {entry.key.rpartition("/")[2] for entry in self.store.list(keys.CLAIM_TUNNEL_ADDRESS)[1]}
        return next(address for address in TUNNEL_RANGE.hosts() if str(address) not in taken)

    def put_hostnet(self, hostnet: HostNetwork) -> None:
        """Publishes the network of a host, which only its agent does."""

        def attempt() -> int | None:
            key = keys.hostnet(hostnet.name)
            entry = self.store.get(key)
            text = hostnet.encode()
            if entry is not None and entry.value == text:
                return entry.mod_revision
            outcome = self.commit([Unchanged(key, entry.mod_revision if entry else 0)], [Put(key, text)])
            return outcome.revision if outcome.succeeded else None

        self.retry(attempt)

    def delete_host(self, name: str) -> int:
        """Deletes a host and the reports about it. Raises `NotFound`, and `Conflict` while it has endpoints."""

        def attempt() -> int | None:
            ports = keys.pool_ofport(name)
            read = self.store.txn((), (Get(keys.host(name)), Get(keys.ENDPOINTS, prefix=True), Get(ports, prefix=True)))
            if not read.found[0]:
                raise NotFound("host", name)
            entry, blocks = read.found[0][0], read.found[2]
            held = (decoded(Endpoint, each) for each in read.found[1])
            count = sum(endpoint is not None and endpoint.host == name for endpoint in held)
            if count:
                raise Conflict(f"host {name} has {count} endpoint{'s' if count > 1 else ''}")
            host = decoded(Host, entry)
            # a concurrent new endpoint takes a port of the pool, so this transaction fails and is tried again
            compares: list[Compare] = [Unchanged(each.key, each.mod_revision) for each in (entry, *blocks)]
            if not blocks:
                compares.append(Empty(ports))
            changes: list[TxnOperation] = [
                Delete(entry.key),
                Delete(keys.hostnet(name)),
                Delete(keys.placing(name)),
                Delete(keys.status_endpoints_of(name), prefix=True),
                Delete(keys.secrets_of(name), prefix=True),
            ]
            changes.append(Delete(ports, prefix=True))
            if host is not None:
                changes.append(Delete(keys.claim_host_vtep(str(host.vtep))))
                changes += [Delete(keys.claim_tunnel_address(str(host.tunnel_address)))] if host.tunnel_address else []
            outcome = self.commit(compares, changes)
            return outcome.revision if outcome.succeeded else None

        return self.retry(attempt)  # type: ignore[no-any-return]

    def accept_store(self) -> str:
        """Accept what etcd holds, though hosts know more: they remove what it lacks. Returns the accepted lineage. Raises `NotFound` if no
        host has read this etcd yet."""

        def attempt() -> str | None:
            lineage = self.store.get(keys.lineage())
            if lineage is None:
                raise NotFound("lineage", keys.lineage())
            outcome = self.commit([Unchanged(lineage.key, lineage.mod_revision)], [Put(keys.accepted(), lineage.value)])
            return lineage.value if outcome.succeeded else None

        return self.retry(attempt)  # type: ignore[no-any-return]

    def hosts(self) -> list[Host]:
        """All hosts; malformed records are left out."""
        hosts = (decoded(Host, entry) for entry in self.store.list(keys.HOSTS)[1])
        return [host for host in hosts if host is not None]


def _check_outside(host: Host) -> None:
    """Raises `Invalid` where the outside of a host is no other than its inside."""
    outside = host.outside
    if outside is not None and outside.address == host.vtep:
        raise Invalid("outside.address", str(outside.address), "another address than the host has inside its site (its VTEP)")
