"""Forwards requests about another host to that host's agent, at the URL in the host's record."""

from __future__ import annotations

import ssl
import threading
from typing import Any
from urllib.parse import urlsplit

import httpx

from agent.config import Tls
from specs.model.host import Host
from warren.errors import Unavailable, WarrenError

HOP = "X-Warren-Forwarded"  # set on requests between agents, which are not forwarded again


class PeerError(WarrenError):
    """An error that another agent answered with, to be passed on with its HTTP status."""

    def __init__(self, status: int, message: str, detail: dict[str, Any]) -> None:
        super().__init__(message)
        self.http_status, self._detail = status, detail

    def fields(self) -> dict[str, Any]:
        """The fields that the other agent gave."""
        return self._detail or super().fields()


class Peers:
    """Persistent connections to the other agents. Thread-safe."""

    def __init__(self, tls: Tls | None, timeout_s: float) -> None:
        self._timeout_s, self._files = timeout_s, tls
        self._lock = threading.Lock()
        self._clients: dict[str, httpx.Client] = {}
        self.tls = client_context(tls)

    def request(self, host: Host, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """Send a request to the agent of `host`. Raises `Unavailable` if it does not answer, `PeerError` if it answers with
        an error."""
        if not host.api:
            raise Unavailable(f"the agent of {host.name}", "its record has no URL (set WARREN_HTTP or WARREN_API there)")
        try:
            answer = self._client(host.api).request(method, path, headers={HOP: "1"}, **kwargs)
        except httpx.HTTPError as error:
            raise Unavailable(f"the agent of {host.name}", f"{host.api}: {error}") from None
        if answer.status_code >= 400:
            raise PeerError(answer.status_code, *_error(answer))
        return answer

    def reload(self) -> None:
        """Read the files of TLS anew, for new connections. Raises `OSError`, and leaves everything as it was."""
        self.tls = client_context(self._files)
        with self._lock:
            self._clients.clear()  # not closed: other threads may wait for an answer

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def _client(self, api: str) -> httpx.Client:
        with self._lock:
            if api not in self._clients:
                self._clients[api] = self._connect(api)
            return self._clients[api]

    def _connect(self, api: str) -> httpx.Client:
        url = urlsplit(api)
        if url.scheme == "unix":
            transport = httpx.HTTPTransport(uds=url.path)
            return httpx.Client(base_url="http://agent", transport=transport, timeout=self._timeout_s, trust_env=False)
        verify: ssl.SSLContext | bool = self.tls if self.tls is not None else True
        return httpx.Client(base_url=api, verify=verify, timeout=self._timeout_s, trust_env=False)


def client_context(tls: Tls | None) -> ssl.SSLContext | None:
    """Return the TLS context for connections to other agents: this agent's certificate, and the authority that must have
    signed theirs. None without certificates."""
    if tls is None:
        return None
    context = ssl.create_default_context(cafile=tls.ca)
    context.load_cert_chain(tls.cert, tls.key)
    return context


def _error(answer: httpx.Response) -> tuple[str, dict[str, Any]]:
    """The message and the fields of an error."""
    try:
        data = answer.json()
        detail = data.get("detail")
        return str(data["error"]), detail if isinstance(detail, dict) else {}
    except (ValueError, KeyError, TypeError, AttributeError):
        return answer.text[:200], {}
