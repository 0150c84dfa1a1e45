"""What the controller's process loads."""

from __future__ import annotations

import subprocess
import sys

import pytest

from controller.framework import RYU
from tests.programs import ROOT

LOADED = "import sys, controller.framework.manager, ryu.cmd.manager, controller.apps.overlay; print(*sys.modules)"


@pytest.mark.skipif(not RYU, reason="os-ken's eventlet is another one")
def test_the_controller_loads_no_package_tools_and_no_dns_and_http_clients() -> None:
    """Ryu's eventlet would load them, although nothing here uses them: 25 MiB in each controller."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", LOADED], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "controller.reconcile" in done.stdout.split()
    assert not {"setuptools", "pkg_resources", "dns", "requests", "httpx"} & set(done.stdout.split())
