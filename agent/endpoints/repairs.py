"""Makes this host match the records of its endpoints: after restarts, after changes of the specs, and after damage by
others."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable

from agent.cache import Cache
from agent.endpoints import hypervisor
from agent.endpoints.plugging import Plugging, veth_spec
from agent.exclusive import Exclusive
from agent.linux import machines, names, veth
from ovsdb.client import Ovsdb
from specs.model.derived import veth_name
from specs.model.endpoint import Endpoint
from specs.model.network import Network
from specs.ports import is_subport
from specs.store.repository import Repository
from warren.errors import NotFound, WarrenError

log = logging.getLogger("warren.endpoints")


class Repairs:
    """Compares endpoints with this host, and repairs differences. Has no schedule (that is agent/endpoints/reconciler.py). `orphaned`
    maps endpoint ids of failed attaches, whose record etcd may still hold, to their networks."""

    def __init__(
        self,
        *,
        repository: Repository,
        ovsdb: Ovsdb,
        cache: Cache,
        plugging: Plugging,
        exclusive: Exclusive,
        orphaned: dict[str, str],
    ) -> None:
        self.orphaned = orphaned
        self._repository, self._ovsdb, self._cache, self._plugging = repository, ovsdb, cache, plugging
        self._exclusive = exclusive

    # ---- comparing ------------------------------------------------------------------------------------------------

    def differences(self, endpoint_id: str) -> list[str]:
        """Read an endpoint's port and interfaces, and return how they differ from its record; empty while another thread
        changes it."""
        record = self._cache.view.local_endpoints.get(endpoint_id)
        if record is None or not record.active or is_subport(record) or _awaits_engine(record):
            return []
        network = self._cache.view.snapshot.networks.get(record.network_id)
        if network is None:
            return []  # the controller reports a record without a network
        if self._exclusive.held(endpoint_id):
            return []
        try:
            lines = self._plugging.differences(record, network)
        except WarrenError as error:
            lines = [str(error)]
        return lines if not self._exclusive.held(endpoint_id) else []

    def with_other_rows(self, endpoint_ids: Iterable[str]) -> set[str]:
        """Return the endpoints among these whose port in OVSDB is no longer as this process made it."""
        plugged = self._plugging.plugged
        records = [plugged_in.record for i in endpoint_ids if (plugged_in := plugged.get(i)) is not None]
        return {record.id for record in records if self._plugging.row_differences(record)}

    def with_veth(self, name: str) -> set[str]:
        """Return the ids of the endpoints that this process plugged in with a veth of that name (at most one)."""
        return {plugged_in.record.id for plugged_in in list(self._plugging.plugged.values()) if plugged_in.record.veth == name}

    def strays(self) -> dict[str, str]:
        """Return the names of Warren's veth pairs and ports on this host that belong to no record, with the endpoint's id if
        it is known. An attach makes the pair while etcd writes the record, so endpoints that a thread works on are left out. Must
        not run before the first full read of the store."""
        assert self._cache.synced.is_set()
        ports = {port.name: endpoint_id for endpoint_id, port in self._ovsdb.endpoint_ports().items()}
        veths = set(names.veths())
        busy = {
            veth_name(endpoint_id) for endpoint_id in self._exclusive.all_held()
        }  # read before the records: a finished attach has one
        local = self._cache.view.local_endpoints  # read last, because attaches continue meanwhile
        recorded = {endpoint.veth for endpoint in local.values() if endpoint.active or endpoint.id in self._plugging.ahead}
        return {name: ports.get(name, "") for name in sorted((veths | set(ports)) - busy - recorded)}

    # ---- repairing ------------------------------------------------------------------------------------------------

    def sweep(self) -> set[str]:
        """Remove strays; return the ids of all endpoints to reconcile."""
        for name, endpoint_id in self.strays().items():
            log.info("endpoint.swept veth=%s endpoint=%s", name, endpoint_id)
            try:
                self._plugging.unplug(name, endpoint_id or None)
            except WarrenError as error:
                log.warning("endpoint.sweep_failed veth=%s reason=%s", name, error)
        return set(self._cache.view.local_endpoints) | set(self.orphaned)

    def reconcile(self, endpoint_id: str, repair: bool = False) -> str | None:
        """Make this host match the record of one endpoint; return the reason if that is not possible now, otherwise None.
        Without `repair` an endpoint that this process plugged in from the same record is not read again."""
        with self._exclusive.hold(endpoint_id, wait=False) as free:
            if not free:
                return None  # the thread that holds this endpoint makes it match its record, or calls `failed`
            try:
                return self._reconcile(endpoint_id, repair)
            except WarrenError as error:
                self._close(endpoint_id, self._interface(endpoint_id))
                return str(error)
            except Exception as error:  # one bad endpoint must not keep the others from being reconciled
                log.exception("endpoint.reconcile_failed id=%s", endpoint_id)
                return f"internal error: {type(error).__name__}"

    def _reconcile(self, endpoint_id: str, repair: bool) -> str | None:
        if endpoint_id in self.orphaned:
            self._plugging.unplug(veth_name(endpoint_id))
            with contextlib.suppress(NotFound):
                self._repository.delete_endpoint(self.orphaned[endpoint_id], endpoint_id)
            self.orphaned.pop(endpoint_id, None)
            return None
        record = self._cache.view.local_endpoints.get(endpoint_id)
        if record is not None and not record.active and endpoint_id in self._plugging.ahead:
            return None
        if record is None or not record.active:
            self._plugging.ahead.pop(endpoint_id, None)
            name = self._interface(endpoint_id)
            self._plugging.plugged.pop(endpoint_id, None)
            self._plugging.unplug(name, endpoint_id)
            return None
        if record.port is not None:
            veth.up(record.port)
        if is_subport(record):
            return None
        network = self._cache.view.snapshot.networks.get(record.network_id)
        if network is None:
            return f"network {record.network_id} does not exist"
        if repair or not self._unchanged(record, network):
            record = self._at_its_port(self._in_its_machine(record), network)
            self._plug_as_recorded(record, network)
        return None

    def _in_its_machine(self, record: Endpoint) -> Endpoint:
        """Return the record with the namespace in which its machine runs now. Raises `WarrenError`."""
        netns = machines.namespace_of_machine(record.machine) if record.machine is not None else record.netns
        if netns != record.netns:
            record = record.model_copy(update={"netns": netns})
            self._repository.update_endpoint(record)
        return record

    def _at_its_port(self, record: Endpoint, network: Network) -> Endpoint:
        """Return the record with the interface that a hypervisor has put on the bridge for it, and the MAC of the machine behind that. Raises
        `WarrenError` after an interface that it no longer has is given back."""
        if record.iface_id is None:
            return record
        try:
            view = self._cache.view
            hypervisor.require_first(record, view.local_endpoints.values(), view.snapshot.born)
            current = hypervisor.at_port(record, network, self._plugging.machine_port(record.iface_id))
        except WarrenError:
            self._leave_port(record)
            raise
        if record.device is not None and (current.device, current.mac_address) != (record.device, record.mac_address):
            self._leave_port(record)
        if current != record:
            self._repository.update_endpoint(current)
        return current

    def _leave_port(self, record: Endpoint) -> None:
        if record.device is not None:
            self._plugging.plugged.pop(record.id, None)
            self._plugging.unplug(record.device, record.id)
            self._repository.update_endpoint(record.model_copy(update={"device": None}))

    def _unchanged(self, record: Endpoint, network: Network) -> bool:
        """Return whether the endpoint is plugged in as its record says; unplug a veth pair that was made from other values."""
        before = self._plugging.plugged.get(record.id)
        if before is None:
            return False
        if before.record == record and before.desired == self._plugging.desired(record, network):
            return not self._plugging.row_differences(record)
        if veth_spec(before.record) != veth_spec(record):
            self._plugging.plugged.pop(record.id, None)
            self._plugging.unplug(before.record.veth, record.id)
        return False

    def _plug_as_recorded(self, record: Endpoint, network: Network) -> None:
        """Plug the endpoint in, or complete and repair what exists."""
        if _awaits_engine(record):
            return
        if record.netns is None and not record.spare and record.device is None:
            self._plugging.complete_moved(record, network)
            return
        name = self._plugging.plug(record, network)
        if record.interface is None and record.device is None:
            self._repository.update_endpoint(record.model_copy(update={"interface": name}))
        log.info("endpoint.reconciled id=%s netns=%s", record.id, record.netns)

    def _interface(self, endpoint_id: str) -> str:
        """Return the name of the interface that an endpoint has, or had."""
        plugged_in, record = self._plugging.plugged.get(endpoint_id), self._cache.view.local_endpoints.get(endpoint_id)
        record = plugged_in.record if plugged_in is not None else record
        return record.veth if record is not None else veth_name(endpoint_id)

    def _close(self, endpoint_id: str, name: str) -> None:
        """Remove the port of a veth that no longer exists, so that the controller reports the endpoint as closed."""
        if not veth.exists(name):
            with contextlib.suppress(WarrenError):
                self._ovsdb.del_port(name, endpoint_id)


def _awaits_engine(record: Endpoint) -> bool:
    """Return whether an endpoint is declared and nothing has plugged it in yet: it has neither namespace nor interface."""
    placed = (record.netns, record.interface, record.device, record.iface_id)
    return placed == (None,) * 4 and not veth.exists(record.veth)
