"""TLS towards etcd: files, and why a handshake fails, which grpc tells only in its own log."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from warren.errors import Invalid

ROOTS = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem", "/etc/ssl/ca-bundle.pem")


@dataclass(frozen=True, slots=True)
class EtcdTls:
    """Paths of a client certificate, its key, and the authority of etcd's certificates; None means no certificate, and the system's
    authorities."""

    cert: str | None = None
    key: str | None = None
    ca: str | None = None

    def check(self) -> None:
        """Raises `Invalid` for files that are no certificate, key or authority: grpc aborts the process for some of them."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.ca:
            _read(
                "WARREN_ETCD_CA", self.ca, "a file with certificates in PEM form", lambda: context.load_verify_locations(self.ca)
            )
        if self.cert and self.key:
            expected = f"a certificate in PEM form, with its key in {self.key} (without a passphrase)"
            _read("WARREN_ETCD_CERT", self.cert, expected, lambda: self._present(context))

    def _present(self, context: ssl.SSLContext) -> None:
        context.load_cert_chain(str(self.cert), self.key, password=lambda: "")

    def contents(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """What the files hold now: authorities, key and certificate. Raises `OSError`."""
        roots = Path(self.ca).read_bytes() if self.ca else system_roots()
        if not (self.cert and self.key):
            return roots, None, None
        return roots, Path(self.key).read_bytes(), Path(self.cert).read_bytes()

    def context(self) -> ssl.SSLContext:
        """The same for a handshake of our own. Raises `OSError`."""
        context = ssl.create_default_context(cafile=self.ca)
        if self.cert and self.key:
            self._present(context)
        context.set_alpn_protocols(["h2"])
        return context


def system_roots() -> bytes | None:
    """The authorities that the system trusts; None if they are in no known place: then grpc has a list of its own."""
    for path in (ssl.get_default_verify_paths().cafile, *ROOTS):
        if path is not None:
            with contextlib.suppress(OSError):
                return Path(path).read_bytes()
    return None


def failure(url: str, tls: EtcdTls, timeout_s: float) -> str | None:
    """Why etcd at `url` cannot be spoken to, found out by connecting once; None if it can, or does not answer in time."""
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    try:
        with socket.create_connection((host, parts.port or 2379), timeout_s) as plain:
            return _handshake(plain, host, tls) if secure else _speaks_tls(plain)
    except TimeoutError:
        return None
    except OSError as error:
        return f"TLS: {error}" if isinstance(error, ssl.SSLError) else error.strerror or str(error)


def _handshake(plain: socket.socket, host: str, tls: EtcdTls) -> str | None:
    try:
        with tls.context().wrap_socket(plain, server_hostname=host) as secured:
            secured.recv(1)  # with TLS 1.3 the other side refuses our certificate only now
            return None
    except ssl.SSLCertVerificationError as error:
        return f"TLS: its certificate is not accepted: {error.verify_message}"
    except (ssl.SSLError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or ""
        if "CERTIFICATE" in reason:
            advice = (
                "another client certificate" if tls.cert else "a client certificate: set WARREN_ETCD_CERT and WARREN_ETCD_KEY"
            )
            return f"TLS: it wants {advice} ({reason.replace('_', ' ').lower()})"
        return f"TLS: the handshake fails ({reason.replace('_', ' ').lower() or error}): does it speak TLS? Its URL begins with http:// if not"


def _speaks_tls(plain: socket.socket) -> str | None:
    """Whether the other side speaks TLS, though the URL says http."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with context.wrap_socket(plain):
            pass
    except (OSError, ValueError) as error:
        if "ALERT" not in (getattr(error, "reason", None) or ""):
            return None
    return "it speaks TLS: say https:// in its URL"


def _read(name: str, path: str, expected: str, load: Callable[[], Any]) -> None:
    try:
        load()
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        raise Invalid(name, path, f"{expected} ({str(reason).replace('_', ' ').lower()})") from None
