"""A small OpenFlow interpreter of one table, for flows in a normalised form that FAUCET's and Warren's both fit: `normalised`
makes it of Warren's.

A flow: {"priority": int, "match": {OXM name: [value, mask or None], ..} in the order of the message, "meter": id or None,
"actions": [["output", port], ["push_vlan", tpid], ["pop_vlan"], ["set_field", name, value], ["conjunction", id, clause, clauses],
["mark", "related" or "log"]], "goto": name or None}.

Written from the OpenFlow specification and ovs-actions(7), not from either compiler: it shares nothing with them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, NamedTuple

from pipeline import flow as warren
from pipeline.tables import METER_FIRST, POLICY, REG_RELATED, Table

Flow = dict[str, Any]
PRESENT = 0x1000  # OFPVID_PRESENT
IN_PORT = 1  # where every packet comes from
SAME = {"eth_type_nxm": "eth_type", "ip_proto_nxm": "ip_proto"}  # NXM's names for the same fields
IP = (("eth_type", (0x0800, 0x86DD)),)
V4, V6, ARP, MPLS = ((("eth_type", types),) for types in ((0x0800,), (0x86DD,), (0x0806,), (0x8847, 0x8848)))
NEIGHBOR = (*V6, ("ip_proto", (58,)), ("icmpv6_type", (135, 136)))
NEEDS: dict[str, tuple[tuple[str, tuple[int, ...]], ...]] = {  # OpenFlow 1.3, table 12; nw_ttl: ovs-fields(7)
    **dict.fromkeys(("ip_dscp", "ip_ecn", "ip_proto", "nw_ttl", "ip_frag"), IP),
    **dict.fromkeys(("ipv4_src", "ipv4_dst"), V4),
    **dict.fromkeys(("ipv6_src", "ipv6_dst", "ipv6_flabel"), V6),
    **dict.fromkeys(("arp_op", "arp_spa", "arp_tpa", "arp_sha", "arp_tha"), ARP),
    **dict.fromkeys(("mpls_label", "mpls_tc", "mpls_bos"), MPLS),
    **{f"{name}_{end}": (*IP, ("ip_proto", (number,))) for name, number in (("tcp", 6), ("udp", 17), ("sctp", 132))
       for end in ("src", "dst")},
    **dict.fromkeys(("icmpv4_type", "icmpv4_code"), (*V4, ("ip_proto", (1,)))),
    **dict.fromkeys(("icmpv6_type", "icmpv6_code"), (*V6, ("ip_proto", (58,)))),
    "ipv6_nd_target": NEIGHBOR,
    "ipv6_nd_sll": (*NEIGHBOR[:2], ("icmpv6_type", (135,))),
    "ipv6_nd_tll": (*NEIGHBOR[:2], ("icmpv6_type", (136,))),
}  # fmt: skip


class Tag(NamedTuple):
    """A VLAN tag."""

    tpid: int
    vid: int
    pcp: int = 0


@dataclass(frozen=True)
class Packet:
    """A packet: fields by OXM name, and VLAN tags, the outer one first."""

    fields: dict[str, int]
    tags: tuple[Tag, ...] = ()

    def read(self, name: str) -> int | None:
        """A field's value; None when the packet has none."""
        if name == "vlan_vid":
            return self.tags[0].vid | PRESENT if self.tags else 0
        if name == "vlan_pcp":
            return self.tags[0].pcp if self.tags else None
        if name == "ip_frag" and "ip_proto" in self.fields:
            return self.fields.get(name, 0)
        return self.fields.get(name)

    def written(self, name: str, value: int) -> Packet:
        """The packet with a field set, when it has it."""
        if name in ("vlan_vid", "vlan_pcp"):
            if not self.tags:
                return self
            outer = self.tags[0]
            outer = outer._replace(vid=value & 0xFFF) if name == "vlan_vid" else outer._replace(pcp=value)
            return Packet(self.fields, (outer, *self.tags[1:]))
        return Packet({**self.fields, name: value}, self.tags) if name in self.fields else self


@dataclass(frozen=True)
class Result:
    """What became of a packet: where it goes on and how it looks then, the copies sent, the meter passed; `marks`: what else
    was done for it; `origin`: the rule behind the flow, where the flow says so."""

    goto: str | None
    packet: Packet | None
    outputs: tuple[tuple[int, Packet], ...]
    meter: int | None
    marks: tuple[str, ...] = ()
    origin: str = ""

    @property
    def dropped(self) -> bool:
        """Nothing leaves."""
        return self.goto is None and not self.outputs


DROPPED = Result(None, None, (), None)


def refusal(flow: Flow) -> str | None:
    """The reason why Open vSwitch 3.1 refuses a flow (checked with ovs-ofctl), or None."""
    seen: dict[str, tuple[int, int | None]] = {}
    for written, (value, mask) in flow["match"].items():
        name = SAME.get(written, written)
        if mask is not None and value & ~mask:
            return f"{name} has bits outside its mask"
        for needed, values in NEEDS.get(name, ()):
            if needed not in seen or seen[needed][1] is not None or seen[needed][0] not in values:
                return f"{name} without {needed} before it"
        seen[name] = (value, mask)
    vid, mask = seen.get("vlan_vid", (0, None))
    tags = 1 if vid & PRESENT and (mask is None or mask & PRESENT) else 0
    if "vlan_pcp" in seen and not tags:
        return "vlan_pcp without vlan_vid"
    exact = {name: value for name, (value, mask) in seen.items() if mask is None}
    for action in flow["actions"]:
        why, tags = _refused_action(action, exact, tags)
        if why is not None:
            return why
    return None


def _refused_action(action: list[Any], exact: dict[str, int], tags: int) -> tuple[str | None, int]:
    """Why an action is refused after a match and the actions before it; and how many tags the packet is known to have then."""
    match action:
        case ["output" | "conjunction" | "mark", *_]:
            return None, tags
        case ["push_vlan", tpid]:
            good = tpid in (0x8100, 0x88A8) and tags < 2
            return None if good else "push_vlan with a wrong TPID, or for a third tag", tags + 1
        case ["pop_vlan"]:
            return None if tags else "pop_vlan without a tag", tags - 1
        case ["set_field", ("vlan_vid" | "vlan_pcp") as name, value]:
            if not tags:
                return f"set_field of {name} without a tag", tags
            return "vlan_vid without its present bit" if name == "vlan_vid" and not value & PRESENT else None, tags
        case ["set_field", name, _]:
            lacking = next((needed for needed, values in NEEDS.get(name, ()) if exact.get(needed) not in values), None)
            return lacking and f"set_field of {name} without {lacking}", tags
    return f"action {action}", tags


def accepted(flows: Iterable[Flow]) -> list[Flow]:
    """The flows that the switch accepts, the highest priority first."""
    return sorted((flow for flow in flows if refusal(flow) is None), key=lambda flow: -flow["priority"])


def matches(flow: Flow, packet: Packet, conj_id: int | None = None) -> bool:
    """Whether every field matches."""
    for written, (value, mask) in flow["match"].items():
        actual = conj_id if written == "conj_id" else packet.read(SAME.get(written, written))
        if actual is None or (actual != value if mask is None else actual & mask != value):
            return False
    return True


def chosen(table: list[Flow], packet: Packet) -> Flow | None:
    """The flow of a table of `accepted` flows that a packet matches. Conjunctions as in ovs-fields(7): of one priority, the
    clauses of one id must all be met; then the packet is looked up once more with that conj_id (classifier_lookup__ in OVS's
    lib/classifier.c): in all flows without conjunctions, whatever their priority. So two rules with one id give each other their actions."""
    by_priority: dict[int, list[Flow]] = {}
    for flow in table:
        if matches(flow, packet):
            by_priority.setdefault(flow["priority"], []).append(flow)
    for priority in sorted(by_priority, reverse=True):
        whole: list[Flow] = []
        clauses: dict[tuple[int, int], set[int]] = {}
        for flow in by_priority[priority]:
            soft = [action[1:] for action in flow["actions"] if action[0] == "conjunction"]
            assert not soft or len(soft) == len(flow["actions"]), f"conjunctions and other actions: {flow}"
            for conj_id, clause, many in soft:
                clauses.setdefault((conj_id, many), set()).add(clause)
            whole += [] if soft else [flow]
        for (conj_id, many), met in clauses.items():
            if len(met) == many:
                whole += _with_conj_id(table, packet, conj_id)
        assert len(whole) <= 1, f"two flows of one priority match: {whole[:2]}"
        if whole:
            return whole[0]
    return None


def _with_conj_id(table: list[Flow], packet: Packet, conj_id: int) -> list[Flow]:
    hard = [f for f in table if not any(action[0] == "conjunction" for action in f["actions"]) and matches(f, packet, conj_id)]
    return [f for f in hard if f["priority"] == hard[0]["priority"]]


def interpret(table: list[Flow], packet: Packet) -> Result:
    """The result of sending a packet from IN_PORT through a table of `accepted` flows."""
    flow = chosen(table, packet)
    if flow is None:
        return DROPPED
    outputs: list[tuple[int, Packet]] = []
    marks: list[str] = []
    for action in flow["actions"]:
        match action:
            case ["output", port]:
                if port != IN_PORT:  # OpenFlow 1.3, 5.9: never back to where it came from, but by OFPP_IN_PORT
                    outputs.append((port, packet))
            case ["push_vlan", tpid]:
                packet = Packet(packet.fields, (Tag(tpid, 0), *packet.tags))  # Open vSwitch copies no VID and PCP
            case ["pop_vlan"]:
                packet = Packet(packet.fields, packet.tags[1:])
            case ["set_field", name, value]:
                packet = packet.written(name, value)
            case ["mark", what]:
                marks.append(what)
    left = packet if flow["goto"] else None
    return Result(flow["goto"], left, tuple(outputs), flow["meter"], tuple(marks), flow.get("origin", ""))


# ---- Warren's flows -------------------------------------------------------------------------------------------------


def normalised(flow: warren.Flow, onward: Table) -> Flow:
    """A flow of a policy without the policy's number. What goes on to `onward` goes "onward"."""
    plain: Flow = {"priority": flow.priority, "match": {}, "meter": None, "actions": [], "goto": None, "origin": flow.origin.name}
    assert flow.match[0][0] == POLICY
    for name, value in flow.match[1:]:
        plain["match"][name] = [number(part) for part in value] if isinstance(value, tuple) else [number(value), None]
    for action in flow.actions:
        assert plain["goto"] is None, f"an action after Goto: {flow}"
        match action:
            case warren.UseMeter(meter_id):
                assert plain["meter"] is None
                assert not plain["actions"], "the meter comes first"
                plain["meter"] = meter_id - METER_FIRST + 1
            case warren.Goto(table):
                assert table == onward
                plain["goto"] = "onward"
            case _:
                plain["actions"].append(normalised_action(action))
    return plain


def normalised_action(action: warren.Action) -> list[Any]:
    """An action that is neither a meter nor a table to go on to."""
    match action:
        case warren.Output(port):
            return ["output", port]
        case warren.PushVlan(tpid):
            return ["push_vlan", tpid]
        case warren.PopVlan():
            return ["pop_vlan"]
        case warren.Set(name, 1) if name == REG_RELATED:
            return ["mark", "related"]
        case warren.Set(name, value):
            return ["set_field", name, number(value)]
        case warren.ToController():
            return ["mark", "log"]
        case warren.Conjunction(conj_id, clause, clauses):
            return ["conjunction", conj_id, clause, clauses]
    raise AssertionError(f"an action of no policy: {action}")


def number(value: int | str) -> int:
    """A flow's value as an integer."""
    if isinstance(value, int):
        return value
    return int(value.replace(":", ""), 16) if value.count(":") == 5 and len(value) == 17 else int(ip_address(value))
