"""`AsyncClient`: the agent's API for asyncio. It has the methods of `Client`, as coroutines."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
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


class _AsyncMethod(Generic[P, T]):
    """Makes a coroutine method of an operation: the same parameters, the operation's result."""

    def __init__(self, operation: Callable[P, Operation[T]]) -> None:
        self._operation = operation
        self.__doc__ = operation.__doc__

    def __get__(self, client: AsyncClient | None, owner: type | None = None) -> Callable[P, Awaitable[T]]:
        @functools.wraps(self._operation)
        async def method(*args: P.args, **kwargs: P.kwargs) -> T:
            if client is None:
                raise TypeError(f"{method.__name__} is a method of a client")
            return await client.run(self._operation(*args, **kwargs))

        return method


class AsyncClient:
    """An agent's HTTP API for asyncio. See `Client`; use one in one event loop."""

    def __init__(self, *urls: str, tls: ssl.SSLContext | None = None, timeout_s: float = 60.0) -> None:
        self._agents = Agents(urls, tls, timeout_s)
        self._http: dict[Agent, httpx.AsyncClient] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        clients = list(self._http.values())
        self._http.clear()
        for client in clients:
            await client.aclose()

    version = _AsyncMethod(operations.version)
    networks = _AsyncMethod(operations.networks)
    network = _AsyncMethod(operations.network)
    create_network = _AsyncMethod(operations.create_network)
    delete_network = _AsyncMethod(operations.delete_network)
    endpoints = _AsyncMethod(operations.endpoints)
    endpoint = _AsyncMethod(operations.endpoint)
    create_endpoint = _AsyncMethod(operations.create_endpoint)
    delete_endpoint = _AsyncMethod(operations.delete_endpoint)
    ports = _AsyncMethod(operations.ports)
    add_port = _AsyncMethod(operations.add_port)
    remove_port = _AsyncMethod(operations.remove_port)
    publish = _AsyncMethod(operations.publish)
    unpublish = _AsyncMethod(operations.unpublish)
    apply = _AsyncMethod(operations.apply)
    export = _AsyncMethod(operations.export)
    hosts = _AsyncMethod(operations.hosts)
    host = _AsyncMethod(operations.host)
    remove_host = _AsyncMethod(operations.remove_host)
    accept_etcd = _AsyncMethod(operations.accept_etcd)
    status = _AsyncMethod(operations.status)
    flows = _AsyncMethod(operations.flows)
    check = _AsyncMethod(operations.check)
    trace = _AsyncMethod(operations.trace)
    acls = _AsyncMethod(operations.acls)
    acl = _AsyncMethod(operations.acl)
    check_acl = _AsyncMethod(operations.check_acl)
    delete_acl = _AsyncMethod(operations.delete_acl)
    meters = _AsyncMethod(operations.meters)
    mirrors = _AsyncMethod(operations.mirrors)
    put_mirror = _AsyncMethod(operations.put_mirror)
    delete_mirror = _AsyncMethod(operations.delete_mirror)
    cluster = _AsyncMethod(operations.cluster)
    put_cluster = _AsyncMethod(operations.put_cluster)
    routers = _AsyncMethod(operations.routers)
    router = _AsyncMethod(operations.router)
    put_router = _AsyncMethod(operations.put_router)
    delete_router = _AsyncMethod(operations.delete_router)
    services = _AsyncMethod(operations.services)
    service = _AsyncMethod(operations.service)
    put_service = _AsyncMethod(operations.put_service)
    delete_service = _AsyncMethod(operations.delete_service)
    sites = _AsyncMethod(operations.sites)
    put_site = _AsyncMethod(operations.put_site)
    delete_site = _AsyncMethod(operations.delete_site)
    profiles = _AsyncMethod(operations.profiles)
    profile = _AsyncMethod(operations.profile)
    put_profile = _AsyncMethod(operations.put_profile)
    delete_profile = _AsyncMethod(operations.delete_profile)
    import_rule = _AsyncMethod(operations.import_rule)
    export_rule = _AsyncMethod(operations.export_rule)
    export_table = _AsyncMethod(operations.export_table)
    import_table = _AsyncMethod(operations.import_table)
    adoptions = _AsyncMethod(operations.adoptions)
    put_adoption = _AsyncMethod(operations.put_adoption)
    delete_adoption = _AsyncMethod(operations.delete_adoption)
    encryption = _AsyncMethod(operations.encryption)
    dropped = _AsyncMethod(operations.dropped)
    rotate_secrets = _AsyncMethod(operations.rotate_secrets)
    firewall = _AsyncMethod(operations.firewall)
    put_firewall = _AsyncMethod(operations.put_firewall)
    confirm_firewall = _AsyncMethod(operations.confirm_firewall)
    host_firewall = _AsyncMethod(operations.host_firewall)
    tenants = _AsyncMethod(operations.tenants)
    tenant = _AsyncMethod(operations.tenant)
    put_tenant = _AsyncMethod(operations.put_tenant)
    update_tenant = _AsyncMethod(operations.update_tenant)
    delete_tenant = _AsyncMethod(operations.delete_tenant)
    admin_overlay = _AsyncMethod(operations.admin_overlay)
    create_admin_overlay = _AsyncMethod(operations.create_admin_overlay)
    update_admin_overlay = _AsyncMethod(operations.update_admin_overlay)
    delete_admin_overlay = _AsyncMethod(operations.delete_admin_overlay)

    async def run(self, operation: Operation[T]) -> T:
        """Drive an operation to its result."""
        try:
            call = next(operation)
            while True:
                try:
                    data = await self._answer(call)
                except Error as error:
                    call = operation.throw(error)
                else:
                    call = operation.send(data)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _answer(self, call: Call) -> Any:
        if call.progress is None:
            return answer(call, (await self._request(call))[1])
        agent, response = await self._request(call, stream=True)
        try:
            if response.status_code >= 400:
                await response.aread()
                return answer(call, response)
            lines = Lines(call)
            async for line in response.aiter_lines():
                lines.take(line)
            return lines.answer()
        except httpx.HTTPError as error:
            raise self._agents.no_answer(agent, error) from None
        finally:
            await response.aclose()

    @contextlib.asynccontextmanager
    async def capture(
        self,
        endpoint: str,
        *,
        direction: str = "both",
        match: Sequence[Mapping[str, Any]] | None = None,
        snap: int | None = None,
    ) -> AsyncIterator[AsyncCapture]:
        """An endpoint's packets as an endless pcap file; iterate over its pieces. It ends with the `async with` block."""
        call = capture_call(endpoint, direction, match, snap)
        agent, response = await self._request(call, stream=True)
        try:
            if response.status_code >= 400:
                await response.aread()
                answer(call, response)

            async def send(call: Call) -> Any:
                return answer(call, await self._send(agent, call))

            capture = AsyncCapture(response, send)
            alive = asyncio.create_task(capture.keep_alive())
            try:
                yield capture
            finally:
                alive.cancel()
        finally:
            await response.aclose()

    async def connect(self, network: str, ip: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """asyncio's streams, connected to `ip`:`port` inside a network (name or id), through an endpoint of any host. Raises `Error`."""
        last: Error | None = None
        for agent in self._agents:
            head = tunnel.request_head(agent, network, ip, port)
            try:
                reader, writer = await asyncio.wait_for(self._open(agent), min(self._agents.timeout_s, CONNECT_TIMEOUT_S))
            except OSError as error:  # TimeoutError is one
                last = unreachable(agent, error)
                continue
            try:
                await asyncio.wait_for(self._establish(agent, reader, writer, head), self._agents.timeout_s)
            except OSError as error:
                writer.transport.abort()
                raise self._agents.no_answer(agent, error) from None
            except BaseException:
                writer.transport.abort()
                raise
            return reader, writer
        assert last is not None
        raise last

    async def _open(self, agent: Agent) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if agent.socket_path is not None:
            return await asyncio.open_unix_connection(agent.socket_path)
        return await asyncio.open_connection(agent.host, agent.port, ssl=self._agents.tls if agent.tls else None)

    async def _establish(self, agent: Agent, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
        """Send the request and read the head of the answer."""
        writer.write(request)
        await writer.drain()
        try:
            head = await reader.readuntil(tunnel.HEAD_END)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            raise NoAnswer(f"the agent at {agent.url} closes the connection before it has answered") from None
        status = tunnel.status_of(head, agent.url)
        if status == 200:
            return
        try:
            body = await reader.readexactly(tunnel.error_length(head))
        except asyncio.IncompleteReadError as error:
            body = error.partial
        raise tunnel.error(status, body)

    async def _request(self, call: Call, *, stream: bool = False) -> tuple[Agent, httpx.Response]:
        """The answer of the first agent that can be connected to, and that agent."""
        last: Error | None = None
        for agent in self._agents:
            try:
                return agent, await self._send(agent, call, stream=stream)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                last = unreachable(agent, error)
        assert last is not None
        raise last

    async def _send(self, agent: Agent, call: Call, *, stream: bool = False) -> httpx.Response:
        client = self._http.get(agent) or self._http.setdefault(agent, self._client(agent))
        try:
            return await client.send(self._agents.request(client, call, stream), stream=stream)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise self._agents.no_answer(agent, error) from None

    def _client(self, agent: Agent) -> httpx.AsyncClient:
        verify = self._agents.tls if agent.tls else True
        transport = httpx.AsyncHTTPTransport(uds=agent.socket_path, verify=verify)
        return httpx.AsyncClient(transport=transport, **self._agents.options(agent))


class AsyncCapture:
    """A running capture: iterate over the pieces of its pcap file."""

    def __init__(self, response: httpx.Response, send: Callable[[Call], Awaitable[Any]]) -> None:
        self.name: str = response.headers.get(CAPTURE_NAME, "")
        self._send = send
        self._pieces = response.aiter_raw()  # kept: a loop that is left and entered again goes on where it was

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._pieces)
        except (httpx.HTTPError, OSError) as error:
            raise NoAnswer(f"the agent breaks off: {error}") from None

    async def counts(self) -> CaptureCounts:
        """Packets sent and dropped so far."""
        return CaptureCounts.of(await self._send(Call("PUT", path("captures", self.name))))

    async def keep_alive(self) -> None:
        """Send the agent signs of life until the capture ends. The client runs this as a task."""
        while True:
            await asyncio.sleep(KEEP_ALIVE_S)
            try:
                await self.counts()
            except NotFound:
                return  # the agent has ended it, and the stream with it
            except (Error, httpx.HTTPError):
                continue
