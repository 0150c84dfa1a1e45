"""Pure parts of the Docker driver: containers that are kept apart, and the names that Docker has for containers."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from acl.evaluate import packet, possible
from acl.language import parse_rule
from agent.docker.aliases import merged
from agent.docker.apart import apart
from agent.docker.engine import Container, Engine
from agent.docker.labels import described
from agent.docker.ledger import LABEL
from agent.docker.request import parse
from specs.model.acl import Acl
from specs.model.base import decode
from specs.model.endpoint import ALIASES_LIMIT, Endpoint
from specs.model.network import Network
from tests.unit.test_docker import BRIDGE, ID, create
from warren.errors import Invalid


def test_the_acl_that_keeps_containers_apart() -> None:
    """The gateway and all that is outside may send to them, and no container of theirs, by none of its addresses."""
    body = create(subnets=("10.1.0.0/24",), **{f"{BRIDGE}enable_icc": "False"})
    body["IPv4Data"][0]["Gateway"] = "10.1.0.254/24"
    body["IPv6Data"] = [{"Pool": "fd01::/64", "Gateway": "fd01::1/64"}]
    draft = apart(parse(body), None)
    assert parse(body).settings["apart"] is True
    acl = decode(Acl, draft, "acl")
    for source, passes in (("10.1.0.2", False), ("10.1.0.254", True), ("192.0.2.1", True), ("fd01::2", False), ("fd01::1", True),
                           ("fe80::57:aff:fe00:2", False), ("2001:db8::9", True)):  # fmt: skip
        version = 6 if ":" in source else 4
        fields = {
            "eth_type": 0x86DD if version == 6 else 0x800,
            f"ipv{version}_src": source,
            f"ipv{version}_dst": "10.1.0.3",
            "ip_proto": 6,
        }
        verdict = possible(
            [("", n, parse_rule(rule, "rule")) for n, rule in enumerate(acl.rules)], packet(**fields), lambda who: (), frozenset()
        )
        assert verdict.allow is passes, source
    with_wall = apart(parse(create(subnets=("10.1.0.0/24",), warren__vlan_out_acl="wall")), None)
    assert with_wall["rules"][-1]["actions"] == {"allow": 0}, "the network's own ACLs decide about the rest"


@pytest.mark.parametrize(("subnets", "named"), [((), None), (("10.1.0.0/24",), "amber")])
def test_containers_of_networks_that_docker_does_not_describe_are_not_kept_apart(
    subnets: tuple[str, ...], named: str | None
) -> None:
    with pytest.raises(Invalid):
        apart(parse(create(subnets=subnets, **{f"{BRIDGE}enable_icc": "false"})), named)


@pytest.mark.parametrize(
    ("event", "news"),
    [
        ({"Type": "container", "Action": "rename", "Actor": {"ID": ID}}, ""),
        ({"Type": "network", "Action": "create", "Actor": {"ID": "n"}}, ""),
        ({"Type": "container", "Action": "start", "Actor": {"ID": ID}}, ID),
        ({"Type": "network", "Action": "connect", "Actor": {"ID": "n", "Attributes": {"container": ID}}}, ID),
        ({"Type": "container", "Action": "create", "Actor": {"ID": ID}}, None),
        ({"Type": "network", "Action": "connect"}, ""),
        ({}, None),
    ],
)
def test_events_that_change_names(event: dict[str, Any], news: str | None) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=json.dumps(event).encode() + b"\n")

    engine = Engine("/nowhere")
    engine._client = httpx.Client(base_url="http://docker", transport=httpx.MockTransport(answer))
    assert list(engine.news_of_names()) == ["", *([news] if news is not None else [])]


@pytest.mark.parametrize(
    ("answer", "aliases"),
    [
        (
            {"a": {"EndpointID": "e1", "Aliases": ["www", "0123456789ab"]}, "b": {"EndpointID": "e2", "Aliases": None}},
            {"e1": ["www"], "e2": []},
        ),
        ({"a": None}, {}),
        (None, {}),
    ],
)
def test_aliases_that_an_engine_tells(answer: dict[str, Any] | None, aliases: dict[str, list[str]]) -> None:
    """An engine before 25 adds the beginning of the container's id."""
    response = httpx.Response(404) if answer is None else httpx.Response(200, json={"NetworkSettings": {"Networks": answer}})
    engine = Engine("/nowhere")
    engine._client = httpx.Client(base_url="http://docker", transport=httpx.MockTransport(lambda request: response))
    assert engine.aliases("0123456789abcdef") == aliases


def test_aliases_are_added_once_and_those_that_are_no_names_left_out() -> None:
    before = Endpoint(id="e", network_id="n", host="h1", mac_address="02:57:0a:00:00:02", ofport=1, name="web", aliases=("shop",))
    assert merged(before, ["www", "web", "shop", "a b", "", "www"]) == ("shop", "www")
    assert len(merged(before, [f"n{number}" for number in range(100)])) == ALIASES_LIMIT


@pytest.mark.parametrize(("dns_server", "aliases"), [(True, ("shop", "db")), (False, ("shop",))])
def test_the_name_of_a_compose_service_is_an_alias(dns_server: bool, aliases: tuple[str, ...]) -> None:
    network = Network(id="n-1", name="amber", vxlan_vni=7, ip_range="10.1.0.0/24", gateway="10.1.0.1/24", dns_server=dns_server)
    before = Endpoint(
        id="e", network_id="n-1", host="h1", mac_address="02:57:0a:00:00:02", ofport=1, labels={LABEL: "d"}, aliases=("shop",)
    )
    labels = {"com.docker.compose.service": "db"}
    assert described(before, network, Container("x-db-1", labels, "testnet"), "h1").aliases == aliases
    labels["com.docker.compose.service"] = "no name"
    assert described(before, network, Container("x-db-1", labels, "testnet"), "h1").aliases == ("shop",)
