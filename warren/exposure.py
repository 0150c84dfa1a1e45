"""Listeners that machines beyond this host reach without TLS: the line for logs and for `warren status`."""

from __future__ import annotations

import logging
from ipaddress import ip_address


def exposure(setting: str, service: str, address: str, remedy: str) -> str | None:
    """Return a line if `service` listens at an address beyond this host (empty: at all); None if only this host reaches it.
    `setting` is where the address comes from."""
    try:
        loopback = ip_address(address).is_loopback
    except ValueError:
        loopback = address == "localhost"
    if loopback:
        return None
    shown = "all addresses" if address in ("", "0.0.0.0", "::") else address
    return f"{setting}: {service} on {shown} without TLS; {remedy}, or set WARREN_TRUSTED_NETWORK=on if everybody there may"


def log_exposure(log: logging.Logger, line: str | None, *, trusted: bool) -> list[str]:
    """Log a line, and return it as a list for `warren status`; on a trusted network it is no problem."""
    if line is None:
        return []
    log.log(logging.INFO if trusted else logging.WARNING, "listener.exposed %s", line)
    return [] if trusted else [line]
