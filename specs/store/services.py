"""Writes services: the port is claimed and the network checked in the same transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from specs import keys
from specs.checks import called, check_service
from specs.model.base import decode
from specs.model.network import Network
from specs.model.publish import Publish
from specs.model.service import Service
from specs.store import bitmap
from specs.store.pool import Pool
from specs.store.values import Compare, Delete, Get, Put, TxnOperation, Unchanged
from specs.store.writer import Writer, dated, decoded
from warren.errors import Conflict, NotFound


class ServiceWriter(Writer):
    """The services of a store."""

    def put_service(self, draft: dict[str, Any]) -> tuple[Service, int]:
        """Create or change a service; returns it with the revision. Raises `Invalid` for its network, `Conflict` for a port that an
        endpoint or another service has."""
        service = decode(Service, draft, "service")
        key = keys.service(service.name)

        def attempt() -> tuple[Service, int] | None:
            found, listed, claim = self.store.txn(
                (), (Get(key), Get(keys.NETWORKS, prefix=True), Get(keys.claim_routing()))
            ).found
            entry = found[0] if found else None
            old = decoded(Service, entry) if entry else None
            networks = {n.id: n for e in listed if (n := decoded(Network, e)) is not None}
            check_service(service, networks, "service")
            new = dated(service, old)
            if entry is not None and old == new:
                return new, entry.mod_revision
            protos = {service.proto: self._service_ports(service.proto)}
            if old is not None:
                protos.setdefault(old.proto, self._service_ports(old.proto)).give_back(old.host_port)
            self._check_port(service, protos[service.proto])
            self._check_hosts(service, old, networks)
            protos[service.proto].take(service.host_port)
            compares: list[Compare] = [Unchanged(key, entry.mod_revision if entry else 0)]
            compares.append(Unchanged(keys.claim_routing(), claim[0].mod_revision if claim else 0))
            puts: list[TxnOperation] = [Put(key, new.encode()), Put(keys.claim_routing(), new.name)]
            for pool in protos.values():
                compares += pool.compares()
                puts += pool.puts()
            outcome = self.commit(compares, puts)
            return (new, outcome.revision) if outcome.succeeded else None

        with self.one_at_a_time("routing"):
            return self.retry(attempt)  # type: ignore[no-any-return]

    def _check_hosts(self, service: Service, old: Service | None, networks: Mapping[str, Network]) -> None:
        """Raises `Conflict` if a process of a host with endpoints of the network listens on the port."""
        if old is None or (old.proto, old.host_port, old.network) != (service.proto, service.host_port, service.network):
            publish = Publish(host_port=service.host_port, port=service.port, proto=service.proto)
            self.check_ports(None, called(networks)[service.network].id, (publish,))

    def _service_ports(self, proto: str) -> Pool:
        return Pool.read(keys.pool_services(proto), self.store.list(keys.pool_services(proto))[1])

    def _check_port(self, service: Service, others: Pool) -> None:
        """Raises `Conflict` for a port in use. A concurrent writer may publish the same port unseen; then the endpoint has the port on its
        host."""
        port = f"{service.proto} port {service.host_port}"
        if bitmap.taken(others.blocks, service.host_port):
            every = (decoded(Service, entry) for entry in self.store.list(keys.SERVICES)[1])
            holder = next(
                (s.name for s in every if s and (s.proto, s.host_port) == (service.proto, service.host_port)), "another"
            )
            raise Conflict(f"{port} of all hosts leads to service {holder}")
        for entry in self.store.list(keys.POOL_PUBLISHED)[1]:
            host, proto, block = entry.key.removeprefix(keys.POOL_PUBLISHED).split("/")
            if proto == service.proto and bitmap.taken({int(block): bitmap.parse(entry.value)}, service.host_port):
                raise Conflict(f"{port} of host {host} is published by an endpoint (warren publish list)")

    def delete_service(self, name: str) -> int:
        """Raises `NotFound`. Returns the revision."""

        def attempt() -> int | None:
            entry = self.store.get(keys.service(name))
            if entry is None:
                raise NotFound("service", name)
            old = decoded(Service, entry)
            compares: list[Compare] = [Unchanged(entry.key, entry.mod_revision)]
            changes: list[TxnOperation] = [Delete(entry.key)]
            if old is not None:
                pool = self._service_ports(old.proto)
                pool.give_back(old.host_port)
                compares += pool.compares()
                changes += pool.puts()
            outcome = self.commit(compares, changes)
            return outcome.revision if outcome.succeeded else None

        return self.retry(attempt)  # type: ignore[no-any-return]
