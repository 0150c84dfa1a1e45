"""Serves DNS on the sockets of the resolver's namespace, over UDP and TCP. The address that was asked says from which network a question comes."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections import Counter
from contextlib import suppress
from ipaddress import ip_address

from agent.names.answer import Forward, answer, failed, shortened
from agent.names.index import NameIndex
from agent.names.upstream import Upstream
from intent.names import zone_of

log = logging.getLogger("warren.names")

READ_AT_ONCE = 64  # questions, before others of the loop have their turn
OUTSIDE_LIMIT, OUTSIDE_OF_ONE = 1024, 64  # questions for names outside that wait for an answer: of all, and of one endpoint
CONNECTIONS_LIMIT, CONNECTIONS_OF_ONE = 256, 8
IDLE_S = 10.0
MESSAGE_LIMIT = 65_535
_IP_PKTINFO = 8
_INFO4, _INFO6 = struct.Struct("=i4s4s"), struct.Struct("=16si")  # in_pktinfo, in6_pktinfo

Asker = tuple[int, str]  # conntrack zone of the network, and address of the endpoint


class Server:
    """Answers from `names`; None until they are known. Names outside are asked of `upstream`."""

    def __init__(self, upstream: Upstream) -> None:
        self.names: NameIndex | None = None
        self._upstream = upstream
        self._waiting: Counter[Asker] = Counter()  # questions for names outside
        self._connections: Counter[Asker] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, udp: list[socket.socket], tcp: list[socket.socket]) -> None:
        """Serve on sockets that are bound and, for TCP, do not listen yet."""
        loop = asyncio.get_running_loop()
        for sock in udp:
            sock.setblocking(False)
            loop.add_reader(sock.fileno(), self._on_datagrams, sock)
        for sock in tcp:
            await asyncio.start_server(self._on_connection, sock=sock, limit=MESSAGE_LIMIT)

    def _on_datagrams(self, sock: socket.socket) -> None:
        for _ in range(READ_AT_ONCE):
            try:
                wire, ancillary, _, sender = sock.recvmsg(MESSAGE_LIMIT, 128)
            except OSError:  # BlockingIOError: no more wait
                return
            local = _asked(ancillary)
            if local is not None:
                self._take_datagram(sock, wire, local, sender)

    def _take_datagram(self, sock: socket.socket, wire: bytes, local: bytes, sender: tuple[str, int]) -> None:
        zone = zone_of(ip_address(local))
        reply = self._answer(wire, zone, tcp=False)
        if isinstance(reply, Forward):
            self._start_outside(sock, wire, local, sender, reply.limit)
        elif reply is not None:
            _send(sock, reply, local, sender)

    def _answer(self, wire: bytes, zone: int, *, tcp: bool) -> bytes | Forward | None:
        return answer(wire, self.names, self.names.network(zone) if self.names is not None else None, tcp=tcp)

    def _start_outside(self, sock: socket.socket, wire: bytes, local: bytes, sender: tuple[str, int], limit: int) -> None:
        async def ask() -> None:
            _send(
                sock, shortened(await self._ask(wire, (zone_of(ip_address(local)), sender[0]), tcp=False), limit), local, sender
            )

        task = asyncio.get_running_loop().create_task(ask())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self, wire: bytes, asker: Asker, *, tcp: bool) -> bytes:
        """Ask the host's name servers. An endpoint with many open questions gets a failure at once."""
        if self._waiting[asker] >= OUTSIDE_OF_ONE or self._waiting.total() >= OUTSIDE_LIMIT:
            return failed(wire)
        with _counted(self._waiting, asker):
            return await self._upstream.ask(wire, tcp=tcp) or failed(wire)

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asker = (zone_of(ip_address(writer.get_extra_info("sockname")[0])), str(writer.get_extra_info("peername")[0]))
        try:
            if self._connections[asker] < CONNECTIONS_OF_ONE and self._connections.total() < CONNECTIONS_LIMIT:
                with _counted(self._connections, asker), suppress(OSError, asyncio.TimeoutError, asyncio.IncompleteReadError):
                    while await self._serve_one(reader, writer, asker):
                        pass
        finally:
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asker: Asker) -> bool:
        """Answer the next question of a connection. Returns whether more may come."""
        size = int.from_bytes(await asyncio.wait_for(reader.readexactly(2), IDLE_S), "big")
        wire = await asyncio.wait_for(reader.readexactly(size), IDLE_S)
        reply = self._answer(wire, asker[0], tcp=True)
        if isinstance(reply, Forward):
            reply = await self._ask(wire, asker, tcp=True)
        if reply is None:
            return False
        writer.write(len(reply).to_bytes(2, "big") + reply)
        await asyncio.wait_for(writer.drain(), IDLE_S)
        return True


class _counted:
    """Counts one of an asker's while it is open."""

    def __init__(self, counter: Counter[Asker], asker: Asker) -> None:
        self._counter, self._asker = counter, asker

    def __enter__(self) -> None:
        self._counter[self._asker] += 1

    def __exit__(self, *_: object) -> None:
        self._counter[self._asker] -= 1
        if not self._counter[self._asker]:
            del self._counter[self._asker]


def udp_socket(family: socket.AddressFamily) -> socket.socket:
    """Return a socket on port 53 that tells the address that was asked."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)  # an answer's sender is an address of a local route
    sock.bind(("", 53))
    return sock


def tcp_socket(family: socket.AddressFamily) -> socket.socket:
    """Return a socket on port 53, to listen on."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(("", 53))
    return sock


_IPV6_FREEBIND = 78


def _asked(ancillary: list[tuple[int, int, bytes]]) -> bytes | None:
    """Return the address that a datagram was sent to."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            return bytes(_INFO4.unpack(data)[2])
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            return bytes(_INFO6.unpack(data)[0])
    return None


def _send(sock: socket.socket, reply: bytes, local: bytes, sender: tuple[str, int]) -> None:
    """Send an answer from the address that was asked. If it cannot be sent now, the asker asks again."""
    if sock.family == socket.AF_INET:
        info = (socket.IPPROTO_IP, _IP_PKTINFO, _INFO4.pack(0, local, bytes(4)))
    else:
        info = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _INFO6.pack(local, 0))
    with suppress(OSError):
        sock.sendmsg([reply], [info], 0, sender)
