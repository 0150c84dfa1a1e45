"""Writing routers and services: each is checked against the others and its networks in the transaction that writes it."""

from __future__ import annotations

from typing import Any

from specs import keys
from specs.checks import check_router, check_service
from specs.model.records import Network, decode, now
from specs.model.router import Router
from specs.model.service import Service
from specs.snapshot import snapshot
from specs.store import bitmap as pools
from specs.store.etcd import Compare, Delete, Get, Operation, Put, Unchanged
from specs.store.pool import Pool
from specs.store.writer import Writer, decoded
from warren.errors import Conflict, NotFound


class Ways(Writer):
    """The routers and services of a store."""

    def put_router(self, draft: dict[str, Any]) -> tuple[Router, int]:
        """Create or change a router; returns it with the revision. Raises `Invalid` for a network that it cannot join."""
        wanted = decode(Router, draft, "router")
        key = keys.router(wanted.name)

        def attempt() -> tuple[Router, int] | None:
            gets = (Get(keys.ROUTERS, prefix=True), Get(keys.NETWORKS, prefix=True), Get(keys.claim_ways()))
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
            compares.append(Unchanged(keys.claim_ways(), claim[0].mod_revision if claim else 0))
            outcome = self.commit(compares, [Put(key, new.encode()), Put(keys.claim_ways(), new.name)])
            return (new, outcome.revision) if outcome.succeeded else None

        with self.one_at_a_time("ways"):
            return self.retry(attempt)  # type: ignore[no-any-return]

    def delete_router(self, name: str) -> int:
        """Raises `NotFound`. Returns the revision."""

        def attempt() -> int | None:
            entry = self.store.get(keys.router(name))
            if entry is None:
                raise NotFound("router", name)
            outcome = self.commit([Unchanged(entry.key, entry.mod_revision)], [Delete(entry.key)])
            return outcome.revision if outcome.succeeded else None

        return self.retry(attempt)  # type: ignore[no-any-return]

    def put_service(self, draft: dict[str, Any]) -> tuple[Service, int]:
        """Create or change a service; returns it with the revision. Raises `Invalid` for its network, `Conflict` for a port that an
        endpoint or another service has."""
        wanted = decode(Service, draft, "service")
        key = keys.service(wanted.name)

        def attempt() -> tuple[Service, int] | None:
            found, listed, claim = self.store.txn((), (Get(key), Get(keys.NETWORKS, prefix=True), Get(keys.claim_ways()))).found
            entry = found[0] if found else None
            old = decoded(Service, entry) if entry else None
            networks = {n.id: n for e in listed if (n := decoded(Network, e)) is not None}
            check_service(wanted, networks, "service")
            new = wanted.model_copy(update={"created_at": (old and old.created_at) or wanted.created_at or now()})
            if entry is not None and old == new:
                return new, entry.mod_revision
            protos = {wanted.proto: self._service_ports(wanted.proto)}
            if old is not None:
                protos.setdefault(old.proto, self._service_ports(old.proto)).give_back(old.host_port)
            self._free(wanted, protos[wanted.proto])
            protos[wanted.proto].take(wanted.host_port)
            compares: list[Compare] = [Unchanged(key, entry.mod_revision if entry else 0)]
            compares.append(Unchanged(keys.claim_ways(), claim[0].mod_revision if claim else 0))
            puts: list[Operation] = [Put(key, new.encode()), Put(keys.claim_ways(), new.name)]
            for pool in protos.values():
                compares += pool.compares()
                puts += pool.puts()
            outcome = self.commit(compares, puts)
            return (new, outcome.revision) if outcome.succeeded else None

        with self.one_at_a_time("ways"):
            return self.retry(attempt)  # type: ignore[no-any-return]

    def _service_ports(self, proto: str) -> Pool:
        return Pool.read(keys.pool_services(proto), self.store.list(keys.pool_services(proto))[1])

    def _free(self, service: Service, others: Pool) -> None:
        """Raises `Conflict`. Two writers may miss each other here; then an endpoint's own port is its own on its host."""
        port = f"{service.proto} port {service.host_port}"
        if pools.taken(others.blocks, service.host_port):
            every = (decoded(Service, entry) for entry in self.store.list(keys.SERVICES)[1])
            holder = next(
                (s.name for s in every if s and (s.proto, s.host_port) == (service.proto, service.host_port)), "another"
            )
            raise Conflict(f"{port} of all hosts leads to service {holder}")
        for entry in self.store.list(keys.POOL_PUBLISHED)[1]:
            host, proto, block = entry.key.removeprefix(keys.POOL_PUBLISHED).split("/")
            if proto == service.proto and pools.taken({int(block): pools.parse(entry.value)}, service.host_port):
                raise Conflict(f"{port} of host {host} is published by an endpoint (warren publish list)")

    def delete_service(self, name: str) -> int:
        """Raises `NotFound`. Returns the revision."""

        def attempt() -> int | None:
            entry = self.store.get(keys.service(name))
            if entry is None:
                raise NotFound("service", name)
            old = decoded(Service, entry)
            compares: list[Compare] = [Unchanged(entry.key, entry.mod_revision)]
            changes: list[Operation] = [Delete(entry.key)]
            if old is not None:
                pool = self._service_ports(old.proto)
                pool.give_back(old.host_port)
                compares += pool.compares()
                changes += pool.puts()
            outcome = self.commit(compares, changes)
            return outcome.revision if outcome.succeeded else None

        return self.retry(attempt)  # type: ignore[no-any-return]
