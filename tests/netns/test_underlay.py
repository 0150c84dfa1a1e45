"""What the underlay's daemon makes of a kernel that changes while it writes, in a namespace."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network

import pytest

from agent.linux import netns
from underlay.kernel import converge, read
from underlay.model import Nic
from underlay.plan import Kernel, NetworkPlan, difference, phrases, plan

MAC = "02:00:00:00:01:02"
NIC = Nic(mac=MAC, addresses=(IPv4Interface("172.31.21.115/20"),), subnets=(IPv4Network("172.31.16.0/20"),))
WITH_IPV6 = replace(
    NIC,
    addresses=(*NIC.addresses, IPv6Interface("2600:1f14::15/64")),
    subnets=(*NIC.subnets, IPv6Network("2600:1f14::/64")),
)


@pytest.fixture
def host() -> Iterator[str]:
    name = f"un{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    ip(name, f"link add eth0 address {MAC} type veth peer name far", "link set far up", "link set eth0 up",
       "link add eth1 type veth peer name far1", "link set eth1 up", "addr add 10.7.0.1/24 dev eth1")  # fmt: skip
    yield name
    subprocess.run(["ip", "netns", "del", name], check=True)


def ip(host: str, *lines: str) -> None:
    for line in lines:
        subprocess.run(["ip", "-n", host, *line.split()], check=True)


def converged(host: str, nic: Nic, meanwhile: Callable[[], object]) -> tuple[list[str], list[str]]:
    """Carry out the plan for a NIC and a second table; `meanwhile` runs once, between the reading and the writes. Returns what was refused,
    and the phrases of what differs afterwards."""
    waiting = [meanwhile]

    def planned(kernel: Kernel) -> NetworkPlan:
        while waiting:
            waiting.pop()()
        return plan((nic,), kernel, supplementary=("eth1",))

    def work() -> tuple[list[str], list[str]]:
        _, _, refused = converge(planned)
        kernel = read()
        return refused, phrases(difference(planned(kernel), kernel), kernel)

    return netns.inside(host, work)


def test_a_link_that_goes_down_under_the_writes_is_no_refusal(host: str) -> None:
    refused, differing = converged(host, NIC, lambda: ip(host, "link set eth0 down"))
    assert (refused, differing) == ([], [])


def test_what_the_kernel_keeps_refusing_is_told_once_and_the_rest_is_there(host: str) -> None:
    forbid = ("ip", "netns", "exec", host, "sysctl", "-q", "-w", "net.ipv6.conf.eth0.disable_ipv6=1")
    refused, differing = converged(host, WITH_IPV6, lambda: subprocess.run(forbid, check=True))
    assert refused
    assert len(refused) == len(set(refused))
    assert all("2600:1f14::" in line for line in refused), refused
    assert all("2600:1f14::" in line for line in differing), differing
