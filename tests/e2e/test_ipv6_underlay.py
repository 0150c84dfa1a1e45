"""An underlay of IPv6, in a laboratory of its own: packets of full size between hosts, probes, and the check of their senders."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import World, complaints_of
from tests.e2e.test_tunnel_guard import Underlay, vxlan
from tests.waiting import PATIENTLY, eventually
from tools.lab import run
from tools.lab.plan import LabPlan


@pytest.fixture(scope="module")
def underlay() -> Iterator[Underlay]:
    if os.geteuid():
        pytest.skip("needs root")
    plan = LabPlan("s" + uuid.uuid4().hex[:4], 3, ipv6=True)
    run.up(plan)
    try:
        fixture = Underlay(World(plan))
        fixture.vni["amber"] = run.api(plan.hosts[0], "POST", "/networks", name="amber", ip_range="10.0.0.0/24")["network"][
            "vxlan_vni"
        ]
        for host in ("h1", "h2", "h3"):
            endpoint = run.container(plan, f"c{host[1]}", host, "amber")
            fixture.v4[f"c{host[1]}"], fixture.mac[f"c{host[1]}"] = (
                endpoint["target_veth_ip"].split("/")[0],
                endpoint["target_veth_mac"],
            )
        yield fixture
        for each in plan.hosts:
            checked = run.api(each, "GET", f"/hosts/{each.name}/check")
            assert [checked[part] for part in ("missing", "unexpected", "differences")] == [[], [], []]
        assert [line for each in plan.hosts for line in complaints_of(each.directory)] == []
    finally:
        run.down(plan.name)


def test_packets_of_full_size_cross_hosts_and_probes_come_back(underlay: Underlay) -> None:
    mtu = 1500 - 40 - 8 - 8 - 14 - 4
    assert f"mtu {mtu} " in underlay.world.inside("c1", "ip", "link", "show", "eth0").stdout
    size = str(mtu - 20 - 8)
    done = underlay.world.inside("c1", "ping", "-c3", "-i0.2", PATIENTLY, "-M", "do", "-s", size, underlay.v4["c2"])
    assert done.returncode == 0, done.stdout
    assert underlay.world.reaches("c1", underlay.v4["c3"])

    def healthy() -> bool:
        hosts = run.api(underlay.world.plan.hosts[0], "GET", "/status")["hosts"]
        return all(host["tunnels"] == {"known": 2, "broken": {}} for host in hosts)

    eventually(healthy)


def test_a_host_speaks_for_its_own_endpoints_only(underlay: Underlay) -> None:
    second, third = (
        vxlan(underlay.vni["amber"], underlay.frame(underlay.mac[name], "c1", underlay.v4[name])) for name in ("c2", "c3")
    )
    assert underlay.arrive("c1", ("h3", second), ("h2", third), ("h3", third), ("h2", second)) == [2, 3]
