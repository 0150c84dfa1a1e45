"""Flows and groups as `ovs-ofctl dump-flows --no-stats` prints them (ovs-fields(7), ovs-actions(7)): for people, golden
files and explanations. A test feeds the text to a real switch and reads the same text back."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.flow import (
    Action,
    Actions,
    Flow,
    Goto,
    Group,
    InPort,
    Move,
    Output,
    OutputReg,
    Resubmit,
    Set,
    ToGroup,
    Value,
)

ETH_TYPES = {0x0806: "arp", 0x0800: "ip", 0x86DD: "ipv6"}
IP_PROTOS = {(0x0800, 1): "icmp", (0x0800, 6): "tcp", (0x0800, 17): "udp", (0x0800, 132): "sctp",
             (0x86DD, 58): "icmp6", (0x86DD, 6): "tcp6", (0x86DD, 17): "udp6", (0x86DD, 132): "sctp6"}  # fmt: skip

# ovs-ofctl's names, in the order in which it prints them
NAMES = {
    "tunnel_id": "tun_id", "reg0": "reg0", "reg1": "reg1", "reg2": "reg2", "in_port": "in_port", "vlan_vid": "vlan_tci",
    "eth_src": "dl_src", "eth_dst": "dl_dst", "ipv4_src": "nw_src", "ipv4_dst": "nw_dst", "arp_spa": "arp_spa",
    "arp_tpa": "arp_tpa", "arp_op": "arp_op", "arp_sha": "arp_sha", "arp_tha": "arp_tha", "ipv6_src": "ipv6_src",
    "ipv6_dst": "ipv6_dst", "icmpv6_type": "icmp_type", "ipv6_nd_target": "nd_target", "ipv6_nd_sll": "nd_sll",
    "ipv6_nd_tll": "nd_tll",
}  # fmt: skip
ORDER = {name: position for position, name in enumerate(NAMES)}
HEX = {"tunnel_id", "reg0", "reg1", "reg2"}

SET_NAMES = {
    "tunnel_id": "tun_id", "tun_ipv4_dst": "tun_dst", "ipv6_nd_tll": "nd_tll", "icmpv6_type": "icmpv6_type",
    "nd_reserved": "nd_reserved", "nd_options_type": "nd_options_type",
}  # fmt: skip
MOVE_NAMES = {
    "eth_src": "NXM_OF_ETH_SRC[]", "eth_dst": "NXM_OF_ETH_DST[]", "arp_sha": "NXM_NX_ARP_SHA[]",
    "arp_tha": "NXM_NX_ARP_THA[]", "arp_spa": "NXM_OF_ARP_SPA[]", "arp_tpa": "NXM_OF_ARP_TPA[]",
    "ipv6_nd_tll": "NXM_NX_ND_TLL[]", "ipv6_src": "NXM_NX_IPV6_SRC[]", "ipv6_dst": "NXM_NX_IPV6_DST[]",
}  # fmt: skip


def flow_text(flow: Flow, cookie: bool = True) -> str:
    """One line for one flow."""
    parts = [f"cookie={flow.cookie:#x}"] if cookie else []
    parts.append(f"table={int(flow.table)}")
    matched = ",".join([f"priority={flow.priority}", *_match(dict(flow.match))])
    return ", ".join([*parts, matched]) + f" actions={actions_text(flow.actions)}"


def group_text(group: Group) -> str:
    """One line for one group."""
    buckets = "".join(f",bucket=actions={actions_text(bucket.actions)}" for bucket in group.buckets)
    return f"group_id={group.group_id},type=all{buckets}"


def _match(fields: dict[str, Value]) -> list[str]:
    eth_type, proto = fields.pop("eth_type", None), fields.pop("ip_proto", None)
    found: list[str] = []
    if isinstance(eth_type, int):
        name = IP_PROTOS.get((eth_type, proto)) if isinstance(proto, int) else ETH_TYPES.get(eth_type)
        found.append(name or f"dl_type={eth_type:#06x}")
    return found + [_field(name, fields[name]) for name in sorted(fields, key=ORDER.__getitem__)]


def _field(name: str, value: Value) -> str:
    if name == "vlan_vid":
        assert isinstance(value, int)
        return "vlan_tci=0x0000/0x1fff" if value == 0 else f"dl_vlan={value}"
    if isinstance(value, tuple):
        return f"{NAMES[name]}={value[0]}/{value[1]}"
    if name in HEX and isinstance(value, int):
        return f"{NAMES[name]}={hexadecimal(value)}"
    return f"{NAMES[name]}={value}"


def hexadecimal(value: int) -> str:
    """As OVS prints it: 0 without 0x."""
    return f"{value:#x}" if value else "0"


def actions_text(actions: Actions) -> str:
    """A list of actions; none is `drop`."""
    return ",".join(_TEXT[type(action)](action) for action in actions) or "drop"


def _set(action: Set) -> str:
    value = hexadecimal(action.value) if action.field in HEX and isinstance(action.value, int) else action.value
    return f"set_field:{value}->{SET_NAMES.get(action.field, action.field)}"


_TEXT: dict[type[Action], Callable[..., str]] = {
    Set: _set,
    Move: lambda a: f"move:{MOVE_NAMES[a.source]}->{MOVE_NAMES[a.target]}",
    Output: lambda a: f"output:{a.port}",
    OutputReg: lambda a: f"output:NXM_NX_{a.register.upper()}[]",
    InPort: lambda a: "IN_PORT",
    ToGroup: lambda a: f"group:{a.group_id}",
    Resubmit: lambda a: f"resubmit(,{int(a.table)})",
    Goto: lambda a: f"goto_table:{int(a.table)}",
}
