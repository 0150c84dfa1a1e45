"""The hosts' own networks: ranges in use are refused, routes of others stay, and what collides later is closed and told."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import World
from tests.programs import program, ready
from tests.waiting import eventually, quiet
from tools.lab import run

MANAGEMENT, UNDERLAY = "198.18.1.0/24", "198.18.0.0/24"


def routes(world: World, host: str) -> list[str]:
    """The host's routes, without those of Warren's own interface."""
    lines = [world.inside(host, "ip", version, "route", "show", "table", "all").stdout.splitlines() for version in ("-4", "-6")]
    return sorted(line.strip() for version in lines for line in version if "warren-gw" not in line)


def route_to(world: World, host: str, prefix: str) -> str:
    """The host's routes to exactly this prefix."""
    return world.inside(host, "ip", "route", "show", "exact", prefix).stdout.strip()


def problems(world: World, host: str) -> str:
    """The host's problems in `warren status`."""
    return "\n".join(run.api(world.plan.hosts[0], "GET", f"/hosts/{host}")["host"]["problems"])


def state(world: World, name: str) -> tuple[str, str]:
    """State and reason of an endpoint."""
    endpoint = run.api(world.plan.hosts[0], "GET", f"/endpoints/{name}")["endpoint"]
    return endpoint["state"], endpoint["reason"]


@pytest.fixture
def routed(world: World) -> Iterator[None]:
    """A routed network with a container on h1 and one on h2."""
    before = {host: routes(world, host) for host in ("h1", "h2")}
    world.apply(networks=[{"name": "yard", "ip_range": "10.77.0.0/24", "mode": "routed"}])
    for name, host in (("y1", "h1"), ("y2", "h2")):
        run.container(world.plan, name, host, "yard")
    for host in before:
        eventually(lambda host=host: "proto 87" in route_to(world, host, "10.77.0.0/24"))
    yield
    for name in ("y1", "y2"):
        endpoint = run.api(world.plan.hosts[0], "GET", f"/endpoints/{name}")["endpoint"]
        run.api(world.plan.host(endpoint["hostname"]), "DELETE", f"/endpoints/{endpoint['id']}")  # type: ignore[arg-type]
    world.inside("h1", "true")
    network = next(n for n in run.api(world.plan.hosts[0], "GET", "/networks")["networks"] if n["name"] == "yard")
    run.api(world.plan.hosts[0], "DELETE", f"/networks/{network['id']}")
    for host, table in before.items():
        eventually(lambda host=host: "warren-gw" not in world.inside(host, "ip", "route").stdout)
        assert routes(world, host) == table


def docker(world: World, call: str, **body: Any) -> dict[str, Any]:
    """A call of a Docker engine to the driver on h1."""
    socket = f"{world.plan.hosts[0].directory}/docker-plugin.sock"
    command = ["curl", "-s", "--unix-socket", socket, f"http://d/{call}", "-d", json.dumps(body)]
    answer: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return answer


@pytest.mark.parametrize("mode", ["nat", "routed"])
@pytest.mark.parametrize("network_range", [MANAGEMENT, "198.18.0.0/16", UNDERLAY, "198.18.1.8/29"])
def test_a_range_that_a_host_uses_is_refused(world: World, mode: str, network_range: str) -> None:
    quiet(lambda: routes(world, "h1"))  # those of endpoints of other tests go
    before = routes(world, "h1")
    with pytest.raises(run.LabError, match=r"network clash: ip_range .* overlaps .* of host h\d"):
        run.api(world.plan.hosts[0], "POST", "/networks", name="clash", ip_range=network_range, mode=mode)
    with pytest.raises(run.LabError, match="overlaps"):
        world.apply(networks=[{"name": "clash", "ip_range": network_range, "mode": mode}])
    assert routes(world, "h1") == before


def test_dockers_networks_are_refused_alike_and_flat_networks_are_not(world: World) -> None:
    body = {"NetworkID": "c1a5" * 16, "IPv4Data": [{"Pool": MANAGEMENT, "Gateway": "198.18.1.254/24"}]}
    options = {"com.docker.network.generic": {"warren.mode": "nat"}}
    assert "overlaps" in docker(world, "NetworkDriver.CreateNetwork", **body, Options=options)["Err"]
    network = run.api(world.plan.hosts[0], "POST", "/networks", name="clash", ip_range=MANAGEMENT)["network"]
    with pytest.raises(run.LabError, match="overlaps"):
        world.apply(networks=[{"name": "clash", "mode": "routed"}])  # a mode that comes later is checked, too
    run.api(world.plan.hosts[0], "DELETE", f"/networks/{network['id']}")


def test_an_interface_that_appears_later_keeps_its_network(world: World, routed: None) -> None:
    for words in ("link add late0 type veth peer name late1", "addr add 10.77.0.1/25 dev late0", "link set late0 up"):
        assert world.inside("h2", "ip", *words.split()).returncode == 0
    try:
        eventually(lambda: state(world, "y2")[0] == "closed")
        eventually(lambda: route_to(world, "h2", "10.77.0.0/24") == "")
        assert "overlaps 10.77.0.0/25 on interface late0 of host h2" in state(world, "y2")[1]
        eventually(lambda: "network yard: ip_range 10.77.0.0/24 overlaps" in problems(world, "h2"))
        assert state(world, "y1")[0] == "up"
        assert "network yard: ip_range" not in problems(world, "h1")
        differences = run.api(world.plan.host("h2"), "GET", "/hosts/h2/check")["differences"]  # type: ignore[arg-type]
        assert any("10.77.0.0/24: not made" in line for line in differences)
        with pytest.raises(run.LabError, match="closed: network yard has no way out"):
            run.container(world.plan, "y3", "h2", "yard")
    finally:
        run.sh("ip", "netns", "del", f"{world.plan.name}-c-y3", check=False)
        world.inside("h2", "ip", "link", "del", "late0")
    eventually(lambda: state(world, "y2")[0] == "up")
    eventually(lambda: "proto 87" in route_to(world, "h2", "10.77.0.0/24"))
    eventually(lambda: "yard" not in problems(world, "h2"))


def test_a_route_that_an_operator_sets_instead_of_warrens_stays(world: World, routed: None) -> None:
    world.inside("h1", "ip", "route", "replace", "10.77.0.0/24", "via", "198.18.0.12")
    try:
        eventually(lambda: "a route via 198.18.0.12" in problems(world, "h1"))
        eventually(lambda: state(world, "y1")[0] == "closed")
        assert "via 198.18.0.12" in route_to(world, "h1", "10.77.0.0/24")
    finally:
        world.inside("h1", "ip", "route", "del", "10.77.0.0/24", "via", "198.18.0.12")
    eventually(lambda: "proto 87" in route_to(world, "h1", "10.77.0.0/24"))
    eventually(lambda: state(world, "y1")[0] == "up")


def test_a_host_reaches_containers_of_a_routed_network_on_other_hosts(world: World, routed: None) -> None:
    """From its VTEP, whether or not the network tracks connections; the container reaches no more of that host than of its own."""
    address = run.api(world.plan.hosts[0], "GET", "/endpoints/y2")["endpoint"]["target_veth_ip"].partition("/")[0]
    asker, vtep = program("ask", "tcp", address, 80), world.plan.hosts[0].vtep
    server = ready(world.background("y2", *program("serve", "{client}", "80/tcp")))
    try:
        for acls in ([], ["answered"]):  # what y1 may send makes the network track connections
            world.apply(
                acls={"answered": [{"proto": "udp", "allow_related": True}, {"actions": {"allow": 1}}]},
                endpoints=[{"name": "y1", "network": "yard", "host": "h1", "acls": acls}],
            )
            eventually(lambda: world.inside("h1", *asker).stdout.strip() == vtep)
            assert world.reaches("h1", address)
            assert "Packet filtered" in world.inside("y2", "ping", "-c1", "-W2", vtep).stdout, "host_access"
    finally:
        server.kill()
        server.wait()
        world.apply(endpoints=[{"name": "y1", "network": "yard", "host": "h1", "acls": []}])
        run.api(world.plan.hosts[0], "DELETE", "/acls/answered")


CLUSTER_IP = "198.19.7.9"
KUBE_PROXY = """
add table ip kube
add chain ip kube prerouting { type nat hook prerouting priority dstnat; }
add chain ip kube output { type nat hook output priority -100; }
add chain ip kube postrouting { type nat hook postrouting priority srcnat; }
add rule ip kube prerouting ip daddr CLUSTER tcp dport 80 dnat to POD:80
add rule ip kube output ip daddr CLUSTER tcp dport 80 dnat to POD:80
add rule ip kube postrouting ct status dnat masquerade
"""


def test_an_address_that_kube_proxy_leads_to_a_container_elsewhere_answers(world: World, routed: None) -> None:
    """A container, and the host itself; the address that the kernel would choose in masquerading is that of every host's gateway."""
    host = world.plan.hosts[0]
    pod = run.api(host, "GET", "/endpoints/y2")["endpoint"]["target_veth_ip"].partition("/")[0]
    server = ready(world.background("y2", *program("serve", "{client}", "80/tcp")))
    try:
        for line in KUBE_PROXY.replace("CLUSTER", CLUSTER_IP).replace("POD", pod).strip().splitlines():
            world.inside("h1", "nft", line)
        world.inside("h1", "ip", "route", "add", CLUSTER_IP, "dev", "br-phy", "src", host.vtep)
        for asker in ("y1", "h1"):
            eventually(
                lambda asker=asker: world.inside(asker, *program("ask", "tcp", CLUSTER_IP, 80)).stdout.strip() == host.vtep
            )  # type: ignore[misc]
    finally:
        server.kill()
        server.wait()
        world.inside("h1", "ip", "route", "del", CLUSTER_IP)
        world.inside("h1", "nft", "delete", "table", "ip", "kube")


def test_a_route_of_warren_that_somebody_removes_comes_back(world: World, routed: None) -> None:
    world.inside("h1", "ip", "route", "del", "10.77.0.0/24")
    eventually(lambda: "proto 87" in route_to(world, "h1", "10.77.0.0/24"))


@pytest.fixture
def advertised(world: World) -> Iterator[None]:
    """A router beside h3, which h3 learns its default route from."""
    router = f"{world.plan.name}-ra"
    run.sh("ip", "netns", "add", router)
    run.sh("ip", "-n", f"{world.plan.name}-h3", "link", "add", "ra0", "type", "veth", "peer", "name", "ra0", "netns", router)
    advertise = None
    try:
        world.inside("h3", "sysctl", "-qw", "net.ipv6.conf.ra0.accept_ra=1", "net.ipv6.conf.default.accept_ra=1")
        run.sh("ip", "-n", router, "link", "set", "ra0", "up")
        world.inside("h3", "ip", "link", "set", "ra0", "up")
        command = run.in_netns(router, *program("advertise_router", "ra0", 1800))
        advertise = ready(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        eventually(lambda: learnt(world))
        yield
    finally:
        if advertise is not None:
            advertise.kill()
            advertise.wait()
        run.sh("ip", "netns", "del", router)


def learnt(world: World) -> bool:
    """Whether h3 has a default route from a router advertisement."""
    return "proto ra" in world.inside("h3", "ip", "-6", "route", "show", "default").stdout


def accept_ra(world: World, *names: str) -> list[str]:
    """These values of h3."""
    return world.inside("h3", "cat", *(f"/proc/sys/net/ipv6/conf/{name}/accept_ra" for name in names)).stdout.split()


def test_a_host_keeps_the_default_route_that_it_has_learnt_from_router_advertisements(world: World, advertised: None) -> None:
    forwarding = "/proc/sys/net/ipv6/conf/all/forwarding"
    assert world.inside("h3", "cat", forwarding).stdout.strip() == "0"
    assert accept_ra(world, "ra0", "default") == ["1", "1"]
    world.apply(networks=[{"name": "yard6", "ipv6_range": "fd77::/64", "mode": "nat"}])
    endpoint = run.container(world.plan, "y6", "h3", "yard6")
    try:
        eventually(lambda: world.inside("h3", "cat", forwarding).stdout.strip() == "1")
        assert learnt(world), "forwarding=1 has removed it"
        assert accept_ra(world, "ra0", "default") == ["2", "2"]
        world.inside("h3", "ip", "-6", "route", "flush", "default")
        eventually(lambda: learnt(world))  # it learns on
        world.inside("h3", "ip", "link", "add", "ra1", "type", "veth", "peer", "name", "ra2")
        assert accept_ra(world, "ra1") == ["2"], "an interface that appears later"
        world.inside("h3", "sysctl", "-qw", "net.ipv6.conf.ra0.accept_ra=1")
        eventually(lambda: accept_ra(world, "ra0") == ["2"])
        run.restart(world.plan, "h3", "agent")
    finally:
        run.api(world.plan.host("h3"), "DELETE", f"/endpoints/{endpoint['id']}")  # type: ignore[arg-type]
    eventually(lambda: world.inside("h3", "cat", forwarding).stdout.strip() == "0")
    eventually(lambda: accept_ra(world, "ra0", "ra1", "default") == ["1", "1", "1"])
    eventually(lambda: learnt(world))
    world.inside("h3", "ip", "link", "del", "ra1")
    network = next(n for n in run.api(world.plan.hosts[0], "GET", "/networks")["networks"] if n["name"] == "yard6")
    run.api(world.plan.hosts[0], "DELETE", f"/networks/{network['id']}")


def test_of_two_networks_with_common_addresses_one_goes_into_a_namespace(world: World) -> None:
    """Also when both are attached at the same moment, and whichever of two endpoints with the same address and MAC the agent reads first: it
    reads them in the order of the networks' ids."""
    assert world.mac["web"] == world.mac["red"]
    run.restart(world.plan, "h1", "agent")
    run.wait_until_up(world.plan)
    for name, network, other in (("web", "blue", "amber"), ("red", "amber", "blue")):
        with (
            pytest.raises(run.LabError, match=rf"network {network} \(.*\) overlaps network {other} .* in /run/netns/"),
            world.temporary(name, "h1", network),
        ):
            pass
    assert world.reaches("web", world.address["db"])
    netns = f"{world.plan.name}-c-pair"
    run.sh("ip", "netns", "add", netns)
    outcomes: list[str] = []

    def attach(network: str) -> None:
        try:
            outcomes.append(run.container(world.plan, "pair", "h1", network)["id"])
        except run.LabError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=attach, args=(network,)) for network in ("amber", "blue")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    attached = [outcome for outcome in outcomes if "overlaps" not in outcome]
    for endpoint in attached:
        run.api(world.plan.hosts[0], "DELETE", f"/endpoints/{endpoint}")
    run.sh("ip", "netns", "del", netns)
    assert len(attached) == 1


@pytest.fixture
def outside(world: World) -> Iterator[str]:
    """A machine beside h3, at the address that is returned."""
    netns, host = f"{world.plan.name}-far", f"{world.plan.name}-h3"
    run.sh("ip", "netns", "add", netns)
    for words in (
        f"-n {host} link add far0 type veth peer name far0 netns {netns}", f"-n {host} addr add 203.0.113.1/24 dev far0",
        f"-n {host} link set far0 up", f"-n {netns} addr add 203.0.113.9/24 dev far0", f"-n {netns} link set far0 up",
    ):  # fmt: skip
        run.sh("ip", *words.split())
    yield "203.0.113.9"
    run.sh("ip", "netns", "del", netns)


def cluster(world: World, **fields: Any) -> dict[str, str]:
    """The cluster's settings, after these have changed."""
    if not fields:
        return run.api(world.plan.hosts[0], "GET", "/cluster")["cluster"]  # type: ignore[no-any-return]
    return run.api(world.plan.hosts[0], "POST", "/cluster", **fields)["cluster"]  # type: ignore[no-any-return]


def test_the_transit_range_is_a_setting_of_the_cluster(world: World, outside: str) -> None:
    defaults = cluster(world)
    assert defaults == {"transit4": "100.126.0.0/15", "transit6": "fd57:7272:656e::/63"}
    world.apply(networks=[{"name": "yard4", "ip_range": "10.78.0.0/24", "mode": "nat"}])
    endpoint = run.container(world.plan, "y4", "h3", "yard4")
    try:
        eventually(lambda: world.pings("y4", outside))
        with pytest.raises(run.LabError, match=r"transit4 198.18.0.0/15 overlaps 198.18.* of host h\d"):
            cluster(world, transit4="198.18.0.0/15")
        with pytest.raises(run.LabError, match="too small"):
            cluster(world, transit4="172.30.0.0/16")
        with pytest.raises(run.LabError, match="203.0.113.0/24 on interface far0 of host h3"):
            eventually(lambda: "far0" in problems_of_transit(world))
            cluster(world, transit4="203.0.0.0/8", force=True)
        with pytest.raises(run.LabError, match="network yard4 .* has 1 active endpoint"):
            cluster(world, transit4="172.30.0.0/15")
        assert cluster(world) == defaults
        assert cluster(world, transit4="172.30.0.0/15", force=True)["transit4"] == "172.30.0.0/15"
        eventually(lambda: "172.30.0.1/30" in world.inside("h3", "ip", "addr", "show", "warren-gw").stdout)
        eventually(lambda: "proto 87" in route_to(world, "h3", "172.31.0.0/16"))
        eventually(lambda: world.pings("y4", outside))
        everything = world.inside("h3", "sh", "-c", "ip addr; ip route show table all; nft list table inet warren").stdout
        assert "100.12" not in everything
        with pytest.raises(run.LabError, match="overlaps transit4 172.30.0.0/15"):
            run.api(world.plan.hosts[0], "POST", "/networks", name="clash", ip_range="172.31.0.0/24")
    finally:
        cluster(world, **defaults, force=True)
    eventually(lambda: world.pings("y4", outside))
    run.api(world.plan.host("h3"), "DELETE", f"/endpoints/{endpoint['id']}")  # type: ignore[arg-type]
    network = next(n for n in run.api(world.plan.hosts[0], "GET", "/networks")["networks"] if n["name"] == "yard4")
    run.api(world.plan.hosts[0], "DELETE", f"/networks/{network['id']}")


def problems_of_transit(world: World) -> str:
    """Why 203.0.0.0/8 is refused: until h3 has published its new interface, it is not."""
    try:
        run.api(world.plan.hosts[0], "POST", "/networks", name="probe", ip_range="203.0.113.0/24", mode="nat")
    except run.LabError as error:
        return str(error)
    network = next(n for n in run.api(world.plan.hosts[0], "GET", "/networks")["networks"] if n["name"] == "probe")
    run.api(world.plan.hosts[0], "DELETE", f"/networks/{network['id']}")
    return ""


@pytest.mark.parametrize("table", ["main", "52"])
def test_a_host_whose_routes_use_the_transit_range_says_so_with_the_remedy(world: World, table: str) -> None:
    """In its main table, and in one that a rule looks up before, as Tailscale does."""
    world.apply(networks=[{"name": "yard4", "ip_range": "10.78.0.0/24", "mode": "nat"}])
    for words in (
        "link add tailscale0 type veth peer name tailscale1", "addr add 10.79.0.1/32 dev tailscale0", "link set tailscale0 up",
        f"rule add pref 5270 lookup {table}", f"route add 100.64.0.0/10 dev tailscale0 table {table}",
    ):  # fmt: skip
        assert world.inside("h2", "ip", *words.split()).returncode == 0
    try:
        eventually(lambda: "100.64.0.0/10 on interface tailscale0 of host h2" in problems(world, "h2"))
        assert "warren cluster set --transit4 RANGE" in problems(world, "h2")
    finally:
        world.inside("h2", "ip", "link", "del", "tailscale0")
        world.inside("h2", "ip", "rule", "del", "pref", "5270")
    eventually(lambda: "tailscale0" not in problems(world, "h2"))
    network = next(n for n in run.api(world.plan.hosts[0], "GET", "/networks")["networks"] if n["name"] == "yard4")
    run.api(world.plan.hosts[0], "DELETE", f"/networks/{network['id']}")
