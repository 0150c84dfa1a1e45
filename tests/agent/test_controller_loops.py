"""No exception ends a loop of the controller: it is shown in the status, and then the loop works again."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.conftest import Host
from tests.programs import program
from tests.waiting import PATIENTLY

LOOPS = ("reconciler", "bridge", "audit", "router advertisements", "tunnels", "gauge")


@pytest.fixture
def faults(host: Host, tmp_path: Path) -> Iterator[Path]:
    """A folder; the controller's loop raises an exception while the folder holds a file of its name."""
    host.stop("controller")
    env = host.env | {"WARREN_RESYNC_S": "0.5", "WARREN_ADVERTISE_S": "0.5", "WARREN_GAUGE_S": "1"}
    command = ["ip", "netns", "exec", host.switch.netns, *program("faulty_controller", tmp_path)]
    with (host.dir / "controller.log").open("ab") as log:
        host.processes["controller"] = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    host.until(lambda: host.http.get("/status").json()["hosts"][0]["current"])
    yield tmp_path
    host.stop("controller")
    host.start("controller")
    host.until(lambda: host.http.get("/status").json()["hosts"][0]["current"])


def problems(host: Host) -> list[str]:
    return [line for line in host.http.get("/status").json()["hosts"][0]["problems"] if "internal error" in line]


def test_every_loop_survives_an_exception_and_shows_it(host: Host, faults: Path) -> None:
    network, a, b = host.network(), host.container(), host.container()
    host.attach(network, a)
    target = str(host.attach(network, b)["target_veth_ip"]).split("/")[0]
    for loop in LOOPS:
        (faults / loop).touch()
        host.network()  # a change, which the feed brings
        host.until(lambda loop=loop: f"{loop}: internal error: Fault" in problems(host))
        assert host.inside(a, "ping", "-c1", PATIENTLY, target).returncode == 0
        (faults / loop).unlink()
        host.until(lambda: problems(host) == [] and host.http.get("/status").json()["hosts"][0]["current"])
    (faults / "announcements").touch()
    host.attach(network, host.container())
    host.until(lambda: "announcements: internal error: Fault" in problems(host))
    (faults / "announcements").unlink()
    host.attach(network, host.container())
    host.until(lambda: problems(host) == [])
    (faults / "feed of the specs").touch()
    host.network()
    log = host.dir / "controller.log"  # without the feed, no status comes to etcd
    host.until(lambda: "loop.failed name=feed of the specs" in log.read_text())
    (faults / "feed of the specs").unlink()
    host.until(lambda: problems(host) == [] and host.http.get("/status").json()["hosts"][0]["current"])
    host.attach(network, host.container())
    assert host.http.get("/hosts/h1/check").json()["missing"] == []
