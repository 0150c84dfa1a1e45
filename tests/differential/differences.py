"""Known differences between FAUCET and Warren, each with a rule that shows it; and rules that both must refuse."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from random import Random
from typing import Any, NamedTuple

from tests.differential.generate import MACS, Rule

TCP4 = {"eth_type": 0x800, "ip_proto": 6}


class Kind(Enum):
    """How a difference shows."""

    WARREN_REFUSES = "Warren refuses"
    FAUCET_REFUSES = "FAUCET refuses"
    WARREN_CLOSES = "FAUCET refuses, Warren closes the port"
    BEHAVIOUR = "packets differ"


class Difference(NamedTuple):
    """A class of difference, with why it is there; `rules` are some that show it."""

    kind: Kind
    why: str
    rules: tuple[Rule | list[Rule], ...]


def _output(*rules: Any, **match: Any) -> tuple[Rule, ...]:
    return tuple({**match, "actions": {"output": output}} for output in rules)


def _allow(*matches: Rule) -> tuple[Rule, ...]:
    return tuple({**match, "actions": {"allow": 1}} for match in matches)


DIFFERENCES: dict[str, Difference] = {
    "prerequisite": Difference(
        Kind.WARREN_REFUSES,
        "FAUCET does not check what a match field needs (eth_type before ipv4_src): the switch refuses that flow alone",
        _allow(
            {"ipv4_src": "10.0.0.1"},
            {"tcp_dst": 80},
            {"eth_type": 0x800, "tcp_dst": 80},
            {"eth_type": 0x86DD, "nw_dst": "10.0.0.1"},
            {"dl_type": 0x800, "nw_proto": 17, "tcp_src": 22},
            {"vlan_pcp": 5},
            {"arp_op": 1},
            {"ip_dscp": 46},
            {"eth_type": 0x86DD, "ip_proto": 58, "ipv6_nd_target": "fe80::1"},
        ),
    ),
    "out-of-range": Difference(
        Kind.WARREN_REFUSES,
        "FAUCET cuts a number to its field's bits (port 70000 becomes 4464), or the switch refuses the flow",
        _allow(
            {**TCP4, "tcp_dst": 70000},
            {**TCP4, "tcp_src": "65558"},
            {"eth_type": 0x18000},
            {"eth_type": 0x800, "ip_proto": 300},
            {"eth_type": 0x800, "ip_dscp": 110},
        )
        + _output({"vlan_vid": 5000, "port": 2}, {"vlan_vid": -1, "port": 2}, [{"vlan_vids": [4096]}, {"port": 2}])
        + _output({"pop_vlans": 3, "port": 2}, {"swap_vid": 5000, "port": 2}, vlan_vid=10),
    ),
    "said-twice": Difference(
        Kind.WARREN_REFUSES,
        "a field and its alias in one rule: in FAUCET the later one wins without a word",
        _allow({"eth_type": 0x800, "dl_type": 0x806}, {"dl_src": MACS[0], "eth_src": MACS[1]}),
    ),
    "beside-rule": Difference(
        Kind.WARREN_REFUSES,
        "what stands beside `rule:`: FAUCET ignores it without a word",
        ({"rule": {"eth_type": 0x800, "actions": {"allow": 1}}, "actions": {"allow": 0}},),
    ),
    "empty-rule": Difference(Kind.WARREN_REFUSES, "`- {}`: for FAUCET it drops everything; likely a slip", ({},)),
    "no-such-match": Difference(
        Kind.WARREN_REFUSES,
        "fields that Open vSwitch lacks, or that Warren needs itself: registers, tunnels, conntrack zones and marks",
        _allow(
            {"metadata": 1}, {"tunnel_id": 5}, {"in_phy_port": 1}, {"pbb_isid": 1}, {"ipv6_exthdr": 1}, {"ct_zone": 1},
            {"ct_mark": 1}, {"ct_label": 1}, {"metadata": "1/1"},
        ),
    ),
    "ct": Difference(
        Kind.WARREN_REFUSES,
        "`ct` names FAUCET's own table numbers; Warren has `state` and `allow_related`",
        (
            {"eth_type": 0x800, "actions": {"ct": {"zone": 10, "table": 1}}},
            {"ct_state": "0/0x20", "actions": {"ct": {"flags": 1, "zone": 1, "table": 1}}},
        ),
    ),
    "failover": Difference(
        Kind.WARREN_REFUSES,
        "a group that watches ports: a container's port has no carrier to watch",
        _output({"failover": {"group_id": 7, "ports": ["p2", "p3"]}}, [{"failover": {"group_id": 7, "ports": [2]}}]),
    ),
    "idle-element": Difference(
        Kind.WARREN_REFUSES,
        "an element of `output` without content (`{}`, `ports: []`): FAUCET does nothing for it; likely a slip",
        _output([{}, {"port": 2}], {"ports": []}, {"set_fields": []}, {"vlan_vids": []}),
    ),
    "third-tag": Difference(
        Kind.WARREN_REFUSES,
        "more than two tags at once: Open vSwitch keeps two",
        _output({"vlan_vids": [10, 20, 30], "port": 2}, [{"vlan_vids": [1, 2, 3]}, {"port": 3}]),
    ),
    "wrong-tpid": Difference(
        Kind.WARREN_REFUSES,
        "a pushed tag of another type than 0x8100 and 0x88a8: the switch refuses it",
        _output({"vlan_vids": [{"vid": 10, "eth_type": 0x9100}], "port": 2}),
    ),
    "read-only": Difference(
        Kind.WARREN_REFUSES,
        "fields that cannot be written: FAUCET sends them and the switch refuses the flow",
        _output({"set_fields": [{"eth_type": 0x800}], "port": 2}, {"set_fields": [{"in_port": 3}], "port": 2})
        + _output({"set_fields": [{"mpls_bos": 1}], "port": 2}, eth_type=0x8847),
    ),
    "extension": Difference(
        Kind.FAUCET_REFUSES,
        "Warren's own words: port lists and ranges, proto, from, to, state, allow_related, log",
        _allow(
            {**TCP4, "tcp_dst": [80, 443]}, {**TCP4, "tcp_dst": "1000-2000"}, {"proto": "tcp", "tcp_dst": 22},
            {"from": {"cidr": "10.0.0.0/24"}}, {"to": {"cidr": "fd00::/64"}}, {"state": ["new"]}, {"allow_related": True},
            {"log": True},
        ),
    ),
    "vlan-mapping": Difference(
        Kind.FAUCET_REFUSES,
        "`vlan_vid: {vid: .., eth_type: ..}`: in FAUCET's code, but its type check admits a number only",
        _output({"vlan_vid": {"vid": 10, "eth_type": 0x88A8}, "port": 2}),
    ),
    "text-to-set": Difference(
        Kind.FAUCET_REFUSES,
        "a number as text in `set_fields`: FAUCET's process ends",
        _output({"set_fields": [{"tcp_dst": "81"}], "port": 2}, {"set_fields": [{"ip_dscp": "0x2e"}], "port": 2}, **TCP4),
    ),
    "unknown-name": Difference(
        Kind.WARREN_CLOSES,
        "a port or meter that does not exist: it may come later, so Warren keeps the ACL and lets nothing pass until then",
        (
            *_output({"port": "p9"}, {"ports": ["p2", 77]}, [{"port": "nobody"}]),
            {"actions": {"mirror": "p9"}},
            {"actions": {"allow": 1, "meter": "unknown"}},
        ),
    ),
    "force-port-vlan": Difference(
        Kind.BEHAVIOUR,
        "FAUCET skips its VLAN tables then; Warren has none to skip, and the packet goes on as with allow",
        ({"actions": {"allow": 1, "force_port_vlan": 1}},),
    ),
    "set-vlan": Difference(
        Kind.BEHAVIOUR,
        "`set_fields: [{vlan_vid: 20}]`: FAUCET leaves the present bit out and the switch refuses the flow; Warren puts it in",
        _output({"set_fields": [{"vlan_vid": 20}], "port": 2}, [{"set_fields": [{"vlan_vid": 10}]}, {"port": 4}], vlan_vid="0x1000/0x1000"),
    ),
    "order-of-fields": Difference(
        Kind.BEHAVIOUR,
        "FAUCET writes ip_proto_nxm and nw_ttl before the eth_type that they need: the switch refuses the flow",
        _allow({"eth_type": 0x800, "ip_proto_nxm": 6}, {"eth_type": 0x800, "nw_ttl": 64}, {"eth_type": 0x86DD, "nw_ttl": 1}),
    ),
    "shared-actions": Difference(
        Kind.BEHAVIOUR,
        "a rule that drops and one that allows with the same rewrite: FAUCET cuts it out of both, and the second does not rewrite",
        ([
            {"eth_type": 0x88CC, "actions": {"output": {"set_fields": [{"eth_dst": MACS[0]}]}}},
            {"actions": {"output": {"set_fields": [{"eth_dst": MACS[0]}]}, "allow": 1}},
        ],),
    ),
    "action-prerequisite": Difference(
        Kind.WARREN_REFUSES,
        "actions that need a match (set tcp_dst without ip_proto 6, pop or swap a tag without vlan_vid): the switch refuses the flow",
        _output(
            {"set_fields": [{"ipv4_dst": "10.0.0.1"}], "port": 2}, {"set_fields": [{"tcp_dst": 80}], "port": 3},
            {"set_fields": [{"vlan_pcp": 5}], "port": 2}, {"pop_vlans": 1, "port": 2}, {"swap_vid": 20, "port": 2},
            [{"pop_vlans": 2}, {"port": 2}],
        )
        + _output({"pop_vlans": 2, "port": 2}, vlan_vid=10),
    ),
    "icmp-family": Difference(
        Kind.WARREN_REFUSES,
        "icmpv4_type for IPv6 with protocol 1, icmpv6_type for IPv4 with protocol 58: the switch refuses the flow",
        _allow({"eth_type": 0x86DD, "ip_proto": 1, "icmpv4_type": 8}, {"eth_type": 0x800, "ip_proto": 58, "icmpv6_type": 135}),
    ),
}  # fmt: skip

# wrong for both; that FAUCET's process ends on some of them counts as refused
REFUSED: tuple[Rule, ...] = (
    *_allow(
        {"no_such_field": 1}, {"tcp_flags": 2}, {"nw_tos": 4}, {"eth_src": 5}, {"eth_src": "02:57"}, {"dl_type": "ip"},
        {"eth_type": 0x800, "ipv4_src": "10.0.0.300"}, {"eth_type": 0x800, "ipv4_src": "10.0.0.0/33"},
        {"eth_type": 0x86DD, "ipv6_src": "fd00::/129"}, {"eth_type": 0x800, "ip_proto": "tcp"}, {"vlan_vid": "one"},
        {"eth_type": 0x800, "ip_proto": "6/7"}, {"cookie": -1}, {"cookie": 65537}, {"description": 5}, {**TCP4, "tcp_dst": 1.5},
        {**TCP4, "tcp_dst": {"from": 1}},
    ),
    *_output(
        "p2", {"port": 2, "ports": [3]}, {"vlan_vid": 1, "vlan_vids": [2]}, {"push_vlans": [1]}, {"ports": "p2"},
        [{"vlan_vid": 1, "port": 2}], {"set_fields": [{"dl_dst": MACS[0]}], "port": 2}, [{"set_fields": [{}]}, {"port": 2}], {"set_fields": [{"no_such": 1}], "port": 2},
        {"set_fields": [{"eth_src": MACS[0], "eth_dst": MACS[1]}], "port": 2}, {"set_fields": {"eth_dst": MACS[0]}, "port": 2},
        {"set_fields": [{"eth_dst": "02"}], "port": 2}, {"vlan_vid": "10", "port": 2}, {"pop_vlans": "1"}, {"swap_vid": "20"},
        {"tunnel": {"dp": "sw2", "port": 1}}, {"failover": {"ports": [2]}, "port": 2}, {"goto": 5},
    ),
    {"actions": {}}, {"actions": {"allow": "yes"}}, {"actions": {"permit": 1}}, {"actions": {"meter": 1}},
    {"actions": [{"allow": 1}]}, {"eth_type": 0x800, "actions": None}, {**TCP4, "tcp_dst": None, "actions": {"allow": 1}}, {"rule": 5}, {"actions": {"allow": 1, "ct": {"zone": 1}}},
)  # fmt: skip


def spoiled() -> Iterator[tuple[str, list[Rule]]]:
    """Every rule above (or two that belong together) with the key of its difference; "" when both must refuse it."""
    for key, difference in DIFFERENCES.items():
        yield from ((key, rule if isinstance(rule, list) else [rule]) for rule in difference.rules)
    yield from (("", [rule]) for rule in REFUSED)


def inserted(rng: Random, key: str, rules: list[Rule], written: Any) -> Any:
    """An ACL with those rules first, where nothing before them can hide what they do."""
    plain = key == "empty-rule" or "rule" in rules[0] or rng.random() < 0.4
    listed = written["rules"] if isinstance(written, dict) else written
    listed[:0] = rules if plain else [{"rule": rule} for rule in rules]
    return written
