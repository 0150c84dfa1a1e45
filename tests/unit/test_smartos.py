"""Overlay rules and tables of SmartOS: what is read is written back as it was, and what is wrong is named."""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Any

import pytest
import typer.main
from hypothesis import given
from hypothesis import strategies as st

from specs.model.endpoint import Endpoint
from specs.model.host import Host
from specs.model.network import Network
from specs.model.profile import Profile
from specs.smartos import rule, table
from specs.smartos.table import TableEntry
from tools.cli.profile import app
from warren.errors import Conflict, Invalid

RULES = (
    "-e vxlan -p vxlan/listen_ip=10.0.0.11,vxlan/listen_port=14790 -s files -p files/config=/opt/custom/customers_overlay.json -p mtu=1400",
    "-e vxlan -p vxlan/listen_ip=0.0.0.0,vxlan/listen_port=4790 -s files -p files/config=/x.json -p mtu=1400",
    "-e vxlan -p vxlan/listen_ip=0.0.0.0 -p vxlan/listen_port=4792 -s files -p files/config=/opt/custom/adminoverlay_overlay.json -p mtu=1300",
)


def profile(**fields: Any) -> Profile:
    return Profile.model_validate({"name": "customers", "hosts": ["all"], "port": 4790, **fields})


@pytest.mark.parametrize("text", RULES)
def test_a_rule_comes_back_as_it_was(text: str) -> None:
    made = profile(rule=text, **rule.parse(text).fields())
    assert rule.rule_of(made, 1366) == text


def test_a_changed_profile_has_a_rule_that_says_so() -> None:
    made = profile(rule=RULES[1], **rule.parse(RULES[1]).fields())
    changed = rule.rule_of(made.model_copy(update={"port": 5000, "mtu": "auto"}), 1366)
    assert changed == "-e vxlan -p vxlan/listen_ip=0.0.0.0,vxlan/listen_port=5000 -s files -p files/config=/x.json -p mtu=1366"
    fresh = rule.rule_of(profile(), 9000)
    assert rule.parse(fresh) == rule.OverlayRule(
        listen=ip_address("0.0.0.0"), port=4790, config="/opt/custom/networking/customers_overlay.json", mtu=8900
    )


def test_what_a_rule_does_not_say_is_as_in_smartos() -> None:
    parsed = rule.parse("-s files -p files/config=/x.json,vxlan/listen_ip=fd00::1 -e vxlan")
    assert (parsed.port, parsed.mtu, str(parsed.listen), parsed.config) == (4789, 1400, "fd00::1", "/x.json")
    direct = rule.parse("-e vxlan -s direct -p vxlan/listen_ip=10.0.0.1 -p direct/dest_ip=10.0.0.2,direct/dest_port=4")
    assert direct.target == (ip_address("10.0.0.2"), 4)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", "rule"), ("vxlan", "rule"), ("-e", "rule"), ("-e vxlan -p", "rule"), ("-v 4 -e vxlan", "rule"), ("-e vxlan 'x", "rule"),
        ("-e geneve -s files -p vxlan/listen_ip=0.0.0.0,files/config=/x", "rule"), ("-s files -p vxlan/listen_ip=0.0.0.0,files/config=/x", "rule"),
        ("-e vxlan -e vxlan -s files -p vxlan/listen_ip=0.0.0.0,files/config=/x", "rule"), ("-e vxlan -s magic -p vxlan/listen_ip=0.0.0.0", "rule"),
        ("-e vxlan -s files -p files/config=/x", "rule.vxlan/listen_ip"), ("-e vxlan -s files -p vxlan/listen_ip=0.0.0.0", "rule.files/config"),
        ("-e vxlan -s files -p vxlan/listen_ip=10.0.0,files/config=/x", "rule.vxlan/listen_ip"), ("-e vxlan -s direct -p vxlan/listen_ip=::", "rule.direct/dest_ip"),
        (RULES[1].replace("4790", "0"), "rule.vxlan/listen_port"), (RULES[1].replace("4790", "70000"), "rule.vxlan/listen_port"), (RULES[1].replace("4790", "x"), "rule.vxlan/listen_port"),
        (RULES[1].replace("1400", "575"), "rule.mtu"), (RULES[1].replace("1400", "8901"), "rule.mtu"), (RULES[1] + ",mtu=9", "rule.mtu"),
        (RULES[1] + " -p colour=red", "rule"), (RULES[1] + " -p mtu", "rule"), (RULES[1].replace("/x.json", ""), "rule"), (RULES[1] + ",", "rule"),
    ],
)  # fmt: skip
def test_a_rule_that_does_not_parse_is_refused(text: str, path: str) -> None:
    with pytest.raises(Invalid) as error:
        rule.parse(text)
    assert error.value.path == path


@given(st.text(" -epsvxlan/=,0123456789.:'\"", max_size=60))
def test_any_text_is_a_rule_or_invalid(text: str) -> None:
    try:
        rule.parse(text)
    except Invalid:
        pass


ENTRIES = {
    "b2:aa:d8:00:00:01": {
        "ip": "192.168.100.101",
        "port": 4789,
        "arp": "10.44.44.14",
        "ndp": "fd00::14",
        "dhcp-proxy": "b2:aa:d8:00:00:09",
    },
    "b2:aa:d8:00:00:02": {"ip": "fd00::101", "port": 14790},
}


def test_a_table_comes_back_as_it_was() -> None:
    parsed = table.parse(json.dumps(ENTRIES))
    assert json.loads(table.text_of(parsed)) == ENTRIES
    assert table.parse(table.text_of(parsed)) == parsed
    assert table.parse("{}") == table.parse(table.text_of({})) == {}
    assert list(table.parse('{"b2:aa:d8:0:0:1": {"ip": "10.0.0.1"}}')) == ["b2:aa:d8:00:00:01"]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", "table"), ("[]", "table"), ('{"x": {"ip": "10.0.0.1"}}', "table"), ('{"b2:aa:d8:00:00:01": {}}', "table.b2:aa:d8:00:00:01.ip"),
        ('{"b2:aa:d8:00:00:01": []}', "table.b2:aa:d8:00:00:01"), ('{"b2:aa:d8:00:00:01": {"ip": 7}}', "table.b2:aa:d8:00:00:01.ip"),
        ('{"b2:aa:d8:00:00:01": {"ip": "10.0.0.1", "port": "1"}}', "table.b2:aa:d8:00:00:01.port"),
        ('{"b2:aa:d8:00:00:01": {"ip": "10.0.0.1", "port": 70000}}', "table.b2:aa:d8:00:00:01.port"),
        ('{"b2:aa:d8:00:00:01": {"ip": "10.0.0.1", "arp": "fd00::1"}}', "table.b2:aa:d8:00:00:01.arp"),
        ('{"b2:aa:d8:00:00:01": {"ip": "10.0.0.1", "ndp": "10.0.0.1"}}', "table.b2:aa:d8:00:00:01.ndp"),
        ('{"b2:aa:d8:00:00:01": {"ip": "10.0.0.1", "dhcp-proxy": "x"}}', "table.b2:aa:d8:00:00:01.dhcp-proxy"),
        ('{"b2:aa:d8:00:00:01": {"ip": "10.0.0.1", "vlan": 2}}', "table.b2:aa:d8:00:00:01.vlan"),
        ('{"b2:aa:d8:00:00:01": {"ip": "10.0.0.1"}, "B2:AA:D8:0:0:1": {"ip": "10.0.0.2"}}', "table"),
    ],
)  # fmt: skip
def test_a_table_that_does_not_parse_is_refused(text: str, path: str) -> None:
    with pytest.raises(Invalid) as error:
        table.parse(text)
    assert error.value.path == path


def host(number: int, site: str) -> Host:
    outside = {"address": f"10.7.0.{number}", "public": f"203.0.113.{number}"}
    return Host.model_validate({"name": f"h{number}", "vtep": f"192.0.2.{number}", "site": site, "outside": outside})


def endpoint(name: str, on: str, mac: int, network: str = "n", **fields: Any) -> Endpoint:
    data = {"id": name, "network_id": network, "host": on, "mac_address": f"02:00:00:00:00:{mac:02x}", "ofport": 1}
    return Endpoint.model_validate(data | fields)


HOSTS = {h.name: h for h in (host(1, "s1"), host(2, "s1"), host(3, "s2"))}
NETWORKS = {i: Network.model_validate({"id": i, "name": i, "vxlan_vni": vni}) for i, vni in (("n", 1), ("m", 2))}
ENDPOINTS = [
    endpoint("a", "h1", 1, ipv4_address="10.0.0.1"),
    endpoint("b", "h2", 2, ipv4_address="10.0.0.2", ipv6_address="fd00::2"),
    endpoint("c", "h3", 3, ipv4_address="10.0.0.3"),
    endpoint("d", "h3", 4, active=False),
]


def test_the_table_of_a_host_has_the_others_at_the_address_that_it_reaches() -> None:
    made = table.table_of(HOSTS["h1"], profile(), HOSTS, NETWORKS, ENDPOINTS)
    assert made == {
        "02:00:00:00:00:02": TableEntry(
            ip=ip_address("192.0.2.2"), port=4790, arp=ip_address("10.0.0.2"), ndp=ip_address("fd00::2")
        ),
        "02:00:00:00:00:03": TableEntry(ip=ip_address("203.0.113.3"), port=4790, arp=ip_address("10.0.0.3")),
    }
    items = table.items_of(made, "n", HOSTS)
    assert [(item["host"], item["mac_address"], item.get("ipv4_address"), item.get("ipv6_address")) for item in items] == [
        ("h2", "02:00:00:00:00:02", "10.0.0.2", "fd00::2"), ("h3", "02:00:00:00:00:03", "10.0.0.3", None),
    ]  # fmt: skip
    only = table.table_of(HOSTS["h1"], profile(hosts=["h1", "h3"]), HOSTS, NETWORKS, ENDPOINTS)
    assert list(only) == ["02:00:00:00:00:03"]


def test_what_a_table_cannot_say_is_refused() -> None:
    with pytest.raises(Conflict, match="networks n and m both have MAC 02:00:00:00:00:02"):
        table.table_of(HOSTS["h1"], profile(), HOSTS, NETWORKS, [*ENDPOINTS, endpoint("z", "h3", 2, "m")])
    with pytest.raises(Invalid, match=r"192\.0\.2\.77"):
        table.items_of(table.parse('{"b2:aa:d8:00:00:01": {"ip": "192.0.2.77"}}'), "n", HOSTS)


@pytest.mark.parametrize(
    "words", [("x", RULES[0], "--hosts", "h1"), ("--hosts", "h1", "x", RULES[0]), ("x", "--hosts", "h1", "--", RULES[0])]
)
def test_a_rule_is_one_argument_although_it_begins_like_an_option(words: tuple[str, ...]) -> None:
    command = typer.main.get_command(app)
    with command.commands["import"].make_context("import", list(words)) as context:  # type: ignore[attr-defined]
        assert (context.params["name"], context.params["rule"], context.params["hosts"]) == ("x", RULES[0], "h1")
