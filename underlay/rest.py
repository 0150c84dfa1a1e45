"""The REST API on loopback: GET and JSON only. The paths and documents are cloud-network's; /api/cloud/status is Warren's addition."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from warren.errors import NotFound, Unavailable, WarrenError

log = logging.getLogger("warren.underlay.rest")

TIMEOUT_S = 10.0
PREFIX = "/api/cloud"
CREDENTIALS = f"{PREFIX}/credentials"
NO_CREDENTIALS = (
    "IAM credentials are never fetched, stored or served: whoever needs them requests them from the metadata service itself"
)
Documents = Callable[[], Mapping[str, Any]]  # by paths below PREFIX; raises `Unavailable` while there are none


def serve(address: tuple[str, int], documents: Documents) -> ThreadingHTTPServer:
    """Return a server that listens; `serve_forever` runs it. Raises `OSError`."""

    class Handler(_Handler):
        source = staticmethod(documents)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        allow_reuse_address = True
        address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Note that a client has gone."""
            log.debug("rest.client_gone", exc_info=True)

    return Server(address, Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "warren-underlay", ""
    timeout = TIMEOUT_S
    wbufsize = -1  # headers and body in one packet
    source: Documents

    def __getattr__(self, name: str) -> Any:
        """Return the handler of any method but GET."""
        if name.startswith("do_"):
            return self._refuse
        raise AttributeError(name)

    def do_GET(self) -> None:
        """Answer with a document."""
        path = self.path.partition("?")[0].rstrip("/")
        try:
            self._answer(200, self._document(path))
        except WarrenError as error:
            self._answer(error.http_status, {"error": str(error), **error.fields()})

    def _document(self, path: str) -> Any:
        if path == CREDENTIALS:
            raise Withheld("document", path)
        documents = self.source()
        if not path.startswith(f"{PREFIX}/") or (name := path.removeprefix(f"{PREFIX}/")) not in documents:
            raise NotFound("document", path)
        return documents[name]

    def _refuse(self) -> None:
        self.close_connection = True  # a body that is not read would be taken for the next request
        self._answer(405, {"error": f"{self.command} is refused: only GET is served", "kind": "method"}, {"Allow": "GET"})

    def _answer(self, status: int, document: Any, headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps(document, ensure_ascii=False).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a malformed request."""
        self.close_connection = True
        self._answer(code, {"error": message or "the request is no HTTP", "kind": "invalid"})

    def log_message(self, format: str, *values: Any) -> None:  # noqa: A002
        """Log a request."""
        log.debug("rest.request %s", format % values)


class Withheld(NotFound):
    """A document that is deliberately not served."""

    def __str__(self) -> str:
        """Return why."""
        return NO_CREDENTIALS


def unavailable(reason: str) -> Unavailable:
    """Return the error for a request before the first metadata."""
    return Unavailable("the cloud's metadata", reason)
