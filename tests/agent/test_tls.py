"""HTTPS with required client certificates (SAND's HTTP_TLS_* variables)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.agent.conftest import ROOT, Host
from tests.waiting import LIMIT_S


def certificates(directory: Path) -> None:
    """An authority, and a certificate for 127.0.0.1 that serves and asks."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")  # Python 3.13 and later refuse an authority without it
    openssl("req", "-x509", *key, *usage, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test authority")
    openssl("req", *key, "-keyout", "agent.key", "-out", "agent.csr", "-subj", "/CN=agent")
    (directory / "ext").write_text("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
    signer = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "ext")
    openssl("x509", "-req", "-in", "agent.csr", *signer, "-out", "agent.pem")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_only_clients_with_a_certificate_are_served(host: Host, tmp_path: Path) -> None:
    certificates(tmp_path)
    files = {"CERT": tmp_path / "agent.pem", "KEY": tmp_path / "agent.key", "CA": tmp_path / "ca.pem"}
    host.stop("agent", signal.SIGTERM)
    host.env |= {f"HTTP_TLS_{part}": str(path) for part, path in files.items()}
    host.start("agent")

    def warren(**more: str) -> subprocess.CompletedProcess[str]:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("WARREN_", "SAND_"))}
        env |= {"WARREN_URL": "https://127.0.0.1:9999", "PYTHONPATH": str(ROOT), **more}
        command = ["ip", "netns", "exec", host.switch.netns, sys.executable, "-m", "tools.cli.main", "host", "list", "--json"]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=LIMIT_S, check=False)

    good = warren(**{f"SAND_{part}_FILE": str(path) for part, path in files.items()})
    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)[0]["name"] == "h1"
    for bad in (warren(SAND_CA_FILE=str(files["CA"])), warren(), warren(WARREN_URL="http://127.0.0.1:9999")):
        assert bad.returncode == 2
        assert bad.stderr.count("\n") == 1
        assert "Traceback" not in bad.stderr
    assert host.http.get("/version").status_code == 200  # the unix socket is guarded by its mode
    assert (host.dir / "agent.sock").stat().st_mode & 0o777 == 0o660
