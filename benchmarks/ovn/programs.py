"""The newest OVN of a Debian release: its packages are unpacked into a folder, nothing is installed, and its programs run
with the libraries of that folder. The folder is kept for the next run; remove it whenever it is no longer of use."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from tools.lab.run import LabError, sh

PACKAGES = ("ovn-central", "ovn-host")
TIMEOUT_S = 1800


class Programs:
    """The programs in an unpacked Debian."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (self.loader,) = root.glob("usr/lib/*-linux-gnu*/ld-linux*.so.*")

    def command(self, program: str, *words: str) -> tuple[str, ...]:
        """The command line that runs a program with its release's own libraries."""
        path = next(path for folder in ("usr/bin", "usr/sbin") if (path := self.root / folder / program).exists())
        return (str(self.loader), "--library-path", str(self.loader.parent), str(path), *words)

    def schema(self, name: str) -> str:
        """The file of a database's schema."""
        return str(self.root / "usr/share/ovn" / f"{name}.ovsschema")

    @property
    def version(self) -> str:
        """OVN's version."""
        return version(sh(*self.command("ovn-controller", "--version")))


def version(text: str) -> str:
    """The version in what `ovn-controller --version` prints."""
    match = re.match(r"ovn-controller (\S+)", text)
    return match[1] if match else "of unknown version"


def programs(folder: Path, suite: str) -> Programs:
    """The programs of a Debian release; fetched and unpacked below `folder` unless an earlier run has done so."""
    root = folder / suite
    if not root.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            unpacked = Path(temporary) / "root"
            _unpack(_packages(Path(temporary) / "packages", suite), unpacked)
            unpacked.rename(root)
    return Programs(root)


def _packages(folder: Path, suite: str) -> list[Path]:
    if shutil.which("debootstrap") is None:
        raise LabError("debootstrap is not installed: apt-get install debootstrap")
    command = [
        "debootstrap",
        "--download-only",
        "--variant=minbase",
        f"--include={','.join(PACKAGES)}",
        suite,
        str(folder),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    if done.returncode:
        raise LabError(f"debootstrap of {suite}: {(done.stderr.strip() or done.stdout.strip()).splitlines()[-1]}")
    return sorted((folder / "var/cache/apt/archives").glob("*.deb"))


def _unpack(packages: list[Path], root: Path) -> None:
    for package in packages:
        sh("dpkg-deb", "--extract", str(package), str(root))
