"""Which connections a change of the specs may concern. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from intent.identity import identity
from pipeline.protocols import IpAddress
from specs.model.endpoint import Endpoint
from specs.model.network import Network
from specs.snapshot import Decoded, Snapshot

DECIDING = ("acl", "cluster", "tenant", "router", "service")  # kinds whose every change may concern any network


class GivenUp(NamedTuple):
    """An address of a network that the endpoint on `host` had, and has there no more."""

    network_id: str
    address: IpAddress
    host: str


@dataclass(frozen=True, slots=True)
class Concerned:
    """`addresses` whose connections all end, and `networks` whose connections are to be judged again; None
    means all networks."""

    addresses: set[GivenUp] = field(default_factory=set)
    networks: set[str] | None = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.addresses or self.networks is None or self.networks)


def concerned(before: Snapshot, after: Snapshot, changes: Iterable[Decoded]) -> Concerned:
    """Return what these changes concern. An endpoint that is new concerns nothing: its address has no connections."""
    addresses: set[GivenUp] = set()
    networks: set[str] | None = set()
    for change in changes:
        if change.kind == "endpoint":
            old, new = before.endpoints.get(change.id), after.endpoints.get(change.id)
            addresses |= set(_given_up(old, new))
            judged = {new.network_id} if old is not None and new is not None and _differs(old, new) else set()
            judged |= {old.network_id} if old is not None and old.allowed and new is None else set()
        elif change.kind == "network":
            judged = {change.id} if _policies(before, change.id) != _policies(after, change.id) else set()
        elif change.kind == "host":
            old_host, new_host = before.hosts.get(change.id), after.hosts.get(change.id)
            judged = set()
            if old_host is not None and new_host is not None and old_host.acls != new_host.acls:
                networks = None
        else:
            judged = set()
            networks = None if change.kind in DECIDING else networks
        if networks is not None:
            networks |= judged
    return Concerned(addresses, networks)


def _given_up(old: Endpoint | None, new: Endpoint | None) -> Iterator[GivenUp]:
    if old is None or not old.active:
        return
    stays = new is not None and new.active and identity(new) == identity(old)
    kept = {new.ipv4_address, new.ipv6_address} if stays and new is not None else set()
    for address in (old.ipv4_address, old.ipv6_address):
        if address is not None and address not in kept:
            yield GivenUp(old.network_id, address, old.host)


def _differs(old: Endpoint, new: Endpoint) -> bool:
    """Whether something that policies or published ports depend on is another."""
    return (old.labels, old.acls, old.publish, old.name, old.allowed) != (
        new.labels,
        new.acls,
        new.publish,
        new.name,
        new.allowed,
    )


def _policies(state: Snapshot, network_id: str) -> object:
    network: Network | None = state.networks.get(network_id)
    if network is None:
        return None
    return network.default_acl, network.vlan_out_acl, network.nat_acl, network.mode, network.number
