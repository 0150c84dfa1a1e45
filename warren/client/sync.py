"""`Client`: the agent's API with blocking calls. Threads may share one."""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, ParamSpec, Self, TypeVar

import httpx

from warren.client import operations, tunnel
from warren.client.agents import Agent
from warren.client.calls import Call, Operation, path
from warren.client.errors import Error, NoAnswer, NotFound
from warren.client.results import CaptureCounts
from warren.client.transport import (
    CAPTURE_NAME,
    CONNECT_TIMEOUT_S,
    KEEP_ALIVE_S,
    Agents,
    Lines,
    answer,
    capture_call,
    unreachable,
)

P = ParamSpec("P")
T = TypeVar("T")


class _Method(Generic[P, T]):
    """Makes a method of an operation: the same parameters, the operation's result."""

    def __init__(self, operation: Callable[P, Operation[T]]) -> None:
        self._operation = operation
        self.__doc__ = operation.__doc__

    def __get__(self, client: Client | None, owner: type | None = None) -> Callable[P, T]:
        @functools.wraps(self._operation)
        def method(*args: P.args, **kwargs: P.kwargs) -> T:
            if client is None:
                raise TypeError(f"{method.__name__} is a method of a client")
            return client.run(self._operation(*args, **kwargs))

        return method


class Client:
    """An agent's HTTP API. With several URLs, the first agent that can be connected to is used, and the next one when it is gone; a request
    that was sent is never sent again. Every failure is an `Error`."""

    def __init__(self, *urls: str, tls: ssl.SSLContext | None = None, timeout_s: float = 60.0) -> None:
        self._agents = Agents(urls, tls, timeout_s)
        self._http: dict[Agent, httpx.Client] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        for client in self._http.values():
            client.close()
        self._http.clear()

    version = _Method(operations.version)
    networks = _Method(operations.networks)
    network = _Method(operations.network)
    create_network = _Method(operations.create_network)
    delete_network = _Method(operations.delete_network)
    endpoints = _Method(operations.endpoints)
    endpoint = _Method(operations.endpoint)
    create_endpoint = _Method(operations.create_endpoint)
    delete_endpoint = _Method(operations.delete_endpoint)
    ports = _Method(operations.ports)
    add_port = _Method(operations.add_port)
    remove_port = _Method(operations.remove_port)
    publish = _Method(operations.publish)
    unpublish = _Method(operations.unpublish)
    apply = _Method(operations.apply)
    export = _Method(operations.export)
    hosts = _Method(operations.hosts)
    host = _Method(operations.host)
    remove_host = _Method(operations.remove_host)
    accept_etcd = _Method(operations.accept_etcd)
    status = _Method(operations.status)
    flows = _Method(operations.flows)
    check = _Method(operations.check)
    trace = _Method(operations.trace)
    acls = _Method(operations.acls)
    acl = _Method(operations.acl)
    check_acl = _Method(operations.check_acl)
    delete_acl = _Method(operations.delete_acl)
    meters = _Method(operations.meters)
    mirrors = _Method(operations.mirrors)
    put_mirror = _Method(operations.put_mirror)
    delete_mirror = _Method(operations.delete_mirror)
    cluster = _Method(operations.cluster)
    put_cluster = _Method(operations.put_cluster)
    routers = _Method(operations.routers)
    router = _Method(operations.router)
    put_router = _Method(operations.put_router)
    delete_router = _Method(operations.delete_router)
    services = _Method(operations.services)
    service = _Method(operations.service)
    put_service = _Method(operations.put_service)
    delete_service = _Method(operations.delete_service)
    sites = _Method(operations.sites)
    put_site = _Method(operations.put_site)
    delete_site = _Method(operations.delete_site)
    profiles = _Method(operations.profiles)
    profile = _Method(operations.profile)
    put_profile = _Method(operations.put_profile)
    delete_profile = _Method(operations.delete_profile)
    import_rule = _Method(operations.import_rule)
    export_rule = _Method(operations.export_rule)
    export_table = _Method(operations.export_table)
    import_table = _Method(operations.import_table)
    adoptions = _Method(operations.adoptions)
    put_adoption = _Method(operations.put_adoption)
    delete_adoption = _Method(operations.delete_adoption)
    encryption = _Method(operations.encryption)
    dropped = _Method(operations.dropped)
    rotate_secrets = _Method(operations.rotate_secrets)
    firewall = _Method(operations.firewall)
    put_firewall = _Method(operations.put_firewall)
    confirm_firewall = _Method(operations.confirm_firewall)
    host_firewall = _Method(operations.host_firewall)
    tenants = _Method(operations.tenants)
    tenant = _Method(operations.tenant)
    put_tenant = _Method(operations.put_tenant)
    update_tenant = _Method(operations.update_tenant)
    delete_tenant = _Method(operations.delete_tenant)
    admin_overlay = _Method(operations.admin_overlay)
    create_admin_overlay = _Method(operations.create_admin_overlay)
    update_admin_overlay = _Method(operations.update_admin_overlay)
    delete_admin_overlay = _Method(operations.delete_admin_overlay)

    def run(self, operation: Operation[T]) -> T:
        """Drive an operation to its result."""
        try:
            call = next(operation)
            while True:
                try:
                    data = self._answer(call)
                except Error as error:
                    call = operation.throw(error)
                else:
                    call = operation.send(data)
        except StopIteration as end:
            result: T = end.value
            return result

    def _answer(self, call: Call) -> Any:
        if call.progress is None:
            return answer(call, self._request(call)[1])
        agent, response = self._request(call, stream=True)
        try:
            if response.status_code >= 400:
                response.read()
                return answer(call, response)
            lines = Lines(call)
            for line in response.iter_lines():
                lines.take(line)
            return lines.answer()
        except httpx.HTTPError as error:
            raise self._agents.no_answer(agent, error) from None
        finally:
            response.close()

    @contextlib.contextmanager
    def capture(
        self,
        endpoint: str,
        *,
        direction: str = "both",
        match: Sequence[Mapping[str, Any]] | None = None,
        snap: int | None = None,
    ) -> Iterator[Capture]:
        """An endpoint's packets as an endless pcap file; iterate over its pieces. It ends with the `with` block."""
        call = capture_call(endpoint, direction, match, snap)
        agent, response = self._request(call, stream=True)
        try:
            if response.status_code >= 400:
                response.read()
                answer(call, response)
            capture = Capture(response, lambda call: answer(call, self._send(agent, call)))
            threading.Thread(target=capture.keep_alive, name="warren-capture", daemon=True).start()
            try:
                yield capture
            finally:
                capture.cut()
        finally:
            response.close()

    def connect(self, network: str, ip: str, port: int) -> socket.socket:
        """A socket that is connected to `ip`:`port` inside a network (name or id), through an endpoint of any host. Over TLS it is an
        `ssl.SSLSocket`. Raises `Error`."""
        last: Error | None = None
        for agent in self._agents:
            head = tunnel.request_head(agent, network, ip, port)
            try:
                connection = self._open(agent)
            except OSError as error:
                last = unreachable(agent, error)
                continue
            try:
                self._establish(agent, connection, head)
            except BaseException:
                connection.close()
                raise
            return connection
        assert last is not None
        raise last

    def _open(self, agent: Agent) -> socket.socket:
        timeout_s = min(self._agents.timeout_s, CONNECT_TIMEOUT_S)
        if agent.socket_path is None:
            connection = socket.create_connection((agent.host, agent.port), timeout_s)
        else:
            connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(timeout_s)
            if agent.socket_path is not None:
                connection.connect(agent.socket_path)
            return self._agents.tls.wrap_socket(connection, server_hostname=agent.host) if agent.tls else connection
        except BaseException:
            connection.close()
            raise

    def _establish(self, agent: Agent, connection: socket.socket, request: bytes) -> None:
        """Send the request and read the head of the answer, byte by byte: what follows belongs to the caller."""
        connection.settimeout(self._agents.timeout_s)
        try:
            connection.sendall(request)
            head = b""
            while not head.endswith(tunnel.HEAD_END) and len(head) < tunnel.HEAD_LIMIT:
                if not (byte := connection.recv(1)):
                    raise NoAnswer(f"the agent at {agent.url} closes the connection before it has answered")
                head += byte
            status = tunnel.status_of(head, agent.url)
            if status != 200:
                raise tunnel.error(status, _read(connection, tunnel.error_length(head)))
            connection.settimeout(None)
        except OSError as error:
            raise self._agents.no_answer(agent, error) from None

    def _request(self, call: Call, *, stream: bool = False) -> tuple[Agent, httpx.Response]:
        """The answer of the first agent that can be connected to, and that agent."""
        last: Error | None = None
        for agent in self._agents:
            try:
                return agent, self._send(agent, call, stream=stream)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                last = unreachable(agent, error)
        assert last is not None
        raise last

    def _send(self, agent: Agent, call: Call, *, stream: bool = False) -> httpx.Response:
        client = self._http.get(agent) or self._http.setdefault(agent, self._client(agent))
        try:
            return client.send(self._agents.request(client, call, stream), stream=stream)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise self._agents.no_answer(agent, error) from None

    def _client(self, agent: Agent) -> httpx.Client:
        verify = self._agents.tls if agent.tls else True
        transport = httpx.HTTPTransport(uds=agent.socket_path, verify=verify)
        return httpx.Client(transport=transport, **self._agents.options(agent))


class Capture:
    """A running capture: iterate over the pieces of its pcap file. `counts` and `cut` may be called by other threads."""

    def __init__(self, response: httpx.Response, send: Callable[[Call], Any]) -> None:
        self.name: str = response.headers.get(CAPTURE_NAME, "")
        self._response, self._send = response, send
        self._pieces = response.iter_raw()  # kept: a loop that is left and entered again goes on where it was
        self._over = threading.Event()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._pieces)
        except (httpx.HTTPError, OSError) as error:
            if self._over.is_set():
                raise StopIteration from None
            raise NoAnswer(f"the agent breaks off: {error}") from None

    def counts(self) -> CaptureCounts:
        """Packets sent and dropped so far."""
        return CaptureCounts.of(self._send(Call("PUT", path("captures", self.name))))

    def cut(self) -> None:
        """End the capture. A thread that waits for the next piece returns."""
        self._over.set()
        stream = self._response.extensions.get("network_stream")
        if stream is not None and (connection := stream.get_extra_info("socket")) is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def keep_alive(self) -> None:
        """Send the agent signs of life until the capture ends. The client runs this in a thread."""
        while not self._over.wait(KEEP_ALIVE_S):
            try:
                self.counts()
            except NotFound:
                return  # the agent has ended it, and the stream with it
            except (Error, httpx.HTTPError):
                continue


def _read(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length and (piece := connection.recv(length - len(data))):
        data += piece
    return data
