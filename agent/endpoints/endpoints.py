"""Attaches and detaches endpoints of this host.

An attach is a saga of three steps: record (one etcd transaction, during which another thread begins to make the veth pair), plug
(the pair and the OVS port), up (wait until the controller reports the endpoint up). When a step fails, the saga undoes the steps
before it. After a crash the reconciler completes a record without interface, and removes a veth pair without record.
"""

from __future__ import annotations

import contextlib
import json
import logging
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from agent.cache import Cache
from agent.endpoints.kept_namespaces import KeptNamespaces
from agent.endpoints.namespace_ranges import NamespaceRanges
from agent.endpoints.plugging import Plugging
from agent.endpoints.preallocated import PreallocatedPool
from agent.endpoints.request import EndpointCreate
from agent.endpoints.saga import Saga, SagaStep
from agent.exclusive import Exclusive
from agent.linux import machines, names, netns, veth
from agent.linux.netns import EXPECTED
from agent.listeners import Listeners
from ovsdb.client import Ovsdb
from specs import keys
from specs.model.base import decode, now
from specs.model.endpoint import MACHINE_INTERFACE, Endpoint
from specs.model.network import Network
from specs.store.endpoints import Planned
from specs.store.repository import Repository
from warren.errors import MISSING, Conflict, Invalid, NotFound, Unavailable, WarrenError

log = logging.getLogger("warren.endpoints")

_FIELDS = {"network_id", "id", "name", "labels", "ipv4_address", "ipv6_address", "mac_address", "ofport", "acls", "publish", "allowed", "aliases",
           "port", "coprocessor", "parent", "vlan", "machine", "keep_netns", "device", "iface_id"}  # fmt: skip
INTERFACE_WAIT_S = 5.0  # how long an attach behind an interface waits for that interface, which may appear later
Leaving = Callable[[Endpoint], contextlib.AbstractContextManager[None]]


class _Attach:
    """The values that the steps of one attach pass to each other."""

    endpoint: Endpoint
    network: Network
    revision: int
    begun: veth.Plug | None = None  # while the record is written


class Endpoints:
    """The endpoints of one host. Thread-safe. `failed` is called with the id of an endpoint whose operation ended half done."""

    def __init__(
        self,
        host: str,
        *,
        repository: Repository,
        ovsdb: Ovsdb,
        cache: Cache,
        plugging: Plugging,
        preallocated: PreallocatedPool,
        kept: KeptNamespaces,
        leaving: Sequence[Leaving],
        exclusive: Exclusive,
        attach_timeout_s: float,
    ) -> None:
        self.host, self.cache, self.preallocated, self.namespaces = host, cache, preallocated, NamespaceRanges(cache)
        self._repository, self._ovsdb, self._plugging, self._leaving = repository, ovsdb, plugging, leaving
        self._attach_timeout_s, self._kept = attach_timeout_s, kept
        self.orphaned: dict[str, str] = {}  # endpoint id -> network id, for failed attaches whose record etcd may still hold
        self.failed: Listeners[[str]] = Listeners()
        self._exclusive = exclusive  # one operation at a time on an endpoint

    # ---- attach ---------------------------------------------------------------------------------------------------

    def attach(self, request: EndpointCreate) -> tuple[Endpoint, Network]:
        """Create and plug in an endpoint; return when packets can flow. Raises `WarrenError` after everything has been
        undone."""
        if not request.activate:
            return self._attach(request)
        request = _in_namespace(request)
        with self._kept.making(request.netns) if request.keep_netns else contextlib.nullcontext():
            return self._attach(request)

    def _attach(self, request: EndpointCreate) -> tuple[Endpoint, Network]:
        draft = request.model_dump(mode="json", include=_FIELDS)
        draft |= {"host": self.host, "netns": request.netns, "active": request.activate, "id": request.id or str(uuid.uuid4())}
        if (made := self._attach_without_plugging(request, draft)) is not None:
            return made
        if request.device is not None:
            self._require_bridge()
            with self._exclusive.hold(draft["id"]):
                attach, saga = self._attach_new(draft | {"interface": request.interface}, contextlib.ExitStack())
            log.info("endpoint.attached id=%s device=%s %s", attach.endpoint.id, request.device, saga.timings())
            return attach.endpoint, attach.network
        if request.netns is None:
            raise Invalid("activate_params.ns_handle_path", MISSING, f"say {EXPECTED}")
        with netns.opened(request.netns):  # refuses any other file
            self._require_bridge()
        draft["set_addresses"], move = request.set_addresses, request.move_interface
        ready = self.preallocated.take(request) if move else None
        if ready is not None:
            draft["id"] = ready.id
        with self._exclusive.hold(draft["id"]), contextlib.ExitStack() as reserved:
            if ready is not None:
                reserved.callback(self.preallocated.release, ready.id)
            if draft["set_addresses"] and move:
                reserved.enter_context(self.namespaces.checked(request.netns, request.network_id))
            if move:
                draft["interface"] = reserved.enter_context(names.reserve(request.netns, request.interface))
            else:
                draft |= {"netns": None, "interface": request.interface or names.peer_name(draft["id"])}
            if ready is None:
                attach, saga = self._attach_new(draft, reserved)
            else:
                attach, saga = self._attach_preallocated(ready, draft, request.netns, reserved)
        log.info("endpoint.attached id=%s network=%s %s", attach.endpoint.id, attach.network.name, saga.timings())
        return attach.endpoint, attach.network

    def _attach_without_plugging(self, request: EndpointCreate, draft: dict[str, Any]) -> tuple[Endpoint, Network] | None:
        """Create an endpoint whose interface is there already, is to come, or is not wanted yet; None for another one."""
        if request.port is not None or request.parent is not None:
            name = request.name or (f"{self.host}.{request.port}" if request.port else None)
            return self._attach_to_port(draft | {"name": name})
        if not request.activate:
            return self._create(draft | {"interface": request.interface})[:2]
        return self._attach_to_machine(draft) if request.iface_id is not None else None

    def _attach_new(self, draft: dict[str, Any], reserved: contextlib.ExitStack) -> tuple[_Attach, Saga]:
        attach = _Attach()

        def begin(endpoint: Endpoint, network: Network) -> None:
            if attach.begun is None and endpoint.device is None and not endpoint.keep_netns:
                attach.begun = self._plugging.begin(endpoint, network)

        def record() -> None:
            try:
                attach.endpoint, attach.network, attach.revision = self._create(draft, begin)
            except WarrenError:
                if attach.begun is not None:
                    with contextlib.suppress(WarrenError):  # the reconciler sweeps remains
                        self._plugging.drop(attach.begun)
                raise

        def plug() -> None:
            self._plugging.plug(attach.endpoint, attach.network, attach.begun)
            reserved.close()  # the interface exists now, so its name needs no reservation

        return self._run(
            attach,
            SagaStep("record", record, lambda: self._forget(attach), atomic=True),
            SagaStep("plug", plug, lambda: self._unplug(attach)),
            SagaStep("up", lambda: self._wait_until_up(attach.endpoint, attach.revision)),
        )

    def _attach_preallocated(
        self, ready: Endpoint, draft: dict[str, Any], netns: str, reserved: contextlib.ExitStack
    ) -> tuple[_Attach, Saga]:
        """Change the record of a preallocated endpoint to the draft, and move its interface into the namespace."""
        attach = _Attach()

        def record() -> None:
            changed = {
                name: value for name, value in draft.items() if name not in ("id", "host", "network_id") and value is not None
            }
            endpoint = decode(Endpoint, {**ready.data(), "spare": False, "created_at": now(), **changed}, "endpoint")
            attach.revision = self._repository.update_endpoint(endpoint)
            attach.endpoint, attach.network = endpoint, self.cache.view.snapshot.networks[ready.network_id]

        def plug() -> None:
            veth.move(names.peer_name(ready.id), netns, draft["interface"])
            self._plugging.plug(attach.endpoint, attach.network)
            reserved.close()

        def wait() -> None:
            same_flows = all(
                getattr(attach.endpoint, name) == getattr(ready, name) for name in ("acls", "publish", "labels", "allowed")
            )
            if not same_flows:
                self._wait_until_up(attach.endpoint, attach.revision)

        return self._run(
            attach,
            SagaStep("record", record, lambda: self._forget(attach), atomic=True),
            SagaStep("plug", plug, lambda: self._unplug(attach)),
            SagaStep("up", wait),
        )

    def preallocate(self, network_id: str) -> None:
        """Create an endpoint that `attach` can take. Raises `WarrenError` after everything has been undone."""
        self._require_bridge()
        endpoint_id = str(uuid.uuid4())
        draft = {"id": endpoint_id, "network_id": network_id, "host": self.host, "spare": True}
        with self._exclusive.hold(endpoint_id):
            self._attach_new(draft | {"interface": names.peer_name(endpoint_id)}, contextlib.ExitStack())

    def plug_ahead(self, endpoint: Endpoint, network: Network) -> None:
        """Begin to plug in an inactive endpoint, for the `attach_inactive` that an engine asks for next. Until then its port forwards
        nothing."""
        self._await_ahead(endpoint.id)
        planned = endpoint.model_copy(update={"interface": names.peer_name(endpoint.id)})

        def work() -> None:
            with self._exclusive.hold(endpoint.id):
                self._plugging.plug(planned, network)

        self._plugging.ahead[endpoint.id] = netns.Work(work)

    def _await_ahead(self, endpoint_id: str) -> None:
        """Wait until `plug_ahead` has ended, well or not."""
        if (work := self._plugging.ahead.get(endpoint_id)) is not None:
            work.join()

    def attach_inactive(self, endpoint: Endpoint, wait: bool = True) -> None:
        """Plug in an inactive endpoint of this host, for an engine that moves the container's end of the veth pair itself;
        `endpoint` is the record to write. Returns when packets can flow, or at once without `wait`. Raises `WarrenError`
        after the endpoint has been made inactive again."""
        self._require_bridge()
        attach, network_id = _Attach(), endpoint.network_id
        attach.endpoint = endpoint
        attach.network = self.cache.view.snapshot.networks.get(network_id) or self._repository.network(network_id)

        def record() -> None:
            attach.revision = self._repository.update_endpoint(endpoint)

        def make_inactive() -> None:
            self._repository.update_endpoint(endpoint.model_copy(update={"active": False}))

        def plug() -> None:
            if not self._plugging.is_plugged(endpoint, attach.network):
                self._plugging.plug(endpoint, attach.network)

        def wait_until_up() -> None:
            if wait:
                self._wait_until_up(endpoint, attach.revision)

        self._await_ahead(endpoint.id)
        with self._exclusive.hold(endpoint.id):
            self._plugging.ahead.pop(endpoint.id, None)
            saga = Saga(abandoned=lambda error: self.failed(endpoint.id))
            saga.run((
                SagaStep("record", record, make_inactive, atomic=True),
                SagaStep("plug", plug, lambda: self._unplug(attach)),
                SagaStep("up", wait_until_up),
            ))  # fmt: skip
        log.info("endpoint.attached id=%s network=%s %s", endpoint.id, attach.network.name, saga.timings())

    def _attach_to_port(self, draft: dict[str, Any]) -> tuple[Endpoint, Network]:
        """Create an endpoint behind an interface or on another endpoint's port (specs/ports.py). The interface or port may
        appear later, so its absence is no error. Raises `WarrenError` after everything has been undone."""
        with self._exclusive.hold(draft["id"]):
            endpoint, network, revision = self._create(draft)
        state = self.cache.states.wait(endpoint.id, revision, INTERFACE_WAIT_S)
        if state is not None and state.state == "closed":
            self._delete(network.id, endpoint.id)
            raise Conflict(f"endpoint {endpoint.name or endpoint.id} is closed: {state.reason}")
        log.info("endpoint.created id=%s network=%s state=%s", endpoint.id, network.name, state.state if state else "waiting")
        return endpoint, network

    def _attach_to_machine(self, draft: dict[str, Any]) -> tuple[Endpoint, Network]:
        """Create an endpoint whose interface a hypervisor puts on the bridge, now or later; if it has, for the machine behind it. The reconciler
        plugs it in."""
        with contextlib.suppress(Unavailable):  # the machine does not run
            draft |= {"mac_address": draft["mac_address"] or self._plugging.machine_port(draft["iface_id"]).mac}
        endpoint, network, revision = self._create(draft)
        if self._runs(endpoint):
            self.cache.states.wait(endpoint.id, revision, INTERFACE_WAIT_S)
        log.info("endpoint.created id=%s network=%s iface_id=%s", endpoint.id, network.name, endpoint.iface_id)
        return endpoint, network

    def _runs(self, endpoint: Endpoint) -> bool:
        try:
            return self._plugging.machine_port(str(endpoint.iface_id)) is not None
        except WarrenError:
            return False

    def _run(self, attach: _Attach, *steps: SagaStep) -> tuple[_Attach, Saga]:
        def abandoned(error: WarrenError) -> None:
            log.info("endpoint.undo_waits id=%s reason=%s", attach.endpoint.id, error)
            self.orphaned[attach.endpoint.id] = attach.endpoint.network_id
            self.failed(attach.endpoint.id)

        saga = Saga(abandoned)
        saga.run(steps)
        return attach, saga

    def _create(self, draft: dict[str, Any], planned: Planned = lambda endpoint, network: None) -> tuple[Endpoint, Network, int]:
        try:
            return self._repository.create_endpoint(draft, planned=planned)
        except Unavailable:
            self.orphaned[draft["id"]] = draft["network_id"]  # etcd may have committed the transaction
            raise

    def _forget(self, attach: _Attach) -> None:
        """Undo the step `record`."""
        self._delete(attach.endpoint.network_id, attach.endpoint.id)
        self.orphaned.pop(attach.endpoint.id, None)

    def _unplug(self, attach: _Attach) -> None:
        self._plugging.plugged.pop(attach.endpoint.id, None)
        self._plugging.unplug(attach.endpoint.veth)

    def _delete(self, network_id: str, endpoint_id: str) -> None:
        with contextlib.suppress(NotFound):
            self._repository.delete_endpoint(network_id, endpoint_id)

    # ---- waiting for the controller -------------------------------------------------------------------------------

    def _require_bridge(self) -> None:
        """Raise `Unavailable`, with the likely cause, if no endpoint can be plugged in now."""
        self.cache.require_permission()
        try:
            self._plugging.checksum_offload_off()
        except Unavailable as error:
            raise Unavailable(error.service, f"{error.reason}{self._controller_problem()}") from None

    def _wait_until_up(self, endpoint: Endpoint, revision: int) -> None:
        state = self.cache.states.wait(endpoint.id, revision, self._attach_timeout_s)
        if state is None:
            if self.cache.states.stopped:
                raise Unavailable(f"the agent of {self.host}", "it is shutting down; the attach was undone")
            reason = self._controller_problem() or f"; it has not programmed the endpoint within {self._attach_timeout_s:g} s"
            raise Unavailable(f"the controller of {self.host}", reason.removeprefix("; "))
        if state.state == "closed":
            raise Conflict(f"endpoint {endpoint.name or endpoint.id} is closed: {state.reason}")

    def _controller_problem(self) -> str:
        """Return the text to append to an error message when the controller is the cause, otherwise ""."""
        try:
            entry = self._repository.store.get(keys.status_controller(self.host))
            status = json.loads(entry.value) if entry else None
        except (WarrenError, ValueError) as error:
            return f"; {error}"
        if status is None:
            return f"; the controller of {self.host} does not run"
        return "" if status.get("connected") else f"; the controller of {self.host} has no connection to the switch"

    # ---- detach ---------------------------------------------------------------------------------------------------

    def detach(self, endpoint: Endpoint) -> None:
        """Delete the record and unplug the endpoint. Raises `Invalid` for an endpoint of another host. Raises `Unavailable`
        when OVSDB or etcd refuses: the record remains, and the reconciler plugs the endpoint in again."""
        if endpoint.host != self.host:
            raise Invalid("endpoint", endpoint.id, f"an endpoint of this host ({self.host}); it is on {endpoint.host}")
        self._await_ahead(endpoint.id)
        with self._exclusive.hold(endpoint.id), contextlib.ExitStack() as stack:
            self._plugging.ahead.pop(endpoint.id, None)
            for leaving in self._leaving:
                stack.enter_context(leaving(endpoint))
            # the port goes before the record: another endpoint may get the port number as soon as the record is deleted
            self._ovsdb.del_port(endpoint.veth, endpoint.id)
            try:
                self._delete(endpoint.network_id, endpoint.id)
            except WarrenError:
                self._plugging.plugged.pop(endpoint.id, None)
                self.failed(endpoint.id)
                raise
            self._plugging.remove_interface(endpoint.veth, endpoint.id)
            self._plugging.plugged.pop(endpoint.id, None)
        log.info("endpoint.detached id=%s", endpoint.id)


def _in_namespace(request: EndpointCreate) -> EndpointCreate:
    """Return the request with the path of the namespace of its machine or process, and the name of the interface. Raises
    `WarrenError`."""
    path = request.netns
    if request.machine is not None:
        path = machines.namespace_of_machine(request.machine)
    elif request.pid is not None:
        path = machines.namespace_of_process(request.pid)
    elif not request.keep_netns:
        return request
    return request.model_copy(update={"ns_handle_path": path, "interface": request.interface or MACHINE_INTERFACE})
