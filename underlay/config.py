"""Reads /etc/cloud-network/cloud-network.toml as cloud-network does: names of keys in any case, defaults for missing or unknown values.

Two things are refused: a file that is no TOML, and a `Listen` address that other hosts could reach.
"""

from __future__ import annotations

import logging
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from warren.errors import Invalid

log = logging.getLogger("warren.underlay.config")

PATH = Path("/etc/cloud-network/cloud-network.toml")
LISTEN = "127.0.0.1:5209"
REFRESH_S = 300.0
LEVELS = {"trace": "DEBUG", "debug": "DEBUG", "info": "INFO", "warn": "WARNING", "warning": "WARNING", "error": "ERROR",
          "fatal": "CRITICAL", "panic": "CRITICAL"}  # fmt: skip
FORMATS = ("text", "json")
_LEAST_S = 1.0
_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """The settings of the daemon. `problems` are the values that were replaced by defaults."""

    level: str = "INFO"
    format: str = "text"
    refresh_s: float = REFRESH_S
    listen: tuple[str, int] = ("127.0.0.1", 5209)
    supplementary: tuple[str, ...] = ()
    allow_v1: bool = False
    problems: tuple[str, ...] = ()


def load(path: Path, environ: Mapping[str, str]) -> Configuration:
    """Return the settings in a file; the defaults if there is no file at `PATH`. Raises `Invalid`, also if a file at another path is missing."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        if path != PATH:
            raise Invalid("--config", str(path), "the path of a file") from None
        text = ""
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(str(path), path.name, "a readable file of TOML", problem=str(error)) from None
    return parsed(text, environ, str(path))


def parsed(text: str, environ: Mapping[str, str], path: str = PATH.name) -> Configuration:
    """Return the settings in a text. Raises `Invalid`."""
    try:
        tables = _lower(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise Invalid(path, text, "TOML", problem=f"it is no TOML: {error}") from None
    system, network, aws = (_table(tables, name, path) for name in ("system", "network", "aws"))
    problems: list[str] = []

    def chosen(name: str, value: Any, choices: Mapping[str, str] | tuple[str, ...], default: str) -> str:
        word = str(value).strip().lower()
        if word not in choices:
            problems.append(f"{path}: {name}: {value!r} is none of {', '.join(choices)}; {default} is used")
            return default
        return word

    level = environ.get("CLOUD_NETWORK_LOG_LEVEL") or system.get("loglevel", "info")
    style = environ.get("CLOUD_NETWORK_LOG_FORMAT") or system.get("logformat", "text")
    refresh_s = duration_s(str(system.get("refreshtimer", "300s")))
    if refresh_s is None:
        problems.append(
            f"{path}: System.RefreshTimer: {system['refreshtimer']!r} is no duration such as 300s or 5m; 300s is used"
        )
    return Configuration(
        level=LEVELS[chosen("System.LogLevel", level, LEVELS, "info")],
        format=chosen("System.LogFormat", style, FORMATS, "text"),
        refresh_s=max(_LEAST_S, refresh_s) if refresh_s is not None else REFRESH_S,
        listen=_listen(network, path),
        supplementary=tuple(str(network.get("supplementary", "")).split()),
        allow_v1=aws.get("allowv1") is True,
        problems=tuple(problems),
    )


def duration_s(text: str) -> float | None:
    """Return the seconds of a duration as Go writes it, such as 300s, 5m or 1h30m; None for other text, and for 0."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text.removeprefix("+"):
        return None
    seconds = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    return seconds if 0 < seconds < 1e9 else None


def _lower(tables: Mapping[str, Any]) -> dict[str, Any]:
    return {name.lower(): _lower(value) if isinstance(value, dict) else value for name, value in tables.items()}


def _table(tables: Mapping[str, Any], name: str, path: str) -> Mapping[str, Any]:
    table = tables.get(name, {})
    if not isinstance(table, dict):
        raise Invalid(f"{path}: {name}", table, f"a table: [{name.capitalize()}]")
    return table


def _listen(network: Mapping[str, Any], path: str) -> tuple[str, int]:
    """Return where to listen. Earlier versions of cloud-network had Address and Port."""
    earlier = f"{network.get('address', '127.0.0.1')}:{network.get('port', '5209')}"
    text = str(network.get("listen") or earlier)
    host, colon, port = text.rpartition(":")
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        address = None
    if address is None or not colon or not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise Invalid(f"{path}: Network.Listen", text, f"an address and a port, such as {LISTEN}")
    if not address.is_loopback:
        raise Invalid(f"{path}: Network.Listen", text, f"a loopback address, such as {LISTEN}: metadata is for this host alone")
    return str(address), int(port)
