"""Addresses of Docker containers: ip-range, aux-address, IPv4 and IPv6, preallocated endpoints; with Warren's IPAM and Docker's own."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from tests.e2e.conftest import World
from tests.e2e.test_docker_options import clean, shown  # noqa: F401
from tests.waiting import eventually
from tools.lab import run
from tools.lab.engine import LabEngine


def address6(engine: LabEngine, name: str, network: str) -> str:
    """A container's IPv6 address, as Docker has it."""
    return str(engine.inspect(name)[0]["NetworkSettings"]["Networks"][network]["GlobalIPv6Address"])


def ready(world: World, network: str) -> dict[str, str]:
    """Endpoints of h1 that are ready: IPv4 to IPv6 address."""
    endpoints = run.api(world.plan.hosts[0], "GET", f"/endpoints?spares=true&states=true&hostname=h1&network_id={network}")[
        "endpoints"
    ]
    pairs = [(e["target_veth_ip"], e["target_veth_ipv6"]) for e in endpoints if e["spare"] and e["state"] == "up"]
    return {v4.split("/")[0]: (v6 or "").split("/")[0] for v4, v6 in pairs}


def test_each_engine_hands_out_its_own_ip_range_of_one_network(world: World, engines: list[LabEngine]) -> None:
    """--ip-range for both families; --ip may be outside; the part may be used up."""
    first = world.plan.hosts[0]
    run.api(first, "POST", "/networks", name="parted", ip_range="10.81.0.0/24", ipv6_range="fd81::/64")
    parts = (("10.81.0.64/30", "fd81::100/120"), ("10.81.0.128/25", "fd81::200/120"))
    for engine, (v4, v6) in zip(engines, parts, strict=True):
        engine.docker("network", "create", "-d", engine.driver, "--ipam-driver", engine.driver, "--ipam-opt", "warren.network=parted", "--ipv6",
                      "--subnet", "10.81.0.0/24", "--subnet", "fd81::/64", "--ip-range", v4, "--ip-range", v6,
                      "-o", "warren.network=parted", "parted")  # fmt: skip
        for number in (1, 2):
            given = engine.run(f"p{number}", "parted")
            assert ip_address(given) in ip_network(v4), given
            assert ip_address(address6(engine, f"p{number}", "parted")) in ip_network(v6)
    first_engine, second_engine = engines
    assert first_engine.reaches("p1", second_engine.address("p2", "parted"))
    assert first_engine.reaches("p1", address6(second_engine, "p2", "parted"))
    assert first_engine.run("own", "parted", "--ip", "10.81.0.20") == "10.81.0.20"
    for number in (3, 4):
        first_engine.run(f"p{number}", "parted")
    assert "no free address is left in 10.81.0.64/30" in first_engine.refused(
        "run", "--network", "parted", "busybox", "sleep", "1"
    )
    first_engine.docker("rm", "-f", "p3")
    assert ip_address(first_engine.run("p5", "parted")) in ip_network(parts[0][0])


def test_an_ip_range_outside_the_subnet_is_refused(engines: list[LabEngine]) -> None:
    engine = engines[0]
    create = ("network", "create", "-d", engine.driver, "--ipam-driver", engine.driver, "--subnet", "10.82.0.0/24")
    assert "host bits" in engine.refused(*create, "--ip-range", "10.82.0.70/28", "bad")


def test_aux_addresses_are_given_to_no_container(world: World, engines: list[LabEngine]) -> None:
    """--aux-address, the same at both engines: nobody gets them, until the last of the networks has gone."""
    first = world.plan.hosts[0]
    run.api(first, "POST", "/networks", name="kept", ip_range="10.83.0.0/24", ipv6_range="fd83::/64")
    for engine in engines:
        engine.docker("network", "create", "-d", engine.driver, "--ipam-driver", engine.driver, "--ipam-opt", "warren.network=kept",
                      "--subnet", "10.83.0.0/24", "--aux-address", "router=10.83.0.2", "--aux-address", "printer=10.83.0.3",
                      "-o", "warren.network=kept", "kept")  # fmt: skip
    first_engine, second_engine = engines
    assert first_engine.run("k1", "kept") == "10.83.0.4"
    assert second_engine.run("k2", "kept") == "10.83.0.5"
    assert "is taken by" in second_engine.refused("run", "--network", "kept", "--ip", "10.83.0.2", "busybox", "sleep", "1")
    first_engine.clean()
    assert second_engine.run("k3", "kept") == "10.83.0.4"
    assert "is taken by" in second_engine.refused("run", "--network", "kept", "--ip", "10.83.0.3", "busybox", "sleep", "1")
    second_engine.clean()
    assert run.api(first, "GET", "/endpoints?network_id=kept")["endpoints"] == []


@pytest.mark.parametrize("warrens_ipam", [True, False])
def test_ip_ranges_and_aux_addresses_of_a_network_created_by_docker(
    world: World, engines: list[LabEngine], warrens_ipam: bool
) -> None:
    """By Warren's IPAM and by Docker's own; a port that is ready does not sit on an address that is kept."""
    engine = engines[0]
    ipam = ("--ipam-driver", engine.driver) if warrens_ipam else ()
    engine.docker("network", "create", "-d", engine.driver, *ipam, "--ipv6", "--subnet", "10.84.0.0/24", "--ip-range", "10.84.0.0/28",
                  "--subnet", "fd84::/64", "--aux-address", "router=10.84.0.2", "--aux-address", "router6=fd84::5",
                  "-o", "warren.preallocate=3", "-o", "warren.name=described", "described")  # fmt: skip
    eventually(lambda: len(ready(world, "described")) == 3)
    given = {engine.run(f"d{i}", "described"): address6(engine, f"d{i}", "described") for i in range(4)}
    assert all(ip_address(address) in ip_network("10.84.0.0/28") for address in given), given
    assert "10.84.0.2" not in given
    assert "fd84::5" not in given.values()
    assert engine.reaches("d0", engine.address("d3", "described"))
    assert engine.reaches("d3", address6(engine, "d0", "described"))
    for name in ("d0", "d3"):
        assert shown(world, name)["target_veth_ip"].split("/")[0] == engine.address(name, "described")


@pytest.mark.parametrize("warrens_ipam", [True, False])
def test_a_preallocated_endpoint_is_taken_when_both_addresses_are_its_own(
    world: World, engines: list[LabEngine], warrens_ipam: bool
) -> None:
    """Docker's own IPAM chooses without asking; here both are told to take the IPv4 address of one and the IPv6 address of another."""
    engine = engines[0]
    ipam = ("--ipam-driver", engine.driver) if warrens_ipam else ()
    engine.docker("network", "create", "-d", engine.driver, *ipam, "--ipv6", "--subnet", "10.85.0.0/24", "--subnet", "fd85::/64",
                  "-o", "ovs.bridge.preallocate_ports=3", "-o", "warren.name=crossed", "crossed")  # fmt: skip
    eventually(lambda: len(ready(world, "crossed")) == 3)
    (one, one6), (two, two6), (three, three6) = sorted(ready(world, "crossed").items())
    assert (engine.run("both", "crossed", "--ip", three, "--ip6", three6), address6(engine, "both", "crossed")) == (three, three6)
    assert (engine.run("cross", "crossed", "--ip", one, "--ip6", two6), address6(engine, "cross", "crossed")) == (one, two6)
    cross = shown(world, "cross")
    assert (cross["target_veth_ip"].split("/")[0], cross["target_veth_ipv6"].split("/")[0]) == (one, two6)
    engine.run("plain", "crossed")
    for target in (one, two6, three, three6):
        assert engine.reaches("plain", target), target
    assert engine.reaches("cross", engine.address("plain", "crossed"))
    assert engine.reaches("cross", address6(engine, "plain", "crossed"))
    eventually(lambda: len(ready(world, "crossed")) == 3)
