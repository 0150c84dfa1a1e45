"""Random ACLs in Warren's language and random packets from the same small pools, so that rules hit; and the packets as frames.

FAUCET's part of the language is that of tests/differential/generate.py. A packet is one value in three forms: the evaluator's,
the flow table's and the bytes on the wire; each is made by itself.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from random import Random
from typing import Any

from acl.evaluate import Packet
from acl.language import Who
from acl.policy import PolicyKey, PolicyView, resolve
from specs.model.records import Acl, Endpoint, Meter
from tests.differential import generate
from tests.flowtable import Packet as Asked
from tests.flowtable import Tag

Rule = dict[str, Any]
LABELS = ("web", "role=db", "nobody")
RANGES = ("10.0.0.0/24", "10.0.0.2/32", "10.0.0.0/31", "fd00::/64", "fd00::2/128", "::/0", "0.0.0.0/0")
PORTS = ([22, 80, 443], "1-1023", [22, "80-443", 5353], "1024-65535", [80], "443-443")
PROTOS = ("tcp", "udp", "sctp", "icmp", "ip")
STATES = ("new", "established", "related", "invalid")
L4 = (
    "tcp_src",
    "tcp_dst",
    "udp_src",
    "udp_dst",
    "sctp_src",
    "sctp_dst",
    "icmpv4_type",
    "icmpv4_code",
    "icmpv6_type",
    "icmpv6_code",
)
LATER = "later"


def rule(rng: Random) -> Rule:
    """A rule of FAUCET's, often with words of Warren's."""
    if rng.random() < 0.25:
        return _own(rng)
    found = generate.rule(rng)
    for name in ("tcp_src", "tcp_dst", "udp_src", "udp_dst", "sctp_src", "sctp_dst"):
        if name in found and rng.random() < 0.5:
            found[name] = rng.choice(PORTS)
    if "arp_op" not in found and _ip(found):
        _words(rng, found)
    return found


def _ip(found: Rule) -> bool:
    kind = next((found[name] for name in ("eth_type", "dl_type", "eth_type_nxm") if name in found), None)
    return kind is not None and int(str(kind), 0) in (0x0800, 0x86DD)


def _own(rng: Random) -> Rule:
    """A rule as Warren's users write it."""
    proto = rng.choice(PROTOS)
    found: Rule = {"proto": proto}
    for end in ("src", "dst"):
        if proto in ("tcp", "udp", "sctp") and rng.random() < 0.5:
            found[f"{proto}_{end}"] = rng.choice((*PORTS, 80))
    _words(rng, found)
    if rng.random() < 0.5:
        found["allow_related"] = True
    elif rng.random() < 0.8:
        found["actions"] = {"allow": rng.choice((0, 1))}
    return found


def _words(rng: Random, found: Rule) -> None:
    family = next((int(str(found[n]), 0) for n in ("eth_type", "dl_type", "eth_type_nxm") if n in found), None)
    told = [r for r in RANGES if family is None or (":" in r) == (family == 0x86DD)]
    for word, end in (("from", "src"), ("to", "dst")):
        if rng.random() < 0.4 and not found.keys() & {f"ipv4_{end}", f"ipv6_{end}", f"nw_{end}"}:
            whom = ({"label": rng.choice(LABELS)}, {"cidr": rng.choice(told)}, {"endpoint": "e1"}, {"network": "amber"})
            found[word] = rng.choice(whom)
    if "from" in found and "to" in found and "cidr" in found["from"] and "cidr" in found["to"]:
        del found["to"]  # of two families: Warren refuses it
    if rng.random() < 0.25 and "ct_state" not in found:
        found["state"] = rng.sample(STATES, rng.randint(1, 3))
    if rng.random() < 0.1:
        found["log"] = True


class World:
    """What the names in the ACLs mean: members, ports, meters; the same every time."""

    def __init__(self, bodies: dict[str, list[Rule]]) -> None:
        self.acls = {name: Acl(name=name, rules=body) for name, body in bodies.items()}
        self.meters = {name: Meter(name=name, meter_id=number, rate=1000) for name, number in generate.METERS.items()}

    def endpoints(self, who: Who) -> list[Endpoint]:
        """Members by label, name, network."""
        if who.label is not None:
            return MEMBERS[who.label]
        return EVERYBODY if who.network is not None else [EVERYBODY[0]]

    def members(self, network_id: str, who: Who) -> list[Endpoint]:
        """As `specs.policy.Names` has it."""
        return self.endpoints(who)

    def prefixes(self, who: Who) -> list[IPv4Network | IPv6Network]:
        """As the evaluator has it."""
        if who.cidr is not None:
            return [who.cidr]
        return [ip_network(a) for e in self.endpoints(who) for a in (e.ipv4_address, e.ipv6_address) if a is not None]

    def ofport(self, network_id: str, port: str | int) -> int | None:
        """A port by name or number."""
        return generate.OFPORTS.get(port) if isinstance(port, str) else port


def _member(number: int, v4: str | None, v6: str | None) -> Endpoint:
    return Endpoint(id=f"e{number}", network_id="amber", host="h1", mac_address=f"02:57:0a:00:00:{number:02x}", ofport=number,
                     ipv4_address=v4, ipv6_address=v6)  # type: ignore[arg-type]  # fmt: skip


EVERYBODY = [
    _member(1, "10.0.0.1", "fd00::1"), _member(2, "10.0.0.2", "fd00::2"), _member(3, "10.0.1.1", None), _member(4, None, "fd00:1::1"),
]  # fmt: skip
MEMBERS = {"web": EVERYBODY[:3], "role=db": EVERYBODY[1:], "nobody": []}


def policy(rng: Random) -> tuple[World, PolicyView]:
    """One or two ACLs, one after the other."""
    names = ("first", "second")[: rng.choice((1, 1, 2))]
    world = World({name: [rule(rng) for _ in range(rng.randint(1, 7))] for name in names})
    return world, resolve(PolicyKey("amber", "in", tuple(world.acls)), world)


# ---- packets --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sent:
    """A packet in all its forms."""

    fields: dict[str, int]
    tags: tuple[Tag, ...] = ()
    frag: str = "no"  # no, first, later
    states: frozenset[str] | None = field(default=None)

    def evaluated(self) -> Packet:
        """For acl/evaluate.py."""
        return Packet(self.fields, tuple((t.tpid, t.vid, t.pcp) for t in self.tags), self.frag, self.states)

    def asked(self) -> Asked:
        """For the flow table: what Open vSwitch extracts (ovs-fields(7): a later fragment's ports, type and code are 0;
        of IPv6 its protocol is 44, the fragment header's, and nothing else is known)."""
        bits = {"new": 0x21, "established": 0x22, "related": 0x24, "invalid": 0x30}
        found = {
            **self.fields,
            "ct_state": sum({b for s in self.states or () for b in (bits[s] & 0x1F,)}) | (0x20 if self.states else 0),
        }
        if self.frag == LATER:
            if found["eth_type"] == 0x86DD:
                found = {name: value for name, value in found.items() if name not in L4} | {"ip_proto": 44}
            else:
                found |= {name: 0 for name in L4 if name in found}
        return Asked(found, self.tags)

    def frame(self) -> bytes:
        """As bytes."""
        return frame(self)


def packet(rng: Random, kind: str | None = None) -> Sent:
    """A packet with every field of its kind; some tagged once or twice, some fragments, some tracked."""
    made, optional = generate.KINDS[kind or rng.choice(generate.PACKETS)]
    names = ["eth_src", "eth_dst", *(["nw_ttl"] if "ip_proto" in made else []), *optional]
    fields = {name: generate.number(rng.choice(generate.pool(name))) for name in names} | made
    if made.get("eth_type") == 0x8847:
        fields["mpls_bos"] = 1
    if "ipv6_nd_target" in fields:
        fields |= {"icmpv6_code": 0, "nw_ttl": 255}  # else it is none (RFC 4861, 7.1)
    tags = tuple(
        Tag(tpid, rng.choice(generate.VIDS), rng.choice((0, 5))) for tpid in rng.choice(((), (), (0x8100,), (0x88A8, 0x8100)))
    )
    frag = rng.choice(("no", "no", "no", "first", LATER)) if "ip_proto" in made and "ipv6_nd_target" not in fields else "no"
    states = frozenset({rng.choice(STATES)}) if "ip_proto" in made and rng.random() < 0.5 else None
    return Sent(fields, tags, frag, states)


def aimed(rng: Random, world: World) -> Sent:
    """A packet with the values of the fields that one of the rules asks for, where its kind has them."""
    body = world.acls[rng.choice(sorted(world.acls))]
    asked = {match.name: rng.choice(match.alternatives)[0] for match in rng.choice(body.parsed).fields}
    kinds = [k for k in generate.PACKETS if all(generate.KINDS[k][0].get(n, v) == v for n, v in asked.items())]
    kinds = [k for k in kinds if all(n in (*generate.KINDS[k][0], *generate.KINDS[k][1], *OF_ALL) for n in asked)]
    sent = packet(rng, rng.choice(kinds or generate.PACKETS))
    tags = sent.tags
    if "vlan_vid" in asked:
        tags = (Tag(0x8100, asked["vlan_vid"] & 0xFFF, asked.get("vlan_pcp", 0)),) if asked["vlan_vid"] else ()
    fields = {**sent.fields, **{name: value for name, value in asked.items() if name in sent.fields}}
    fields |= {"mpls_bos": 1} if "mpls_bos" in fields else {}  # without the bit more labels would have to follow
    return Sent(fields, tags, "no", sent.states)


OF_ALL = ("eth_src", "eth_dst", "vlan_vid", "vlan_pcp", "ct_state", "nw_ttl")


def frame(sent: Sent) -> bytes:
    """The packet on the wire (IEEE 802.1Q, RFC 791, 8200, 826, 3032); checksums of the layers above are not filled in."""
    f = sent.fields
    head = f["eth_dst"].to_bytes(6, "big") + f["eth_src"].to_bytes(6, "big")
    for tag in sent.tags:
        head += struct.pack("!HH", tag.tpid, tag.pcp << 13 | tag.vid)
    head += f["eth_type"].to_bytes(2, "big")
    match f["eth_type"]:
        case 0x0806:
            return head + struct.pack(
                "!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, f["arp_op"], f["arp_sha"].to_bytes(6, "big"), f["arp_spa"].to_bytes(4, "big"),
                f["arp_tha"].to_bytes(6, "big"), f["arp_tpa"].to_bytes(4, "big"),
            )  # fmt: skip
        case 0x8847:
            return head + struct.pack("!I", f["mpls_label"] << 12 | f["mpls_tc"] << 9 | f["mpls_bos"] << 8 | 64) + bytes(32)
        case 0x0800:
            return head + _ipv4(sent)
    return head + _ipv6(sent)


def _ipv4(sent: Sent) -> bytes:
    f, body = sent.fields, _body(sent)
    offset = {"no": 0, "first": 0x2000, LATER: 100}[sent.frag]
    header = struct.pack("!BBHHHBBH4s4s", 0x45, f["ip_dscp"] << 2 | f["ip_ecn"], 20 + len(body), 7, offset, f["nw_ttl"], f["ip_proto"],
                         0, f["ipv4_src"].to_bytes(4, "big"), f["ipv4_dst"].to_bytes(4, "big"))  # fmt: skip
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return header[:10] + struct.pack("!H", total ^ 0xFFFF) + header[12:] + body


def _ipv6(sent: Sent) -> bytes:
    f, body, following = sent.fields, _body(sent), sent.fields["ip_proto"]
    if sent.frag != "no":
        body = struct.pack("!BBHI", following, 0, 1 if sent.frag == "first" else 100 << 3, 7) + body
        following = 44
    first = 6 << 28 | f["ip_dscp"] << 22 | f["ip_ecn"] << 20 | f["ipv6_flabel"]
    addresses = f["ipv6_src"].to_bytes(16, "big") + f["ipv6_dst"].to_bytes(16, "big")
    return struct.pack("!IHBB", first, len(body), following, f["nw_ttl"]) + addresses + body


def _body(sent: Sent) -> bytes:
    f = sent.fields
    if sent.frag == LATER:
        return b"\x11" * 32
    match f.get("ip_proto"):
        case 6:
            return struct.pack("!HHIIBBHHH", f["tcp_src"], f["tcp_dst"], 1, 0, 0x50, 2, 1000, 0, 0)
        case 17:
            return struct.pack("!HHHH", f["udp_src"], f["udp_dst"], 16, 0) + bytes(8)
        case 132:
            return struct.pack("!HHII", f["sctp_src"], f["sctp_dst"], 1, 0) + bytes(8)
        case 1:
            return struct.pack("!BBHI", f["icmpv4_type"], f["icmpv4_code"], 0, 0) + bytes(8)
        case 58:
            head = struct.pack("!BBHI", f["icmpv6_type"], f["icmpv6_code"], 0, 0)
            if "ipv6_nd_target" not in f:
                return head + bytes(8)
            kind, name = (1, "ipv6_nd_sll") if f["icmpv6_type"] == 135 else (2, "ipv6_nd_tll")
            return head + f["ipv6_nd_target"].to_bytes(16, "big") + struct.pack("!BB6s", kind, 1, f[name].to_bytes(6, "big"))
    return bytes(16)
