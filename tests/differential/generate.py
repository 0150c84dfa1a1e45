"""Random ACLs in FAUCET's language and packets from the same small pools, so that rules hit. Text and integers only.

The valid part: every rule has its prerequisites, and its actions suit what it matches; FAUCET, Warren and the switch take it.
tests/differential/differences.py has the rest.
"""

from __future__ import annotations

from ipaddress import ip_address
from random import Random
from typing import Any

from tests.flowtable import Packet, Tag

Rule = dict[str, Any]
OFPORTS = {"p1": 1, "p2": 2, "p3": 3, "p4": 4}  # the ACLs are those of p1
METERS = {"slow": 1, "fast": 2}

MACS = ("02:57:0a:00:00:01", "02:57:0a:00:00:02", "ff:ff:ff:ff:ff:ff")
MAC_MASKS = ("ff:ff:ff:00:00:00", "01:00:00:00:00:00", "ff:ff:ff:ff:ff:ff")
IPV4S = ("10.0.0.1", "10.0.0.2", "10.0.1.1", "192.168.0.1")
IPV4_MASKS = ("24", "255.255.255.0", "255.0.0.255", "0", "32", "31")
IPV6S = ("fd00::1", "fd00::2", "fd00:1::1", "fe80::1")
IPV6_MASKS = ("64", "ffff:ffff::", "128", "::ffff")
PORTS = (22, 80, 443, 1024, 5353)
PORT_MASKS = (0xFC00, 0xFFF0, 0x00FF, 0xFFFF)
VIDS = (0, 10, 20)
SMALL = {
    "vlan_pcp": (0, 5), "ip_dscp": (0, 46), "ip_ecn": (0, 1), "nw_ttl": (1, 64), "ipv6_flabel": (0, 5), "icmpv4_type": (0, 8),
    "icmpv4_code": (0, 1), "icmpv6_type": (128, 135, 136), "icmpv6_code": (0, 1), "arp_op": (1, 2), "mpls_label": (16, 17),
    "mpls_tc": (0, 3), "mpls_bos": (0, 1), "ct_state": (0x21, 0x22, 0x2A),
}  # fmt: skip
ALIASES = {
    "eth_src": "dl_src", "eth_dst": "dl_dst", "eth_type": "dl_type", "vlan_vid": "dl_vlan", "ip_proto": "nw_proto",
    "ipv4_src": "nw_src", "ipv4_dst": "nw_dst",
}  # fmt: skip
NXM = {"eth_type": "eth_type_nxm", "ip_proto": "ip_proto_nxm"}
TARGETS = ("p2", "p3", "p4", 2, 3, 4)
V4 = ("ipv4_src", "ipv4_dst", "ip_dscp", "ip_ecn")
V6 = ("ipv6_src", "ipv6_dst", "ip_dscp", "ip_ecn", "ipv6_flabel")
# kind -> the fields that make it, the fields that it may have
KINDS: dict[str, tuple[dict[str, int], tuple[str, ...]]] = {
    "any": ({}, ()),
    "ipv4": ({"eth_type": 0x0800}, V4),
    "ipv6": ({"eth_type": 0x86DD}, V6),
    "tcp4": ({"eth_type": 0x0800, "ip_proto": 6}, (*V4, "tcp_src", "tcp_dst")),
    "udp4": ({"eth_type": 0x0800, "ip_proto": 17}, (*V4, "udp_src", "udp_dst")),
    "sctp4": ({"eth_type": 0x0800, "ip_proto": 132}, (*V4, "sctp_src", "sctp_dst")),
    "icmp4": ({"eth_type": 0x0800, "ip_proto": 1}, (*V4, "icmpv4_type", "icmpv4_code")),
    "tcp6": ({"eth_type": 0x86DD, "ip_proto": 6}, (*V6, "tcp_src", "tcp_dst")),
    "udp6": ({"eth_type": 0x86DD, "ip_proto": 17}, (*V6, "udp_src", "udp_dst")),
    "icmp6": ({"eth_type": 0x86DD, "ip_proto": 58}, (*V6, "icmpv6_type", "icmpv6_code")),
    "solicit": ({"eth_type": 0x86DD, "ip_proto": 58, "icmpv6_type": 135}, (*V6, "ipv6_nd_target", "ipv6_nd_sll")),
    "advert": ({"eth_type": 0x86DD, "ip_proto": 58, "icmpv6_type": 136}, (*V6, "ipv6_nd_target", "ipv6_nd_tll")),
    "arp": ({"eth_type": 0x0806}, ("arp_op", "arp_spa", "arp_tpa", "arp_sha", "arp_tha")),
    "mpls": ({"eth_type": 0x8847}, ("mpls_label", "mpls_tc", "mpls_bos")),
}
PACKETS = ("tcp4", "udp4", "sctp4", "icmp4", "tcp6", "udp6", "icmp6", "solicit", "advert", "arp", "mpls")
READ_ONLY = ("eth_type", "ip_proto", "icmpv6_type", "ct_state", "in_port", "mpls_bos", "ipv6_nd_sll", "ipv6_nd_tll")


def pool(name: str) -> tuple[Any, ...]:
    """The values of a field as text or numbers."""
    if name in SMALL:
        return SMALL[name]
    if name in ("eth_src", "eth_dst", "arp_sha", "arp_tha", "ipv6_nd_sll", "ipv6_nd_tll"):
        return MACS
    if name in ("ipv4_src", "ipv4_dst", "arp_spa", "arp_tpa"):
        return IPV4S
    return IPV6S if name in ("ipv6_src", "ipv6_dst", "ipv6_nd_target") else PORTS


def number(value: Any) -> int:
    """A pool's value as an integer."""
    if isinstance(value, int):
        return value
    return int(value.replace(":", ""), 16) if value in MACS else int(ip_address(value))


def packet(rng: Random) -> Packet:
    """A packet with every field that its kind has, with or without a tag."""
    made, optional = KINDS[rng.choice(PACKETS)]
    names = ["eth_src", "eth_dst", "ct_state", *(["nw_ttl"] if "ip_proto" in made else []), *optional]
    fields = {name: number(rng.choice(pool(name))) for name in names}
    if "ipv6_nd_target" in optional:  # neighbour discovery has no other code (RFC 4861, 4.3 and 4.4)
        fields["icmpv6_code"] = 0
    tags = (Tag(0x8100, rng.choice(VIDS), rng.choice(SMALL["vlan_pcp"])),) if rng.random() < 0.5 else ()
    return Packet({**fields, **made}, tags)


def value_of(rng: Random, name: str) -> Any:
    """A value as a user writes it: a number in one of its notations, a mask where there can be one."""
    if name == "vlan_vid":
        vid = rng.choice(VIDS)
        return rng.choice((vid, str(vid), hex(vid | 0x1000), "0x1000/0x1000", "0x0000"))
    value = rng.choice(pool(name))
    masked = rng.random() < 0.3
    if isinstance(value, str):
        masks = MAC_MASKS if value in MACS else IPV6_MASKS if ":" in value else IPV4_MASKS
        return f"{value}/{rng.choice(masks)}" if masked else value
    if masked and name.endswith(("_src", "_dst")):
        mask = rng.choice(PORT_MASKS)
        return rng.choice((f"{value}/{hex(mask)}", f"{value}/{mask}", f"{hex(value)}/{hex(mask)}"))
    if masked and name == "ct_state":
        return rng.choice(("0x21/0x21", "0x22/0x22", "32/32", "0x20/0x28"))
    return notation(rng, value)


def notation(rng: Random, value: int) -> int | str:
    """A number as YAML may have it."""
    return rng.choice((value, value, str(value), hex(value)))


def rule(rng: Random) -> Rule:
    """A rule that FAUCET, Warren and the switch accept."""
    made, optional = KINDS[rng.choice(sorted(KINDS))]
    chosen = [name for name in optional if name not in made and rng.random() < 0.25]
    chosen += [name for name in ("eth_src", "eth_dst", "vlan_vid", "ct_state") if rng.random() < 0.12]
    fields: Rule = {name: notation(rng, value) for name, value in made.items()}
    fields |= {name: value_of(rng, name) for name in chosen}
    tagged = "vlan_vid" in fields and fields["vlan_vid"] != "0x0000"
    if tagged and rng.random() < 0.3:
        fields["vlan_pcp"] = notation(rng, rng.choice(SMALL["vlan_pcp"]))
    nxm = "eth_type" in made and rng.random() < 0.15  # all three, else FAUCET writes them in an order that the switch refuses
    if nxm and made["eth_type"] in (0x0800, 0x86DD) and rng.random() < 0.5:
        fields["nw_ttl"] = notation(rng, rng.choice(SMALL["nw_ttl"]))
    if rng.random() < 0.1:
        fields["in_port"] = 3  # both put the port's own number in its place
    actions = _actions(rng, [*made, *chosen, "eth_src", "eth_dst"], tagged, made)
    if not fields and actions is None:
        actions = {"allow": 0}
    aliases = {name: alias for name, alias in ALIASES.items() if rng.random() < 0.4} | (NXM if nxm else {})
    items = [(aliases.get(name, name), value) for name, value in fields.items()]
    if actions is not None:
        items.append(("actions", actions))
    if rng.random() < 0.1:
        items += [("description", "a rule"), ("cookie", rng.choice((0, 7, 65536)))]
    rng.shuffle(items)
    return dict(items)


def _actions(rng: Random, fields: list[str], tagged: bool, made: dict[str, int]) -> Rule | None:
    """None: FAUCET's rule without actions, which drops."""
    chance = rng.random()
    if chance < 0.08:
        return None
    actions: Rule = {}
    if chance < 0.75:
        actions["allow"] = rng.choice((1, 1, True, 0, False, 2))
    if rng.random() < 0.15:
        actions["meter"] = rng.choice(sorted(METERS))
    if rng.random() < 0.15:
        actions["mirror"] = rng.choice(TARGETS)
    if rng.random() < 0.55 or not actions:
        writable = [name for name in fields if name not in READ_ONLY]
        if "ip_proto" in made:
            writable.append("ip_dscp")
        actions["output"] = _ordered(rng, writable, tagged) if rng.random() < 0.5 else _mapping(rng, writable, tagged)
    return actions


def set_fields(rng: Random, writable: list[str]) -> list[Rule]:
    """One or two fields to write."""
    names = [name for name in rng.choices(writable, k=rng.choice((1, 2))) if name != "vlan_vid"] or ["eth_dst"]
    return [{name: rng.choice(pool(name))} for name in names]


def _ordered(rng: Random, writable: list[str], tagged: bool) -> list[Rule]:
    """The list form; the tags are counted, since a switch takes only what surely is there off."""
    steps: list[Rule] = []
    tags = int(tagged)
    for _ in range(rng.randint(1, 5)):
        key = rng.choice(("port", "port", "ports", "set_fields", "vlan_vid", "swap_vid", "pop_vlans", "vlan_vids"))
        if key in ("swap_vid", "pop_vlans") and not tags:
            key = "set_fields"
        if key in ("vlan_vid", "vlan_vids") and tags:
            key = "port"
        tags += {"vlan_vid": 1, "vlan_vids": 2, "pop_vlans": -1}.get(key, 0)
        steps.append({key: _value(rng, key, writable)})
    return steps


def _mapping(rng: Random, writable: list[str], tagged: bool) -> Rule:
    steps = {}
    if tagged and rng.random() < 0.4:
        steps["pop_vlans"] = 1
    if rng.random() < 0.4:
        key = rng.choice(("vlan_vid", "vlan_vids") if not tagged or "pop_vlans" in steps else ("swap_vid", "vlan_vid"))
        steps[key] = _value(rng, key, writable)
    for key in ("set_fields", rng.choice(("port", "ports"))):
        if rng.random() < 0.6:
            steps[key] = _value(rng, key, writable)
    items = list(steps.items())
    rng.shuffle(items)
    return dict(items)


def _value(rng: Random, key: str, writable: list[str]) -> Any:
    match key:
        case "port":
            return rng.choice(TARGETS)
        case "ports":
            return rng.sample(("p2", 3, "p4"), rng.randint(1, 3))
        case "set_fields":
            return set_fields(rng, writable)
        case "pop_vlans":
            return 1
        case "vlan_vids":
            return [rng.choice(VIDS), {"vid": rng.choice(VIDS), "eth_type": rng.choice((0x8100, 0x88A8))}]
    return rng.choice(VIDS)


def acl(rng: Random) -> list[Rule]:
    """A few rules, one of them often for anything."""
    rules = [rule(rng) for _ in range(rng.randint(1, 5))]
    if rng.random() < 0.4:
        rules.append({"actions": {"allow": 1}})
    return rules


def body(rng: Random, rules: list[Rule]) -> Any:
    """An ACL in one of FAUCET's notations."""
    written = [{"rule": r} if rng.random() < 0.6 else {"rule": None, **r} if rng.random() < 0.3 else r for r in rules]
    return {"rules": written, "exact_match": False} if rng.random() < 0.2 else written
