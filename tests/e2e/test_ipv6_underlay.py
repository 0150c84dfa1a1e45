"""An underlay of IPv6, in a laboratory of its own: packets of full size between hosts, probes, and the check of their senders."""

from __future__ import annotations

import os
import uuid
from collections import defaultdict
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import World, complaints_of
from tests.e2e.test_tunnel_guard import Underlay, vxlan
from tests.programs import program, ready
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
        return all(host["tunnels"] == {"known": 2, "broken": {}, "profiles": {}} for host in hosts)

    eventually(healthy)


def test_a_host_speaks_for_its_own_endpoints_only(underlay: Underlay) -> None:
    second, third = (
        vxlan(underlay.vni["amber"], underlay.frame(underlay.mac[name], "c1", underlay.v4[name])) for name in ("c2", "c3")
    )
    assert underlay.arrive("c1", ("h3", second), ("h2", third), ("h3", third), ("h2", second)) == [2, 3]


def test_members_of_a_service_on_other_hosts_answer(underlay: Underlay) -> None:
    """TCP and UDP, with IPv4 and IPv6. Replies cross the underlay back to the host by which the connection came in."""
    world = underlay.world
    world.apply(networks=[{"name": "mall", "ip_range": "10.30.0.0/24", "ipv6_range": "fd30::/64", "mode": "nat"}])
    for name, at in (("s1", "h1"), ("s2", "h2"), ("s3", "h3")):
        run.container(world.plan, name, at, "mall")
    servers = [ready(world.background(name, *program("serve", f"{name} {{client}}", 80))) for name in ("s2", "s3")]
    members = {"tcp": ["s2", "s3"], "udp": ["s2"]}
    world.apply(services=[
        {"name": f"shop-{proto}", "network": "mall", "host_port": 8088, "port": 80, "proto": proto, "endpoints": names}
        for proto, names in members.items()
    ])  # fmt: skip

    def answered(at: str, kind: str, address: str) -> bool:
        answers[at, kind, address].update(world.inside(at, *program("ask", kind, address, 8088)).stdout.split()[:1])
        return answers[at, kind, address] - {"error"} == set(members[kind])

    answers: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    try:
        for kind, at in (("tcp", "h1"), ("udp", "h1"), ("udp", "h3")):
            host = world.plan.host(at)
            assert host is not None
            for address in (str(host.management), str(host.vtep)):
                eventually(lambda at=at, kind=kind, address=address: answered(at, kind, address))  # type: ignore[misc]
    finally:
        for server in servers:
            server.kill()
            server.communicate()
        for name in ("shop-tcp", "shop-udp"):
            run.api(world.plan.hosts[0], "DELETE", f"/services/{name}")
        for name, at in (("s1", "h1"), ("s2", "h2"), ("s3", "h3")):
            endpoint = run.api(world.plan.hosts[0], "GET", f"/endpoints/{name}")["endpoint"]
            run.api(world.plan.host(at), "DELETE", f"/endpoints/{endpoint['id']}")  # type: ignore[arg-type]
        run.api(world.plan.hosts[0], "DELETE", "/networks/mall")
