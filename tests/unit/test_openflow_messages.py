"""OpenFlow messages: the packed bytes equal those that Ryu serializes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.framework.protocol import ofproto_v1_4 as ofp
from controller.framework.protocol import ofproto_v1_4_parser as parser
from controller.openflow import messages as wire
from controller.openflow.flow_stats import FlowStats
from pipeline.flow import (
    Action,
    Bucket,
    DecTtl,
    Flow,
    Goto,
    Group,
    InPort,
    Origin,
    Output,
    PopVlan,
    Set,
    ToController,
    ToGroup,
    match,
)
from pipeline.tables import Table

macs = st.integers(0, 2**48 - 1).map(lambda n: ":".join(f"{b:02x}" for b in n.to_bytes(6, "big")))
v4 = st.ip_addresses(v=4).map(str)
v6 = st.ip_addresses(v=6).map(str)


class Datapath:
    """What Ryu's message classes want to know of a connection."""

    ofproto, ofproto_parser, id = ofp, parser, 1


def ryu_flow_mod(flow: Flow, actions: list[object], goto: int | None) -> bytes:
    instructions: list[object] = []
    if actions:
        instructions.append(parser.OFPInstructionActions(ofp.OFPIT_APPLY_ACTIONS, actions))
    if goto is not None:
        instructions.append(parser.OFPInstructionGotoTable(goto))
    message = parser.OFPFlowMod(
        Datapath, cookie=flow.cookie, table_id=int(flow.table), priority=flow.priority,
        out_port=ofp.OFPP_ANY, out_group=ofp.OFPG_ANY, match=parser.OFPMatch(**dict(flow.match)),
        instructions=instructions,
    )  # fmt: skip
    message.set_xid(wire.BUNDLE_XID)
    message.serialize()
    return bytes(message.buf)


@given(st.integers(1, 2**24 - 1), macs, st.integers(1, 65000), v4, st.integers(0, 65535))
def test_a_forwarding_flow_is_what_ryu_makes_of_it(vni: int, mac: str, port: int, vtep: str, priority: int) -> None:
    actions = (Set("tunnel_id", vni), Set("tun_ipv4_dst", vtep), Set("reg2", port), Output(port), Goto(Table.OUTPUT))
    flow = Flow(Table.FORWARD, priority, match(eth_dst=mac), actions, Origin("endpoint", "x"))
    expected = [
        parser.OFPActionSetField(tunnel_id=vni),
        parser.OFPActionSetField(tun_ipv4_dst=vtep),
        parser.OFPActionSetField(reg2=port),
        parser.OFPActionOutput(port, 0),
    ]
    assert wire.add_flow(flow) == ryu_flow_mod(flow, expected, 52)


@given(st.integers(1, 65000), macs, v6, st.integers(0, 255))
def test_ipv6_fields(port: int, mac: str, address: str, icmp_type: int) -> None:
    fields = match(in_port=port, eth_src=mac, eth_type=0x86DD, ip_proto=58, ipv6_src=address, icmpv6_type=icmp_type)
    flow = Flow(Table.SPOOF_GUARD, 100, fields, (), Origin("endpoint", "x"))
    assert wire.add_flow(flow) == ryu_flow_mod(flow, [], None)


@given(macs, v4, v4)
def test_masks_and_arp(mac: str, spa: str, tpa: str) -> None:
    prefix = f"{mac[:9]}00:00:00"
    fields = match(eth_dst=(prefix, "ff:ff:ff:00:00:00"), eth_type=0x0806, arp_spa=spa, arp_tpa=tpa)
    flow = Flow(Table.SPOOF_GUARD, 7, fields, (Goto(Table.ARP),), Origin("endpoint", "x"))
    assert wire.add_flow(flow) == ryu_flow_mod(flow, [], 8)


def test_deletion_is_by_exact_cookie_in_all_tables() -> None:
    message = parser.OFPFlowMod(
        Datapath, cookie=0x57AB, cookie_mask=2**64 - 1, table_id=ofp.OFPTT_ALL, command=ofp.OFPFC_DELETE,
        priority=0, out_port=ofp.OFPP_ANY, out_group=ofp.OFPG_ANY, match=parser.OFPMatch(),
    )  # fmt: skip
    message.set_xid(wire.BUNDLE_XID)
    message.serialize()
    assert wire.delete_flow(0x57AB) == bytes(message.buf)


def test_a_packet_out_is_what_ryu_makes_of_it() -> None:
    frame = b"\xff" * 61
    message = parser.OFPPacketOut(Datapath, ofp.OFP_NO_BUFFER, ofp.OFPP_CONTROLLER, [parser.OFPActionOutput(7, 0)], frame)
    message.set_xid(0)
    message.serialize()
    assert wire.packet_out(frame, (Output(7),)) == bytes(message.buf)


def test_a_bundle_adds_before_it_deletes() -> None:
    """Groups first (flows refer to them) and last (flows referred to them); every message carries the bundle's xid."""
    flow = Flow(Table.FORWARD, 1, match(eth_dst="02:00:00:00:00:01"), (Output(1),), Origin("endpoint", "x"))
    group = Group((Bucket((Output(1),)),), Origin("network", "n"))
    data = b"".join(wire.bundle([group], [wire.add_flow(flow)], [7], [0x1000_0001]))
    seen = []
    while data:
        kind, length, xid = data[1], int.from_bytes(data[2:4], "big"), int.from_bytes(data[4:8], "big")
        assert xid == wire.BUNDLE_XID
        seen.append(data[16:length] if kind == ofp.OFPT_BUNDLE_ADD_MESSAGE else int.from_bytes(data[12:14], "big"))
        data = data[length:]
    assert seen == [
        ofp.OFPBCT_OPEN_REQUEST,
        wire.add_group(group), wire.add_flow(flow), wire.delete_flow(7), wire.delete_group(0x1000_0001),
        ofp.OFPBCT_COMMIT_REQUEST,
    ]  # fmt: skip


@pytest.mark.parametrize("equal", [(InPort(), PopVlan(), DecTtl()), (Output(128), ToGroup(128), ToController(128))])
def test_actions_with_equal_fields_are_not_confused(equal: tuple[Action, ...]) -> None:
    flows = [Flow(Table.CLASSIFY, 1, match(eth_type=0x0800), (action,), Origin("test", "x")) for action in equal]
    assert len({wire.add_flow(flow)[56:] for flow in flows}) == len(equal)


def flow_stats(cookie: int, address: str) -> bytes:
    """One entry of flow statistics, as long as its match and instructions (OpenFlow 1.4, 7.3.5.2)."""
    entry = bytearray(48)
    fields = parser.OFPMatch(eth_type=0x0800, ipv4_dst=address) if cookie % 2 else parser.OFPMatch()
    end = 48 + fields.serialize(entry, 48)
    for table in range(cookie % 3):
        parser.OFPInstructionGotoTable(table + 1).serialize(entry, end)
        end += 8
    struct.pack_into("!HBxIIHHHHHxxQQQ", entry, 0, end, 1, 2, 3, 4, 5, 6, 0, 0, cookie, 7, 8)
    return bytes(entry)


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), v4), max_size=5))
def test_the_cookies_of_flow_statistics_are_those_that_ryu_decodes(flows: list[tuple[int, str]]) -> None:
    message, position, decoded = bytes(16) + b"".join(flow_stats(*flow) for flow in flows), 16, []
    while position < len(message):
        decoded.append(parser.OFPFlowStats.parser(message, position))
        position += decoded[-1].length
    part = FlowStats.parser(message, 16)
    assert part.cookies == [stats.cookie for stats in decoded] == [cookie for cookie, _ in flows]
    assert part.length == len(message) - 16
    counters = [(s.cookie, s.duration_sec + s.duration_nsec / 1e9, s.packet_count, s.byte_count) for s in decoded]
    assert [tuple(each) for each in part.counters()] == counters


def test_flow_statistics_without_length_are_refused() -> None:
    with pytest.raises(ValueError, match="of 0 bytes"):
        FlowStats.parser(bytes(16 + 56), 16)
