"""Requests to a metadata service. An answer that is slow, cut off, compressed or too long is an error, like any status but 200 and 404."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpcore

from warren.errors import Invalid, Unavailable

ANSWER_S = 5.0  # for a whole answer: a service that sends a byte a second counts as silent
ANSWER_LIMIT = 4 << 20  # bytes
TRIES = 3
PAUSE_S = 0.25  # before the second try; doubled each time
PAUSE_LIMIT_S = 5.0  # the longest pause that a service may ask for
KEEP_S = 15.0  # an idle connection
_BUSY = (429, 500, 502, 503, 504)
_PLAIN = "/:=&?,+@"  # of a path and query, not quoted


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataAnswer:
    """A status of 200 or 404, the text, and the headers by their names in lower case."""

    status: int
    text: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def exists(self) -> bool:
        """Return whether the service has the requested path."""
        return self.status == 200


class MetadataRefused(Unavailable):
    """A metadata service refuses a request. `status` is that of HTTP, 0 without an answer."""

    def __init__(self, service: str, reason: str, status: int) -> None:
        super().__init__(service, reason)
        self.status = status


class Http:
    """Sends requests to one metadata service, one at a time over one connection, without proxies, redirects, cookies and name resolution. Each has
    a deadline, and is tried again while the service is busy. If the service has several addresses, and one does not answer, the next one is
    tried."""

    def __init__(self, service: str, *urls: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self.service, self._urls, self._sleep = service, urls, sleep
        self._network = _DeadlineBackend()
        self._pool = httpcore.ConnectionPool(max_connections=1, keepalive_expiry=KEEP_S, network_backend=self._network)

    def get(
        self, path: str, headers: Mapping[str, str], *, method: str = "GET", answer_s: float | None = None, tries: int = TRIES
    ) -> MetadataAnswer:
        """Return the answer to a request. Raises `MetadataRefused`."""
        for attempt in range(tries):
            last, pause_s = attempt == tries - 1, 0.0
            try:
                answer = self._once(method, path, headers, ANSWER_S if answer_s is None else answer_s)
            except _NoAnswer as error:
                self._urls = (*self._urls[1:], self._urls[0])
                if last:
                    raise MetadataRefused(self.service, f"{method} {path}: {error}", 0) from None
            else:
                if answer.status not in _BUSY or last:
                    return self._judged(answer, method, path)
                pause_s = _pause(answer.headers)
            self._sleep(min(max(pause_s, PAUSE_S * 2**attempt), PAUSE_LIMIT_S))
        raise AssertionError("the last try returns or raises")

    def _judged(self, answer: MetadataAnswer, method: str, path: str) -> MetadataAnswer:
        if answer.status in (200, 404):
            return answer
        meaning = " (the service is disabled, or refuses a request that was forwarded)" if answer.status == 403 else ""
        raise MetadataRefused(self.service, f"{method} {path}: status {answer.status}{meaning}", answer.status)

    def _once(self, method: str, path: str, headers: Mapping[str, str], answer_s: float) -> MetadataAnswer:
        """Return the answer. Raises `_NoAnswer`."""
        self._network.deadline = time.monotonic() + answer_s
        url = self._urls[0] + quote(path, _PLAIN)
        sent = [("Accept-Encoding", "identity"), *headers.items(), *([("Content-Length", "0")] if method == "PUT" else ())]
        try:
            with self._pool.stream(method, url, headers=sent) as response:
                kept = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
                return MetadataAnswer(status=response.status, text=_text(response.iter_stream(), kept), headers=kept)
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            raise _NoAnswer(str(error) or type(error).__name__) from None

    def json(self, answer: MetadataAnswer, path: str) -> Any:
        """Return the document of an answer, which can be written again: as state file, and to clients. Raises `Invalid`."""
        try:
            document = json.loads(answer.text, parse_constant=_refuse)
            json.dumps(document, indent=2, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            raise Invalid(path, answer.text, "JSON") from None
        return document

    def document(self, path: str, headers: Mapping[str, str]) -> Any:
        """Return a JSON document that must exist. Raises `MetadataRefused` or `Invalid`."""
        answer = self.get(path, headers)
        if not answer.exists:
            raise MetadataRefused(self.service, f"GET {path}: status 404", 404)
        return self.json(answer, path)


class _NoAnswer(Exception):
    """No answer, or an incomplete one."""


class _DeadlineBackend(httpcore.SyncBackend):
    """Connections whose reads end at a deadline, however little arrives at a time."""

    deadline = 0.0  # monotonic seconds

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect."""
        return _Stream(super().connect_tcp(host, port, self.left_s(), local_address, socket_options), self)

    def left_s(self) -> float:
        """Return the time that is left. Raises `httpcore.ReadTimeout`."""
        left_s = self.deadline - time.monotonic()
        if left_s <= 0:
            raise httpcore.ReadTimeout("no whole answer in time")
        return left_s


class _Stream(httpcore.NetworkStream):
    """A connection of that backend."""

    def __init__(self, inner: httpcore.NetworkStream, backend: _DeadlineBackend) -> None:
        self._inner, self._backend = inner, backend
        self.close, self.get_extra_info = inner.close, inner.get_extra_info  # type: ignore[method-assign]

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read until the deadline."""
        return self._inner.read(max_bytes, self._backend.left_s())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write until the deadline."""
        self._inner.write(buffer, self._backend.left_s())


def _text(chunks: Iterable[bytes], headers: Mapping[str, str]) -> str:
    """Return the text of a body. Raises `_NoAnswer` for what is too long, compressed or no text."""
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise _NoAnswer("the answer is compressed, which was not requested")
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > ANSWER_LIMIT:
            raise _NoAnswer(f"the answer has more than {ANSWER_LIMIT} bytes")
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise _NoAnswer("the answer is no text")
    return text


def _refuse(constant: str) -> None:
    raise ValueError(constant)  # NaN and Infinity are not JSON


def whole_number(text: str, default: int) -> int:
    """Return a number of at most nine digits in a header; `default` for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else default


def _pause(headers: Mapping[str, str]) -> float:
    return float(whole_number(headers.get("retry-after", ""), 0))
