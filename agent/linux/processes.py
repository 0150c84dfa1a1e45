"""Finds the processes in a network namespace, and the containers that they belong to.

While an engine starts its containers, it answers no request. But the kernel knows the container of a process: the name of its
control group contains the container's id.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from agent.linux.veth import far_end_in
from warren.errors import WarrenError

_CONTAINER_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_PROC = Path("/proc")


def in_namespaces(belongs: Callable[[int, str], bool]) -> Iterator[int]:
    """Yield the pids of the processes in the network namespaces that `belongs` accepts, by inode and path. It is called once for each."""
    judged: dict[int, bool] = {}
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # it has ended
            namespace = os.stat(entry / "ns/net").st_ino
            if namespace not in judged:
                judged[namespace] = belongs(namespace, f"{entry}/ns/net")
            if judged[namespace]:
                yield int(entry.name)


def in_namespace(sandbox: str, veth: str) -> Iterator[int]:
    """Yield the pids of the processes in the namespace that an engine calls `sandbox` (a path). An agent in a container may not see the
    path; then the namespace is the one with the far end of `veth`."""
    ours = os.stat("/proc/self/ns/net")
    try:
        named = os.stat(sandbox)
        inode = named.st_ino if named.st_dev == ours.st_dev else None  # a file before the engine mounts the namespace
    except OSError:
        inode = None
    if inode is None:
        return in_namespaces(lambda other, path: other != ours.st_ino and _has_far_end(veth, path))
    return in_namespaces(lambda other, path: other == inode != ours.st_ino)


def _has_far_end(veth: str, path: str) -> bool:
    try:
        return far_end_in(veth, path)
    except WarrenError:  # the namespace has ended
        return False


def container_ids(pids: Iterator[int]) -> set[str]:
    """Return the ids of the containers that processes belong to."""
    ids: set[str] = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            ids.update(_CONTAINER_ID.findall((_PROC / str(pid) / "cgroup").read_text()))
    return ids
