"""DHCP clients of this host's endpoints: processes that outlive the agent, and the files by which the next one finds them.

    DIRECTORY/clients/ENDPOINT   the pid, written by the client itself
    DIRECTORY/leases/ENDPOINT    what has become of the lease, written by agent/dhcp_client/udhcpc-hook

A client is in the network namespace of its container and in no other of its namespaces: nothing there sees it or its files.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import select
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from agent.dhcp_client import addresses as leased
from agent.linux import netns
from warren.errors import Unavailable, WarrenError

log = logging.getLogger("warren.udhcpc")

HOOK = Path(__file__).with_name("udhcpc-hook")
PATHS = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
ASK = ("-t", "5", "-T", "2", "-A", "2")  # five questions, one every two seconds; then the hook is told, and it begins again
END_S = 2.0


@dataclass(slots=True)
class Clients:
    """The clients below one directory. An endpoint's calls are its caller's to order."""

    directory: Path
    _held: dict[str, tuple[int, int]] = field(default_factory=dict)  # endpoint id to pid and pidfd: a pid may be another's by now

    def __post_init__(self) -> None:
        self.directory = self.directory.absolute()

    @property
    def pids(self) -> Path:
        """Where they write who they are."""
        return self.directory / "clients"

    @property
    def leases(self) -> Path:
        """Where their hook writes."""
        return self.directory / "leases"

    def endpoints(self) -> set[str]:
        """The endpoints that have a client, or had one when an agent was last here."""
        found: set[str] = set(self._held)
        for directory in (self.pids, self.leases):
            with contextlib.suppress(FileNotFoundError):
                found |= {name for name in os.listdir(directory) if not name.startswith(".")}
        return found

    def lives(self, endpoint_id: str) -> bool:
        """Whether an endpoint's client runs. One that an agent before this one has started is taken over."""
        if endpoint_id not in self._held:
            self._find(endpoint_id)
        held = self._held.get(endpoint_id)
        if held is None:
            return False
        if not _ends(held[1], 0):
            return True
        self._ended(endpoint_id)
        return False

    def namespace(self, endpoint_id: str) -> str | None:
        """The path of the network namespace that a client is in; None without one, and for one that only just begins."""
        pid = self._pid(endpoint_id) if self.lives(endpoint_id) else None
        return f"/proc/{pid}/ns/net" if pid is not None else None

    def start(self, endpoint_id: str, where: str, interface: str, name: str | None, last: IPv4Address | None) -> None:
        """Start one in the namespace at the path `where`, which asks for the address that the endpoint had `last`. Raises `Unavailable`."""
        program = _program()
        for directory in (self.directory, self.pids, self.leases):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in (self.leases / endpoint_id, self.pids / endpoint_id):
            left.unlink(missing_ok=True)
        wish = ("-r", str(last)) if last is not None else ()
        host = ("-x", f"hostname:{told}") if (told := host_name(name or "")) else ()
        command = ("nsenter", f"--net={where}", "--", *program, "-f", "-R", "-i", interface, "-s", str(HOOK), *ASK,
                   "-p", str(self.pids / endpoint_id), "-O", "staticroutes", *wish, *host)  # fmt: skip
        environment = {"PATH": PATHS, "WARREN_LEASES": str(self.leases), "WARREN_ENDPOINT": endpoint_id}
        try:
            child = subprocess.Popen(
                command, env=environment, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise Unavailable("nsenter", f"does not run ({error.strerror})") from None
        child.returncode = 0  # `_ended` waits for it: it may be another agent's child by then
        self._held[endpoint_id] = child.pid, os.pidfd_open(child.pid)
        log.info("client.started endpoint=%s interface=%s pid=%d", endpoint_id, interface, child.pid)

    def end(self, endpoint_id: str, then: Callable[[str], None] = lambda netns: None) -> None:
        """End an endpoint's client, which gives its lease back, and forget it. Returns when that is on its way, and `then` is done
        in the namespace that the client was in."""
        client = self._held.get(endpoint_id) if self.lives(endpoint_id) else None
        if client is not None:
            pid, held = client
            # it may be the last one in its namespace
            with contextlib.suppress(OSError, WarrenError), netns.opened(f"/proc/{pid}/ns/net") as kept:
                signal.pidfd_send_signal(held, signal.SIGTERM)
                if _ends(held, END_S):
                    leased.sent(f"/proc/self/fd/{kept}")
                else:
                    signal.pidfd_send_signal(held, signal.SIGKILL)
                    _ends(held, END_S)
                then(f"/proc/self/fd/{kept}")
            log.info("client.ended endpoint=%s", endpoint_id)
            self._ended(endpoint_id)
        for left in (self.pids / endpoint_id, self.leases / endpoint_id):
            left.unlink(missing_ok=True)

    def told(self, endpoint_id: str) -> tuple[tuple[int, int], str] | None:
        """What has become of a lease, and a mark that changes with it; None: nothing yet."""
        with contextlib.suppress(FileNotFoundError), open(self.leases / endpoint_id) as lines:
            file = os.fstat(lines.fileno())
            return (file.st_mtime_ns, file.st_ino), lines.read()
        return None

    def _find(self, endpoint_id: str) -> None:
        """A process that says that it is this client, and that no container can have started."""
        pid = self._pid(endpoint_id)
        if pid is None:
            return
        with contextlib.suppress(OSError):
            held = os.pidfd_open(pid)
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            ours = os.stat("/proc/self/ns/pid").st_ino == os.stat(f"/proc/{pid}/ns/pid").st_ino
            if ours and str(self.pids / endpoint_id).encode() in words:
                self._held[endpoint_id] = pid, held
                log.info("client.found endpoint=%s pid=%d", endpoint_id, pid)
            else:
                os.close(held)

    def _pid(self, endpoint_id: str) -> int | None:
        try:
            return int((self.pids / endpoint_id).read_text())
        except (OSError, ValueError):
            return None

    def _ended(self, endpoint_id: str) -> None:
        held = self._held.pop(endpoint_id, None)
        if held is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PIDFD, held[1], os.WEXITED | os.WNOHANG)
            os.close(held[1])


def _ends(pidfd: int, timeout_s: float) -> bool:
    """Whether a process has ended, or does in time (pidfd_open(2))."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


def host_name(name: str) -> str:
    """What a server is told that the endpoint is called: letters, digits and '-' (RFC 1123)."""
    return re.sub(r"[^A-Za-z0-9-]", "-", name)[:63].strip("-")


def _program() -> tuple[str, ...]:
    if not os.access(HOOK, os.X_OK):
        raise Unavailable(str(HOOK), "it is no program: the installation is broken")
    if (found := shutil.which("udhcpc", path=PATHS)) is not None:
        return (found,)
    if (found := shutil.which("busybox", path=PATHS)) is not None:
        return found, "udhcpc"
    raise Unavailable("udhcpc", "it is not there; Debian's package: udhcpc (or busybox)")
