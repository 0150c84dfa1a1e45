"""Addresses at the gateway: published ports there, and the address from which a host asks containers of routed networks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.gateway.filters import Forwarding
from agent.gateway.routes import wanted_routes
from agent.gateway.rules import ruleset
from specs.snapshot import snapshot
from tests.unit import worlds
from tests.unit.test_gateway import WEB, endpoint, needs, state


def test_ports_that_every_address_of_the_host_has_lead_in_at_the_gateway() -> None:
    """Containers of the network ask there, and the host, unless the address is another machine's to it."""
    web = [*WEB, {"host_port": 9, "port": 9, "proto": "sctp"}]
    needed = needs(state(worlds.network("amber", 7, mode="nat"), endpoint("e1", "amber", 2, web)))
    text = ruleset(needed, Forwarding(), "x")
    incoming, outgoing = text.split("chain output")
    assert 'iifname "warren-gw" ip saddr 100.127.0.7 ip daddr 10.0.0.1 tcp dport 81 dnat ip to 100.127.0.7:81' in incoming
    assert 'iifname "warren-gw" ip6 saddr fd57:7272:656e:1::7 ip6 daddr fd00::1 tcp dport 80 dnat' in incoming
    assert 'iifname "warren-gw" ip saddr 100.126.128.0/17 ip daddr 10.0.0.1 sctp dport 9 dnat' in incoming
    assert 'oifname "warren-gw" ip daddr 10.0.0.1 tcp dport 81 dnat ip to 100.127.0.7:81' in outgoing
    assert "10.0.0.1 udp" not in text, "bound to one address of the host"
    assert {"10.0.0.1", "fd00::1"} < set(needed.routes)
    routed = needs(state(worlds.network("amber", 7, v6=False, mode="routed"), endpoint("e1", "amber", 2, WEB)))
    text = ruleset(routed, Forwarding(), "x")
    assert 'iifname "warren-gw" ip saddr 10.0.0.0/24 ip daddr 10.0.0.1 tcp dport 80 dnat ip to 10.0.0.2:8080' in text
    assert routed.routes == ("10.0.0.0/24",)


@pytest.mark.parametrize(("vtep", "source"), [("198.18.0.11", "198.18.0.11"), ("fd98::11", None)])
def test_the_host_asks_routed_networks_from_its_vtep(vtep: str, source: str | None) -> None:
    """No other host has that address, so answers from every host lead back."""
    entries = (worlds.host("h1", vtep), worlds.network("amber", 7, v6=False, mode="routed"), endpoint("e1", "amber", 2))
    needed = needs(snapshot((key, value, born) for born, (key, value) in enumerate(entries, 1)))
    assert [route.source and str(route.source) for route in wanted_routes(needed)] == [source]
    assert [route.source for route in wanted_routes(replace(needed, source=None))] == [None]
    assert needs(state(worlds.network("amber", 7, mode="nat"), endpoint("e1", "amber", 2))).source is None
