"""The underlay in the clouds, end to end: real daemons against metadata services that speak each cloud's dialect, packets between namespaces."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cloud import Cloud, instance, run
from tests.waiting import eventually

GUARD = "from all lookup main suppress_prefixlength 0 suppress_ifgroup 211 proto 211"
EC2: list[dict[str, Any]] = [
    {"mac": "02:00:00:00:01:01", "addresses": ["172.31.16.5", "172.31.16.6"], "subnets": ["172.31.16.0/20"]},
    {"mac": "02:00:00:00:01:02", "addresses": ["172.31.21.115", "2600:1f14::15"], "subnets": ["172.31.16.0/20", "2600:1f14::/64"],
     "prefixes": ["172.31.18.16/28", "2600:1f14:0:0:1::/80"], "public": {"172.31.21.115": "54.71.9.3"}},
]  # fmt: skip
AZURE: list[dict[str, Any]] = [
    {"mac": "00:0d:3a:5d:2d:65", "addresses": ["10.0.0.4"], "subnets": ["10.0.0.0/16"], "public": {"10.0.0.4": "20.253.243.104"}},
    {"mac": "00:0d:3a:5d:2d:66", "addresses": ["10.0.1.5", "10.0.1.7"], "subnets": ["10.0.1.0/24"]},
    {"mac": "00:0d:3a:5d:2d:67", "addresses": ["10.0.0.5"], "subnets": ["10.0.0.0/24"]},
]
GCP: list[dict[str, Any]] = [
    {
        "mac": "42:01:0a:80:00:07",
        "addresses": ["10.128.0.7"],
        "subnets": ["10.128.0.0/20"],
        "public": {"10.128.0.7": "34.82.1.9"},
    },
    {
        "mac": "42:01:c0:a8:00:02",
        "addresses": ["192.168.0.2", "192.168.0.9"],
        "subnets": ["192.168.0.0/24"],
        "prefixes": ["10.200.0.0/28"],
    },
]


def strict(world: Cloud) -> None:
    """Let the instance drop what comes in by another way than answers leave."""
    run(*world.inside(world.host), "sysctl", "-q", "-w", "net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.default.rp_filter=1")


def settled(world: Cloud) -> bool:
    status = world.status()
    assert not status["problems"], status["problems"]
    assert not status["differences"], status["differences"]
    return bool(status["applied"])


@pytest.fixture(scope="module")
def ec2() -> Iterator[Cloud]:
    """An instance of EC2 with two NICs in one subnet; the first one has its address from DHCP."""
    with instance("aws", "aws", EC2) as world:
        strict(world)
        world.advertise(1)
        world.begin()
        eventually(lambda: settled(world))
        yield world
        world.stop()
        assert world.complaints() == []


def test_two_nics_in_one_subnet(ec2: Cloud) -> None:
    """EC2's example of cloud-network's README in effect: a table with the gateway and the subnet, a rule for each address."""
    assert ec2.addresses(0) == ["172.31.16.5/20", "172.31.16.6/20"]
    assert ec2.addresses(0, ours=True) == ["172.31.16.6/20"], "the address of DHCP is not ours"
    assert ec2.addresses(1) == ["172.31.21.115/20", "2600:1f14::15/64"]
    first, second = ec2.table(0), ec2.table(1)
    assert ec2.rules() == sorted([
        GUARD,
        *(f"from {address} lookup {first} proto 211" for address in ("172.31.16.5", "172.31.16.6")),
        *(f"from all to {address} lookup {first} proto 211" for address in ("172.31.16.5", "172.31.16.6")),
        f"from 172.31.21.115 lookup {second} proto 211",
        f"from all to 172.31.21.115 lookup {second} proto 211",
        f"from 172.31.18.16/28 lookup {second} proto 211",
    ])  # fmt: skip
    assert ec2.routes(second) == [
        "172.31.16.0/20 dev eth1 proto 211 scope link src 172.31.21.115",
        "default via 172.31.16.1 dev eth1 proto 211 onlink",
    ]
    for address, link in (("172.31.16.5", "f0"), ("172.31.16.6", "f0"), ("172.31.21.115", "f1")):
        assert ec2.way_out(address) == {link}


def test_ipv6_and_delegated_prefixes(ec2: Cloud) -> None:
    assert ec2.rules(6) == sorted([
        GUARD,
        f"from 2600:1f14::15 lookup {ec2.table(1)} proto 211",
        f"from all to 2600:1f14::15 lookup {ec2.table(1)} proto 211",
        f"from 2600:1f14:0:0:1::/80 lookup {ec2.table(1)} proto 211",
    ])  # fmt: skip
    assert any("default via fe80::1 dev eth1" in route for route in ec2.routes(ec2.table(1), 6))
    assert ec2.way_out("2600:1f14::15") == {"f1"}
    # a container of the host has an address of the prefix: what it sends leaves by the NIC of the prefix, and it can talk to the host
    container = f"{ec2.name}-box"
    run("ip", "netns", "add", container)
    try:
        ec2.ip(ec2.host, f"link add box0 type veth peer name eth0 netns {container}", "link set box0 up", "addr add 10.99.0.1/24 dev box0",
               "route add 172.31.18.17/32 dev box0")  # fmt: skip
        ec2.ip(container, "addr add 172.31.18.17/32 dev eth0", "link set eth0 up", "route add 10.99.0.1 dev eth0",
               "route add default via 10.99.0.1")  # fmt: skip
        run(*ec2.inside(ec2.host), "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
        eventually(lambda: ec2.way_out("172.31.18.17") == {"f1"})
        for address in ("172.31.16.5", "172.31.21.115"):  # an answer of the host to its container does not leave by a NIC
            run(*ec2.inside(container), "ping", "-c1", "-W20", address)
    finally:
        run("ip", "netns", "del", container)


def test_an_address_comes_goes_and_is_restored(ec2: Cloud) -> None:
    ec2.ip(ec2.host, "addr add 172.31.30.30/20 dev eth1", "rule add from 172.31.30.30 lookup 777 priority 30211")
    ec2.nic(1, addresses=["172.31.21.115", "172.31.21.116", "2600:1f14::15"])
    eventually(lambda: "172.31.21.116/20" in ec2.addresses(1) and ec2.way_out("172.31.21.116") == {"f1"})
    ec2.ip(
        ec2.host, "addr del 172.31.21.116/20 dev eth1", f"rule del from 172.31.21.115 lookup {ec2.table(1)}", "link set eth1 down"
    )
    eventually(lambda: "172.31.21.116/20" in ec2.addresses(1) and ec2.way_out("172.31.21.115") == {"f1"})
    ec2.advertise(1)  # the kernel has forgotten it with the link
    # the first of a subnet goes: the kernel must not take the others with it
    ec2.nic(1, addresses=["172.31.21.116", "2600:1f14::15"])
    eventually(lambda: ec2.addresses(1) == ["172.31.21.116/20", "172.31.30.30/20", "2600:1f14::15/64"])
    eventually(lambda: not any("172.31.21.115" in rule for rule in ec2.rules()))
    # withdrawn while the daemon is away
    ec2.stop(signal.SIGKILL)
    ec2.nic(1, addresses=["172.31.21.117", "2600:1f14::15"])
    ec2.begin()
    eventually(lambda: ec2.addresses(1) == ["172.31.21.117/20", "172.31.30.30/20", "2600:1f14::15/64"])
    eventually(lambda: not any("172.31.21.116" in line for line in (*ec2.rules(), *ec2.routes("all"))))
    assert any(rule.startswith("from 172.31.30.30 lookup 777") for rule in ec2.rules()), "rules of others stay"
    assert ec2.way_out("172.31.21.117") == {"f1"}
    ec2.ip(ec2.host, "addr del 172.31.30.30/20 dev eth1", "rule del from 172.31.30.30 lookup 777")
    eventually(lambda: settled(ec2))


def test_tokens_are_kept_and_renewed(ec2: Cloud) -> None:
    reads = "GET /latest/meta-data/ami-id 200"
    before = ec2.log.read_text().splitlines().count(reads)
    eventually(lambda: ec2.log.read_text().splitlines().count(reads) > before + 1)
    since_start = ec2.log.read_text().rpartition("PUT /latest/api/token 200")[2]
    assert since_start.count(reads) > 1, "a token serves more than one reading"
    ec2.write(faults={"token_s": 0.5})
    ec2.stop()
    ec2.begin()  # its tokens expire in the middle of a reading
    eventually(lambda: " 401" in ec2.log.read_text())
    age = ec2.status()["age_s"]
    eventually(lambda: ec2.status()["age_s"] < age or ec2.status()["age_s"] < 1)
    ec2.write(faults={})
    ec2.stop()
    ec2.begin()
    eventually(lambda: settled(ec2))


def test_credentials_are_never_touched(ec2: Cloud) -> None:
    assert not [line for line in ec2.log.read_text().splitlines() if "/iam/" in line or "credentials" in line]
    everything = [ec2.curl(f"/api/cloud/{name}") for name in ("system", "network", "status", "credentials")]
    everything += [path.read_text() for path in ec2.state.rglob("*") if path.is_file()]
    assert not any("SECRET" in text for text in everything)
    assert ec2.curl("/api/cloud/credentials", "-o/dev/null", "-w%{http_code}") == "404"


def test_rest_api_is_read_only_and_local(ec2: Cloud) -> None:
    written = "%{http_code} %{content_type}"
    for name in ("system", "network", "dynamicinstanceidentity/document", "dynamicinstanceidentity/pkcs7", "status"):
        assert ec2.curl(f"/api/cloud/{name}", "-o/dev/null", f"-w{written}") == "200 application/json", name
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"):
        assert ec2.curl("/api/cloud/system", "-X", method, "-d", "x", "-o/dev/null", f"-w{written}") == "405 application/json", (
            method
        )
    assert ec2.curl("/api/cloud/system", "-I").startswith("HTTP/1.1 405")
    assert ec2.curl("/api/cloud/nothing", "-o/dev/null", f"-w{written}") == "404 application/json"
    network = json.loads(ec2.curl("/api/cloud/network"))
    assert network["02:00:00:00:01:02"]["ipv4-associations"] == {"54.71.9.3": "172.31.21.115"}
    listening = run(*ec2.inside(ec2.host), "ss", "-Hltn", "sport = :5209").split()
    assert listening[3] == "127.0.0.1:5209"
    # state files are those documents, and only the group reads them
    for number in (0, 1):
        path = ec2.state / "links" / str(ec2.index(number))
        assert json.loads(path.read_text()) == network[EC2[number]["mac"]]
        assert path.stat().st_mode & 0o777 == 0o640
    assert json.loads((ec2.state / "system").read_text()) == json.loads(ec2.curl("/api/cloud/system"))
    assert "Local Ipv4S: 172.31.16.5,172.31.16.6 \n" in ec2.cnctl("status", "network")
    assert ec2.cnctl("show", "pkcs7") == "PKCS7\n"
    assert ec2.cnctl("s", "system").startswith("                Cloud provider: aws \n")
    done = subprocess.run(
        [*ec2.inside(ec2.host), "python", "-m", "underlay.cnctl", "show", "credentials"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "never fetched" in done.stderr


def test_privileges_are_dropped(ec2: Cloud) -> None:
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{ec2.pid}/status").read_text().splitlines() if ":\t" in line)
    for name in ("CapEff", "CapPrm", "CapBnd"):
        assert int(status[name], 16) == 1 << 12, f"{name} is CAP_NET_ADMIN alone"
    assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
    assert "0" not in status["Uid"].split()
    assert status["NoNewPrivs"] == "1"
    for thread in Path(f"/proc/{ec2.pid}/task").iterdir():
        assert "CapEff:\t0000000000001000" in (thread / "status").read_text()
    assert int(status["VmHWM"].split()[0]) < 60 * 1024, "less than 60 MB"


def test_overlapping_subnets_in_azure() -> None:
    """Azure's example of cloud-network's README in effect: `from ADDRESS lookup`, and a default route by the NIC in that table."""
    with instance("az", "azure", AZURE) as world:
        strict(world)
        world.begin()
        eventually(lambda: settled(world))
        for number, nic in enumerate(AZURE):
            length = nic["subnets"][0].rpartition("/")[2]
            assert world.addresses(number) == [f"{address}/{length}" for address in nic["addresses"]]
            for address in nic["addresses"]:
                assert f"from {address} lookup {world.table(number)} proto 211" in world.rules()
                assert world.way_out(address) == {f"f{number}"}
        gateways = ["10.0.0.1", "10.0.1.1", "10.0.0.1"]
        assert [world.routes(world.table(n))[-1] for n in range(3)] == [
            f"default via {gateway} dev eth{n} proto 211 onlink" for n, gateway in enumerate(gateways)
        ]
        assert world.cnctl("status", "network").startswith(
            "       Name: eth0 \nMAC Address: 00:0d:3a:5d:2d:65 \n  Public Ip: 20.253.243.104  \n"
            " Private Ip: 10.0.0.4/16  \n     Subnet: 10.0.0.0 \n\n"
        )
        # a bad answer changes nothing, of whatever kind; the daemon says so
        before = [world.addresses(1), world.rules(), world.routes("all")]
        empty = json.dumps({"compute": {"location": "westus"}, "network": {"interface": []}})
        for faults in ({"status": 503}, {"cut": True}, {"garbage": "<html>"}, {"garbage": empty}):
            world.write(faults=faults)
            eventually(lambda: "the last state is kept" in " ".join(world.status()["problems"]))
            assert [world.addresses(1), world.rules(), world.routes("all")] == before, faults
            world.write(faults={})
            eventually(lambda: settled(world))


def test_an_instance_with_one_nic() -> None:
    """Secondary addresses on the only NIC: no rules, one of them is withdrawn."""
    only = {
        "mac": "00:0d:3a:5d:2d:70",
        "addresses": ["10.7.0.4", "10.7.0.5", "10.7.0.6"],
        "subnets": ["10.7.0.0/24"],
        "public": {"10.7.0.5": "20.9.9.9"},
    }
    with instance("one", "azure", [only]) as world:
        strict(world)
        world.begin()
        eventually(lambda: settled(world))
        assert world.addresses(0) == ["10.7.0.4/24", "10.7.0.5/24", "10.7.0.6/24"]
        assert world.addresses(0, ours=True) == ["10.7.0.5/24", "10.7.0.6/24"]
        assert (world.rules(), world.routes(world.table(0))) == ([], [])
        assert world.way_out("10.7.0.5") == {"f0"}
        world.nic(0, addresses=["10.7.0.4", "10.7.0.6"], public={})
        eventually(lambda: world.addresses(0) == ["10.7.0.4/24", "10.7.0.6/24"])
        eventually(lambda: settled(world))
        assert world.way_out("10.7.0.6") == {"f0"}
        world.stop()
        assert world.complaints() == []


def test_google() -> None:
    """Google's example of cloud-network's README in effect: a single address, a route to the gateway, from and to rules, the MTU."""
    with instance("gcp", "gcp", GCP) as world:
        strict(world)
        world.config.write_text('[System]\nRefreshTimer="1h"\n')
        world.begin()
        eventually(lambda: settled(world))
        table = world.table(1)
        assert world.addresses(1) == ["192.168.0.2/32", "192.168.0.9/32"]
        assert world.routes(table) == [
            "192.168.0.1 dev eth1 proto 211 scope link src 192.168.0.2",
            "default via 192.168.0.1 dev eth1 proto 211 onlink",
        ]
        for rule in ("from 192.168.0.2", "from all to 192.168.0.2", "from 192.168.0.9", "from 10.200.0.0/28"):
            assert f"{rule} lookup {table} proto 211" in world.rules()
        assert json.loads(run("ip", "-n", world.host, "-j", "link", "show", "eth1"))[0]["mtu"] == 1460
        assert world.way_out("192.168.0.2") == {"f1"}
        world.nic(1, addresses=["192.168.0.2", "192.168.0.10"])  # told at once: an hour is not waited for
        eventually(lambda: world.addresses(1) == ["192.168.0.10/32", "192.168.0.2/32"])
        # a NIC comes and another one goes; what others have put there stays
        world.ip(world.host, "link del eth1")
        eventually(lambda: not any("192.168" in rule for rule in world.rules()))
        world.plug(1)
        eventually(lambda: world.way_out("192.168.0.2") == {"f1"})
        world.ip(world.host, "addr add 192.168.7.7/24 dev eth1")
        world.write(nics=world.instance["nics"][:1])
        eventually(lambda: world.addresses(1) == ["192.168.7.7/24"] and not any("192.168" in rule for rule in world.rules()))
        world.stop()
        assert world.complaints() == []
