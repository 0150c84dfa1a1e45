"""Settings from the environment that all processes share: WARREN_* variables first, then SAND's names, then defaults."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from warren.errors import Invalid

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

    etcd = first("WARREN_ETCD", "ETCD_HOSTS", default="http://127.0.0.1:2379") or ""
    return Settings(
        host=first("WARREN_HOST", "PEER_HOSTNAME", "PUBLIC_HOSTNAME") or socket.gethostname(),
        etcd=tuple(url.strip() for url in etcd.split(",") if url.strip()),
        prefix=first("WARREN_PREFIX", "ETCD_PREFIX", "ETCDPREFIX", default="/warren") or "/warren",
        etcd_cert=first("WARREN_ETCD_CERT", "ETCD_TLS_CERT"),
        etcd_key=first("WARREN_ETCD_KEY", "ETCD_TLS_KEY"),
        etcd_ca=first("WARREN_ETCD_CA", "ETCD_CACERT"),
        ovsdb=first("WARREN_OVSDB", default="unix:/var/run/openvswitch/db.sock") or "",
        bridge=first("WARREN_BRIDGE", default="br-warren") or "",
        trusted_network=choice("WARREN_TRUSTED_NETWORK", environ.get("WARREN_TRUSTED_NETWORK", ""), "off", "on") == "on",
    )


def vtep(environ: Mapping[str, str]) -> str:
    """Return the host's address on the underlay; empty text without one."""
    return environ.get("WARREN_VTEP") or environ.get("PEER_IP") or environ.get("PUBLIC_IP") or ""


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
    return (_text(Path(named)) if named.startswith("/") else named), _text(Path("/proc/sys/kernel/random/boot_id"))


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
