"""A machine boots over a network of Warren, as a contestant's does: scripts/test-pxe makes what it boots."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.waiting import eventually, read_until
from tools.lab import run
from tools.lab.plan import LabPlan

SERVED = Path(os.environ.get("WARREN_PXE") or "")
MAC, ADDRESS, SERVER = "52:54:00:89:00:50", "10.89.0.50", "10.89.0.10"

pytestmark = pytest.mark.skipif(not os.environ.get("WARREN_PXE"), reason="scripts/test-pxe runs it")


@pytest.fixture
def plan() -> Iterator[LabPlan]:
    plan = LabPlan("p" + uuid.uuid4().hex[:4], 2)
    run.up(plan)
    try:
        yield plan
    finally:
        run.down(plan.name)


@contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[str]]:
    """A process, for a while."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def serve(plan: LabPlan, stack: ExitStack) -> None:
    """A container on h2 that has the boot files, by HTTP: a script of iPXE, the kernel and the initial file system."""
    made = run.container(plan, "server", "h2", "contest", ipv4_address=SERVER)
    netns = run.netns_of(plan, "server")
    run.sh("ip", "-n", netns, "addr", "add", made["target_veth_ip"], "dev", "eth0")
    script = [
        "#!ipxe",
        f"kernel http://{SERVER}/vmlinuz console=ttyS0 quiet panic=-1 mitigations=off ping={SERVER}",
        f"initrd http://{SERVER}/initrd",
        "boot",
    ]
    (SERVED / "boot.ipxe").write_text("\n".join([*script, ""]))
    stack.enter_context(running(*run.in_netns(netns, "busybox", "httpd", "-f", "-p", "80", "-h", str(SERVED))))


def test_a_machine_boots_over_the_network(plan: LabPlan) -> None:
    first = plan.hosts[0]
    reservations = [{"mac": MAC, "ipv4_address": ADDRESS}]
    boot = {"server": SERVER, "files": {"ipxe": f"http://{SERVER}/boot.ipxe"}}
    run.api(first, "POST", "/networks", name="contest", ip_range="10.89.0.0/24", dhcp=True, boot=boot, reservations=reservations)
    run.api(first, "POST", "/adoptions", match="vm-*", network="contest")
    tap = "tap,id=n0,ifname=vm-0,script=no,downscript=no,vnet_hdr=off"
    qemu = ("qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "512", "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot", "-machine", "pc,graphics=off",
            "-netdev", tap, "-device", f"virtio-net-pci,netdev=n0,mac={MAC},bootindex=1")  # fmt: skip
    with ExitStack() as stack:
        serve(plan, stack)
        machine = stack.enter_context(running(*run.in_netns(first.netns, *qemu)))
        console = read_until(machine, f"pxe: leased {ADDRESS} mtu 1446", f"pxe: answer from {SERVER}")
        assert "pxe: leased" in console
        endpoint = next(e for e in run.api(first, "GET", "/endpoints?states=true")["endpoints"] if e["device"] == "vm-0")
        assert (endpoint["target_veth_mac"], endpoint["target_veth_ip"], endpoint["state"]) == (MAC, f"{ADDRESS}/24", "up")
        for damage in (
            ("ovs-vsctl", f"--db=unix:{first.directory}/db.sock", "del-port", "vm-0"),
            ("ip", "-n", first.netns, "link", "set", "vm-0", "down"),
        ):
            before = run.sh("ip", "-n", first.netns, "-o", "link", "show", "vm-0").split(":")[0]
            run.sh(*damage)
            for _ in range(3):  # later than what the console had waiting
                read_until(machine, f"pxe: answer from {SERVER}")
            assert run.sh("ip", "-n", first.netns, "-o", "link", "show", "vm-0").split(":")[0] == before
    eventually(lambda: not [e for e in run.api(first, "GET", "/endpoints")["endpoints"] if e["device"]])
