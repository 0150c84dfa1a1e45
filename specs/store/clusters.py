"""Writes the settings of the cluster: a transit range is compared with all hosts and networks before it is taken."""

from __future__ import annotations

from typing import Any

from specs import keys
from specs.model.base import decode
from specs.model.cluster import CLUSTER, Cluster
from specs.model.network import Network
from specs.obstacles import check_transit, check_transit_networks
from specs.snapshot import Snapshot, snapshot
from specs.store.values import Compare, Get, Put, Unchanged
from specs.store.writer import Writer, dated, decoded
from warren.errors import Conflict, NotFound


class ClusterWriter(Writer):
    """The cluster's settings in a store."""

    def put_cluster(self, draft: dict[str, Any], force: bool = False) -> tuple[Cluster, int]:
        """Change the settings; return them with the revision. Raises `Invalid`, and `Conflict` for a range that a host or a network uses, or,
        without `force`, while endpoints of networks in mode nat have connections that the change would break."""
        new = decode(Cluster, {"name": CLUSTER, **draft}, "cluster")
        key = keys.cluster(new.name)

        def attempt() -> tuple[Cluster, int] | None:
            gets = (keys.CLUSTERS, keys.HOSTS, keys.HOSTNETS, keys.NETWORKS, keys.ENDPOINTS)
            read = self.store.txn((), [Get(prefix, prefix=True) for prefix in gets]).found
            state = snapshot((e.key, e.value, e.create_revision) for entries in read for e in entries)
            entry = read[0][0] if read[0] else None
            record = dated(new, decoded(Cluster, entry) if entry else None)
            if entry is not None and entry.value == record.encode():
                return record, entry.mod_revision
            check_transit(record, state.cluster, state.hosts, state.hostnets)
            check_transit_networks(record, state.networks.values())
            if not force:
                _check_unused(record, state)
            compares: list[Compare] = [Unchanged(key, entry.mod_revision if entry else 0)]
            outcome = self.commit(compares, [Put(key, record.encode())])
            return (record, outcome.revision) if outcome.succeeded else None

        return self.retry(attempt)  # type: ignore[no-any-return]

    def delete_cluster(self, name: str) -> int:
        """Back to the defaults. Raises `NotFound`, and what `put_cluster` raises."""
        if self.store.get(keys.cluster(name)) is None:
            raise NotFound("cluster", name)
        self.put_cluster({})
        return self.delete_record("cluster", name, keys.cluster(name))


def _check_unused(new: Cluster, state: Snapshot) -> None:
    """Raises `Conflict` if a network whose connections would break has active endpoints."""
    if new.ranges == state.cluster.ranges:
        return
    for network in sorted(state.networks.values(), key=lambda n: n.name):
        count = _active(network, state)
        if network.mode != "flat" and count:
            problem = f"network {network.name} (mode {network.mode}) has {count} active endpoint{'s' if count > 1 else ''}"
            raise Conflict(f"cluster: {problem}: their connections to the outside break when transit ranges change; --force changes them all the same",
                           field="transit4", holder=network.name)  # fmt: skip


def _active(network: Network, state: Snapshot) -> int:
    return sum(e.network_id == network.id and e.active and not e.spare for e in state.endpoints.values())
