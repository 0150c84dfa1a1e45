"""Processes that outlive the agent. Each writes its pid into a file whose path is one of its arguments; file and argument lead the next agent to it."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from warren.errors import Unavailable


class Held(NamedTuple):
    """A process, with a pidfd: a pid alone may be that of another process by now."""

    pid: int
    pidfd: int


def start(command: Sequence[str], environment: Mapping[str, str], *, quiet: bool) -> Held:
    """Start a process in a session of its own; a `quiet` one without the agent's standard error. Raises `Unavailable`."""
    try:
        child = subprocess.Popen(
            command, env=environment, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL if quiet else None, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise Unavailable(command[0], f"does not run ({error.strerror})") from None
    child.returncode = 0  # keeps Popen from waiting for the process, because `release` does that
    return Held(child.pid, os.pidfd_open(child.pid))


def pid_in(file: Path) -> int | None:
    """Return the pid in a file; None if there is none."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def find(file: Path) -> Held | None:
    """Return the process that wrote its pid into the file, if it has the file's path among its arguments and runs in the agent's pid namespace
    (a container's process does not)."""
    pid = pid_in(file)
    if pid is None:
        return None
    with contextlib.suppress(OSError):
        held = Held(pid, os.pidfd_open(pid))
        same_pid_namespace = os.stat("/proc/self/ns/pid").st_ino == os.stat(f"/proc/{pid}/ns/pid").st_ino
        if same_pid_namespace and str(file) in arguments(pid):
            return held
        os.close(held.pidfd)
    return None


def arguments(pid: int) -> list[str]:
    """Return the command line of a process. Raises `OSError`."""
    return [word.decode(errors="replace") for word in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]


def ends(held: Held, timeout_s: float) -> bool:
    """Return whether a process has ended or ends within the timeout (pidfd_open(2))."""
    poll = select.poll()
    poll.register(held.pidfd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


def release(held: Held) -> None:
    """Reap a process that has ended if it is a child, and close its pidfd."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, held.pidfd, os.WEXITED | os.WNOHANG)
    os.close(held.pidfd)
