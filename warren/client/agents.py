"""Where agents are: their URLs, and TLS towards them. No I/O but reading the files of certificates."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

from warren.client.errors import Error

DEFAULT_URL = "unix:///run/warren/agent.sock"
DEFAULT_PORT = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent's address: a unix socket, or host and port with or without TLS."""

    url: str
    socket_path: str | None
    host: str
    port: int
    tls: bool

    @property
    def base_url(self) -> str:
        """The base of its HTTP URLs."""
        return "http://agent" if self.socket_path is not None else self.url

    @classmethod
    def at(cls, url: str) -> Agent:
        """Parse `http://HOST:PORT`, `https://HOST:PORT`, `unix:///PATH` or `/PATH`. Raises `Error`."""
        if url.startswith(("unix://", "/")):
            return cls(url, url.removeprefix("unix://"), "agent", 0, tls=False)
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise Error(f"{url!r} is no URL of an agent: {error}") from None
        if parts.scheme not in DEFAULT_PORT or not host:
            raise Error(f"{url!r} is no URL of an agent: http://HOST:PORT, https://HOST:PORT or unix:///PATH")
        return cls(url.rstrip("/"), None, host, port or DEFAULT_PORT[parts.scheme], parts.scheme == "https")


def tls_context(cert: str | None = None, key: str | None = None, ca: str | None = None) -> ssl.SSLContext:
    """TLS with a client certificate (`cert`, `key`) and the authority `ca` that signs the agents' (the system's, if None): paths of PEM
    files. Raises `Error`."""
    try:
        context = ssl.create_default_context(cafile=ca)
        if cert:
            context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise Error(f"TLS files ({', '.join(filter(None, (cert, key, ca)))}): {error}") from None
    return context
