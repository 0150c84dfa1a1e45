"""A Docker engine of its own in a host of a laboratory: dockerd in the host's namespace, with the host's agent as its driver.

It is this machine's own engine, or the newer one that scripts/install-engine puts beside it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.lab import run
from tools.lab.plan import LabPlan

BUSYBOX = Path("/bin/busybox")
PROGRAMS = Path("/usr/bin")
NEWER = Path(os.environ.get("WARREN_LAB_ENGINE") or "/var/cache/warren-lab/engine")  # scripts/install-engine
PLUGINS = Path("/run/docker/plugins")
IMAGE = "busybox"
APPLETS = ("sh", "sleep", "ping", "ping6", "ip", "cat", "nc", "httpd", "wget", "mkdir")
START_S = 60
PATIENT_S = 120


def available() -> bool:
    """Whether this machine has what engines need: Debian's docker.io and busybox-static."""
    return bool(shutil.which("dockerd")) and BUSYBOX.exists()


def newer_available() -> bool:
    """Whether scripts/install-engine has fetched the newer engine."""
    return available() and (NEWER / "dockerd").exists()


def image() -> bytes:
    """A root with busybox, as a tar: there is no registry to fetch one from."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("bin", "etc", "proc", "sys", "tmp", "dev"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        tar.add(BUSYBOX.resolve(), "bin/busybox")
        for name in APPLETS:
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    return buffer.getvalue()


class LabEngine:
    """dockerd in a host's namespace. `driver` is the name of its host's plugin; with `live_restore` containers outlive the engine.
    `programs` is the folder of dockerd and docker; what that lacks is the machine's own."""

    def __init__(self, plan: LabPlan, host: str, live_restore: bool = True, programs: Path = PROGRAMS) -> None:
        lab_host = plan.host(host)
        assert lab_host is not None
        self.host, self.plan, self.live_restore, self.programs = host, plan, live_restore, programs
        self.directory, self.netns = lab_host.directory, lab_host.netns
        self.driver = f"{plan.name}{host}"
        PLUGINS.mkdir(parents=True, exist_ok=True)
        self.link = PLUGINS / f"{self.driver}.sock"
        self.link.symlink_to(self.directory / "docker-plugin.sock")
        self.data = Path(f"/var/lib/warren-lab/{self.driver}")
        self.socket = self.directory / "docker.sock"
        self.process: subprocess.Popen[bytes] | None = None
        self.start_daemon()
        self.docker("import", "-", IMAGE, data=image())

    def start_daemon(self, wait: bool = True) -> None:
        """Start dockerd, unless it runs; `wait` until it answers."""
        if self.process is None or self.process.poll() is not None:
            directory, environment = self.directory, {**os.environ, "PATH": f"{self.programs}:{os.environ['PATH']}"}
            options = ["--iptables=false", "--ip6tables=false", "--ip-forward=false", "--bridge=none", f"--data-root={self.data}",
                       f"--exec-root={directory}/docker-exec", f"-H=unix://{directory}/docker.sock", f"--pidfile={directory}/docker.pid",
                       *(["--live-restore"] if self.live_restore else [])]  # fmt: skip
            with (directory / "docker.log").open("ab") as log:
                self.process = subprocess.Popen(
                    run.in_netns(self.netns, "dockerd", *options), stdout=log, stderr=log, start_new_session=True, env=environment
                )
        if wait:
            self.wait()

    def wait(self) -> None:
        """Wait until dockerd answers. Raises `LabError`."""
        deadline = time.monotonic() + START_S
        while self.try_docker("version").returncode:
            if time.monotonic() > deadline:
                raise run.LabError(f"dockerd of {self.host} does not answer within {START_S} s")
            time.sleep(0.2)

    def stop_daemon(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End dockerd. With SIGKILL its containerd goes too, and the containers go on."""
        if self.process is None or self.process.poll() is not None:
            return
        pidfile = self.directory / "docker-exec/containerd/containerd.pid"
        containerd = int(pidfile.read_text()) if how == signal.SIGKILL else 0
        self.process.send_signal(how)
        self.process.wait(60)
        if containerd:
            while run.lives(containerd):
                time.sleep(0.01)
            pidfile.unlink(
                missing_ok=True
            )  # the next dockerd would take a process that init has not waited for yet for a live one

    def command(self, *words: str) -> list[str]:
        """The docker client's command line for this engine."""
        return [str(self.programs / "docker"), "-H", f"unix://{self.socket}", *words]

    def compose(self, file: Path, *words: str) -> str:
        """Run the newer engine's docker compose. Raises `LabError` with its standard error."""
        command = [str(NEWER / "cli-plugins/docker-compose"), "-H", f"unix://{self.socket}", "-f", str(file), *words]
        return run.sh(*command)

    def try_docker(self, *words: str, data: bytes | None = None, timeout_s: float = 120) -> subprocess.CompletedProcess[bytes]:
        """Run the docker client; the exit code is not checked."""
        return subprocess.run(self.command(*words), input=data, capture_output=True, timeout=timeout_s, check=False)

    def docker(self, *words: str, data: bytes | None = None) -> str:
        """The standard output of the docker client. Raises `LabError` with its standard error."""
        done = self.try_docker(*words, data=data)
        if done.returncode:
            raise run.LabError(f"docker {' '.join(words)}: {done.stderr.decode().strip()}")
        return done.stdout.decode().strip()

    def refused(self, *words: str) -> str:
        """The error message of a refused command. Raises `LabError` if the engine accepts it."""
        done = self.try_docker(*words)
        if not done.returncode:
            raise run.LabError(f"docker {' '.join(words)}: expected a refusal")
        return done.stderr.decode()

    def run(self, name: str, network: str, *options: str, command: Sequence[str] = ("sleep", "3600")) -> str:
        """Start a container that sleeps; returns its address."""
        self.docker("run", "-d", "--name", name, *options, "--network", network, IMAGE, *command)
        return self.address(name, network)

    def inspect(self, *names: str) -> list[dict[str, Any]]:
        """The answer of `docker inspect`."""
        objects: list[dict[str, Any]] = json.loads(self.docker("inspect", *names)) if names else []
        return objects

    def address(self, name: str, network: str) -> str:
        """A container's address in a network, according to Docker."""
        return str(self.inspect(name)[0]["NetworkSettings"]["Networks"][network]["IPAddress"])

    def reaches(self, name: str, address: str) -> bool:
        """Whether a ping from a container is answered, however busy the machine is."""
        deadline = time.monotonic() + PATIENT_S
        while not (answered := self.pings(name, address)) and time.monotonic() < deadline:
            pass
        return answered

    def pings(self, name: str, address: str) -> bool:
        """Whether a ping from a container is answered within a second: for what must not be reached, and for a condition that is waited for."""
        ping = "ping6" if ":" in address else "ping"
        return not self.try_docker("exec", name, ping, "-c", "1", "-W", "1", address).returncode

    def networks(self) -> list[str]:
        """The ids of the networks that are Warren's."""
        return self.docker("network", "ls", "-q", "--no-trunc", "--filter", f"driver={self.driver}").split()

    def clean(self) -> None:
        """Remove all containers and Warren's networks."""
        if containers := self.docker("ps", "-aq").split():
            self.docker("rm", "-f", *containers)
        if networks := self.networks():
            self.docker("network", "rm", *networks)

    def close(self) -> None:
        """Stop the engine and remove its files."""
        try:
            self.start_daemon()
            self.clean()
        finally:
            self.stop_daemon()
            self.end_containers()
            self.link.unlink(missing_ok=True)
            for mounted in sorted((line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()), reverse=True):
                if f"{mounted}/".startswith((f"{self.data}/", f"{self.directory}/")):
                    subprocess.run(["umount", "-l", mounted], check=False)
            shutil.rmtree(self.data, ignore_errors=True)
            if self.data.parent.exists() and not any(self.data.parent.iterdir()):
                self.data.parent.rmdir()

    def end_containers(self) -> None:
        """End the leftovers of a killed dockerd: its shims, which name their engine, and their containers."""
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"{self.directory}/docker-exec".encode() not in (entry / "cmdline").read_bytes():
                    continue
                children = (entry / f"task/{entry.name}/children").read_text().split()
                subprocess.run(["kill", "-9", *children, entry.name], check=False)


@contextmanager
def engines(
    plan: LabPlan, hosts: Sequence[str], live_restore: Sequence[str] = (), programs: Path = PROGRAMS
) -> Iterator[list[LabEngine]]:
    """An engine on each host, gone at the end. On the hosts of `live_restore` containers outlive it."""
    started: list[LabEngine] = []
    try:
        for host in hosts:
            started.append(LabEngine(plan, host, host in live_restore, programs))
        yield started
    finally:
        for engine in started:
            engine.close()
