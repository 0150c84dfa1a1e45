"""Adoption rules: which interface a rule names, which rule counts, how rules are named, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.endpoints.remembered import LIMIT, RememberedAddresses
from agent.linux.devices import Device, Earlier, earlier, obstacle
from agent.linux.interface import Link
from specs.documents.document import parse
from specs.documents.export import export
from specs.model.adoption import Adoption, rule_for
from specs.model.base import decode
from specs.model.endpoint import Endpoint
from specs.snapshot import Snapshot
from warren.errors import Invalid

ENDPOINT = {"id": "e1", "network_id": "n1", "host": "h1", "mac_address": "02:57:0a:00:00:02", "ofport": 1}


def rule(match: str, **fields: Any) -> Adoption:
    return decode(Adoption, {"match": match, "network": "blue", **fields})


@pytest.mark.parametrize(
    ("match", "device", "applies"),
    [
        ("ve-*", "ve-web", True), ("ve-*", "ve-", True), ("ve-*", "vb-web", False), ("ve-*", "xve-web", False), ("vnet?", "vnet0", True),
        ("vnet?", "vnet10", False), ("vnet0", "vnet0", True), ("vnet0", "vnet01", False), ("VE-*", "ve-web", False), ("*", "tap0", True),
        ("*", "wv0123456789ab", False), ("*", "wp0123456789ab", False), ("*", "warren-gw", False), ("*", "warren-dns", False), ("w*", "vxlan-warren", False),
        ("*", "wvillage", True), ("*", "wc0123456789", False), ("v.*", "v.1", True), ("v.*", "vx1", False),
    ],
)  # fmt: skip
def test_a_rule_names_interfaces_but_never_warrens(match: str, device: str, applies: bool) -> None:
    assert rule(match).applies("h1", device) is applies


def test_of_several_rules_the_one_for_the_host_counts_then_the_one_with_more_letters() -> None:
    rules = [rule("*"), rule("ve-*"), rule("ve-w*"), rule("ve-web"), rule("v*", host="h1"), rule("ve-we?", host="h2")]
    for order in (rules, rules[::-1]):
        chosen = [rule_for(host, name, order) for host in ("h1", "h2", "h3") for name in ("ve-web", "ve-x", "tap0")]
        assert [each and each.name for each in chosen] == [
            "vANY.h1", "vANY.h1", "ANY", "ve-weONE.h2", "ve-ANY", "ANY", "ve-web", "ve-ANY", "ANY",
        ]  # fmt: skip
    assert rule_for("h1", "eth0", [rule("ve-*")]) is None


@pytest.mark.parametrize(
    "item",
    [
        {}, {"match": "ve-*"}, {"network": "blue"}, {"match": "", "network": "blue"}, {"match": "ve/x", "network": "blue"}, {"match": 7, "network": "blue"},
        {"match": "a" * 16, "network": "blue"}, {"match": "a b", "network": "blue"}, {"match": "..", "network": "blue"}, {"match": "[ab]", "network": "blue"},
        {"match": "ve-*", "network": "no name"}, {"match": "ve-*", "network": "blue", "host": "-"}, {"match": "ve-*", "network": "blue", "more": 1},
        {"match": "_x", "network": "blue"}, {"match": "ve-*", "network": "blue", "name": "a b"},
    ],
)  # fmt: skip
def test_a_wrong_rule_is_refused_with_its_path(item: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match=r"adopt\[1\]"):
        parse(f"adopt: [{{match: x, network: blue}}, {item}]")


def test_a_rule_is_named_after_what_it_matches_and_named_once() -> None:
    (first, second) = parse("adopt: [{match: ve-*, network: blue}, {match: tap?, network: blue, host: h1}]").adopt or ()
    assert (first.name, second.name) == ("ve-ANY", "tapONE.h1")
    with pytest.raises(Invalid, match=r"adopt\[1\].name"):
        parse("adopt: [{match: ve-*, network: blue}, {match: ve-*, network: red}]")


def test_an_export_has_the_rules_and_not_what_they_have_made() -> None:
    made = decode(Endpoint, {**ENDPOINT, "device": "ve-web", "labels": {"adopted.by": "ve-ANY"}})
    other = decode(Endpoint, {**ENDPOINT, "id": "e2", "device": "tap0"})
    text = export(Snapshot(adoptions={"ve-ANY": rule("ve-*")}, endpoints={"e1": made, "e2": other}))
    assert "match: ve-*" in text
    assert "ve-web" not in text
    assert "device: tap0" in text
    assert parse(text).adopt is not None


@pytest.mark.parametrize(
    "more",
    [
        {"netns": "/run/netns/x"},
        {"interface": "eth0"},
        {"port": "eth1"},
        {"parent": "e2", "vlan": 5},
        {"machine": "web"},
        {"device": "wv0123456789ab"},
    ],
)
def test_a_device_stands_alone(more: dict[str, Any]) -> None:
    assert decode(Endpoint, {**ENDPOINT, "device": "tap0"}).veth == "tap0"
    with pytest.raises(Invalid):
        decode(Endpoint, {**ENDPOINT, "device": "tap0", **more})


def test_an_endpoint_without_a_device_is_written_as_earlier_versions_read_it() -> None:
    assert "device" not in decode(Endpoint, ENDPOINT).data()


def test_a_port_of_a_bridge_is_no_endpoints() -> None:
    link = Link(index=7, name="ve-web", mac="02:00:00:00:00:01", mtu=1500, up=False)
    assert obstacle(Device(link=link, kind="veth")) is None
    assert "port of vz-prolo" in str(obstacle(Device(link=link, kind="veth", bridge="vz-prolo")))
    assert earlier(Device(link=link, kind="tun")) == Earlier(index=7, up=False, mtu=1500)


def test_addresses_are_remembered_by_network_and_mac(tmp_path: Path) -> None:
    path = tmp_path / "run" / "adopted.json"
    first = RememberedAddresses(path)
    assert first.of("n1", "02:57:0a:00:00:02") == {}
    first.keep(decode(Endpoint, {**ENDPOINT, "ipv4_address": "10.0.0.9"}))
    assert RememberedAddresses(path).of("n1", "02:57:0a:00:00:02") == {"ipv4_address": "10.0.0.9"}
    assert RememberedAddresses(path).of("n2", "02:57:0a:00:00:02") == {}
    path.write_text("[1")
    assert RememberedAddresses(path).of("n1", "02:57:0a:00:00:02") == {}


def test_the_longest_unused_addresses_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.endpoints.remembered.LIMIT", 2)
    assert LIMIT > 2
    memory = RememberedAddresses(tmp_path / "adopted.json")
    for last in (1, 2, 1, 3):
        memory.keep(decode(Endpoint, {**ENDPOINT, "mac_address": f"02:00:00:00:00:0{last}", "ipv4_address": f"10.0.0.{last}"}))
    assert [bool(memory.of("n1", f"02:00:00:00:00:0{last}")) for last in (1, 2, 3)] == [True, False, True]
