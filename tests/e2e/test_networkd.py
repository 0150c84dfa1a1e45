"""systemd-networkd as the DHCP client: both families at once, router advertisements, renewal, release. It has its own /run, /sys and
configuration, and neither D-Bus nor udev."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from intent.gateway import GATEWAY_MAC
from specs.model.derived import link_local
from tests.e2e.conftest import World
from tests.e2e.test_metrics import of, scraped
from tests.programs import PROGRAMS
from tests.waiting import LIMIT_S, eventually
from tools.lab import run

NETWORKD = Path("/lib/systemd/systemd-networkd")
LEASE_S, MTU = 10, 1300


class Managed:
    """A container whose interface networkd manages."""

    def __init__(self, world: World, name: str, endpoint: dict[str, str], log: Path) -> None:
        self.world, self.name = world, name
        self.v4, self.v6 = (endpoint[f"target_veth_{ip}"].split("/")[0] for ip in ("ip", "ipv6"))
        command = ("unshare", "-m", "--propagation", "private", "sh", str(PROGRAMS / "networkd.sh"), str(NETWORKD))
        with log.open("w") as output:
            environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_LOG_LEVEL": "debug", "SYSTEMD_LOG_TARGET": "console"}
            self.process = subprocess.Popen(world.command(name, *command), stdout=output, stderr=output, env=environment)
        self.log = log

    def shown(self, *words: str) -> str:
        """What `ip` says in the container."""
        return self.world.inside(self.name, "ip", *words).stdout

    def lease(self) -> dict[str, str]:
        """The lease as networkd keeps it; {} while there is none."""
        files = list(Path(f"/proc/{self.process.pid}/root/run/systemd/netif/leases").glob("*"))
        return dict(line.split("=", 1) for line in files[0].read_text().splitlines() if "=" in line) if files else {}


@pytest.fixture(scope="module")
def managed(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managed]:
    if not NETWORKD.exists():
        pytest.skip("needs systemd")
    first = world.plan.hosts[0]
    network = {"name": "managed", "ip_range": "10.64.0.0/24", "ipv6_range": "fd64::/64", "mode": "nat", "dhcp": True, "mtu": MTU,
               "dns": ["192.0.2.53", "2001:db8::53"], "domain": "example.org", "dhcp_lease_s": LEASE_S,
               "dhcp_routes": [{"to": "10.99.0.0/16", "via": "10.64.0.9"}]}  # fmt: skip
    run.api(first, "POST", "/networks", **network)
    endpoint = run.container(world.plan, "nd", "h1", "managed")
    fixture = Managed(world, "nd", endpoint, tmp_path_factory.mktemp("networkd") / "log")
    yield fixture
    fixture.process.kill()
    fixture.process.wait()
    run.api(first, "DELETE", f"/endpoints/{endpoint['id']}")
    run.sh("ip", "netns", "del", run.netns_of(world.plan, "nd"))
    run.api(first, "DELETE", "/networks/managed")


def counted(world: World, what: str) -> float:
    """How many such questions h1's controller has had."""
    return max(0.0, of(scraped(world, 9302), "warren_dhcp_asked_total", what=what))


def test_networkd_gets_the_options_of_the_spec(managed: Managed) -> None:
    eventually(lambda: managed.v4 in managed.shown("-4", "addr", "show", "dev", "eth0"))
    lease = managed.lease()
    expected = {"ADDRESS": managed.v4, "NETMASK": "255.255.255.0", "ROUTER": "10.64.0.1", "SERVER_ADDRESS": "10.64.0.1", "MTU": str(MTU),
            "DNS": "192.0.2.53", "DOMAINNAME": "example.org", "HOSTNAME": "nd", "LIFETIME": str(LEASE_S)}  # fmt: skip
    assert {name: lease.get(name) for name in expected} == expected
    routes = managed.shown("route")
    assert re.search(r"default via 10\.64\.0\.1 .*proto dhcp", routes), routes
    assert "10.99.0.0/16 via 10.64.0.9" in routes
    eventually(lambda: managed.v6 in managed.shown("-6", "addr", "show", "dev", "eth0", "scope", "global"))
    assert f"default via {link_local(GATEWAY_MAC)}" in managed.shown("-6", "route")
    for gateway in ("10.64.0.1", "fd64::1"):
        assert managed.world.reaches("nd", gateway)


def test_networkd_renews_its_lease(world: World, managed: Managed) -> None:
    before, before6 = counted(world, "request"), counted(world, "renew")
    eventually(lambda: counted(world, "request") >= before + 2 and counted(world, "renew") > before6)
    eventually(lambda: managed.v4 in managed.shown("-4", "addr", "show", "dev", "eth0"))
    eventually(lambda: managed.v6 in managed.shown("-6", "addr", "show", "dev", "eth0", "scope", "global"))


def test_networkd_releases_its_lease_when_it_ends(world: World, managed: Managed) -> None:
    before = counted(world, "release")
    assert world.reaches("nd", "10.64.0.1")
    managed.process.terminate()
    managed.process.wait(timeout=LIMIT_S)
    eventually(lambda: counted(world, "release") > before)
