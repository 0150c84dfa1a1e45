"""Runs podman with its CNI backend on a host of the laboratory; all its files are in one directory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.waiting import LIMIT_S
from tools.lab import run
from tools.lab.engine import BUSYBOX, IMAGE, image
from tools.lab.plan import HostPlan

# Debian's netavark knows no plugins; files instead of shared memory for locks, so that nobody else's podman is met
SETTINGS = """\
[network]
network_backend = "cni"
cni_plugin_dirs = ["{plugins}"]
network_config_dir = "{directory}/net.d"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
"""
STORAGE = """\
[storage]
driver = "vfs"
runroot = "{directory}/run"
graphroot = "{directory}/root"
"""


def available() -> bool:
    """Whether this machine has what it needs: Debian's podman, runc and busybox-static."""
    return bool(shutil.which("podman")) and bool(shutil.which("runc")) and BUSYBOX.exists()


class Podman:
    """podman in a host's network namespace, with a busybox image."""

    def __init__(self, host: HostPlan, directory: Path, plugins: Path) -> None:
        self.host, self.directory = host, directory
        (directory / "net.d").mkdir(parents=True)
        (directory / "containers.conf").write_text(SETTINGS.format(directory=directory, plugins=plugins))
        (directory / "storage.conf").write_text(STORAGE.format(directory=directory))
        (directory / "image.tar").write_bytes(image())
        self("import", str(directory / "image.tar"), IMAGE)

    def network(self, conflist: dict[str, Any]) -> None:
        """Give it a network."""
        (self.directory / "net.d" / f"{conflist['name']}.conflist").write_text(json.dumps(conflist))

    def attempt(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run podman; it may fail."""
        directory = self.directory
        places = (f"--root={directory}/root", f"--runroot={directory}/run", f"--tmpdir={directory}/tmp")
        settings = {"CONTAINERS_CONF": f"{directory}/containers.conf", "CONTAINERS_STORAGE_CONF": f"{directory}/storage.conf"}
        command = run.in_netns(self.host.netns, "podman", *places, *words)
        # a container's monitor lives on, and would hold a pipe open
        with (directory / "stdout").open("w+") as out, (directory / "stderr").open("w+") as err:
            done = subprocess.run(
                command,
                env={**os.environ, **settings},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                timeout=LIMIT_S,
                check=False,
            )
        texts = ((directory / name).read_text() for name in ("stdout", "stderr"))
        return subprocess.CompletedProcess(command, done.returncode, *texts)

    def __call__(self, *words: str) -> str:
        """podman's standard output. It must succeed."""
        done = self.attempt(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def start(self, name: str, network: str, *options: str, command: tuple[str, ...] = ("sleep", "3600")) -> str:
        """A container in the background; its address as podman has it."""
        self("run", "-d", "--name", name, "--network", network, *options, IMAGE, *command)
        return str(json.loads(self("inspect", name))[0]["NetworkSettings"]["Networks"][network.partition(":")[0]]["IPAddress"])

    def close(self) -> None:
        """Remove all containers and mounts."""
        self("rm", "-f", "-t", "0", "--all")
        for mounted in sorted((line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()), reverse=True):
            if mounted.startswith(f"{self.directory}/"):
                subprocess.run(["umount", "-l", mounted], check=False)
        shutil.rmtree(self.directory)
