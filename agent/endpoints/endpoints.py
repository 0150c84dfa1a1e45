"""Endpoints of this host: attach, detach, and keeping the host as the records say after restarts and foreign changes.

An attach is: record (one etcd transaction) -> veth -> OVS port -> the controller says that it is up. Whatever fails, what was
done is undone. A crash in between leaves a record, and `settle` completes it: it looks at records and at the host only,
never at how they came about.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from agent.api.sand import EndpointCreate
from agent.cache import Known
from agent.endpoints.preallocated import Spares
from agent.linux import veth as plug
from intent.views import endpoint_mtu
from ovsdb.client import Ovsdb
from specs.model.derived import veth_name
from specs.model.records import Endpoint, Network, decode, now
from specs.ports import rides
from specs.store import keys
from specs.store.repository import Specs
from warren.errors import Conflict, Invalid, NotFound, Unavailable, WarrenError

log = logging.getLogger("warren.endpoints")

_FIELDS = {"network_id", "id", "name", "labels", "ipv4_address", "ipv6_address", "mac_address", "ofport", "acls", "publish",
           "port", "coprocessor", "parent", "vlan"}  # fmt: skip
BOARDING_S = 5.0  # how long to wait for an interface that may well come later


class Endpoints:
    """The endpoints of one host. Thread-safe."""

    def __init__(self, host: str, bridge: str, specs: Specs, ovsdb: Ovsdb, known: Known, attach_timeout_s: float) -> None:
        self.host, self.known = host, known
        self._bridge, self._specs, self._ovsdb = bridge, specs, ovsdb
        self._attach_timeout_s = attach_timeout_s
        self.orphaned: dict[str, str] = {}  # endpoint id -> network id: records of failed attaches that etcd still may have
        self._plugged: dict[str, Endpoint] = {}  # as this process has plugged or adopted them
        self._busy: set[str] = set()
        self._busy_changed = threading.Condition()
        self.spares = Spares(known, self.spare, self.detach)
        self.leaving: Callable[[Endpoint], contextlib.AbstractContextManager[None]] = lambda endpoint: contextlib.nullcontext()
        self.released: Callable[[str], None] = lambda endpoint_id: None  # an operation on this endpoint has ended badly

    # ---- attach and detach ----------------------------------------------------------------------------------------

    def attach(self, request: EndpointCreate) -> tuple[Endpoint, Network]:
        """Create and plug in; returns when packets can flow. Raises `WarrenError`, and then nothing is left."""
        draft = request.model_dump(mode="json", include=_FIELDS)
        draft |= {"host": self.host, "netns": request.netns, "active": request.activate, "id": request.id or str(uuid.uuid4())}
        if request.port is not None or request.parent is not None:
            return self._board(draft | {"name": request.name or (f"{self.host}.{request.port}" if request.port else None)})
        if not request.activate:
            draft["interface"] = request.interface
            return self._create(draft)[:2]
        if request.netns is None:
            expected = "the path of a network namespace, such as /run/netns/web-1"
            raise Invalid("activate_params.ns_handle_path", "nothing", expected)
        self._offload_off()  # the bridge must be there
        params = request.activate_params
        set_addr, move = (params.set_addr, params.move_veth) if params else (True, True)
        began = time.monotonic()
        spare = self.spares.take(request) if move else None
        if spare is not None:
            draft["id"] = spare.id
        with self._only(draft["id"]), contextlib.ExitStack() as stack:
            if spare is not None:
                stack.callback(self.spares.settled, spare.id)
            if move:
                draft["interface"] = stack.enter_context(plug.reserve(request.netns, request.interface))
            else:
                draft |= {"netns": None, "interface": request.interface or plug.peer_name(draft["id"])}
            endpoint, network, revision = self._create(draft) if spare is None else self._use(spare, draft)
            created = time.monotonic()
            try:
                if spare is not None:
                    plug.move(plug.peer_name(spare.id), request.netns, draft["interface"])
                self._plug(endpoint, network, set_addr)
                stack.close()  # the name is taken for good
                plugged = time.monotonic()
                if spare is None or (endpoint.acls, endpoint.publish, endpoint.labels) != (
                    spare.acls,
                    spare.publish,
                    spare.labels,
                ):
                    self._await(endpoint, revision)
            except BaseException:
                self._undo(endpoint)
                raise
        ended = time.monotonic()
        log.info(
            "endpoint.attached id=%s network=%s ms=%.1f record_ms=%.1f plug_ms=%.1f up_ms=%.1f",
            endpoint.id, network.name, *(s * 1000 for s in (ended - began, created - began, plugged - created, ended - plugged)),
        )  # fmt: skip
        return endpoint, network

    def _use(self, spare: Endpoint, draft: dict[str, Any]) -> tuple[Endpoint, Network, int]:
        """A preallocated endpoint becomes what the draft says."""
        changed = {name: value for name, value in draft.items() if name not in ("id", "host", "network_id") and value is not None}
        endpoint = decode(Endpoint, {**spare.data(), "spare": False, "created_at": now(), **changed}, "endpoint")
        revision = self._specs.update_endpoint(endpoint)
        self.known.wrote(keys.endpoint(endpoint.network_id, endpoint.id), endpoint.encode(), revision)
        return endpoint, self.known.snapshot.networks[endpoint.network_id], revision

    def spare(self, network_id: str) -> None:
        """Make a preallocated endpoint, ready for `attach`. Raises `WarrenError`, and then nothing is left."""
        self._offload_off()
        endpoint_id = str(uuid.uuid4())
        draft = {
            "id": endpoint_id,
            "network_id": network_id,
            "host": self.host,
            "spare": True,
            "interface": plug.peer_name(endpoint_id),
        }
        with self._only(endpoint_id):
            endpoint, network, revision = self._create(draft)
            try:
                self._plug(endpoint, network, set_addr=False)
                self._await(endpoint, revision)
            except BaseException:
                self._undo(endpoint)
                raise

    def _board(self, draft: dict[str, Any]) -> tuple[Endpoint, Network]:
        """An endpoint behind an interface, or on another one's port (specs/ports.py). What it needs may come later: no reason
        to refuse it. Raises `WarrenError`, and then nothing is left."""
        with self._only(draft["id"]):
            endpoint, network, revision = self._create(draft)
        state = self.known.states.wait(endpoint.id, revision, BOARDING_S)
        if state is not None and state.state == "closed":
            self._delete(network.id, endpoint.id)
            raise Conflict(f"endpoint {endpoint.name or endpoint.id} is closed: {state.reason}")
        log.info("endpoint.boarded id=%s network=%s state=%s", endpoint.id, network.name, state.state if state else "waiting")
        return endpoint, network

    def occupy(self, endpoint: Endpoint, wait: bool = True) -> None:
        """Plug in an inactive endpoint of this host, for an engine that moves the far end itself; `endpoint` is how its record
        shall be. Returns when packets can flow (at once without `wait`). Raises `WarrenError`, and then it is inactive again."""
        self._offload_off()
        began = time.monotonic()
        network = self.known.snapshot.networks.get(endpoint.network_id) or self._specs.network(endpoint.network_id)
        with self._only(endpoint.id):
            revision = self._specs.update_endpoint(endpoint)
            self.known.wrote(keys.endpoint(network.id, endpoint.id), endpoint.encode(), revision)
            written = time.monotonic()
            try:
                self._plug(endpoint, network, set_addr=False)
                plugged = time.monotonic()
                if wait:
                    self._await(endpoint, revision)
            except BaseException:
                self._plugged.pop(endpoint.id, None)
                with contextlib.suppress(WarrenError):
                    self._remove(endpoint.veth)
                    idle = endpoint.model_copy(update={"active": False})
                    revision = self._specs.update_endpoint(idle)
                    self.known.wrote(keys.endpoint(network.id, idle.id), idle.encode(), revision)
                raise
        ended = time.monotonic()
        log.info(
            "endpoint.occupied id=%s network=%s ms=%.1f record_ms=%.1f plug_ms=%.1f up_ms=%.1f",
            endpoint.id, network.name, *(s * 1000 for s in (ended - began, written - began, plugged - written, ended - plugged)),
        )  # fmt: skip

    def detach(self, endpoint: Endpoint) -> None:
        """Forget and unplug. Raises `Invalid` for another host's, `Unavailable`: then the endpoint is as before."""
        if endpoint.host != self.host:
            raise Invalid("endpoint", endpoint.id, f"an endpoint of this host ({self.host}); it is on {endpoint.host}")
        with self._only(endpoint.id), self.leaving(endpoint):
            self._ovsdb.del_port(endpoint.veth)  # before the record goes: its number may be given out again at once
            try:
                self._delete(endpoint.network_id, endpoint.id)
            except WarrenError:
                self._plugged.pop(endpoint.id, None)
                self.released(endpoint.id)
                raise
            plug.unplug(endpoint.veth)
            self._plugged.pop(endpoint.id, None)
        log.info("endpoint.detached id=%s", endpoint.id)

    def _create(self, draft: dict[str, Any]) -> tuple[Endpoint, Network, int]:
        try:
            endpoint, network, revision = self._specs.create_endpoint(draft)
        except Unavailable:
            self.orphaned[draft["id"]] = draft["network_id"]  # the transaction may have come through
            raise
        self.known.wrote(keys.endpoint(network.id, endpoint.id), endpoint.encode(), revision)
        return endpoint, network, revision

    def _delete(self, network_id: str, endpoint_id: str) -> None:
        with contextlib.suppress(NotFound):
            revision = self._specs.delete_endpoint(network_id, endpoint_id)
            self.known.wrote(keys.endpoint(network_id, endpoint_id), None, revision)

    def _plug(self, endpoint: Endpoint, network: Network, set_addr: bool = True) -> str:
        set_addr = set_addr and not network.answers  # the container's own client gets it
        addresses = []
        for address, network_range in ((endpoint.ipv4_address, network.ip_range), (endpoint.ipv6_address, network.ipv6_range)):
            if set_addr and address is not None and network_range is not None:
                addresses.append(f"{address}/{network_range.prefixlen}")
        name = plug.plug(
            veth=endpoint.veth,
            netns=endpoint.netns,
            interface=endpoint.interface,
            mac=endpoint.mac_address,
            addresses=addresses,
            mtu=endpoint_mtu(list(self.known.snapshot.hosts.values()), network),
            offload_off=self._offload_off(),
            asks=network.answers and endpoint.ipv6_address is not None,
            gateways=[
                str(g.ip)
                for g in (network.gateway, network.ipv6_gateway)
                if g is not None and set_addr and network.mode != "flat"
            ],
        )
        self._ovsdb.add_port(self._bridge, endpoint.veth, endpoint.ofport, endpoint.id)
        self._plugged[endpoint.id] = endpoint
        return name

    def _offload_off(self) -> bool:
        """The userspace datapath does not finish checksums that a veth left to hardware: TCP would die, ping work."""
        bridge = self._ovsdb.observed().bridge(self._bridge)
        if bridge is None or not self._ovsdb.connected:
            what = f"bridge {self._bridge} does not exist" if self._ovsdb.connected else "ovsdb-server does not answer"
            raise Unavailable(f"Open vSwitch on {self.host}", f"{what}{self._controller_away()}")
        return bridge.datapath_type == "netdev"

    def _await(self, endpoint: Endpoint, revision: int) -> None:
        state = self.known.states.wait(endpoint.id, revision, self._attach_timeout_s)
        if state is None:
            if self.known.states.stopped:
                raise Unavailable(f"the agent of {self.host}", "it is ending; the endpoint was taken back")
            reason = self._controller_away() or f"; it has not programmed the endpoint within {self._attach_timeout_s:g} s"
            raise Unavailable(f"the controller of {self.host}", reason.removeprefix("; "))
        if state.state == "closed":
            raise Conflict(f"endpoint {endpoint.name or endpoint.id} is closed: {state.reason}")

    def _controller_away(self) -> str:
        """What to add to an error when it is the controller that is missing."""
        try:
            entry = self._specs.store.get(keys.status_controller(self.host))
            status = json.loads(entry.value) if entry else None
        except (WarrenError, ValueError) as error:
            return f"; {error}"
        if status is None:
            return f"; the controller of {self.host} does not run"
        return "" if status.get("connected") else f"; the controller of {self.host} has no connection to the switch"

    def _undo(self, endpoint: Endpoint) -> None:
        """Take everything back; what cannot be done now is done by the settling thread."""
        self._plugged.pop(endpoint.id, None)
        self.orphaned[endpoint.id] = endpoint.network_id
        try:
            self._remove(endpoint.veth)
            self._delete(endpoint.network_id, endpoint.id)
            self.orphaned.pop(endpoint.id, None)
        except WarrenError as error:
            log.info("endpoint.undo_waits id=%s reason=%s", endpoint.id, error)
            self.released(endpoint.id)

    # ---- settling -------------------------------------------------------------------------------------------------

    def settle(self, endpoint_id: str) -> str | None:
        """Make this host as the record of one endpoint says; returns why that cannot be done now, or None."""
        with self._only(endpoint_id, wait=False) as free:
            if not free:
                return None  # whoever is at it leaves it settled, or says so by `released`
            try:
                if endpoint_id in self.orphaned:
                    self._remove(veth_name(endpoint_id))
                    self._delete(self.orphaned[endpoint_id], endpoint_id)
                    self.orphaned.pop(endpoint_id, None)
                    return None
                record = self.known.mine.get(endpoint_id)
                if record is None or not record.active:
                    self._plugged.pop(endpoint_id, None)
                    self._remove(veth_name(endpoint_id))
                    return None
                return self._keep(record)
            except WarrenError as error:
                self._close(veth_name(endpoint_id))
                return str(error)
            except Exception as error:  # one bad endpoint must not end the thread that settles all
                log.exception("endpoint.settle_failed id=%s", endpoint_id)
                return f"internal error: {error}"

    def _keep(self, record: Endpoint) -> str | None:
        """Adopt, complete or plug in anew. An endpoint without a namespace is plugged in by somebody else."""
        if record.port is not None:
            plug.up(record.port)
        if rides(record):
            return None
        before = self._plugged.get(record.id)
        if before == record and self._ovsdb.ofport(record.veth) is not None:
            return None
        if before is not None and _cable(before) != _cable(record):
            self._plugged.pop(record.id, None)
            self._remove(record.veth)
        network = self.known.snapshot.networks.get(record.network_id)
        if network is None:
            return f"network {record.network_id} does not exist"
        if record.spare:
            self._plug(record, network, set_addr=False)
            return None
        if record.netns is None:
            if plug.exists(record.veth):
                self._ovsdb.add_port(self._bridge, record.veth, record.ofport, record.id)
            return None
        name = self._plug(record, network)
        if record.interface not in (None, name):  # the record changed while no agent ran
            self._remove(record.veth)
            name = self._plug(record, network)
        if record.interface is None:
            record = record.model_copy(update={"interface": name})
            revision = self._specs.update_endpoint(record)
            self.known.wrote(keys.endpoint(record.network_id, record.id), record.encode(), revision)
            self._plugged[record.id] = record
        log.info("endpoint.settled id=%s netns=%s", record.id, record.netns)
        return None

    def sweep(self) -> set[str]:
        """Remove what is Warren's on this host and belongs to no record; returns the ids of all records to settle.
        Only after the first full read of the store."""
        assert self.known.read.is_set()
        ports = {port.name: endpoint_id for endpoint_id, port in self._ovsdb.endpoint_ports().items()}
        veths = set(plug.veths())
        wanted = {e.veth for e in list(self.known.mine.values()) if e.active}  # read last: attaches go on meanwhile
        for veth in sorted((veths | set(ports)) - wanted):
            log.info("endpoint.swept veth=%s endpoint=%s", veth, ports.get(veth, ""))
            try:
                self._remove(veth)
            except WarrenError as error:
                log.warning("endpoint.sweep_failed veth=%s reason=%s", veth, error)
        return set(self.known.mine) | set(self.orphaned)

    def _close(self, veth: str) -> None:
        """A port whose interface is gone leaves the bridge: so the endpoint is seen to be closed."""
        if not plug.exists(veth):
            with contextlib.suppress(WarrenError):
                self._ovsdb.del_port(veth)

    def _remove(self, veth: str) -> None:
        self._ovsdb.del_port(veth)
        plug.unplug(veth)

    def vanished(self, veth: str) -> set[str]:
        """The endpoint whose veth has gone, if this process has plugged it in."""
        gone = {e.id for e in list(self._plugged.values()) if e.veth == veth}
        for endpoint_id in gone:
            self._plugged.pop(endpoint_id, None)
        return gone

    # ---- one at a time --------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _only(self, endpoint_id: str, wait: bool = True) -> Iterator[bool]:
        """Work on one endpoint alone. Without `wait` it gives False when somebody else is at it."""
        with self._busy_changed:
            while wait and endpoint_id in self._busy:
                self._busy_changed.wait()
            free = endpoint_id not in self._busy
            self._busy.add(endpoint_id)
        if not free:
            yield False
            return
        try:
            yield True
        finally:
            with self._busy_changed:
                self._busy.discard(endpoint_id)
                self._busy_changed.notify_all()


def _cable(endpoint: Endpoint) -> tuple[object, ...]:
    """What the veth was made from: when it changes, the veth is made anew."""
    ipv4 = (
        endpoint.ipv4_address if endpoint.leased_prefix is None else None
    )  # a leased one comes and goes (agent/dhcp_client/clients.py)
    return endpoint.netns, endpoint.interface, endpoint.mac_address, ipv4, endpoint.ipv6_address
