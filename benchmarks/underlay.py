"""How long warren-underlay takes until an instance's addresses, routes and rules are right, what a refresh costs, and its memory.

The instance is a namespace with veths for NICs; the metadata service runs beside the daemon, so nothing is on the way.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.laboratory import pss
from tools.lab import run

NICS, ADDRESSES = 50, 30
REFRESHES = 3
STEP_S = 0.02
LIMIT_S = 120.0


def underlay(cloud: str, rounds: int) -> dict[str, list[float]]:
    """Figures of one provider: seconds from the start of the process until all addresses are there (`until right`) and until a second one
    starts over what the first left (`restart`), milliseconds of processor time of a refresh that finds nothing to do (`refresh`),
    requests of the first reading and of a refresh (`first requests`, `requests`), and MiB (`memory`)."""
    whats = ("until right", "restart", "refresh", "first requests", "requests", "memory")
    figures: dict[str, list[float]] = {what: [] for what in whats}
    for _ in range(rounds):
        with _instance(cloud) as (netns, directory):
            for what in ("until right", "restart"):
                began = time.monotonic()
                with _daemon(netns, directory, cloud) as pid:
                    _until(lambda: _age(netns) is not None and _addresses(netns) == NICS * ADDRESSES)
                    figures[what].append(time.monotonic() - began)
                    if what == "restart":
                        log = directory / "requests"
                        figures["refresh"].append(_refresh_ms(netns, pid, log))
                        first, *_, last = _requests(log)
                        figures["first requests"].append(first)
                        figures["requests"].append(last)
                        figures["memory"].append(pss(pid) / (1 << 20))
    return figures


@contextmanager
def _instance(cloud: str) -> Iterator[tuple[str, Path]]:
    """The namespace of an instance with its metadata service, and a directory."""
    netns = f"u{uuid.uuid4().hex[:6]}"
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        directory = Path(name)
        directory.chmod(0o755)  # for the daemon's user
        nics = [_nic(number) for number in range(NICS)]
        places = {"region": "eu-west-1", "zone": "eu-west-1a", "vpc": "vpc-1", "name": "wide"}
        (directory / "instance.json").write_text(json.dumps({"cloud": cloud, **places, "nics": nics, "faults": {}}))
        (directory / "cloud-network.toml").write_text('[System]\nRefreshTimer="1s"\nLogLevel="warning"\n')
        run.sh("ip", "netns", "add", netns)
        stack.callback(run.sh, "ip", "netns", "del", netns)
        links = [f"link add eth{number} address {nic['mac']} type veth peer name far{number}" for number, nic in enumerate(nics)]
        lines = ["link set lo up", "addr add 169.254.169.254/32 dev lo", *links]
        subprocess.run(["ip", "-n", netns, "-batch", "-"], input="\n".join(lines), text=True, check=True)
        files = ("--instance", str(directory / "instance.json"), "--log", str(directory / "requests"))
        server = subprocess.Popen(
            run.in_netns(netns, sys.executable, "-m", "tools.lab.metadata", *files), stderr=subprocess.DEVNULL
        )
        stack.callback(_end, server)
        yield netns, directory


def _nic(number: int) -> dict[str, Any]:
    addresses = [f"10.4.{number}.{last}" for last in range(5, 5 + ADDRESSES)]
    return {"mac": f"02:00:00:00:04:{number:02x}", "addresses": addresses, "subnets": [f"10.4.{number}.0/24"]}


@contextmanager
def _daemon(netns: str, directory: Path, cloud: str) -> Iterator[str]:
    """The daemon's process id, while it runs."""
    options = (
        "--provider",
        cloud,
        "--config",
        str(directory / "cloud-network.toml"),
        "--state",
        str(directory / "state"),
        "--user",
        "nobody",
    )
    process = subprocess.Popen(run.in_netns(netns, sys.executable, "-m", "underlay.main", *options))
    try:
        yield str(process.pid)
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(30)


def _until(right: Any) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not right():
        if time.monotonic() > deadline:
            raise run.LabError(f"the instance is not right after {LIMIT_S:.0f} s")
        time.sleep(STEP_S)


def _age(netns: str) -> float | None:
    """Seconds since the daemon's last reading; None before the first."""
    command = run.in_netns(netns, "curl", "-s", "-m", "10", "http://127.0.0.1:5209/api/cloud/status")
    text = subprocess.run(command, capture_output=True, text=True).stdout
    return json.loads(text)["age_s"] if text else None


def _addresses(netns: str) -> int:
    """How many addresses the NICs have."""
    done = subprocess.run(
        ["ip", "-n", netns, "-4", "-o", "addr", "show", "scope", "global"], capture_output=True, text=True, check=True
    )
    return sum(" eth" in line for line in done.stdout.splitlines())


def _readings(log: Path) -> int:
    """How often the daemon has begun to read: each reading begins with the same request."""
    lines = [line for line in log.read_text().splitlines() if "token" not in line]
    return lines.count(lines[0])


def _refresh_ms(netns: str, pid: str, log: Path) -> float:
    """Processor time of a refresh that finds nothing to do: that of several, over their number."""
    begun, used = _readings(log), _processor_ms(pid)
    _until(lambda: _readings(log) >= begun + REFRESHES)
    return (_processor_ms(pid) - used) / (_readings(log) - begun)


def _requests(log: Path) -> list[int]:
    """Requests of each whole reading."""
    lines = [line for line in log.read_text().splitlines() if "token" not in line]
    begins = [number for number, line in enumerate(lines) if line == lines[0]]
    return [after - before for before, after in itertools.pairwise(begins)]


def _processor_ms(pid: str) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")
