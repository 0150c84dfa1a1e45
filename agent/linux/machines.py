"""Finds the network namespace of a container by its machine's name (systemd-machined) or by the pid of its first process."""

from __future__ import annotations

import os
import re
import subprocess

from agent.linux.inspect import identity
from warren.errors import Invalid, NotFound, Unavailable

TIMEOUT_S = 10.0
OWN = "/proc/self/ns/net"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")


def namespace_of_machine(name: str) -> str:
    """Return the path of the network namespace of a running machine. Raises `NotFound`, `Invalid` if it has none of its own, `Unavailable` if
    systemd-machined does not answer."""
    if not _NAME.match(name):
        raise Invalid("machine", name, "the name of a machine, as machinectl lists it")
    try:
        command = ["machinectl", "show", "--property=Leader", "--value", name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except FileNotFoundError:
        raise Unavailable(
            "systemd-machined", "there is no command machinectl (Debian's package systemd-container); use --pid"
        ) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable("systemd-machined", f"machinectl does not answer: {error}") from None
    leader = done.stdout.strip()
    if done.returncode == 0 and leader.isdigit() and int(leader) > 0:
        return namespace_of_process(int(leader), f"machine {name}")
    if done.returncode == 0 or "No machine" in done.stderr:
        raise NotFound("machine", name)
    raise Unavailable("systemd-machined", done.stderr.strip() or f"machinectl ended with {done.returncode}")


def namespace_of_process(pid: int, subject: str = "") -> str:
    """Return the path of the network namespace of a process. Raises `NotFound`, and `Invalid` for a process in the host's own namespace."""
    path = f"/proc/{pid}/ns/net"
    if not os.path.exists(f"/proc/{pid}"):
        raise NotFound("process", str(pid))
    if identity(path) == identity(OWN):
        remedy = "with --private-network, --network-veth or --network-namespace-path"
        expected = f"a container with a network namespace of its own: {subject or 'it'} shares the host's (start it {remedy})"
        raise Invalid("machine" if subject else "pid", subject.removeprefix("machine ") or pid, expected)
    return path
