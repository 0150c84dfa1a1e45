"""Fixture: a private Open vSwitch with its own network namespace, database, run directory and processes, so that test runs do not collide."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import LIMIT_S, eventually

SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")


class Switch:
    """ovsdb-server and ovs-vswitchd in the namespace `netns`; only processes started here are ever ended."""

    def __init__(self, dummy: bool) -> None:
        self.dummy = dummy
        self.netns = f"wt{uuid.uuid4().hex[:8]}"
        self.dir = Path(tempfile.mkdtemp(prefix="warren-ovs-"))
        self.remote = f"unix:{self.dir}/db.sock"
        self.env = {**os.environ, "OVS_RUNDIR": str(self.dir), "OVS_DBDIR": str(self.dir), "OVS_LOGDIR": str(self.dir)}
        self.db: subprocess.Popen[bytes] | None = None
        self.vswitchd: subprocess.Popen[bytes] | None = None
        self.run("ip", "netns", "add", self.netns)
        self.run("ip", "-n", self.netns, "link", "set", "lo", "up")
        self.run("ovsdb-tool", "create", f"{self.dir}/conf.db", str(SCHEMA))
        self.start_db()
        self.vsctl("--no-wait", "init")
        self.start_vswitchd()

    def run(self, *command: str) -> str:
        """Run a command to its end; its standard output."""
        done = subprocess.run(command, env=self.env, check=False, capture_output=True, text=True, timeout=LIMIT_S)
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    def exec(self, *command: str) -> str:
        """Run a command in the switch's namespace."""
        return self.run("ip", "netns", "exec", self.netns, *command)

    def vsctl(self, *arguments: str) -> str:
        """Run ovs-vsctl on the private database."""
        return self.run("ovs-vsctl", f"--db={self.remote}", "-t", "10", *arguments).strip()

    def start_db(self) -> None:
        """Start ovsdb-server and wait for its socket."""
        self.db = self._start("ovsdb-server", f"{self.dir}/conf.db", f"--remote=p{self.remote}")

        def listens() -> bool:
            assert self.db is not None
            assert self.db.poll() is None
            return (self.dir / "db.sock").exists()

        eventually(listens)

    def start_vswitchd(self) -> None:
        """Start ovs-vswitchd."""
        dummy = ("--enable-dummy=override", "--disable-system") if self.dummy else ()
        self.vswitchd = self._start("ovs-vswitchd", self.remote, *dummy)

    def _start(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        options = (f"--unixctl={self.dir}/{program}.ctl", f"--log-file={self.dir}/{program}.log", "-vconsole:off")
        return subprocess.Popen(["ip", "netns", "exec", self.netns, program, *arguments, *options], env=self.env)

    def stop(self, process: subprocess.Popen[bytes] | None) -> None:
        """End one process and wait for it."""
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=LIMIT_S)

    def stop_db(self) -> None:
        """End ovsdb-server."""
        self.stop(self.db)
        (self.dir / "db.sock").unlink(missing_ok=True)

    def close(self) -> None:
        """End everything."""
        self.stop(self.vswitchd)
        self.stop(self.db)
        subprocess.run(["ip", "netns", "del", self.netns], check=False, capture_output=True)
        shutil.rmtree(self.dir, ignore_errors=True)


def _usable() -> str | None:
    if os.geteuid() != 0:
        return "needs root"
    if not (shutil.which("ovs-vswitchd") or Path("/usr/sbin/ovs-vswitchd").exists()) or not SCHEMA.exists():
        return "needs Open vSwitch"
    return None


def _switch(dummy: bool) -> Iterator[Switch]:
    if reason := _usable():
        pytest.skip(reason)
    switch = Switch(dummy)
    try:
        yield switch
    finally:
        switch.close()


@pytest.fixture
def switch() -> Iterator[Switch]:
    """A switch with a real userspace datapath."""
    yield from _switch(dummy=False)


@pytest.fixture
def dummy_switch() -> Iterator[Switch]:
    """A switch that accepts ports without interfaces behind them."""
    yield from _switch(dummy=True)
