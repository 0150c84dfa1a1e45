"""What a host's gateway needs, derived from the specs."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest

from agent.gateway import router_advertisements, switches
from agent.gateway.filters import Forwarding, chains
from agent.gateway.host_access import HostAccess, Machines
from agent.gateway.routes import wanted_routes
from agent.gateway.rules import Outside, outside, ruleset
from agent.gateway.switches import Switches
from agent.linux.bridges import Bridges
from intent.gateway import gateway_of
from specs.checks import ValidNetworks
from specs.model.base import decode
from specs.model.cluster import Cluster, transit
from specs.model.endpoint import Endpoint
from specs.snapshot import Snapshot, snapshot
from tests.unit import worlds
from warren.errors import Invalid

ETCD = ("127.0.0.1", "198.18.1.1", "etcd.example", "unknown.example")
NAMES = {"etcd.example": (IPv4Address("198.18.1.2"), IPv6Address("fd98::2")), "h2.example": (IPv4Address("198.18.1.12"),)}
WEB = [{"host_port": "80-81", "port": "8080-8081"}, {"host_port": 53, "port": 53, "proto": "udp", "host_ip": "192.0.2.1"}]


def state(*entries: tuple[str, str]) -> Snapshot:
    return snapshot((key, value, born) for born, (key, value) in enumerate((worlds.host("h1", "198.18.0.11"), *entries), 1))


def endpoint(name: str, net: str, number: int, publish: Any = None, on: str = "h1", active: bool = True) -> tuple[str, str]:
    return worlds.endpoint(name, net, on, number, number, publish=publish, active=active)


def needs(specs: Snapshot, host: str = "h1") -> Outside:
    publishers = [e for e in specs.endpoints.values() if e.publish and e.active]
    machines = Machines(etcd=ETCD, addresses=NAMES, publishers=publishers)
    return outside(specs, ValidNetworks(specs), host, mine(specs, host), machines)


def mine(specs: Snapshot, host: str) -> list[Endpoint]:
    return [e for e in specs.endpoints.values() if e.host == host]


def test_flat_networks_need_no_gateway() -> None:
    flat = state(worlds.network("amber", 7), endpoint("e1", "amber", 2, WEB))
    elsewhere = state(worlds.network("amber", 7, mode="nat"), endpoint("e1", "amber", 2, WEB, on="h2"))
    inactive = state(worlds.network("amber", 7, mode="nat"), endpoint("e1", "amber", 2, WEB, active=False))
    assert needs(flat) == needs(elsewhere) == needs(inactive) == Outside()
    assert not Outside().active


def test_published_ports_lead_to_the_transit_address_of_their_network() -> None:
    needed = needs(state(worlds.network("amber", 7, mode="nat"), endpoint("e1", "amber", 2, WEB)))
    transit_ranges = {"100.126.128.0/17", "100.127.0.0/16", "fd57:7272:656e:1::/112", "fd57:7272:656e::8000/113"}
    assert set(needed.routes) == {*transit_ranges, "10.0.0.1", "fd00::1"}
    assert needed.mtu == 1446
    text = ruleset(needed, Forwarding(), "x")
    assert "meta nfproto ipv4 fib daddr type local tcp dport 81 dnat ip to 100.127.0.7:81" in text
    assert "meta nfproto ipv6 fib daddr type local tcp dport 80 dnat ip6 to [fd57:7272:656e:1::7]:80" in text
    assert "ip daddr 192.0.2.1 udp dport 53 dnat ip to 100.127.0.7:53" in text
    assert text.count("udp dport 53") == 2  # both hooks; the address is IPv4


def test_of_two_endpoints_that_publish_a_port_the_first_created_has_it() -> None:
    networks = (worlds.network("amber", 7, v6=False, mode="nat"), worlds.network("blue", 8, v6=False, mode="nat"))
    needed = needs(state(*networks, endpoint("e1", "blue", 2, WEB[:1]), endpoint("e2", "amber", 3, WEB)))
    assert {(way.port, str(way.to)) for way in needed.published} == {(80, "100.127.0.8"), (81, "100.127.0.8")}


def test_a_services_port_leads_there_on_every_host_of_its_network_but_not_over_an_endpoints_own() -> None:
    networks = (worlds.network("amber", 7, v6=False, mode="nat"), worlds.network("blue", 8, v6=False, mode="nat"))
    services = (worlds.service("shop", "amber", 80, label="web"), worlds.service("mail", "amber", 25, label="web"),
                worlds.service("late", "blue", 25, label="web"), worlds.service("else", "green", 99, label="web"))  # fmt: skip
    needed = needs(state(*networks, *services, endpoint("e1", "blue", 2, WEB[:1]), endpoint("e2", "amber", 3)))
    ways = {(way.port, str(way.to)) for way in needed.published}
    assert ways == {(80, "100.127.0.8"), (81, "100.127.0.8"), (25, "100.127.0.7")}
    assert needs(state(*networks, *services, endpoint("e1", "blue", 2))).published == ()


def test_routed_networks_are_routes() -> None:
    needed = needs(
        state(worlds.host("h1", "192.0.2.1"), worlds.network("amber", 7, mode="routed"), endpoint("e1", "amber", 2, WEB))
    )
    assert needed.routes == needed.routed == ("10.0.0.0/24", "fd00::/64")
    assert ("10.0.0.2", 8080) in {(str(way.to), way.to_port) for way in needed.published}
    assert "dnat ip to 10.0.0.2:8080" in ruleset(needed, Forwarding(), "x")
    lines = [line.strip() for line in ruleset(needed, Forwarding(), "x").splitlines()]
    led = 'oifname "warren-gw" ct status dnat'  # answers of another host's container must come by this host, whoever has led it there
    assert f'{led} iifname "warren-gw" ip saddr 10.0.0.0/24 snat ip to 192.0.2.1' in lines
    assert f"{led} fib saddr type local ip daddr 10.0.0.0/24 snat ip to 192.0.2.1" in lines
    assert f'{led} iifname "warren-gw" ip6 saddr fd00::/64 masquerade' in lines, "its VTEP is of the other version"
    assert f'{led} iifname "warren-gw" ip saddr 10.0.0.0/24 masquerade' in ruleset(
        replace(needed, source=None), Forwarding(), "x"
    )


def test_only_the_host_itself_reaches_published_ports_at_its_loopback_address() -> None:
    rules = ruleset(needs(state(worlds.network("amber", 7, mode="nat"))), Forwarding(), "x")
    assert 'ip saddr 127.0.0.0/8 oifname "warren-gw" masquerade' in rules
    assert re.search(r'priority raw; policy accept;\s+iifname "warren-gw" ip daddr 127.0.0.0/8 counter drop', rules)


def test_a_port_bound_to_a_loopback_address_is_for_the_host_alone() -> None:
    for loopback in ("127.0.0.1", "127.9.9.9", "::1"):
        port = {"host_port": 8080, "port": 80, "host_ip": loopback}
        needed = needs(state(worlds.network("amber", 7, mode="nat"), endpoint("e1", "amber", 2, [port])))
        incoming, outgoing = ruleset(needed, Forwarding(), "x").split("chain output")
        assert "dnat" not in incoming.partition("chain prerouting")[2]
        assert f"daddr {loopback} tcp dport 8080 dnat" in outgoing


# ---- what the host forwards ---------------------------------------------------------------------------------------


def forwards(*, routed: tuple[str, ...] = (), guarded: tuple[int, ...] = (4, 6), **bridges: tuple[str, ...]) -> list[str]:
    """The rules of the chain forward."""
    return rules_of("forward", HostAccess(), Forwarding(guarded=guarded, bridges=Bridges(**bridges)), routed)


def rules_of(chain: str, access: HostAccess, forwarding: Forwarding = Forwarding(), routed: tuple[str, ...] = ()) -> list[str]:
    """The rules of a chain, without its hook."""
    lines = chains(routed, access, forwarding, transit(), (4789, 4790))
    start = lines.index(f"    chain {chain} {{")
    return [line.strip() for line in lines[start + 1 : lines.index("    }", start)] if "hook" not in line]


def test_only_replies_published_ports_and_routed_networks_lead_to_the_containers() -> None:
    rules = forwards(routed=("10.9.0.0/24", "10.9.0.128/25", "fd09::/64"))
    to_containers = [rule for rule in rules if rule.startswith('oifname "warren-gw"')][1:]
    assert to_containers == [
        'oifname "warren-gw" ct status dnat accept',
        'oifname "warren-gw" ip daddr { 10.9.0.0/24 } accept',  # nft refuses overlapping elements
        'oifname "warren-gw" ip6 daddr { fd09::/64 } accept',
        'oifname "warren-gw" counter drop',
    ]
    assert rules[:3] == [
        "ct state related accept",
        'oifname "warren-gw" ct state established ct direction reply jump from_machines',
        "ct state established ct direction reply accept",
    ]


def test_a_host_that_was_no_router_forwards_only_for_its_bridges_and_for_translated_packets() -> None:
    rules = forwards(internal=("docker0", "br-1*"), external=("br0",))
    assert rules[-4:] == [
        "ct status expected,dnat accept",
        'iifname { "docker0", "br-1\\*" } accept',
        'iifname . oifname { "br0" . "br0" } accept',
        "meta nfproto { ipv4, ipv6 } counter drop",
    ]
    assert forwards(guarded=(6,))[-1] == "meta nfproto { ipv6 } counter drop"


def test_a_host_that_was_a_router_stays_one() -> None:
    assert forwards(guarded=())[-1] == 'oifname "warren-gw" counter drop'


# ---- what containers reach of the cluster's machines --------------------------------------------------------------


def access(*levels: str, mode: str = "nat", **more: Any) -> HostAccess:
    """The access of networks with these levels; each has an endpoint on h1, and is of both versions of IP."""
    entries = [worlds.network(name, 7 + i, mode=mode) for i, name in enumerate(("amber", "blue", "green")[: len(levels)])]
    entries = [
        (key, json.dumps(json.loads(value) | {"host_access": level})) for (key, value), level in zip(entries, levels, strict=True)
    ]
    entries += [endpoint(f"e{i}", name, i + 2) for i, name in enumerate(("amber", "blue", "green")[: len(levels)])]
    return needs(state(*entries, *more.get("entries", ()))).access


def test_a_network_is_known_by_its_transit_addresses_or_by_its_ranges() -> None:
    allowed = access("all", "dns", "none")
    assert allowed.unlimited == ("100.126.128.2", "100.127.0.7", "fd57:7272:656e:1::7", "fd57:7272:656e::8002")
    assert allowed.dns == ("100.127.0.8", "fd57:7272:656e:1::8")
    assert access("dns", mode="routed").dns == ("10.0.0.0/24", "fd00::/64")


def test_without_a_word_a_network_reaches_nothing_of_the_clusters_machines() -> None:
    allowed = needs(state(worlds.network("amber", 7, mode="nat"), endpoint("e1", "amber", 2))).access
    assert (allowed.unlimited, allowed.dns) == ((), ())
    assert rules_of("from_containers", allowed) == ["counter reject with icmpx admin-prohibited"]


def test_the_machines_are_the_hosts_by_tunnel_and_api_address_and_etcd() -> None:
    def other(api: str) -> tuple[str, str]:
        key, value = worlds.host("h2", "198.18.0.12")
        return key, json.dumps(json.loads(value) | {"api": api})

    for api, addresses in (
        ("https://198.18.1.12:9999", {"198.18.1.12"}), ("http://[fd98::12]:9999", {"fd98::12"}), ("http://h2.example:9999", {"198.18.1.12"}),
        ("http://127.0.0.1:9999", set()), ("http://other.example:1", set()),
    ):  # fmt: skip
        allowed = access("none", entries=[other(api)])
        assert set(allowed.hosts) == {"198.18.0.11", "198.18.0.12"} | addresses
        assert set(allowed.machines) == set(allowed.hosts) | {"198.18.1.1", "198.18.1.2", "fd98::2"}


def test_published_ports_of_other_hosts_are_reached_at_their_addresses_only() -> None:
    entries = [
        worlds.host("h2", "198.18.0.12"),
        endpoint("far", "amber", 9, WEB, on="h2"),
        worlds.service("shop", "amber", 443, label="web"),
    ]
    allowed = access("none", entries=entries)
    assert allowed.published == (("192.0.2.1", "udp", 53), ("198.18.0.12", "tcp", 80), ("198.18.0.12", "tcp", 81))
    first, *others = rules_of("to_machines", allowed)
    assert first == "ip daddr { 198.18.0.11/32, 198.18.0.12/32 } meta l4proto . th dport { tcp . 443 } return"
    assert others[0].startswith("ip daddr . meta l4proto . th dport { 192.0.2.1 . udp . 53, 198.18.0.12 . tcp . 80,")
    assert [rule.rpartition("} ")[2] for rule in others[1:]] == ["goto from_containers"] * 2


def test_replies_of_machines_pass_where_what_they_answer_does() -> None:
    mirrored = str.maketrans({"s": "d", "d": "s"})

    def mirror(rule: str) -> str:
        return re.sub(r"\b[sd](?=addr|port)", lambda end: end[0].translate(mirrored), rule).replace("from_", "to_")

    entries = [
        worlds.host("h2", "198.18.0.12"),
        endpoint("far", "amber", 9, WEB, on="h2"),
        worlds.service("shop", "amber", 443, label="web"),
    ]
    entitled = access("all", "dns", "none", entries=entries)
    assert rules_of("to_containers", entitled) == [mirror(rule) for rule in rules_of("from_containers", entitled)]
    assert rules_of("from_machines", entitled) == [mirror(rule) for rule in rules_of("to_machines", entitled)]
    assert rules_of("replies", entitled) == ['oifname "warren-gw" ct state established ct direction reply goto to_containers']


def test_an_allowed_port_is_that_of_name_servers() -> None:
    allowed = rules_of("from_containers", HostAccess(unlimited=("100.127.0.7",), dns=("10.0.0.0/24", "fd00::/64")))
    assert allowed == [
        "ip saddr { 100.127.0.7/32 } accept",
        "ip saddr { 10.0.0.0/24 } meta l4proto { tcp, udp } th dport 53 accept",
        "ip6 saddr { fd00::/64 } meta l4proto { tcp, udp } th dport 53 accept",
        "counter reject with icmpx admin-prohibited",
    ]


# ---- the switches of forwarding -----------------------------------------------------------------------------------


@pytest.fixture
def sysctls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[int, Path]:
    """Files in place of the two sysctls, with the value 0."""
    paths = {4: tmp_path / "ip_forward", 6: tmp_path / "forwarding"}
    for path in paths.values():
        path.write_text("0\n")
    monkeypatch.setattr(switches, "FORWARDING", paths)
    monkeypatch.setattr(router_advertisements, "CONF", tmp_path / "conf")
    for name, value in (("all", 1), ("default", 1), ("lo", 1), ("eth0", 1), ("eth1", 2), ("eth2", 0), ("wv0123456789ab", 1)):
        (tmp_path / "conf" / name).mkdir(parents=True)
        (tmp_path / "conf" / name / "accept_ra").write_text(f"{value}\n")
    return paths


def accept_ra(tmp_path: Path) -> dict[str, str]:
    return {path.parent.name: path.read_text().strip() for path in (tmp_path / "conf").glob("*/accept_ra")}


def values(sysctls: dict[int, Path]) -> list[str]:
    return [path.read_text().strip() for path in sysctls.values()]


def test_forwarding_has_its_earlier_value_after_another_process_restored_it(tmp_path: Path, sysctls: dict[int, Path]) -> None:
    path = tmp_path / "run" / "forwarding.json"
    assert Switches(path).before(None) == {"4": "0", "6": "0"}
    Switches(path).on((4,))
    assert values(sysctls) == ["1", "0"]
    assert Switches(path).before(None) == {"4": "0", "6": "0"}, "with the table flushed, too"
    Switches(path).restore(None)
    assert values(sysctls) == ["0", "0"]
    assert not path.exists()


def test_interfaces_that_learn_routes_go_on_to_while_the_host_forwards(tmp_path: Path, sysctls: dict[int, Path]) -> None:
    path, before = tmp_path / "forwarding.json", accept_ra(tmp_path)
    Switches(path).before(None)
    Switches(path).on((4,))
    assert accept_ra(tmp_path) == before, "forwarding of IPv4 concerns no router advertisement"
    Switches(path).on((4, 6))
    assert accept_ra(tmp_path) == {**before, "default": "2", "eth0": "2"}
    assert Switches(path).differences((4, 6)) == []
    for name, value in (("eth3", "2"), ("eth4", "0")):  # they appear; the first has the value of `default`
        (tmp_path / "conf" / name).mkdir()
        (tmp_path / "conf" / name / "accept_ra").write_text(value)
    (tmp_path / "conf" / "eth0" / "accept_ra").write_text("1")
    assert [line.split(":")[0] for line in Switches(path).differences((4, 6))] == ["interface eth0"]
    Switches(path).on((4, 6))
    Switches(path).restore(None)
    assert accept_ra(tmp_path) == {**before, "eth3": "1", "eth4": "0"}


def test_a_host_that_forwarded_before_warren_keeps_its_values(tmp_path: Path, sysctls: dict[int, Path]) -> None:
    sysctls[6].write_text("1")
    path, before = tmp_path / "forwarding.json", accept_ra(tmp_path)
    Switches(path).before(None)
    Switches(path).on((6,))
    assert accept_ra(tmp_path) == before
    Switches(path).restore(None)
    assert accept_ra(tmp_path) == before


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"boot": "another", "values": {"4": "1", "6": "1"}}'])
def test_a_file_of_another_boot_or_a_torn_one_counts_as_none(tmp_path: Path, sysctls: dict[int, Path], content: str) -> None:
    path = tmp_path / "forwarding.json"
    path.write_text(content)
    sysctls[4].write_text("1")
    table = 'table inet warren {\n\tcomment "' + json.dumps({"4": "0", "6": "0"}).replace('"', "'") + '"\n}'
    assert Switches(path).before(table) == {"4": "0", "6": "0"}, "as an earlier Warren kept them"
    path.write_text(content)
    assert Switches(path).before(None) == {"4": "1", "6": "0"}


def test_nothing_is_restored_where_nothing_was_changed(tmp_path: Path, sysctls: dict[int, Path]) -> None:
    sysctls[4].write_text("1")
    Switches(tmp_path / "forwarding.json").restore(None)
    assert values(sysctls) == ["1", "0"]


# ---- the transit ranges -------------------------------------------------------------------------------------------


def test_the_default_transit_ranges_are_those_of_earlier_versions() -> None:
    defaults = transit()
    assert (str(defaults.host4), str(defaults.next_hop4), str(defaults.zones4)) == (
        "100.126.0.1/30",
        "100.126.0.2",
        "100.127.0.0/16",
    )
    assert (str(defaults.host6), str(defaults.next_hop6)) == ("fd57:7272:656e::1/64", "fd57:7272:656e::2")
    assert str(defaults.zones6) == "fd57:7272:656e:1::/112"


@pytest.mark.parametrize(
    ("ofport", "addresses"),
    [(1, ("100.126.128.1", "fd57:7272:656e::8001")), (32767, ("100.126.255.255", "fd57:7272:656e::ffff")), (32768, (None, None))],
)
def test_an_endpoint_has_transit_addresses_by_its_port_as_far_as_the_range_goes(
    ofport: int, addresses: tuple[str | None, str | None]
) -> None:
    network = state(worlds.network("amber", 7, mode="nat")).networks["amber"]
    gateway = gateway_of(network, 7, None, 0, transit())
    assert gateway is not None
    assert tuple(None if a is None else str(a) for a in gateway.port_transits(ofport)) == addresses


def test_other_transit_ranges_reach_the_table_and_the_routes() -> None:
    cluster = worlds.cluster("172.30.0.0/15", "fd12::/111")
    needed = needs(state(worlds.network("amber", 7, mode="nat"), endpoint("e1", "amber", 2, WEB), cluster))
    assert set(needed.routes) > {"172.30.128.0/17", "172.31.0.0/16", "fd12::1:0/112", "fd12::8000/113"}
    assert {(str(r.prefix), str(r.gateway)) for r in wanted_routes(needed) if r.prefix.prefixlen not in (32, 128)} == {
        ("172.31.0.0/16", "172.30.0.2"), ("fd12::1:0/112", "fd12::2"), ("172.30.128.0/17", "172.30.0.2"), ("fd12::8000/113", "fd12::2"),
    }  # fmt: skip
    text = ruleset(needed, Forwarding(), "x")
    assert "dnat ip to 172.31.0.7:81" in text
    assert "ip saddr 172.31.0.0/16" in text
    assert "ip saddr 172.30.128.0/17" in text
    assert "ip6 saddr fd12::8000/113" in text
    assert "ip daddr 172.30.0.1 " in text
    assert "100.12" not in text


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [("transit4", "10.0.0.0/16", "too small"), ("transit4", "10.0.0.0/30", "too small"), ("transit6", "fd12::/112", "too small"),
     ("transit4", "240.0.0.0/8", "reserved"), ("transit4", "126.0.0.0/7", "loopback"), ("transit6", "fe80::/63", "link-local"),
     ("transit4", "fd12::/64", "IPv4"), ("transit4", "10.0.0.1/15", "host bits")],
)  # fmt: skip
def test_transit_ranges_that_cannot_work(field: str, value: str, reason: str) -> None:
    with pytest.raises(Invalid) as error:
        decode(Cluster, {"name": "default", field: value}, "cluster")
    assert error.value.path == f"cluster.{field}"
    assert reason in str(error.value)


def test_the_ports_of_a_cni_container_are_its_runtimes_to_hold() -> None:
    """Podman listens on each published port itself once the plugin has answered."""
    published = [{"host_port": 80, "port": 8080, "proto": "tcp"}]
    for labels, held in (({}, True), ({"cni.container": "c1"}, False)):
        entries = [
            worlds.host("h1", "198.18.0.11"), worlds.network("amber", 7, mode="nat"),
            worlds.endpoint("web", "amber", "h1", 2, 1, publish=published, labels=labels),
        ]  # fmt: skip
        state = snapshot((key, value, born) for born, (key, value) in enumerate(entries, 1))
        ports = outside(
            state, ValidNetworks(state), "h1", mine(state, "h1"), Machines(etcd=(), addresses={}, publishers=())
        ).published
        assert {port.held for port in ports} == {held}
