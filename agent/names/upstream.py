"""Asks the host's own name servers for names outside."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

from agent.names.answer import HEADER, end_of_question
from warren.errors import Invalid

RESOLV_CONF = Path("/etc/resolv.conf")
SERVERS_LIMIT = 3  # as many as resolv.conf(5) has
ANSWER_S = 2.0  # how long one server may take
PORT = 53


def addresses(variable: str, text: str) -> tuple[str, ...]:
    """Return the addresses of a setting. Raises `Invalid`."""
    try:
        return tuple(str(ip_address(part.strip())) for part in text.split(",") if part.strip())
    except ValueError:
        raise Invalid(variable, text, "addresses of name servers with commas, such as 192.0.2.53,2001:db8::53") from None


def configured(text: str) -> tuple[str, ...]:
    """Return the name servers in the text of a resolv.conf(5)."""
    words = [line.split() for line in text.splitlines()]
    servers = [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]
    return tuple(server for server in servers if _is_address(server))[:SERVERS_LIMIT]


def _is_address(text: str) -> bool:
    try:
        ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True


class Upstream:
    """The host's name servers: those of `fixed`, else those that /etc/resolv.conf names now."""

    def __init__(self, fixed: Sequence[str] = (), path: Path = RESOLV_CONF) -> None:
        self._fixed, self._path = tuple(fixed), path
        self._read: tuple[int, tuple[str, ...]] = (0, ())  # the file's time of change, and its servers

    def servers(self) -> tuple[str, ...]:
        """Return the servers to ask, in order."""
        if self._fixed:
            return self._fixed
        with suppress(OSError):
            changed = os.stat(self._path).st_mtime_ns
            if changed != self._read[0]:
                self._read = changed, configured(self._path.read_text(errors="replace"))
        return self._read[1]

    async def ask(self, wire: bytes, *, tcp: bool) -> bytes | None:
        """Return the first server's answer to a question; None if none answers. The question goes out under a number and from a port that
        nobody can guess, and an answer must have both and repeat the question."""
        number = secrets.token_bytes(2)
        for server in self.servers():
            with suppress(OSError, asyncio.TimeoutError, asyncio.IncompleteReadError):
                exchange = _by_tcp if tcp else _by_udp
                reply = await asyncio.wait_for(exchange(server, number + wire[2:]), ANSWER_S)
                return wire[:2] + reply[2:]
        return None


def answers(question: bytes, reply: bytes) -> bool:
    """Whether a message is an answer to a question: with its number, and the question again or, after an error, none."""
    if len(reply) < HEADER.size or reply[:2] != question[:2] or not reply[2] & 0x80:
        return False
    end = end_of_question(question)
    return reply[4:6] == b"\0\0" or reply[HEADER.size : end].lower() == question[HEADER.size : end].lower()


class _Exchange(asyncio.DatagramProtocol):
    def __init__(self, question: bytes) -> None:
        self._question = question
        self.reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self.reply.done() and answers(self._question, data):
            self.reply.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.reply.done():
            self.reply.set_exception(exc)


async def _by_udp(server: str, question: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    transport, exchange = await loop.create_datagram_endpoint(lambda: _Exchange(question), remote_addr=(server, PORT))
    try:
        transport.sendto(question)
        return await exchange.reply
    finally:
        transport.close()


async def _by_tcp(server: str, question: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(server, PORT)
    try:
        writer.write(len(question).to_bytes(2, "big") + question)
        reply = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
    finally:
        writer.close()
    if not answers(question, reply):
        raise OSError(0, "that is no answer to the question")
    return reply
