"""What a host's gateway needs, derived from the specs."""

from __future__ import annotations

from typing import Any

from agent.gateway.rules import Outside, outside, ruleset
from specs.model.endpoint import Endpoint
from specs.snapshot import Snapshot, snapshot
from tests.unit import worlds

WEB = [{"host_port": "80-81", "port": "8080-8081"}, {"host_port": 53, "port": 53, "proto": "udp", "host_ip": "192.0.2.1"}]


def state(*entries: tuple[str, str]) -> Snapshot:
    return snapshot((key, value, born) for born, (key, value) in enumerate((worlds.host("h1", "198.18.0.11"), *entries), 1))


def endpoint(name: str, net: str, number: int, publish: Any = None, on: str = "h1", active: bool = True) -> tuple[str, str]:
    return worlds.endpoint(name, net, on, number, number, publish=publish, active=active)


def needs(found: Snapshot, host: str = "h1") -> Outside:
    return outside(found, host, mine(found, host))


def mine(found: Snapshot, host: str) -> list[Endpoint]:
    return [e for e in found.endpoints.values() if e.host == host]


def test_flat_networks_need_no_gateway() -> None:
    flat = state(worlds.network("amber", 7), endpoint("e1", "amber", 2, WEB))
    elsewhere = state(worlds.network("amber", 7, mode="nat"), endpoint("e1", "amber", 2, WEB, on="h2"))
    inactive = state(worlds.network("amber", 7, mode="nat"), endpoint("e1", "amber", 2, WEB, active=False))
    assert needs(flat) == needs(elsewhere) == needs(inactive) == Outside()
    assert not Outside().active


def test_published_ports_lead_to_the_transit_address_of_their_network() -> None:
    found = needs(state(worlds.network("amber", 7, mode="nat"), endpoint("e1", "amber", 2, WEB)))
    assert found.routes == ("100.127.0.0/16", "fd57:7272:656e:1::/112")
    assert found.mtu == 1446
    text = ruleset(found, "x")
    assert "meta nfproto ipv4 fib daddr type local tcp dport 81 dnat ip to 100.127.0.7:81" in text
    assert "meta nfproto ipv6 fib daddr type local tcp dport 80 dnat ip6 to [fd57:7272:656e:1::7]:80" in text
    assert "ip daddr 192.0.2.1 udp dport 53 dnat ip to 100.127.0.7:53" in text
    assert text.count("udp dport 53") == 2  # both hooks; the address is IPv4


def test_of_two_endpoints_that_publish_a_port_the_first_created_has_it() -> None:
    networks = (worlds.network("amber", 7, v6=False, mode="nat"), worlds.network("blue", 8, v6=False, mode="nat"))
    found = needs(state(*networks, endpoint("e1", "blue", 2, WEB[:1]), endpoint("e2", "amber", 3, WEB)))
    assert {(way.port, str(way.transit)) for way in found.published} == {(80, "100.127.0.8"), (81, "100.127.0.8")}


def test_a_services_port_leads_there_on_every_host_of_its_network_but_not_over_an_endpoints_own() -> None:
    networks = (worlds.network("amber", 7, v6=False, mode="nat"), worlds.network("blue", 8, v6=False, mode="nat"))
    services = (worlds.service("shop", "amber", 80, label="web"), worlds.service("mail", "amber", 25, label="web"),
                worlds.service("late", "blue", 25, label="web"), worlds.service("else", "green", 99, label="web"))  # fmt: skip
    found = needs(state(*networks, *services, endpoint("e1", "blue", 2, WEB[:1]), endpoint("e2", "amber", 3)))
    ways = {(way.port, str(way.transit)) for way in found.published}
    assert ways == {(80, "100.127.0.8"), (81, "100.127.0.8"), (25, "100.127.0.7")}
    assert needs(state(*networks, *services, endpoint("e1", "blue", 2))).published == ()


def test_routed_networks_are_routes() -> None:
    found = needs(state(worlds.network("amber", 7, mode="routed"), endpoint("e1", "amber", 2, WEB)))
    assert found.routes == ("10.0.0.0/24", "fd00::/64")
    assert found.published == ()
