"""HTTP CONNECT /networks/{id}?ip=A&port=P: TCP from outside to an address inside a network.

ASGI has no CONNECT, so `Protocol` looks at the first bytes of each request and takes the connection over from uvicorn.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from agent.api.connections import LimitedProtocol, plain_answer
from agent.peers import HOP
from warren.errors import MISSING, Invalid, NotFound, Unavailable, WarrenError

log = logging.getLogger("warren.connect")

METHOD = b"CONNECT "
HEAD_LIMIT = 16_384  # bytes of request line and headers
CHUNK = 65_536
PEER_S = 5.0  # for a connection to another agent
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """A CONNECT request: to `ip`:`port` inside `network_id`."""

    network_id: str
    ip: str
    port: int
    forwarded: bool


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The connection must be made by the agent of one of these hosts: their URLs by name."""

    agents: Mapping[str, str]
    tls: ssl.SSLContext | None


# Blocking: returns a connected socket, or which agents can connect; raises WarrenError.
Dial = Callable[[ConnectRequest], "socket.socket | Elsewhere"]


def protocol(dial: Dial) -> type[LimitedProtocol]:
    """The protocol class for uvicorn that serves CONNECT by `dial` and leaves everything else to uvicorn."""

    class Protocol(LimitedProtocol):
        _head: bytes = b""

        def data_received(self, data: bytes) -> None:
            idle = self.cycle is None or self.cycle.response_complete
            if not self._head and not (idle and METHOD.startswith(data[: len(METHOD)])):
                super().data_received(data)
                return
            self.begins()
            self._head += data
            if len(self._head) < len(METHOD):
                return
            if not self._head.startswith(METHOD):
                data, self._head = self._head, b""
                super().data_received(data)
                return
            self._unset_keepalive_if_required()
            if b"\r\n\r\n" in self._head:
                self._take_over()
            elif len(self._head) > HEAD_LIMIT:
                self.transport.write(plain_answer(431, "the request's head is too long"))
                self.transport.close()

        def _take_over(self) -> None:
            self.arrived()
            self.connections.discard(self)
            head, _, rest = self._head.partition(b"\r\n\r\n")
            reader = asyncio.StreamReader(limit=CHUNK)
            streams = asyncio.StreamReaderProtocol(reader)
            self.transport.set_protocol(streams)
            streams.connection_made(self.transport)
            writer = asyncio.StreamWriter(self.transport, streams, reader, self.loop)
            reader.feed_data(rest)
            task = self.loop.create_task(_serve(head.decode("latin-1"), reader, writer, dial))
            _running.add(task)
            task.add_done_callback(_running.discard)

        def send_400_response(self, msg: str) -> None:
            self.transport.write(plain_answer(400, msg))
            self.transport.close()

    return Protocol


_running: set[asyncio.Task[None]] = set()  # asyncio itself holds only weak references to tasks


async def _serve(head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dial: Dial) -> None:
    try:
        request = parse(head)
        loop = asyncio.get_running_loop()
        target = await loop.run_in_executor(None, dial, request)
        if isinstance(target, Elsewhere):
            there_reader, there_writer = await _reach(target, request, writer)
        else:
            there_reader, there_writer = await asyncio.open_connection(sock=target, limit=CHUNK)
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    except WarrenError as error:
        writer.write(plain_answer(error.http_status, str(error), error.fields()))
        writer.close()
        return
    except Exception:  # any error must reach the client: nobody else waits for this task
        log.exception("connect.failed")
        writer.write(plain_answer(500, "internal error, see the agent's log"))
        writer.close()
        return
    log.info("connect.opened network=%s ip=%s port=%d", request.network_id, request.ip, request.port)
    await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer))
    for end in (writer, there_writer):
        end.close()


async def _reach(target: Elsewhere, request: ConnectRequest, client: asyncio.StreamWriter) -> Streams:
    """Ask other agents for the same, one after the other until one has connected; relay its answer. Raises `Unavailable` if none
    answers."""
    problems = []
    for number, (host, api) in enumerate(target.agents.items(), start=1):
        try:
            reader, writer = await asyncio.wait_for(_open(api, target.tls), PEER_S)
            writer.write(_forwarded(request, host))
            head = await reader.readuntil(b"\r\n\r\n")
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            problems.append(f"the agent of {host}: {error or 'no answer'}")
            continue
        if head.split(b" ", 2)[1:2] == [b"200"] or number == len(target.agents):
            client.write(head)
            return reader, writer
        writer.close()
    raise Unavailable("every host with an endpoint there", "; ".join(problems))


async def _open(api: str, tls: ssl.SSLContext | None) -> Streams:
    url = urlsplit(api)
    if url.scheme == "unix":
        return await asyncio.open_unix_connection(url.path, limit=CHUNK)
    return await asyncio.open_connection(url.hostname, url.port, ssl=tls if url.scheme == "https" else None, limit=CHUNK)


def _forwarded(request: ConnectRequest, host: str) -> bytes:
    ip = quote(request.ip, safe="")
    line = f"CONNECT /networks/{quote(request.network_id, safe='')}?ip={ip}&port={request.port} HTTP/1.1"
    return f"{line}\r\nHost: {host}\r\n{HOP}: 1\r\n\r\n".encode()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Carry bytes in one direction until they end, then pass the end on; the other direction goes on."""
    try:
        while data := await source.read(CHUNK):
            sink.write(data)
            await sink.drain()
        if sink.can_write_eof():
            sink.write_eof()
        else:
            sink.close()  # a TLS connection cannot be closed in one direction only
    except (OSError, RuntimeError):  # a reset on one side ends both directions
        sink.transport.abort()


def parse(head: str) -> ConnectRequest:
    """Parse the request line and headers. Raises `Invalid` or `NotFound`."""
    line, *headers = head.split("\r\n")
    target = line.split(" ")[1] if line.count(" ") >= 2 else ""
    url = urlsplit(target)
    path = re.fullmatch(r"/networks/([^/]+(?:/[^/]+)?)", url.path)
    if not path:
        raise NotFound("path", url.path)
    query: dict[str, Any] = {name: values[0] for name, values in parse_qs(url.query).items()}
    for name in ("ip", "port"):
        if name not in query:
            raise Invalid(name, MISSING, "say ?ip=ADDRESS&port=PORT, an address of the network and a TCP port")
    try:
        ip = str(ip_address(query["ip"]))
    except ValueError:
        raise Invalid("ip", query["ip"], "an IP address of the network") from None
    port = query["port"]
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise Invalid("port", port, "a TCP port, 1 to 65535")
    forwarded = any(header.lower().startswith(HOP.lower() + ":") for header in headers)
    return ConnectRequest(unquote(path[1]), ip, int(port), forwarded)
