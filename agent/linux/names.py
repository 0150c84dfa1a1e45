"""Names of interfaces: those of Warren's veths, and free ones inside a namespace."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from collections.abc import Iterable, Iterator

from agent.linux import netns as namespaces
from agent.linux.inspect import identity
from specs.model.derived import VETH_PREFIX
from warren.errors import MISSING, Conflict, Invalid

_VETH = re.compile(re.escape(VETH_PREFIX) + r"[0-9a-f]{12}\Z")

_reserved: set[tuple[int, int, str]] = set()  # device and inode of the namespace, interface name
_reserving = threading.Lock()


def veths(prefix: str = VETH_PREFIX) -> list[str]:
    """Return the names of the host's ends of all endpoints, without interfaces that only share the prefix."""
    names = namespaces.interfaces()
    return sorted(name for name in names if name.startswith(prefix) and (prefix != VETH_PREFIX or _VETH.match(name)))


def is_veth(name: str) -> bool:
    """Return whether the host's end of an endpoint may have that name."""
    return _VETH.match(name) is not None


def peer_name(endpoint_id: str) -> str:
    """Return the name of a far end that stays in the host's namespace; the sweep leaves interfaces of that form alone."""
    return "wp" + hashlib.sha256(endpoint_id.encode()).hexdigest()[:12]


def free(taken: Iterable[str]) -> str:
    """Return the first ethN that is not taken."""
    names = set(taken)
    return next(name for name in (f"eth{number}" for number in range(len(names) + 1)) if name not in names)


@contextlib.contextmanager
def reserve(netns: str | None, interface: str | None) -> Iterator[str]:
    """Choose the interface's name in the namespace (the next free ethN if `interface` is None) and meanwhile keep other
    attaches of this process from choosing it. Raises `Invalid` for an unusable namespace, `Conflict` if the name is taken."""
    if netns is None:
        raise Invalid("netns", MISSING, f"an endpoint needs {namespaces.EXPECTED}")
    names = namespaces.inside(netns, namespaces.interfaces)
    namespace = identity(netns)
    with _reserving:
        taken = set(names) | {name for device, inode, name in _reserved if (device, inode) == namespace}
        if interface is not None and interface in taken:
            raise Conflict(f"interface {interface!r} already exists in {netns}")
        chosen = interface or free(taken)
        _reserved.add((*namespace, chosen))
    try:
        yield chosen
    finally:
        with _reserving:
            _reserved.discard((*namespace, chosen))
