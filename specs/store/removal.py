"""Removes a host that is gone for good, with everything in etcd that belongs to it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from specs import keys
from specs.model.endpoint import Endpoint
from specs.model.mirror import Mirror
from specs.model.network import Network
from specs.store.repository import Repository
from specs.store.values import Delete, Get
from specs.store.writer import decoded
from warren.errors import Conflict, NotFound

ONLY_HOST = "docker.host"  # label of a network that one host's engine created


def require_dead(repository: Repository, name: str) -> None:
    """Raise `Conflict` if the agent or the controller of a host lives."""
    gets = {"agent": keys.status_agent(name), "controller": keys.status_controller(name)}
    entries_of = repository.store.txn((), [Get(key) for key in gets.values()]).found
    living = [process for process, entries in zip(gets, entries_of, strict=True) if entries]
    if living:
        raise Conflict(
            f"the {' and the '.join(living)} of host {name} live{'s' if len(living) == 1 else ''}: stop them first", field="name"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """What belongs to a host."""

    endpoints: tuple[Endpoint, ...]
    mirrors: tuple[str, ...]
    networks: tuple[Network, ...]  # those of its Docker engine
    captures: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return a line for each."""
        addresses = {e.id: [str(a) for a in (e.ipv4_address, e.ipv6_address) if a] for e in self.endpoints}
        lines = [" ".join(("endpoint", e.name or e.id, *addresses[e.id])) for e in self.endpoints]
        lines += [f"mirror {name}" for name in self.mirrors]
        lines += [f"network {network.name} of its Docker engine" for network in self.networks]
        return lines + [f"capture {name}" for name in self.captures]


def _held(repository: Repository, name: str) -> _Held:
    mirrors = (decoded(Mirror, entry) for entry in repository.store.list(keys.MIRRORS)[1])
    return _Held(
        endpoints=tuple(endpoint for endpoint in repository.endpoints() if endpoint.host == name),
        mirrors=tuple(mirror.name for mirror in mirrors if mirror is not None and mirror.to.host == name),
        networks=tuple(network for network in repository.networks() if network.labels.get(ONLY_HOST) == name),
        captures=tuple(repository.captures_of(name)),
    )


def remove_host(repository: Repository, name: str, *, dry_run: bool = False) -> list[str]:
    """Delete a dead host, and return what went, a line each; with `dry_run`, what would. Its endpoints go one by one: their addresses,
    MACs, names, OpenFlow ports and published ports are free then. Raises `NotFound`, `Conflict`."""
    if repository.store.get(keys.host(name)) is None:
        raise NotFound("host", name)
    require_dead(repository, name)
    held = _held(repository, name)
    if not dry_run:
        _remove(repository, name, held)
    return [*held.lines(), f"host {name}"]


def _remove(repository: Repository, name: str, held: _Held) -> None:
    for endpoint in sorted(held.endpoints, key=lambda e: e.parent is None):  # what a port carries goes before the port
        _delete(repository, endpoint)
    for mirror in held.mirrors:
        with contextlib.suppress(NotFound):
            repository.delete_mirror(mirror)
    for network in held.networks:
        with contextlib.suppress(NotFound, Conflict):  # endpoints of other hosts keep it
            repository.delete_network(network.id)
    for capture in held.captures:
        repository.give_back_capture(name, capture)
    repository.delete_host(name)
    leftovers = (
        keys.docker(name),
        keys.status_endpoints_of(name),
        keys.status_claimants_of(name),
        f"{keys.POOL_PUBLISHED}{name}/",
        keys.placements_of(name),
        keys.publishers_of(name),
    )
    repository.store.txn((), [Delete(prefix, prefix=True) for prefix in leftovers])


def delete_endpoint_of_dead_host(repository: Repository, endpoint: Endpoint) -> None:
    """Delete an endpoint whose host is dead. Raises `Conflict` if the host's agent lives."""
    require_dead(repository, endpoint.host)
    _delete(repository, endpoint)


def _delete(repository: Repository, endpoint: Endpoint) -> None:
    with contextlib.suppress(NotFound):
        repository.delete_endpoint(endpoint.network_id, endpoint.id)
