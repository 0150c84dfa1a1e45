"""Named network namespaces, as ip-netns(8) makes them: mounts below /run/netns that need no process.

The agent may run in a mount namespace of its own (systemd's sandbox, a container), from which no mount reaches the host. So `ip netns` runs in
the mount namespace of process 1.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from agent.linux import netns as namespaces
from agent.linux.command import run
from agent.linux.inspect import identity
from agent.linux.processes import in_namespaces
from warren.errors import Invalid, Unavailable

_HOST_MOUNTS, _OWN_MOUNTS = "/proc/1/ns/mnt", "/proc/self/ns/mnt"
MARK = "warren"  # the alias of the loopback interface in a namespace that Warren has made
_LOOPBACK = 1  # the index of the loopback interface in every namespace


def exists(name: str) -> bool:
    """Return whether the file of a namespace exists, usable or not."""
    return os.path.lexists(namespaces.path_of(name))


def is_ours(name: str) -> bool:
    """Return whether a namespace exists and was made by `add`. Device and inode do not identify it: the kernel uses them again."""
    try:
        return namespaces.inside(name, _alias_of_loopback) == MARK
    except (Invalid, OSError, NetlinkError):
        return False


def add(name: str) -> None:
    """Make a namespace, with its loopback up and marked. Raises `Unavailable`."""
    _ip_netns("add", name)
    try:
        namespaces.inside(name, _mark_loopback)
    except (Invalid, OSError, NetlinkError) as error:
        _ip_netns("delete", name)
        path, reason = (
            namespaces.path_of(name),
            f"the agent cannot enter it: mount /run/netns into the agent's container with propagation rslave ({error})",
        )
        raise Unavailable(f"namespace {path}", reason) from None


def delete(name: str) -> None:
    """Remove the name of a namespace; processes in it keep the namespace. Raises `Unavailable`."""
    _ip_netns("delete", name)


def users(name: str) -> Iterator[tuple[int, str]]:
    """Yield pid and command of the processes in a namespace."""
    _, expected = identity(namespaces.path_of(name))
    for pid in in_namespaces(lambda inode, _: inode == expected):
        with contextlib.suppress(OSError):  # it has ended
            yield pid, Path(f"/proc/{pid}/comm").read_text().strip()


def _mark_loopback() -> None:
    with IPRoute() as inside:
        inside.link("set", index=_LOOPBACK, state="up", ifalias=MARK)


def _alias_of_loopback() -> str | None:
    with IPRoute() as inside:
        alias: str | None = next(iter(inside.link("get", index=_LOOPBACK))).get_attr("IFLA_IFALIAS")
        return alias


def _ip_netns(action: str, name: str) -> None:
    command = ["ip", "netns", action, name]
    with contextlib.suppress(OSError):
        if os.stat(_HOST_MOUNTS).st_ino != os.stat(_OWN_MOUNTS).st_ino:
            command = ["nsenter", f"--mount={_HOST_MOUNTS}", "--", *command]
    try:
        run(*command)
    except Unavailable as error:
        raise Unavailable("ip netns", f"cannot {action} {name}: {error.reason}") from None
