"""A booted systemd in a container of systemd-nspawn, with the system's /usr and the project's files, in a network namespace that exists."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.waiting import eventually

ROOT = Path(__file__).parent.parent.parent
CGROUPS = [
    Path("/sys/fs/cgroup") / name for name in ("systemd", "unified", "")
]  # of versions 1 and 2; a machine has some of them
SYSTEMD = Path("/usr/lib/systemd/systemd")
ACCOUNT = "cloud-network:x:977:977::/nonexistent:/usr/sbin/nologin"


def available() -> bool:
    """Whether Debian's systemd-container is installed."""
    return shutil.which("systemd-nspawn") is not None and SYSTEMD.exists()


class Booted:
    """A container in which systemd runs."""

    def __init__(self, root: Path, leader: int) -> None:
        self.root, self.leader = root, leader

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        words = ["nsenter", "-t", str(self.leader), "-m", "-p", "-u", "-i", "-n", "--", *command]
        return subprocess.run(words, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)

    def unit(self, name: str) -> dict[str, str]:
        """The properties of a unit."""
        lines = self.run("systemctl", "show", name).stdout.splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def journal(self, unit: str) -> str:
        """What a unit has logged."""
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit).stdout


def make_root(root: Path) -> Path:
    """Make a root file system without /usr, with the account of the underlay's daemon."""
    for directory in ("etc", "var", "run", "tmp", "proc", "sys", "dev", "usr", "root"):
        (root / directory).mkdir(parents=True)
    for link in ("bin", "sbin", "lib", "lib64"):
        (root / link).symlink_to(f"usr/{link}")
    etc = root / "etc"
    (etc / "machine-id").write_text("")
    shutil.copy("/etc/os-release", etc / "os-release")
    (etc / "passwd").write_text(f"root:x:0:0:root:/root:/bin/sh\n{ACCOUNT}\n")
    (etc / "group").write_text("root:x:0:\ncloud-network:x:977:\n")
    (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\n")
    return root


@contextmanager
def booted(root: Path, name: str, netns: str) -> Iterator[Booted]:
    """Boot it, in control groups of its own; it ends by SIGKILL. Its units are those of its /etc/systemd/system, besides basic.target."""
    venv = Path(sys.prefix)
    command = ("systemd-nspawn", "--register=no", "--keep-unit", "--quiet", f"--machine={name}", "-D", str(root), "--console=pipe",
               f"--network-namespace-path=/run/netns/{netns}", "--capability=CAP_NET_ADMIN", "--bind-ro=/usr", f"--bind-ro={ROOT}", f"--bind-ro={venv}", "--boot",
               "systemd.unit=basic.target")  # fmt: skip
    groups = [directory / name for directory in CGROUPS if (directory / "cgroup.procs").exists()]
    for group in groups:
        group.mkdir()
    enter = "".join(f"echo $$ >{group}/cgroup.procs; " for group in groups)
    with (root.parent / f"{name}.log").open("wb") as log:
        shell = ["sh", "-c", f'{enter}exec "$@"', "sh", *command]
        nspawn = subprocess.Popen(shell, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        eventually(lambda: nspawn.poll() is not None or _leader(nspawn.pid))
        assert nspawn.poll() is None, (root.parent / f"{name}.log").read_text()
        machine = Booted(root, _leader(nspawn.pid)[0])
        eventually(lambda: machine.run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded"))
        yield machine
    finally:
        leaders = _leader(nspawn.pid)
        nspawn.kill()
        nspawn.wait()
        for leader in leaders:
            subprocess.run(["kill", "-9", str(leader)], stderr=subprocess.DEVNULL)
            eventually(lambda pid=leader: not Path(f"/proc/{pid}/ns/net").exists())  # type: ignore[misc]
        for group in groups:
            eventually(lambda path=group: _removed(path))  # type: ignore[misc]


def _removed(group: Path) -> bool:
    """Remove a control group with those in it, once the last process has gone; return whether it is gone."""
    subprocess.run(["find", str(group), "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"], capture_output=True)
    return not group.exists()


def _leader(nspawn_pid: int) -> list[int]:
    """The container's systemd, once it runs."""
    children = Path(f"/proc/{nspawn_pid}/task/{nspawn_pid}/children")
    pids = [int(pid) for pid in children.read_text().split()] if children.exists() else []
    return [pid for pid in pids if (comm := Path(f"/proc/{pid}/comm")).exists() and comm.read_text().strip() == "systemd"]
