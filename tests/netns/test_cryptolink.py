"""The namespace of encrypted tunnels, made by an agent whose mounts do not reach the host, as in systemd's sandbox."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.linux import cryptolink, named_namespaces
from agent.linux import netns as namespaces
from agent.linux.wireguard import Traffic, WireguardDevice, WireguardPeer
from tests.programs import ROOT

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
HOST = (
    "unshare",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount",
    "--propagation",
    "unchanged",
    "--mount-proc",
)  # a process 1 to look at
SANDBOX = f"unshare --mount --propagation slave {sys.executable} -c"
IPV6_OFF = Path("/proc/sys/net/ipv6/conf/all/disable_ipv6")


@pytest.fixture
def name() -> Iterator[str]:
    name = f"wt{uuid.uuid4().hex[:8]}"
    yield name
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def in_sandbox(call: str, name: str) -> None:
    """Run a function of `cryptolink` in a process with mounts of its own, which then ends."""
    program = f"from agent.linux import cryptolink; cryptolink.{call}('{name}')"
    subprocess.run([*HOST, "sh", "-c", f'{SANDBOX} "{program}"; exit $?'], cwd=ROOT, check=True)


def test_the_next_agent_finds_the_namespace(name: str) -> None:
    before = IPV6_OFF.read_text()
    in_sandbox("make_netns", name)
    assert named_namespaces.is_ours(name)
    assert namespaces.inside(name, IPV6_OFF.read_text) == "1\n"
    assert IPV6_OFF.read_text() == before
    in_sandbox("remove_netns", name)
    assert not named_namespaces.exists(name)


def test_what_an_earlier_namespace_has_left_is_replaced(name: str) -> None:
    """A file that nothing is mounted on, and a namespace without the mark."""
    for left in (["touch", f"/run/netns/{name}"], ["ip", "netns", "add", name]):
        subprocess.run(left, check=True)
        assert not named_namespaces.is_ours(name)
        cryptolink.make_netns(name)
        assert named_namespaces.is_ours(name)
        cryptolink.remove_netns(name)


def test_secrets_are_in_no_text() -> None:
    peer = WireguardPeer(public_key="public", secret="hidden", endpoint="192.0.2.1:51820", allowed="100.125.0.2/32")
    assert "hidden" not in repr(WireguardDevice(private_key="hidden", port=1, peers={"public": (peer, Traffic())}))
