"""SIGHUP: agent and controller read certificates and the level of their log again, and go on. Wrong settings of TLS: one line, exit code 2."""

from __future__ import annotations

import os
import shutil
import signal
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from tests.agent.conftest import ROOT, Host
from tests.agent.test_tls import certificates
from tests.waiting import LIMIT_S, eventually

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


def served(host: Host) -> bytes:
    """The certificate that a new connection to the agent gets."""
    pem = host.switch.exec(sys.executable, "-c", "import ssl; print(ssl.get_server_certificate(('127.0.0.1', 9999)))")
    return ssl.PEM_cert_to_DER_cert(pem)


def test_the_agent_takes_new_certificates_and_another_level(host: Host, tmp_path: Path) -> None:
    files, renewed, settings = tmp_path / "files", tmp_path / "renewed", tmp_path / "warren.env"
    for directory in (files, renewed):
        directory.mkdir()
        certificates(directory)
    host.stop("agent", signal.SIGTERM)
    host.env |= {
        f"HTTP_TLS_{part}": str(files / name) for part, name in (("CERT", "agent.pem"), ("KEY", "agent.key"), ("CA", "ca.pem"))
    }
    host.env["WARREN_SETTINGS"] = str(settings)
    host.start("agent")
    first = served(host)
    kept = host.http.get("/version")
    assert kept.status_code == 200
    for file in renewed.iterdir():
        shutil.copy(file, files)
    settings.write_text("WARREN_LOG=DEBUG\n")
    host.processes["agent"].send_signal(signal.SIGHUP)
    eventually(lambda: "agent.reloaded level=DEBUG" in host.log("agent"))
    second = served(host)
    assert (first == second, second) == (False, ssl.PEM_cert_to_DER_cert((renewed / "agent.pem").read_text()))
    assert host.http.get("/version").status_code == 200
    (files / "agent.key").write_text("nothing")
    settings.write_text("WARREN_LOG=INFO\n")
    host.processes["agent"].send_signal(signal.SIGHUP)
    eventually(lambda: "agent.reload_refused" in host.log("agent"))
    assert served(host) == second
    assert host.processes["agent"].poll() is None


def test_the_controller_goes_on(host: Host) -> None:
    endpoint = host.attach(host.network(ip_range="10.4.0.0/24"), host.container())
    settings = host.dir / "controller.env"
    host.stop("controller")
    log, before = host.dir / "controller.log", (host.dir / "controller.log").stat().st_size
    host.env |= {"WARREN_SETTINGS": str(settings)}
    host.start("controller")
    eventually(lambda: "datapath.connected" in log.read_text()[before:])
    settings.write_text("WARREN_LOG=DEBUG\n")
    host.processes["controller"].send_signal(signal.SIGHUP)
    eventually(lambda: "controller.reloaded level=DEBUG" in (host.dir / "controller.log").read_text())
    settings.write_text("WARREN_LOG=loud\n")
    host.processes["controller"].send_signal(signal.SIGHUP)
    eventually(lambda: "controller.reload_refused" in (host.dir / "controller.log").read_text())
    host.attach(str(endpoint["network_id"]), host.container())  # the feed goes on, and flows are made
    assert host.processes["controller"].poll() is None


@pytest.mark.parametrize("program", ["agent", "controller"])
@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"ETCD_TLS_CERT": "agent.pem"}, "ETCD_TLS_KEY is missing"),
        ({"ETCD_TLS_KEY": "agent.key"}, "ETCD_TLS_CERT is missing"),
        ({"ETCD_TLS_CERT": "agent.pem", "ETCD_TLS_KEY": "ca.key"}, "WARREN_ETCD_CERT: "),
        ({"ETCD_TLS_CERT": "none.pem", "ETCD_TLS_KEY": "agent.key"}, "WARREN_ETCD_CERT: "),
        ({"ETCD_CACERT": "ext"}, "WARREN_ETCD_CA: "),
        ({"ETCD_CACERT": "ca.pem", "ETCD_HOSTS": "http://127.0.0.1:2379"}, "ETCD_HOSTS: "),
    ],
    ids=range(6),
)
def test_half_a_set_for_etcd_ends_with_one_line(tmp_path: Path, program: str, environ: dict[str, str], message: str) -> None:
    certificates(tmp_path)
    scripts = Path(sys.executable).parent
    command = (
        [sys.executable, "-m", "agent.main"] if program == "agent" else [str(scripts / "ryu-manager"), "controller.apps.overlay"]
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith(("WARREN_", "ETCD_"))}
    env |= {"PYTHONPATH": str(ROOT), "WARREN_VTEP": "192.0.2.1", "WARREN_HTTP": "", "WARREN_SOCKET": str(tmp_path / "agent.sock")}
    env |= {name: value if "://" in value else str(tmp_path / value) for name, value in environ.items()}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=LIMIT_S, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith(f"warren-{program}: ")]
    assert len(lines) == 1, done.stderr
    assert message in lines[0]
    assert "Traceback" not in done.stderr
