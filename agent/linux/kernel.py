"""Small questions to the kernel that several modules here ask."""

from __future__ import annotations

import errno
import socket


def index_of(interface: str) -> int | None:
    """Return the index of an interface of the namespace that this thread is in; None if it does not exist."""
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        return None


def reason(error: Exception) -> str:
    """Return an error of the kernel as text, with its symbol."""
    code = getattr(error, "code", None) or getattr(error, "errno", None)
    return f"{errno.errorcode.get(code, code)}: {error}" if isinstance(code, int) else str(error)


def has_address(address: str) -> bool:
    """Return whether an address is one of this host's, in the namespace that this process is in."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
