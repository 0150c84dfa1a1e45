"""Finds endpoints for the ports that hypervisors (libvirt, Neutron) put on the bridge for virtual machines, under the id of the interface.

    ovs-vsctl add-port br-warren vnet0 -- set Interface vnet0 external_ids:iface-id=UUID external_ids:attached-mac=MAC

An endpoint that names the id has the port; so has one that an adoption rule makes. The row is the hypervisor's: Warren adds the endpoint's id to
its external_ids, and changes nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

from agent.cache import Cache, CacheView
from agent.endpoints import hypervisor
from agent.endpoints.adopted_records import AdoptedRecords, as_drafted, draft_of, require_network
from agent.feature import Feature
from agent.linux import devices
from agent.listeners import Listeners
from ovsdb.client import Ovsdb
from ovsdb.rows import MAC_KEY, ObservedPort
from specs.model.adoption import rule_for
from specs.model.endpoint import ADOPTED_BY, Endpoint
from specs.snapshot import Decoded, Snapshot
from warren.errors import MISSING, Conflict, Invalid, WarrenError
from warren.worker import Worker

log = logging.getLogger("warren.machine_ports")

RETRY_S = 5.0
UNCLAIMED = (
    "no endpoint and no adoption rule names its iface-id {id}, so it is closed: "
    "warren endpoint create NETWORK --iface-id {id}, or warren adopt create --iface-id {id} --network NETWORK"
)


class MachinePorts(Feature):
    """Creates an endpoint for each such port that a rule names and no declared endpoint does, and removes it with the port or the rule. Wakes with
    `wake` the declared endpoints whose ports have changed. `on_change` is called when `problems` have changed."""

    def __init__(
        self,
        bridge: str,
        *,
        cache: Cache,
        ovsdb: Ovsdb,
        ovsdb_changed: Listeners[[set[str]]],
        records: AdoptedRecords,
        wake: Callable[[Iterable[str]], None],
        userspace: Callable[[], bool],
        on_change: Callable[[], None],
    ) -> None:
        self._bridge, self._cache, self._ovsdb, self._records, self._wake = bridge, cache, ovsdb, records, wake
        self._userspace, self._on_change = userspace, on_change
        self._reasons: dict[str, str] = {}  # interface -> why it has no endpoint, or one that does not work
        self._followed: frozenset[str] = frozenset()  # ids of the endpoints of this host that name an id
        self._worker = Worker("machine ports", self._step, on_change=on_change)
        cache.changed.add(self._endpoints_changed)
        cache.updated.add(self._specs_updated)
        cache.reread.add(self._worker.wake)
        ovsdb_changed.add(self._ovsdb_changed)

    def workers(self) -> Sequence[Worker]:
        """Return the reconciling worker."""
        return (self._worker,)

    def problems(self) -> list[str]:
        """Return a line for each port that has no endpoint."""
        return [f"port {name} of a machine: {reason}" for name, reason in sorted(self._reasons.copy().items())]

    # ---- events ---------------------------------------------------------------------------------------------------

    def _endpoints_changed(self, ids: Iterable[str]) -> None:
        local = self._cache.view.local_endpoints
        if any(i in self._followed or ((e := local.get(i)) is not None and e.iface_id is not None) for i in ids):
            self._worker.wake()

    def _specs_updated(self, before: Snapshot, after: Snapshot, changes: Iterable[Decoded]) -> None:
        if any(change.kind == "adoption" or (change.kind == "network" and self._reasons) for change in changes):
            self._worker.wake()

    def _ovsdb_changed(self, what: set[str]) -> None:
        if what & {"bridge", "connection"}:
            self._worker.wake()

    # ---- the worker -----------------------------------------------------------------------------------------------

    def _step(self, items: frozenset[str]) -> float | None:
        if not (self._cache.synced.is_set() and self._ovsdb.connected):
            return None
        view, ports = self._cache.view, self._ovsdb.hypervisor_ports()
        if not (ports or self._followed or self._reasons) and not items:
            return None
        local = [e for e in view.local_endpoints.values() if e.iface_id is not None]
        self._followed = frozenset(e.id for e in local)
        try:
            on_bridge = self._ovsdb.on_bridge(self._bridge, ports) if ports else {}
        except WarrenError:
            return RETRY_S
        reasons = self._reconcile(view, {name: row for name, row in ports.items() if name in on_bridge}, local)
        self._wake([e.id for e in local if e.active and hypervisor.differences(e, ports)])
        if reasons != self._reasons:
            self._reasons = reasons
            self._on_change()
        return RETRY_S if reasons else None

    def _reconcile(self, view: CacheView, ports: Mapping[str, ObservedPort], local: Iterable[Endpoint]) -> dict[str, str]:
        """Make the endpoints that rules want; return why ports have none."""
        adopted = {e.iface_id: e for e in local if ADOPTED_BY in e.labels}
        declared = {e.iface_id: e for e in local if ADOPTED_BY not in e.labels}
        reasons: dict[str, str] = {}
        ids = {row.iface_id for row in ports.values()}
        for iface_id, endpoint in adopted.items():
            if iface_id not in ids or iface_id in declared:
                self._attempt(reasons, str(endpoint.device), self._records.remove, endpoint)
        for name, row in sorted(ports.items()):
            if row.iface_id not in declared:
                self._attempt(reasons, name, self._adopt, view, ports, row, adopted.get(row.iface_id))
            if name not in reasons and self._leaves_checksums(name):
                reasons[name] = devices.HEADERS
        return reasons

    @staticmethod
    def _attempt(reasons: dict[str, str], name: str, act: Callable[..., None], *arguments: object) -> None:
        try:
            act(*arguments)
        except WarrenError as error:
            reasons[name] = str(error)

    def _adopt(self, view: CacheView, ports: Mapping[str, ObservedPort], row: ObservedPort, endpoint: Endpoint | None) -> None:
        """Make the endpoint of a port as its rule says. Raises `WarrenError`, also after an endpoint that is no longer right has been removed."""
        assert row.iface_id is not None
        rule = rule_for(self._records.host, row.name, view.snapshot.adoptions.values(), row.iface_id)
        try:
            if rule is None:
                raise Conflict(UNCLAIMED.format(id=row.iface_id))
            network_id = require_network(rule, view.snapshot)
            port = hypervisor.port_of(row.iface_id, ports.values())
            if port.mac is None:
                raise Invalid(f"external_ids:{MAC_KEY}", MISSING, "the MAC of the machine")
        except WarrenError:
            if endpoint is not None:
                self._records.remove(endpoint)
            raise
        draft = draft_of(rule, network_id, port.mac, row.iface_id) | {"device": row.name}
        if endpoint is not None and not as_drafted(endpoint, draft):
            self._records.remove(endpoint)
            endpoint = None
        if endpoint is None:
            self._records.create(row.name, draft)

    def _leaves_checksums(self, name: str) -> bool:
        device = devices.read(name)
        return device is not None and device.headers and self._userspace()
