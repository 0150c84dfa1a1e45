"""Flows and groups in the form of `ovs-ofctl dump-flows --no-stats` (ovs-fields(7), ovs-actions(7)), for people, golden
files and explanations. A test feeds the text to a real switch and reads the same text back."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_address

from pipeline.flow import (
    FRAG_ANY,
    FRAG_FIRST,
    FRAG_LATER,
    FRAG_NOT_LATER,
    Action,
    Actions,
    CheckLarger,
    Conjunction,
    Ct,
    CtClear,
    DecTtl,
    Flow,
    Goto,
    Group,
    InPort,
    Move,
    MoveBits,
    Nat,
    Output,
    OutputReg,
    OutputTrunc,
    PopVlan,
    PushVlan,
    Resubmit,
    Set,
    SwitchMeter,
    ToController,
    ToGroup,
    UseMeter,
    Value,
)
from pipeline.protocols import ARP, ICMP, ICMPV6, IPV4, IPV6, MPLS, MPLS_MULTICAST, SCTP, TCP, UDP

ETH_TYPES = {ARP: "arp", IPV4: "ip", IPV6: "ipv6", MPLS: "mpls", MPLS_MULTICAST: "mplsm"}
IP_PROTOS = {(IPV4, ICMP): "icmp", (IPV4, TCP): "tcp", (IPV4, UDP): "udp", (IPV4, SCTP): "sctp",
             (IPV6, ICMPV6): "icmp6", (IPV6, TCP): "tcp6", (IPV6, UDP): "udp6", (IPV6, SCTP): "sctp6"}  # fmt: skip

# the names that ovs-ofctl prints, in its order; those in BEFORE come before the protocol's name
NAMES = {
    "conj_id": "conj_id", "ct_state": "ct_state", "ct_mark": "ct_mark", "ct_label": "ct_label", "reg0": "reg0", "reg1": "reg1", "reg2": "reg2",
    "reg3": "reg3", "reg4": "reg4", "reg5": "reg5", "reg6": "reg6", "reg8": "reg8", "reg9": "reg9", "tunnel_id": "tun_id", "tun_ipv4_src": "tun_src", "tun_ipv4_dst": "tun_dst", "tun_ipv6_src": "tun_ipv6_src", "metadata": "metadata", "in_port": "in_port",
    "vlan_vid": "vlan_tci", "vlan_pcp": "dl_vlan_pcp", "eth_src": "dl_src", "eth_dst": "dl_dst", "eth_type": "dl_type",
    "ipv4_src": "nw_src", "ipv4_dst": "nw_dst", "ipv6_src": "ipv6_src", "ipv6_dst": "ipv6_dst", "ipv6_flabel": "ipv6_label", "arp_spa": "arp_spa",
    "arp_tpa": "arp_tpa", "ip_proto": "nw_proto", "arp_op": "arp_op", "arp_sha": "arp_sha", "arp_tha": "arp_tha",
    "ip_dscp": "nw_tos", "ip_ecn": "nw_ecn", "nw_ttl": "nw_ttl", "mpls_label": "mpls_label", "mpls_tc": "mpls_tc",
    "mpls_bos": "mpls_bos", "ip_frag": "nw_frag", "tcp_src": "tp_src", "tcp_dst": "tp_dst", "udp_src": "tp_src", "udp_dst": "tp_dst",
    "sctp_src": "tp_src", "sctp_dst": "tp_dst", "icmpv4_type": "icmp_type", "icmpv4_code": "icmp_code",
    "icmpv6_type": "icmp_type", "icmpv6_code": "icmp_code", "ipv6_nd_target": "nd_target", "ipv6_nd_sll": "nd_sll",
    "ipv6_nd_tll": "nd_tll",
}  # fmt: skip
BEFORE = ("conj_id", "ct_state", "ct_mark", "ct_label")
ORDER = {name: position for position, name in enumerate(NAMES)}
HEX = {"tunnel_id", "reg0", "reg1", "reg2", "reg3", "reg4", "reg5", "reg6", "reg8", "reg9", "metadata", "ct_mark", "ipv6_flabel"}
MASKED_HEX = {"ct_label", "tcp_src", "tcp_dst", "udp_src", "udp_dst", "sctp_src", "sctp_dst"}
CT_STATES = {0x01: "new", 0x02: "est", 0x04: "rel", 0x08: "rpl", 0x10: "inv", 0x20: "trk"}

FRAGMENTS: dict[Value, str] = {FRAG_FIRST: "first", FRAG_LATER: "later", FRAG_ANY: "yes", FRAG_NOT_LATER: "not_later"}

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
SET_NAMES = {
    "tunnel_id": "tun_id", "tun_ipv4_dst": "tun_dst",  "ipv6_nd_tll": "nd_tll", "icmpv6_type": "icmpv6_type",
    "in_port_nxm": "in_port", "ipv4_src": "ip_src", "ipv4_dst": "ip_dst",
    "ip_ecn": "nw_ecn", "ipv6_flabel": "ipv6_label", "icmpv4_type": "icmp_type", "icmpv4_code": "icmp_code",
    "ipv6_nd_target": "nd_target", "ipv6_nd_sll": "nd_sll",
}  # fmt: skip
MOVE_NAMES = {
    "eth_src": "NXM_OF_ETH_SRC[]", "eth_dst": "NXM_OF_ETH_DST[]", "arp_sha": "NXM_NX_ARP_SHA[]",
    "arp_tha": "NXM_NX_ARP_THA[]", "arp_spa": "NXM_OF_ARP_SPA[]", "arp_tpa": "NXM_OF_ARP_TPA[]",
    "tun_ipv4_src": "NXM_NX_TUN_IPV4_SRC[]", "tun_ipv4_dst": "NXM_NX_TUN_IPV4_DST[]", "ct_label": "NXM_NX_CT_LABEL[]",
    "reg1": "NXM_NX_REG1[]", "reg6": "NXM_NX_REG6[]", "reg8": "NXM_NX_REG8[]", "reg9": "NXM_NX_REG9[]", "ipv4_src": "NXM_OF_IP_SRC[]", "ipv4_dst": "NXM_OF_IP_DST[]",
    "ipv6_nd_tll": "NXM_NX_ND_TLL[]", "ipv6_nd_target": "NXM_NX_ND_TARGET[]", "ipv6_src": "NXM_NX_IPV6_SRC[]", "ipv6_dst": "NXM_NX_IPV6_DST[]",
}  # fmt: skip
WIDTHS = {"tun_ipv4_src": 32, "tun_ipv4_dst": 32, "reg1": 32, "reg6": 32, "reg8": 32, "reg9": 32, "ct_label": 128}


def flow_text(flow: Flow, cookie: bool = True) -> str:
    """A flow as one line."""
    parts = [f"cookie={flow.cookie:#x}"] if cookie else []
    parts.append(f"table={int(flow.table)}")
    matched = ",".join([f"priority={flow.priority}", *_match(dict(flow.match))])
    return ", ".join([*parts, matched]) + f" actions={actions_text(flow.actions)}"


def group_text(group: Group) -> str:
    """A group as one line."""
    weight = "weight:1," if group.select else ""
    buckets = "".join(f",bucket={weight}actions={actions_text(bucket.actions)}" for bucket in group.buckets)
    return f"group_id={group.group_id},type={'select' if group.select else 'all'}{buckets}"


def meter_text(meter: SwitchMeter) -> str:
    """A meter as one line, as `ovs-ofctl add-meter` takes it."""
    unit, burst = "pktps" if meter.packets else "kbps", f",burst_size={meter.burst}" if meter.burst else ""
    return f"meter={meter.meter_id},{unit},stats{',burst' if meter.burst else ''},band=type=drop,rate={meter.rate}{burst}"


def _match(fields: dict[str, Value]) -> list[str]:
    eth_type, proto = fields.pop("eth_type", None), fields.pop("ip_proto", None)
    texts = [_field(name, fields.pop(name)) for name in BEFORE if name in fields]
    if isinstance(eth_type, int):
        name = IP_PROTOS.get((eth_type, proto)) if isinstance(proto, int) else None
        short = name or ETH_TYPES.get(eth_type)
        if short is not None:
            texts.append(short)
        else:
            fields["eth_type"] = eth_type
        if name is None and isinstance(proto, int):
            fields["ip_proto"] = proto
    if "vlan_pcp" in fields and fields.get("vlan_vid") == (0x1000, 0x1000):
        del fields["vlan_vid"]  # matching a priority means that there is a tag
    shown = (name for name in sorted(fields, key=ORDER.__getitem__) if not _anything(fields[name]))
    return texts + [_field(name, fields[name]) for name in shown]


def _anything(value: Value) -> bool:
    """Whether the mask matches anything."""
    return isinstance(value, tuple) and value[1] in (0, "0.0.0.0", "::", "00:00:00:00:00:00")


def _field(name: str, value: Value) -> str:
    if name == "vlan_vid":
        return _vlan(value)
    if name == "ct_state":
        return f"ct_state={_ct_state(value)}"
    if name == "ip_frag":
        return f"nw_frag={FRAGMENTS[value]}"
    if name == "eth_type":
        return f"dl_type={value:#06x}"
    if name == "ipv6_flabel":
        return f"{NAMES[name]}={value:#07x}"
    if name == "ip_dscp" and isinstance(value, int):
        value <<= 2  # printed as a whole byte
    if isinstance(value, tuple):
        hexed = name in MASKED_HEX or name in HEX
        return f"{NAMES[name]}={value[0]:#x}/{value[1]:#x}" if hexed else f"{NAMES[name]}={value[0]}/{_mask(value[1])}"
    if name in HEX and isinstance(value, int):
        return f"{NAMES[name]}={hexadecimal(value)}"
    return f"{NAMES[name]}={value}"


def _mask(mask: int | str) -> int | str:
    """A mask, as a prefix length where Open vSwitch prints an address's mask so."""
    if isinstance(mask, int) or _MAC.fullmatch(mask):
        return mask
    address = ip_address(mask)
    zeros = (1 << address.max_prefixlen) - 1 ^ int(address)
    return mask if zeros & (zeros + 1) else address.max_prefixlen - zeros.bit_length()


def _vlan(value: Value) -> str:
    if value == 0:
        return "vlan_tci=0x0000/0x1fff"
    if isinstance(value, tuple):
        return f"vlan_tci={value[0]:#06x}/{value[1]:#06x}"
    assert isinstance(value, int)
    return f"dl_vlan={value & 0xFFF}"


def _ct_state(value: Value) -> str:
    want, mask = value if isinstance(value, tuple) else (value, 0x3F)
    assert isinstance(want, int)
    assert isinstance(mask, int)
    return "".join(f"{'+' if want & bit else '-'}{name}" for bit, name in CT_STATES.items() if mask & bit)


def hexadecimal(value: int) -> str:
    """A number in hexadecimal as Open vSwitch prints it: 0 without 0x."""
    return f"{value:#x}" if value else "0"


def actions_text(actions: Actions) -> str:
    """A list of actions; no actions are `drop`."""
    return ",".join(_TEXT[type(action)](action) for action in actions) or "drop"


def _set(action: Set) -> str:
    if action.field == "vlan_vid" and isinstance(action.value, int):
        return f"set_field:{action.value | 0x1000}->vlan_vid"
    value = hexadecimal(action.value) if action.field in HEX and isinstance(action.value, int) else action.value
    return f"set_field:{value}->{SET_NAMES.get(action.field, action.field)}"


def _ct(action: Ct) -> str:
    words = ["commit"] if action.commit else []
    words += [f"table={int(action.table)}"] if action.table is not None else []
    words += [f"zone={action.zone}"]
    words += [_nat(action.nat)] if action.nat is not None else []
    inside = [f"set_field:{action.mark:#x}->ct_mark"] if action.mark is not None else []
    inside += map(_bits, action.label)
    words += [f"exec({','.join(inside)})"] if inside else []
    return f"ct({','.join(words)})"


def _bits(move: MoveBits) -> str:
    ends = ((move.source, move.start), (move.target, move.at))
    source, target = (f"{MOVE_NAMES[name].removesuffix('[]')}{_range(name, first, move.bits)}" for name, first in ends)
    return f"move:{source}->{target}"


def _range(name: str, first: int, bits: int) -> str:
    return "[]" if bits == WIDTHS[name] else f"[{first}..{first + bits - 1}]"


def _nat(nat: Nat) -> str:
    if not nat.end:
        return "nat"
    port = "" if nat.port is None else f":{nat.port}"
    bracketed = f"[{nat.address}]" if port and ":" in nat.address else nat.address
    return f"nat({nat.end}={bracketed}{port})"


_TEXT: dict[type[Action], Callable[..., str]] = {
    Set: _set,
    MoveBits: _bits,
    Move: lambda a: f"move:{MOVE_NAMES[a.source]}->{MOVE_NAMES[a.target]}",
    Output: lambda a: f"output:{a.port}",
    OutputTrunc: lambda a: f"output(port={a.port},max_len={a.max_len})",
    OutputReg: lambda a: f"output:NXM_NX_{a.register.upper()}[]",
    InPort: lambda a: "IN_PORT",
    ToGroup: lambda a: f"group:{a.group_id}",
    Resubmit: lambda a: f"resubmit(,{int(a.table)})",
    PushVlan: lambda a: f"push_vlan:{a.tpid:#06x}",
    PopVlan: lambda a: "pop_vlan",
    CheckLarger: lambda a: f"check_pkt_larger({a.size})->NXM_NX_{a.register.upper()}[0]",
    DecTtl: lambda a: "dec_ttl",
    Ct: _ct,
    CtClear: lambda a: "ct_clear",
    UseMeter: lambda a: f"meter:{a.meter_id}",
    Conjunction: lambda a: f"conjunction({a.conj_id},{a.clause}/{a.clauses})",
    ToController: lambda a: f"CONTROLLER:{a.max_len}",
    Goto: lambda a: f"goto_table:{int(a.table)}",
}
