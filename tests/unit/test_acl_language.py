"""The ACL language: what FAUCET accepts is accepted; mistakes are reported with their path."""

from __future__ import annotations

from typing import Any

import pytest

from acl.language import canonical, parse_rule
from specs.documents.document import parse
from specs.documents.text import SIZE_LIMIT
from specs.model.acl import Acl
from specs.model.base import decode
from warren.errors import Invalid

TCP = {"dl_type": 0x800, "ip_proto": 6}


@pytest.mark.parametrize(
    ("rules", "path"),
    [
        ([], "rules"),
        ("allow", "rules"),
        ([{}], "rules[0]"),
        ([{"rule": {"dl_type": 0x800}, "actions": {"allow": 1}}], "rules[0].actions"),
        ([{"actions": {}}], "rules[0].actions"),
        ([{"actions": None}], "rules[0].actions"),
        ([{"actions": {"allow": "yes"}}], "rules[0].actions.allow"),
        ([{"actions": {"meter": None, "allow": 1}}], "rules[0].actions.meter"),
        ([{"actions": {"ct": {"zone": 1, "table": 1}}}], "rules[0].actions.ct"),
        ([{"actions": {"output": "p1"}}], "rules[0].actions.output"),
        ([{"actions": {"output": {"port": "a", "ports": ["b"]}}}], "rules[0].actions.output.ports"),
        ([{"actions": {"output": [{"port": "a", "pop_vlans": 1}]}}], "rules[0].actions.output[0]"),
        ([{"actions": {"output": {"tunnel": {}}}}], "rules[0].actions.output.tunnel"),
        (
            [{"actions": {"output": {"set_fields": [{"dl_dst": "02:00:00:00:00:01"}]}}}],
            "rules[0].actions.output.set_fields[0].dl_dst",
        ),
        ([{"actions": {"output": {"set_fields": [{"eth_dst": 1}]}}}], "rules[0].actions.output.set_fields[0].eth_dst"),
        ([{**TCP, "tcp_dst": 70000}], "rules[0].tcp_dst"),
        ([{**TCP, "tcp_dst": None, "actions": {"allow": 1}}], "rules[0].tcp_dst"),
        ([{**TCP, "tcp_dst": "9-1"}], "rules[0].tcp_dst"),
        ([{**TCP, "tcp_dst": []}], "rules[0].tcp_dst"),
        ([{"tcp_dst": 80}], "rules[0].tcp_dst"),
        ([{"dl_type": 0x800, "ip_proto": "\u0666"}], "rules[0].ip_proto"),
        ([{"dl_type": 0x800, "nw_src": "10.0.0.0/33"}], "rules[0].nw_src"),
        ([{"dl_type": 0x800, "nw_src": "10.0.0.0/\u00b2"}], "rules[0].nw_src"),
        ([{"dl_type": 0x86DD, "ipv6_src": "fe80::1%eth0"}], "rules[0].ipv6_src"),
        ([{"dl_src": 5}], "rules[0].dl_src"),
        ([{"dl_src": "02:00:00:00:00:01", "eth_src": "02:00:00:00:00:02"}], "rules[0].eth_src"),
        ([{"vlan_pcp": 3}], "rules[0].vlan_pcp"),
        ([{"metadata": 1}], "rules[0].metadata"),
        ([{"nw_prot": 6}], "rules[0].nw_prot"),
        ([{"from": {"label": "a", "cidr": "10.0.0.0/8"}}], "rules[0].from"),
        ([{"from": {"cidr": "10.0.0.1/8"}}], "rules[0].from.cidr"),
        ([{"from": {"cidr": "10.0.0.0/8"}, "to": {"cidr": "fd00::/8"}}], "rules[0]"),
        ([{"state": ["begun"]}], "rules[0].state"),
        ([{"state": ["new"], "ct_state": "0x21/0x21"}], "rules[0].ct_state"),
        ([{"allow_related": True, "actions": {"allow": 0}}], "rules[0].actions.allow"),
        ([{"proto": "tcp", "ip_proto": 6}], "rules[0].ip_proto"),
        ([{"cookie": 65537}], "rules[0].cookie"),
        ([{"actions": {"allow": 1}}] * 5000, "rules"),
    ],
    ids=range(38),
)
def test_refused_with_the_path(rules: Any, path: str) -> None:
    with pytest.raises(Invalid) as error:
        decode(Acl, {"name": "web", "rules": rules}, "acl")
    assert error.value.path == f"acl.{path}"
    assert "\n" not in str(error.value)


def test_the_three_ways_to_write_a_rule_and_the_body_with_exact_match() -> None:
    rule = {"dl_type": 0x800, "actions": {"allow": 1}}
    assert canonical([{"rule": rule}, rule, {"rule": None, **rule}], "rules") == (rule, rule, rule)
    assert canonical({"exact_match": True, "rules": [rule]}, "rules") == (rule,)
    stored = canonical([{"rule": {}}], "rules")
    assert canonical(list(stored), "rules") == stored
    assert parse_rule(stored[0], "rules[0]").allow is False


def test_a_wrong_rule_of_a_document_is_reported_with_its_line() -> None:
    text = "acls:\n  web:\n    - rule:\n        dl_type: 0x800\n        nw_src: 10.0.0.0/33\n"
    with pytest.raises(Invalid, match=r"^line 5: acls\[0\]\.rules\[0\]\.nw_src: '10\.0\.0\.0/33'"):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [1, 1]\nacls: {web: [*a, *a]}",
        "acls: {web: " + "[" * 100 + "]" * 100 + "}",
        "acls: {web: [{cookie: " + "9" * 9000 + "}]}",
        "x" * (SIZE_LIMIT + 1),
    ],
    ids=["aliases", "nesting", "digits", "size"],
)
def test_yaml_bombs_are_refused_with_a_short_error(text: str) -> None:
    with pytest.raises(Invalid) as error:
        parse(text)
    assert len(str(error.value)) < 300
