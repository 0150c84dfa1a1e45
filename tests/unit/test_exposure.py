"""Nothing listens beyond this host by default, and what does without TLS is told."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.config import load
from agent.exposed_api import ExposedApi
from agent.linux.host_ports import listeners
from tests.programs import ROOT
from tests.waiting import eventually
from warren.exposure import exposure


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_is_not_exposed(address: str) -> None:
    assert exposure("X", "it is", address, "help") is None


@pytest.mark.parametrize(("address", "shown"), [("192.0.2.1", "192.0.2.1"), ("fd00::1", "fd00::1"), ("h1", "h1"), ("", "all addresses"),
                                                ("0.0.0.0", "all addresses"), ("::", "all addresses")])  # fmt: skip
def test_every_other_address_is(address: str, shown: str) -> None:
    assert str(exposure("X", "it is", address, "help")).startswith(f"X: it is on {shown} without TLS; help")


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({}, False),
        ({"WARREN_HTTP": "127.0.0.1:9999"}, False),
        ({"WARREN_HTTP": "[::1]:9999"}, False),
        ({"WARREN_HTTP": ""}, False),
        ({"WARREN_HTTP": "192.0.2.1:9999"}, True),
        ({"WARREN_HTTP": "0.0.0.0:9999"}, True),
        ({"WARREN_HTTP": "[::]:9999"}, True),
        ({"HTTP_PORT": "9999"}, True),
        ({"WARREN_HTTP": "192.0.2.1:9999", "WARREN_TRUSTED_NETWORK": "on"}, False),
        ({"WARREN_HTTP": "192.0.2.1:9999"} | {f"WARREN_TLS_{part}": "file" for part in ("CERT", "KEY", "CA")}, False),
    ],
)
def test_an_api_without_tls_beyond_the_host_is_a_problem(
    environment: dict[str, str], problem: bool, caplog: pytest.LogCaptureFixture
) -> None:
    problems = ExposedApi(load(environment)).problems()
    assert bool(problems) == problem == any(record.levelname == "WARNING" for record in caplog.records)
    assert all("set WARREN_TLS_CERT, WARREN_TLS_KEY and WARREN_TLS_CA" in line for line in problems)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def ryu_manager(log: Path, *options: str) -> Iterator[int]:
    """`ryu-manager controller.apps.overlay`, without an etcd or a switch that answers. Yields its process id."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "WARREN_HOST": "h1",
        "WARREN_ETCD": "http://127.0.0.1:1",
        "WARREN_OVSDB": "unix:/none",
    }
    command = [sys.executable, "-c", "from controller.framework.manager import main; main()", *options, "controller.apps.overlay"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=output, stderr=output, start_new_session=True)
    try:
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize(("options", "address"), [((), "127.0.0.1"), (("--ofp-listen-host", "0.0.0.0"), "0.0.0.0")])
def test_openflow_is_on_loopback_unless_an_option_says_otherwise(tmp_path: Path, options: tuple[str, ...], address: str) -> None:
    port, log = free_port(), tmp_path / "log"
    with ryu_manager(log, *options, "--ofp-tcp-listen-port", str(port)):
        eventually(lambda: {str(listener.address) for listener in listeners("tcp") if listener.port == port} == {address})
    assert ("--ofp-listen-host: whoever reaches it can play a switch" in log.read_text()) == bool(options)
