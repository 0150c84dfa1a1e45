"""warren-underlay.service under a booted systemd: it starts as a user with one capability, is restarted when it hangs, reloads, and stops."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.booted import ROOT, Booted, available, booted, make_root
from tests.e2e.cloud import Cloud, instance
from tests.e2e.test_install import VENV, install
from tests.waiting import eventually

UNIT = "warren-underlay.service"
NICS: list[dict[str, Any]] = [
    {"mac": "02:00:00:00:06:01", "addresses": ["10.6.0.5", "10.6.0.6"], "subnets": ["10.6.0.0/24"]},
    {"mac": "02:00:00:00:06:02", "addresses": ["10.6.1.5", "10.6.1.6"], "subnets": ["10.6.1.0/24"]},
]
CONFIGURATION = '[System]\nRefreshTimer="1s"\n'
ADDRESSES = ["10.6.1.5/24", "10.6.1.6/24"]


class Unit:
    """The unit in its container, and the instance around it."""

    def __init__(self, world: Cloud, machine: Booted) -> None:
        self.world, self.machine = world, machine

    @property
    def pid(self) -> int:
        """The daemon's process, as the host sees it."""
        inside = self.machine.unit(UNIT)["MainPID"]
        for path in Path("/proc").glob("[0-9]*/status"):
            try:
                fields = dict(line.split(":\t", 1) for line in path.read_text().splitlines() if ":\t" in line)
            except OSError:
                continue
            if fields["NSpid"].split()[1:] == [inside] and os.stat(path.parent / "ns/pid").st_ino == self.namespace:
                return int(path.parent.name)
        raise AssertionError("the daemon does not run")

    @property
    def namespace(self) -> int:
        """The container's PID namespace."""
        return os.stat(f"/proc/{self.machine.leader}/ns/pid").st_ino

    def right(self) -> bool:
        """Whether the second NIC has its addresses, and the daemon nothing to complain of."""
        text = self.machine.run(str(VENV / "bin/python"), "-m", "underlay.cnctl", "status", "underlay").stdout
        return self.world.addresses(1) == ADDRESSES and "Site: aws/" in text and "Problem" not in text and "Differs" not in text

    def reload(self, configuration: str, logged: str) -> None:
        """Give the daemon another configuration, and wait for what it logs once more."""
        before = self.machine.journal(UNIT).count(logged)
        (self.machine.root / "etc/cloud-network/cloud-network.toml").write_text(configuration)
        assert self.machine.run("systemctl", "reload", UNIT).returncode == 0
        eventually(lambda: self.machine.journal(UNIT).count(logged) > before)

    @contextmanager
    def having(self, *addresses: str) -> Iterator[None]:
        """The cloud gives the second NIC other addresses, for a while."""
        before = self.world.instance["nics"][1]["addresses"]
        self.world.nic(1, addresses=list(addresses))
        try:
            yield
        finally:
            self.world.nic(1, addresses=before)


@pytest.fixture(scope="module")
def unit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Unit]:
    if os.geteuid() or not available():
        pytest.skip("needs root and systemd-container")
    root = make_root(tmp_path_factory.mktemp("booted") / "root")
    done = install(root, "install", WARREN_UNDERLAY="cloud")
    assert done.returncode == 0, done.stderr
    # a laboratory's firmware names no cloud; a watchdog of a minute is long
    drop_in = root / f"etc/systemd/system/{UNIT}.d/laboratory.conf"
    drop_in.parent.mkdir()
    program = next(
        line for line in (root / f"etc/systemd/system/{UNIT}").read_text().splitlines() if line.startswith("ExecStart=")
    )
    drop_in.write_text(f"[Service]\nExecStart=\n{program} --provider aws\nWatchdogSec=2\nEnvironment=PYTHONPATH={ROOT}\n")
    with instance("sd", "aws", NICS) as world:
        (root / "etc/cloud-network").mkdir()
        (root / "etc/cloud-network/cloud-network.toml").write_text(CONFIGURATION)
        with booted(root, f"sd{os.getpid()}", world.host) as machine:
            assert machine.run("systemctl", "start", UNIT).returncode == 0, machine.journal(UNIT)
            yield Unit(world, machine)


def test_it_starts_and_says_when_it_is_ready(unit: Unit) -> None:
    """systemctl returns once the addresses are right: READY=1 comes after the first reading."""
    unit.world.ip(unit.world.host, "addr flush dev eth1")
    restarted = unit.machine.run("systemctl", "restart", UNIT)
    assert restarted.returncode == 0, unit.machine.journal(UNIT)
    assert unit.world.addresses(1) == ADDRESSES
    shown = unit.machine.unit(UNIT)
    assert (shown["ActiveState"], shown["SubState"], shown["StatusText"], shown["NRestarts"]) == ("active", "running", "aws", "0")
    eventually(unit.right)
    for address in ("10.6.0.6", "10.6.1.5"):
        assert unit.world.way_out(address) == {f"f{address.split('.')[2]}"}
    listed = unit.machine.run("sh", "-c", "stat -c '%U %a' /run/cloud-network/system /run/cloud-network/links/*").stdout
    assert listed.splitlines() == ["cloud-network 640"] * 3


def test_its_sandbox_leaves_it_one_capability(unit: Unit) -> None:
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{unit.pid}/status").read_text().splitlines() if ":\t" in line)
    for name in ("CapEff", "CapPrm", "CapBnd"):
        assert int(status[name], 16) == 1 << 12, f"{name} is CAP_NET_ADMIN alone"
    assert status["Uid"].split() == ["977"] * 4
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    inside = ("nsenter", "-t", str(unit.pid), "-m", "--", "sh", "-c")
    for path in ("/etc", "/usr", "/var"):
        written = subprocess.run([*inside, f"echo x > {path}/probe"], capture_output=True, text=True)
        assert "Read-only file system" in written.stderr, path


def test_an_address_is_withdrawn_inside_the_sandbox(unit: Unit) -> None:
    """The first address of a subnet goes, for which promote_secondaries is set below /proc/sys."""
    with unit.having("10.6.1.6"):
        eventually(lambda: unit.world.addresses(1) == ["10.6.1.6/24"])
    eventually(unit.right)


def test_systemd_restarts_it_when_it_hangs(unit: Unit) -> None:
    before, restarts = unit.pid, int(unit.machine.unit(UNIT)["NRestarts"])
    os.kill(before, signal.SIGSTOP)
    eventually(lambda: int(unit.machine.unit(UNIT)["NRestarts"]) == restarts + 1)
    assert unit.world.addresses(1) == ADDRESSES, "what it has set stays"
    eventually(lambda: unit.machine.unit(UNIT)["ActiveState"] == "active")
    eventually(unit.right)
    assert unit.pid != before
    assert "Watchdog timeout" in unit.machine.journal(UNIT)


def test_it_reloads_its_configuration(unit: Unit) -> None:
    """`systemctl reload`, and a wrong file changes nothing."""
    before = unit.pid
    try:
        unit.reload('[System]\nRefreshTimer="1h"\nLogLevel="debug"\n', "underlay.reloaded")
        with unit.having("10.6.1.5", "10.6.1.6", "10.6.1.7"):  # read at once, and not in an hour
            unit.machine.run("systemctl", "reload", UNIT)
            eventually(lambda: unit.world.addresses(1) == [*ADDRESSES, "10.6.1.7/24"])
        unit.reload("[System", "the earlier one stays in force")
    finally:
        unit.reload(CONFIGURATION, "underlay.reloaded")
    eventually(unit.right)
    assert unit.pid == before


def test_it_stops_and_packets_go_on(unit: Unit) -> None:
    try:
        assert unit.machine.run("systemctl", "stop", UNIT).returncode == 0
        assert unit.machine.unit(UNIT)["Result"] == "success"
        assert unit.world.addresses(1) == ADDRESSES
        assert unit.world.way_out("10.6.1.6") == {"f1"}
    finally:
        unit.machine.run("systemctl", "start", UNIT)
    lines = unit.machine.journal(UNIT).splitlines()
    complaints = [
        line
        for line in lines
        if any(word in line for word in (" WARNING ", " ERROR ", "Traceback")) and "earlier one stays" not in line
    ]
    assert complaints == []
