"""Runs code in the namespace of the far end of a veth pair, of which only the kernel's id is known.

The id serves for reading. In a request that sets something it would move the interface of this namespace with the same index (rtnetlink(7),
IFLA_TARGET_NETNSID). So the namespace is entered by a path: that of a process inside, or a name of ip-netns(8).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from agent.linux import netns
from agent.linux.interface import Link
from agent.linux.reading import namespace_id
from warren.errors import Unavailable, WarrenError

T = TypeVar("T")


def at_far_end(host: Any, near: Link, work: Callable[[], T]) -> T:
    """Run `work` where the far end of `near` is. `host` is a netlink socket of the host's namespace. Raises `Unavailable`."""
    if near.peer_nsid is None:
        return work()
    for path in _namespaces():
        with contextlib.suppress(WarrenError):  # the namespace has ended
            with netns.opened(path) as fd:
                numbered = namespace_id(host, fd)
            if numbered == near.peer_nsid:
                return netns.inside(path, work)
    raise Unavailable(f"the namespace behind {near.name}", "it has neither a process nor a name")


def _namespaces() -> Iterator[str]:
    """Yield the paths of the namespaces with a process or a name."""
    yield from netns.of_processes()
    with contextlib.suppress(OSError):
        yield from sorted(entry.path for entry in os.scandir(netns.NAMES))
