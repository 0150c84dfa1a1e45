"""Settings from the environment that all processes share: WARREN_* variables first, then SAND's names, then defaults."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from warren.errors import MISSING, Invalid

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"  # the message is an event and key=value pairs


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings that agent and controller share."""

    host: str
    etcd: tuple[str, ...]
    prefix: str
    etcd_cert: str | None
    etcd_key: str | None
    etcd_ca: str | None
    ovsdb: str
    bridge: str
    trusted_network: bool


def settings(environ: Mapping[str, str]) -> Settings:
    """Read the common settings."""

    def first(*names: str, default: str | None = None) -> str | None:
        return next((environ[name] for name in names if environ.get(name)), default)

    etcd_variable = "WARREN_ETCD" if environ.get("WARREN_ETCD") else "ETCD_HOSTS"
    cert, key, ca = _etcd_tls(environ)
    return Settings(
        host=first("WARREN_HOST", "PEER_HOSTNAME", "PUBLIC_HOSTNAME") or socket.gethostname(),
        etcd=etcd_urls(etcd_variable, environ.get(etcd_variable) or "127.0.0.1:2379", secure=bool(cert or ca)),
        prefix=first("WARREN_PREFIX", "ETCD_PREFIX", "ETCDPREFIX", default="/warren") or "/warren",
        etcd_cert=cert,
        etcd_key=key,
        etcd_ca=ca,
        ovsdb=first("WARREN_OVSDB", default="unix:/var/run/openvswitch/db.sock") or "",
        bridge=first("WARREN_BRIDGE", default="br-warren") or "",
        trusted_network=choice("WARREN_TRUSTED_NETWORK", environ.get("WARREN_TRUSTED_NETWORK", ""), "off", "on") == "on",
    )


def etcd_urls(variable: str, text: str, *, secure: bool) -> tuple[str, ...]:
    """Return the URLs of etcd's members, with scheme and port. A member without a scheme has that of the others; `secure` says that files
    for TLS are given. Raises `Invalid`."""
    members = [part.strip() for part in text.split(",") if part.strip()]
    if not members:
        raise Invalid(variable, text, "at least one URL of etcd")
    scheme = "https" if secure or any(member.lower().startswith("https://") for member in members) else "http"
    return tuple(_etcd_url(variable, member if "://" in member else f"{scheme}://{member}", secure) for member in members)


def _etcd_url(variable: str, url: str, secure: bool) -> str:
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port or 2379
    except ValueError:
        host, port = None, 0
    if host is None or parts.scheme not in ("http", "https") or parts.path not in ("", "/") or parts.query or parts.username:
        raise Invalid(variable, url, "URLs of etcd's members with commas, such as http://192.0.2.9:2379")
    if secure and parts.scheme == "http":
        raise Invalid(variable, url, "https://, because a certificate or an authority for TLS with etcd is set")
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _etcd_tls(environ: Mapping[str, str]) -> tuple[str | None, str | None, str | None]:
    """Return the paths of certificate, key and authority towards etcd. Raises `Invalid` for a certificate without key, or the reverse."""
    names = (("WARREN_ETCD_CERT", "ETCD_TLS_CERT"), ("WARREN_ETCD_KEY", "ETCD_TLS_KEY"), ("WARREN_ETCD_CA", "ETCD_CACERT"))
    variables = [next((name for name in pair if environ.get(name)), None) for pair in names]
    for given, missing in ((0, 1), (1, 0)):
        if variables[given] is not None and variables[missing] is None:
            sands = int(variables[given] == names[given][1])
            reason = f"{variables[given]} is set, and certificate and key are set together"
            raise Invalid(names[missing][sands], MISSING, reason)
    cert, key, ca = (environ[name] if name is not None else None for name in variables)
    return cert, key, ca


def vtep(environ: Mapping[str, str]) -> str:
    """Return the host's address on the underlay; empty text without one."""
    return environ.get("WARREN_VTEP") or environ.get("PEER_IP") or environ.get("PUBLIC_IP") or ""


def log_level(environ: Mapping[str, str]) -> str:
    """Return the level of the log. Raises `Invalid`."""
    text = environ.get("WARREN_LOG") or "INFO"
    if text.upper() not in LOG_LEVELS:
        raise Invalid("WARREN_LOG", text, " or ".join(LOG_LEVELS))
    return text.upper()


def reloaded(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with what the settings file says now: a process's own environment does not change while it runs."""
    return {**environ, **settings_file(environ)}


def settings_file(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the settings in the file from which systemd takes the environment; empty without such a file."""
    path = Path(environ.get("WARREN_SETTINGS") or "/etc/warren/warren.env")
    lines = [line.strip() for line in _text(path).splitlines()]
    pairs = (line.partition("=") for line in lines if line and line[0] not in "#;")
    return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}


def choice(name: str, text: str, *choices: str) -> str:
    """Return the text, or the first choice if it is empty. Raises `Invalid`."""
    if text and text not in choices:
        raise Invalid(name, text, " or ".join(choices))
    return text or choices[0]


def run_directory(environ: Mapping[str, str]) -> Path:
    """Return the directory of files that outlive the process."""
    return Path(environ.get("WARREN_RUN") or Path(environ.get("WARREN_SOCKET") or "/run/warren/agent.sock").parent)


def machine_ids(environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the machine's id and the id of its boot; empty text for what is not known. WARREN_MACHINE_ID is the id itself, or the path of
    a file that holds it."""
    named = environ.get("WARREN_MACHINE_ID") or "/etc/machine-id"
    return (_text(Path(named)) if named.startswith("/") else named), boot_id()


def boot_id() -> str:
    """Return the id of the machine's boot; empty text if it is not known."""
    return _text(Path("/proc/sys/kernel/random/boot_id"))


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


@dataclass(frozen=True, slots=True)
class GaugeSettings:
    """Where the gauge application serves and writes statistics, and how often. Nothing is served at an empty address."""

    gauge: str
    metrics: str
    every_s: float
    json_file: str | None
    text_file: str | None
    influx_url: str | None
    influx_token: str | None


def gauge_settings(environ: Mapping[str, str]) -> GaugeSettings:
    """Read the settings of the gauge application. Raises `Invalid`."""
    text = environ.get("WARREN_GAUGE_S", "10")
    try:
        every_s = float(text)
    except ValueError:
        every_s = 0.0
    if not 0.1 <= every_s <= 86_400:
        raise Invalid("WARREN_GAUGE_S", text, "seconds, 0.1 to 86400")
    return GaugeSettings(
        gauge=environ.get("WARREN_GAUGE", "127.0.0.1:9303"),
        metrics=environ.get("WARREN_METRICS", "127.0.0.1:9302"),
        every_s=every_s,
        json_file=environ.get("WARREN_GAUGE_FILE") or None,
        text_file=environ.get("WARREN_GAUGE_TEXT") or None,
        influx_url=environ.get("WARREN_GAUGE_INFLUX") or None,
        influx_token=environ.get("WARREN_GAUGE_INFLUX_TOKEN") or None,
    )
