"""Serves the CNI plugin (tools/cni/plugin.py) by POST /cni. agent/cni/messages.py has the form of calls and answers; this
module carries them out.

An attachment is an endpoint whose id is derived from the attachment's names, so nothing else is remembered: every call may
be repeated, and a DEL needs neither an ADD before it nor the namespace.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from agent import status
from agent.cni import netavark
from agent.cni.messages import CONTAINER, INTERFACE, NETWORK, CniCall, CniRequest, endpoint_id, expected, read, result
from agent.cni.netavark import NetavarkCall
from agent.cni.sweep import AttachmentSweep
from agent.core import Core
from agent.endpoints.request import ActivateParams, EndpointCreate, cidr
from agent.exclusive import Exclusive
from agent.feature import Feature
from agent.linux import inspect, netns, veth
from intent.sites import endpoint_mtu
from specs import keys
from specs.model.derived import veth_mac
from specs.model.endpoint import Endpoint
from specs.model.network import Network
from warren.errors import Conflict, Exhausted, Invalid, NotFound, Unavailable, WarrenError
from warren.worker import Worker

log = logging.getLogger("warren.cni")

# the specification's codes; those from 100 on are ours (docs/cni.md)
VERSION, UNKNOWN_CONTAINER, ENVIRONMENT, CONFIG, TRY_LATER, NOT_READY, LIMITED = 1, 3, 4, 7, 11, 50, 51
TAKEN, NONE_LEFT, NOT_AS_IT_SHOULD = 100, 101, 102
READ_S = 5.0  # how long a call waits for the agent's first read of etcd
APPLIED_S = 5.0  # and STATUS for the controller to catch up


class CniError(WarrenError):
    """An error with a CNI code of its own."""

    http_status = 409

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def code_of(error: WarrenError) -> int:
    """The CNI code of an error."""
    match error:
        case CniError():
            return error.code
        case Invalid(path="cniVersion"):
            return VERSION
        case Invalid(path=str(path)) if path.startswith("CNI_"):
            return ENVIRONMENT
        case Invalid() | NotFound():
            return CONFIG
        case Exhausted():
            return NONE_LEFT
        case Unavailable():
            return TRY_LATER
    return TAKEN


class Attachments(Feature):
    """The attachments of one host. `suspects` returns ids of endpoints with which something is wrong; `differences` compares an
    endpoint with this host. Thread-safe."""

    def __init__(self, core: Core, suspects: Callable[[], Iterable[str]], differences: Callable[[str], Sequence[str]]) -> None:
        self._core, self._differences = core, differences
        # one call for an attachment at a time: a DEL after an ADD that the runtime has given up waits for that ADD's end
        self._exclusive = Exclusive()
        self._sweep = AttachmentSweep(suspects, self.drop)
        self._commands = {"ADD": self._add, "DEL": self._del, "CHECK": self._check, "STATUS": self._status, "GC": self._gc}

    def workers(self) -> Sequence[Worker]:
        """The sweep of containers that are gone."""
        return (self._sweep.worker,)

    def router(self) -> APIRouter:
        """POST /cni."""
        router = APIRouter(tags=["Warren"])

        @router.post("/cni")
        def cni(body: CniCall) -> Any:
            """A call of a container runtime, from the CNI plugin: the answer is what the plugin prints. An error also has CNI's `code`."""
            try:
                answer = self.do(read(body))
            except WarrenError as error:
                return JSONResponse({"error": str(error), "code": code_of(error)}, error.http_status)
            return JSONResponse(answer) if answer is not None else Response()

        @router.post("/netavark")
        def call_of_netavark(body: NetavarkCall) -> Any:
            """A call of podman's netavark, from its plugin: the answer is what the plugin prints."""
            answer = self.create(body.config) if body.command == "create" else self._netavark(netavark.read(body))
            return JSONResponse(answer) if answer is not None else Response()

        return router

    def create(self, config: Any) -> dict[str, Any]:
        """Check a network that podman creates against Warren's; returns what it keeps. Raises `WarrenError`."""
        self._read()
        requested, reference, path = netavark.read_network(config)
        network = self._existing(reference, path)
        return netavark.created(config, requested, network, self._mtu(network))

    def _netavark(self, call: CniRequest) -> dict[str, Any] | None:
        answer = self.do(call)
        return netavark.status_block(answer, call.interface) if answer is not None else None

    def drop(self, key: str) -> None:
        """Detach an attachment whose container is gone. As long as the host's end of the veth exists, so does the namespace,
        whether this process can see its path or not. Raises `WarrenError`."""
        with self._exclusive.hold(key):
            endpoint = self._core.cache.view.local_endpoints.get(key)
            if endpoint is None or not self._ours(endpoint) or veth.exists(endpoint.veth):
                return
            try:
                with netns.opened(endpoint.netns or ""):
                    return
            except Invalid:
                log.info("attachment.container_gone id=%s container=%s", key, endpoint.labels[CONTAINER])
                self._core.endpoints.detach(endpoint)

    def do(self, call: CniRequest) -> dict[str, Any] | None:
        """Carry out a call; returns what the plugin prints. Raises `WarrenError`."""
        if call.command != "STATUS":
            self._read()
        return self._commands[call.command](call)

    def _add(self, call: CniRequest) -> dict[str, Any]:
        key = self._id(call)
        with self._exclusive.hold(key):
            network = self._network(call)
            call.demands.check(network, self._mtu(network))
            self._namespace(call)
            endpoint = self._core.cache.view.local_endpoints.get(key)
            if endpoint is not None and not self._serves(endpoint, network, call):
                self._core.endpoints.detach(endpoint)  # its container ended without a DEL, or is started again
                endpoint = None
            if endpoint is None:
                endpoint = self._attach(network, call)
            try:
                return self._result(endpoint, network, call)
            except WarrenError:
                self._core.endpoints.detach(endpoint)  # the namespace has vanished meanwhile
                raise

    def _del(self, call: CniRequest) -> None:
        key = self._id(call)
        with self._exclusive.hold(key):
            if (endpoint := self._core.cache.view.local_endpoints.get(key)) is not None:
                self._core.endpoints.detach(endpoint)

    def _check(self, call: CniRequest) -> None:
        endpoint = self._core.cache.view.local_endpoints.get(self._id(call))
        if endpoint is None:
            raise CniError(UNKNOWN_CONTAINER, f"{call.interface} of container {call.container} is not on network {call.name}")
        self._namespace(call)
        if differences := self._wrong(endpoint, call):
            raise CniError(NOT_AS_IT_SHOULD, f"{call.interface} of container {call.container}: {'; '.join(differences)}")

    def _gc(self, call: CniRequest) -> None:
        stay = {endpoint_id(self._core.host.name, call.name, container, interface) for container, interface in call.valid}
        failed: WarrenError | None = None
        for endpoint in self._core.cache.view.local_endpoints.values():
            labels = endpoint.labels
            if labels.get(NETWORK) != call.name or endpoint.id in stay or not self._ours(endpoint):
                continue
            log.info("attachment.collected id=%s container=%s interface=%s", endpoint.id, labels[CONTAINER], labels[INTERFACE])
            try:
                with self._exclusive.hold(endpoint.id):
                    self._core.endpoints.detach(endpoint)
            except WarrenError as error:
                failed = error  # the others are deleted all the same
        if failed is not None:
            raise failed

    def _status(self, call: CniRequest) -> None:
        """Check whether an ADD would succeed, as far as that can be known."""
        core, host = self._core, self._core.host.name
        try:
            self._read()
            self._network(call)
            entry = core.store.get(keys.status_controller(host))
        except WarrenError as error:
            raise CniError(NOT_READY, str(error)) from None
        report = status.parse_json(entry) if entry is not None else None
        if report is None:
            raise CniError(NOT_READY, f"the controller of {host} does not run")
        if not report.get("connected"):
            raise CniError(
                LIMITED, f"the controller of {host} has no connection to the switch: containers may be without network"
            )
        if not core.ovsdb.connected:
            raise CniError(NOT_READY, f"ovsdb-server of {host} does not answer")
        if status.wait(core.store, core.cache, APPLIED_S, hosts={host}):
            raise CniError(NOT_READY, f"the controller of {host} has not applied the newest specs within {APPLIED_S:g} s")

    # ---- small things -------------------------------------------------------------------------------------------------

    def _id(self, call: CniRequest) -> str:
        return endpoint_id(self._core.host.name, call.name, call.container, call.interface)

    def _ours(self, endpoint: Endpoint) -> bool:
        """Whether CNI has made the endpoint: labels alone could be anybody's."""
        parts = [endpoint.labels.get(name, "") for name in (NETWORK, CONTAINER, INTERFACE)]
        return endpoint.id == endpoint_id(self._core.host.name, *parts)

    def _read(self) -> None:
        if not self._core.cache.synced.wait(READ_S):
            raise Unavailable("etcd", self._core.cache.down or "the specs are not read yet")

    def _network(self, call: CniRequest) -> Network:
        return self._existing(call.network, call.network_source)

    def _existing(self, reference: str, path: str) -> Network:
        try:
            return self._core.lookup.network(reference)
        except NotFound:
            right = "a network that is there: `warren network list` has them, `warren network create` makes one"
            raise Invalid(path, reference, right) from None

    def _mtu(self, network: Network) -> int:
        snapshot = self._core.cache.view.snapshot
        return endpoint_mtu(snapshot, network)

    def _namespace(self, call: CniRequest) -> None:
        try:
            with netns.opened(call.netns):
                pass
        except Invalid as error:
            raise Invalid("CNI_NETNS", error.value, error.expected) from None

    def _attach(self, network: Network, call: CniRequest) -> Endpoint:
        labels = {**call.fields["labels"], NETWORK: call.name, CONTAINER: call.container, INTERFACE: call.interface}
        request = EndpointCreate(
            network_id=network.id,
            id=self._id(call),
            name=call.endpoint_name,
            interface=call.interface,
            activate_params=ActivateParams(ns_handle_path=call.netns),
            **{**call.fields, "labels": labels},
        )
        try:
            return self._core.endpoints.attach(request)[0]
        except Conflict as error:
            if request.name is None or error.field != "name":
                raise
            unnamed = request.model_copy(update={"name": None})  # another endpoint has the name: attach without it
            return self._core.endpoints.attach(unnamed)[0]

    def _serves(self, endpoint: Endpoint, network: Network, call: CniRequest) -> bool:
        """Whether an earlier endpoint is complete, in this namespace, and as this call wants it."""
        same = {name: getattr(endpoint, name) for name in call.fields if name != "labels"}
        stated = {name: value for name, value in call.fields.items() if name != "labels"}
        if endpoint.network_id != network.id or {k: _plain(v) for k, v in same.items()} != {
            k: _plain(v) for k, v in stated.items()
        }:
            return False
        state = self._core.cache.states.get(endpoint.id)
        in_place = (endpoint.netns, endpoint.interface) == (call.netns, call.interface)
        return in_place and not self._differences(endpoint.id) and state is not None and state.state == "up"

    def _result(self, endpoint: Endpoint, network: Network, call: CniRequest) -> dict[str, Any]:
        """The result of an ADD. A container that had a default route before keeps that one."""
        seen = inspect.look(call.netns, call.interface)
        if seen is None:
            raise Unavailable(f"the namespace {call.netns}", f"it has no {call.interface} any more")
        interfaces = (
            {"name": endpoint.veth, "mac": veth_mac(endpoint.veth), "mtu": seen.mtu},
            {"name": call.interface, "mac": seen.mac, "mtu": seen.mtu, "sandbox": call.netns},
        )
        servers = [str(server) for server in network.name_servers]
        dns = {"nameservers": servers, "domain": network.domain, "search": list(network.search)}
        addresses = [] if network.answers else self._addresses(endpoint, network)
        return result(call, interfaces, addresses, seen.gateways, {name: value for name, value in dns.items() if value})

    def _addresses(self, endpoint: Endpoint, network: Network) -> list[tuple[str, str | None]]:
        """The endpoint's addresses with prefix length, each with the gateway that leads outside."""
        families = (
            (endpoint.ipv4_address, network.ip_range, network.gateway),
            (endpoint.ipv6_address, network.ipv6_range, network.ipv6_gateway),
        )
        return [
            (cidr(address, reach), str(gateway.ip) if gateway is not None and network.mode != "flat" else None)
            for address, reach, gateway in families
            if address is not None and reach is not None  # a leased address comes later, and may change
        ]

    def _wrong(self, endpoint: Endpoint, call: CniRequest) -> list[str]:
        """What differs from the result of ADD and from the record, one phrase each."""
        assert call.previous is not None
        mac, addresses, gateways = expected(call.previous, call.interface)
        state = self._core.cache.states.wait(endpoint.id, 0, self._core.config.attach_timeout_s)
        differences: list[str] = []
        if state is None:
            differences.append("the controller does not say that it is up")
        elif state.state == "closed":
            differences.append(f"it is closed: {state.reason}")
        differences += self._differences(endpoint.id)
        actual = inspect.look(call.netns, call.interface)
        if actual is None or endpoint.interface != call.interface:
            return [*differences, f"there is no interface of that name ({endpoint.interface} is the endpoint's)"]
        if mac is not None and mac != actual.mac:
            differences.append(f"its MAC is {actual.mac}, not {mac}")
        differences += [f"address {address} is missing" for address in addresses if address not in actual.addresses]
        mine = {str(gateway.ip) for gateway in self._gateways(endpoint)}
        differences += [
            f"the default route by {via} is missing" for via in gateways if via in mine and via not in actual.gateways
        ]
        return differences

    def _gateways(self, endpoint: Endpoint) -> list[Any]:
        network = self._core.cache.view.snapshot.networks.get(endpoint.network_id)
        return [g for g in (network.gateway, network.ipv6_gateway) if g is not None] if network is not None else []


def _plain(value: Any) -> Any:
    """Addresses as text, in the form of requests."""
    return value if value is None or isinstance(value, tuple) else str(value)
