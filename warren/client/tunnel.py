"""`CONNECT`: TCP to an address inside a network, through an agent. The bytes of request and answer; no I/O."""

from __future__ import annotations

import re
from http import HTTPStatus

from warren.client.agents import Agent
from warren.client.calls import path, with_query
from warren.client.errors import NoAnswer, Refused, refusal

HEAD_LIMIT = 65_536  # bytes of an answer's head
BODY_LIMIT = 65_536  # bytes of an error's body that are read
HEAD_END = b"\r\n\r\n"
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})\b ?([^\r\n]*)")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def request_head(agent: Agent, network: str, ip: str, port: int) -> bytes:
    """The request for a connection to `ip`:`port` inside a network (name or id). Raises `Invalid`."""
    target = with_query(path("networks", network), {"ip": ip, "port": port})
    return f"CONNECT {target} HTTP/1.1\r\nHost: {agent.host}\r\n\r\n".encode()


def status_of(head: bytes, url: str) -> int:
    """Return the status in the head of an answer. Raises `NoAnswer` if the head is not HTTP."""
    match = _STATUS.match(head)
    if match is None:
        raise NoAnswer(f"the agent at {url} breaks off: its answer to CONNECT is not HTTP")
    return int(match[1])


def error_length(head: bytes) -> int:
    """How many bytes of an error's body follow the head."""
    match = _LENGTH.search(head)
    return min(int(match[1]), BODY_LIMIT) if match else 0


def error(status: int, body: bytes) -> Refused:
    """The exception for a refused CONNECT."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return refusal(status, phrase, body)
