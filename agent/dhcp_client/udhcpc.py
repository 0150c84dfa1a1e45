"""DHCP clients of this host's endpoints: processes that outlive the agent, and the files from which the next agent finds
them.

    DIRECTORY/clients/ENDPOINT   the pid, written by the client itself
    DIRECTORY/leases/ENDPOINT    the last event of the lease, written by agent/dhcp_client/udhcpc-hook

A client runs in the network namespace of its container but in none of the container's other namespaces, so processes of the
container see neither the client nor its files.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from agent.dhcp_client import addresses
from agent.linux import netns, survivors
from warren.errors import Unavailable, WarrenError

log = logging.getLogger("warren.udhcpc")

HOOK = Path(__file__).with_name("udhcpc-hook")
PATHS = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
# five requests, one every two seconds; then udhcpc calls the hook with `leasefail`, waits two seconds, and starts over
TIMING = ("-t", "5", "-T", "2", "-A", "2")
END_S = 2.0


@dataclass(slots=True)
class Clients:
    """The clients whose files are in one directory. The caller must not run two calls for one endpoint at the same time."""

    directory: Path
    _held: dict[str, survivors.Held] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.directory = self.directory.absolute()

    @property
    def pids(self) -> Path:
        """Return the directory of the clients' pid files."""
        return self.directory / "clients"

    @property
    def leases(self) -> Path:
        """Return the directory of the lease files, which the hook writes."""
        return self.directory / "leases"

    def endpoints(self) -> set[str]:
        """Return the ids of the endpoints that have a client, or had one when an earlier agent ended."""
        ids = set(self._held)
        for directory in (self.pids, self.leases):
            with contextlib.suppress(FileNotFoundError):
                ids |= {name for name in os.listdir(directory) if not name.startswith(".")}
        return ids

    def lives(self, endpoint_id: str) -> bool:
        """Return whether an endpoint's client runs; take over a client that an earlier agent started."""
        if endpoint_id not in self._held:
            self._find(endpoint_id)
        held = self._held.get(endpoint_id)
        if held is None:
            return False
        if not survivors.ends(held, 0):
            return True
        self._ended(endpoint_id)
        return False

    def namespace(self, endpoint_id: str) -> str | None:
        """Return the path of the network namespace that an endpoint's client is in; None if there is no client, or it has
        not written its pid yet."""
        pid = survivors.pid_in(self.pids / endpoint_id) if self.lives(endpoint_id) else None
        return f"/proc/{pid}/ns/net" if pid is not None else None

    def start(self, endpoint_id: str, where: str, interface: str, name: str | None, last: IPv4Address | None) -> None:
        """Start a client for an endpoint in the namespace at the path `where`. It requests the endpoint's `last` address
        first. Raises `Unavailable`."""
        program = _program()
        for directory in (self.directory, self.pids, self.leases):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in (self.leases / endpoint_id, self.pids / endpoint_id):
            path.unlink(missing_ok=True)
        request = ("-r", str(last)) if last is not None else ()
        host = ("-x", f"hostname:{hostname}") if (hostname := host_name(name or "")) else ()
        command = ("nsenter", f"--net={where}", "--", *program, "-f", "-R", "-i", interface, "-s", str(HOOK), *TIMING,
                   "-p", str(self.pids / endpoint_id), "-O", "staticroutes", *request, *host)  # fmt: skip
        environment = {"PATH": PATHS, "WARREN_LEASES": str(self.leases), "WARREN_ENDPOINT": endpoint_id}
        held = self._held[endpoint_id] = survivors.start(command, environment, quiet=True)
        log.info("client.started endpoint=%s interface=%s pid=%d", endpoint_id, interface, held.pid)

    def end(self, endpoint_id: str, then: Callable[[str], None] = lambda netns: None) -> None:
        """Stop an endpoint's client, which releases its lease, and remove its files. Waits until the release has left the
        namespace or the client was killed, and then calls `then` with the path of the namespace."""
        client = self._held.get(endpoint_id) if self.lives(endpoint_id) else None
        if client is not None:
            # the open file keeps the namespace alive: the client may be the last process in it
            with contextlib.suppress(OSError, WarrenError), netns.opened(f"/proc/{client.pid}/ns/net") as kept:
                signal.pidfd_send_signal(client.pidfd, signal.SIGTERM)
                if survivors.ends(client, END_S):
                    addresses.sent(f"/proc/self/fd/{kept}")
                else:
                    signal.pidfd_send_signal(client.pidfd, signal.SIGKILL)
                    survivors.ends(client, END_S)
                then(f"/proc/self/fd/{kept}")
            log.info("client.ended endpoint=%s", endpoint_id)
            self._ended(endpoint_id)
        for path in (self.pids / endpoint_id, self.leases / endpoint_id):
            path.unlink(missing_ok=True)

    def read_lease_file(self, endpoint_id: str) -> tuple[tuple[int, int], str] | None:
        """Return a mark that changes whenever the lease file is written again, and the file's text; None if there is no file
        yet."""
        with contextlib.suppress(FileNotFoundError), open(self.leases / endpoint_id) as lines:
            file = os.fstat(lines.fileno())
            return (file.st_mtime_ns, file.st_ino), lines.read()
        return None

    def _find(self, endpoint_id: str) -> None:
        """Take over a running client."""
        if (held := survivors.find(self.pids / endpoint_id)) is not None:
            self._held[endpoint_id] = held
            log.info("client.found endpoint=%s pid=%d", endpoint_id, held.pid)

    def _ended(self, endpoint_id: str) -> None:
        if (held := self._held.pop(endpoint_id, None)) is not None:
            survivors.release(held)


def host_name(name: str) -> str:
    """Return the endpoint's name in the form that DHCP servers accept as a host name: letters, digits and '-' (RFC 1123)."""
    return re.sub(r"[^A-Za-z0-9-]", "-", name)[:63].strip("-")


def _program() -> tuple[str, ...]:
    if not os.access(HOOK, os.X_OK):
        raise Unavailable(str(HOOK), "it is not executable: the installation is broken")
    if (udhcpc := shutil.which("udhcpc", path=PATHS)) is not None:
        return (udhcpc,)
    if (busybox := shutil.which("busybox", path=PATHS)) is not None:
        return busybox, "udhcpc"
    raise Unavailable("udhcpc", "not installed; install Debian's package udhcpc (or busybox)")
