"""`warren acl import` against an agent: what is in force, the three parts of the summary, the exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.agent.conftest import ROOT, Host
from tests.waiting import LIMIT_S

FILE = """\
acls:
  office-in: [{rule: {dl_type: 0x800, nw_proto: 1, actions: {allow: 1}}}]
  web: [{dl_type: 0x806, actions: {allow: 1}}]
vlans:
  office: {vid: 100, acls_in: [office-in]}
dps:
  sw1:
    dp_id: 1
    interfaces:
      1: {name: web-1, native_vlan: office, acl_in: web}
      2: {name: web-2, native_vlan: office}
"""


def imported(host: Host, file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "tools.cli.main",
        "--url",
        f"unix://{host.dir}/agent.sock",
        "acl",
        "import",
        str(file),
        *options,
    ]
    return subprocess.run(command, env={**host.env, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=LIMIT_S)


@pytest.fixture(scope="module")
def office(host: Host) -> Host:
    network = host.network(name="office", ip_range="10.3.0.0/24")
    for name in ("web-1", "web-2"):
        host.attach(network, host.container(), name=name)
    return host


def test_a_vlans_list_becomes_the_networks(office: Host, tmp_path: Path) -> None:
    file = tmp_path / "faucet.yaml"
    file.write_text(FILE)
    done = imported(office, file, "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert office.http.get("/networks/office").json()["network"]["default_acl"] == []
    done = imported(office, file, "--wait")
    assert (done.returncode, done.stderr) == (0, "")
    assert "NOT in force (0):" in done.stdout
    assert "network office: default_acl office-in" in done.stdout
    assert office.http.get("/networks/office").json()["network"]["default_acl"] == ["office-in"]
    lists = {e["name"]: e["acls"] for e in office.http.get("/endpoints").json()["endpoints"]}
    assert (lists["web-1"], lists["web-2"]) == (["web"], None)  # a list of its own wins
    source, target = office.namespaces[:2]
    address = office.http.get("/endpoints/office/web-1").json()["endpoint"]["target_veth_ip"].partition("/")[0]
    assert office.inside(f"/run/netns/{target}", "ping", "-c1", "-W1", address).returncode != 0  # ARP is not in the list
    assert source != target


def test_policy_that_is_left_out_is_exit_code_3(office: Host, tmp_path: Path) -> None:
    file = tmp_path / "faucet.yaml"
    file.write_text(FILE.replace("name: web-2", "name: web-9, acl_in: web").replace("dp_id: 1", "dp_id: 1\n    dp_acls: []"))
    for options in (("--dry-run",), ()):
        done = imported(office, file, *options)
        assert (done.returncode, done.stderr) == (3, "")
        part = done.stdout.partition("NOT in force (1):\n")[2]
        assert part.startswith(f"  {file}:12: dps.sw1.interfaces.2.acl_in: no endpoint is called web-9 or 2")
        assert "Harmless" in part
