"""Containers of systemd-nspawn with a root of busybox, where neither systemd nor machined runs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.waiting import eventually
from tools.lab import run

BUSYBOX = Path("/bin/busybox")
PROGRAMS = ("sh", "ip", "ping", "udhcpc", "sleep", "nc", "httpd", "tftpd", "udpsvd", "cat", "ifconfig", "route")


def available() -> bool:
    """Whether Debian's systemd-container and busybox-static are installed."""
    return shutil.which("systemd-nspawn") is not None and BUSYBOX.exists()


def make_root(root: Path) -> Path:
    """Make a root file system; systemd-nspawn wants /usr and an os-release."""
    for directory in ("bin", "etc", "proc", "sys", "dev", "tmp", "run", "usr/lib", "usr/share/udhcpc", "srv"):
        (root / directory).mkdir(parents=True)
    shutil.copy(BUSYBOX, root / "bin/busybox")
    for name in PROGRAMS:
        (root / "bin" / name).symlink_to("busybox")
    (root / "usr/lib/os-release").write_text("ID=busybox\n")
    script = root / "usr/share/udhcpc/default.script"
    script.write_text("#!/bin/sh\n[ $1 = bound ] && ifconfig $interface $ip netmask $subnet mtu ${mtu:-1500} && "
                      "[ -n \"$router\" ] && route add default gw $router\nexit 0\n")  # fmt: skip
    script.chmod(0o755)
    return root


def words(root: Path, name: str, *options: str, netns: str | None = None) -> tuple[str, ...]:
    """The words that start a container; with `netns`, from a host of the laboratory."""
    nspawn = (
        "systemd-nspawn",
        "--register=no",
        "--keep-unit",
        "--quiet",
        "--read-only",
        f"--machine={name}",
        "-D",
        str(root),
        *options,
    )
    return run.in_netns(netns, *nspawn) if netns is not None else nspawn


def says(root: Path, name: str, script: str, *options: str, netns: str | None = None) -> str:
    """What a container prints that runs a script and ends."""
    command = (*words(root, name, *options, netns=netns), "/bin/sh", "-c", script)
    return subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL).stdout


@contextmanager
def running(root: Path, name: str, script: str, *options: str, netns: str | None = None) -> Iterator[int]:
    """A container that runs a script, for a while: the pid of its first process. It ends by SIGKILL."""
    command = (*words(root, name, *options, netns=netns), "/bin/sh", "-c", f"{script}\nsleep 1000")
    nspawn = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    eventually(lambda: _leader(nspawn.pid))
    leader = _leader(nspawn.pid)[0]
    try:
        yield leader
    finally:
        nspawn.kill()
        nspawn.wait()
        subprocess.run(["kill", "-9", str(leader)], stderr=subprocess.DEVNULL)
        eventually(lambda: not Path(f"/proc/{leader}/ns/net").exists())


def _leader(nspawn_pid: int) -> list[int]:
    """The first process of a container, once its program runs."""
    children = [int(pid) for pid in Path(f"/proc/{nspawn_pid}/task/{nspawn_pid}/children").read_text().split()]
    return [
        pid for pid in children if (comm := Path(f"/proc/{pid}/comm")).exists() and comm.read_text().strip() in ("sh", "sleep")
    ]
