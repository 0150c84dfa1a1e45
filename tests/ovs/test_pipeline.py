"""The scenarios on a real switch: it dumps the flows as the golden files have them, by text and by OpenFlow, and ofproto/trace gives the
expected verdicts."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.compiler.compile import Program, compile_view
from controller.compiler.packet_trace import COPY, LARGER, Trace, parse_trace
from controller.openflow import messages as wire
from pipeline.text import flow_text, group_text, meter_text
from tests.ovs.conftest import Switch, _switch
from tests.unit.scenarios import SCENARIOS, TUNNEL, view_of

BRIDGE = "br0"
MAC1, MAC2 = "02:57:0a:00:00:02", "02:57:0a:00:00:03"


@pytest.fixture(scope="module")
def bridge() -> Iterator[Switch]:
    for switch in _switch(dummy=True):
        words = ["add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "fail-mode=secure"]
        for port in (1, 2):
            words += ["--", "add-port", BRIDGE, f"p{port}", "--", "set", "interface", f"p{port}", "type=dummy",
                      f"ofport_request={port}"]  # fmt: skip
        words += ["--", "add-port", BRIDGE, "vx", "--", "set", "interface", "vx", "type=vxlan", "options:remote_ip=flow",
                  "options:key=flow", f"ofport_request={TUNNEL}"]  # fmt: skip
        switch.vsctl(*words)
        yield switch


def ofctl(switch: Switch, *words: str) -> str:
    return switch.exec("ovs-ofctl", "-O", "OpenFlow14", *words)


def wipe(switch: Switch) -> None:
    ofctl(switch, "del-flows", BRIDGE)
    ofctl(switch, "del-groups", BRIDGE)
    ofctl(switch, "del-meters", BRIDGE)


def read_back(switch: Switch) -> set[str]:
    lines = ofctl(switch, "dump-flows", "--no-stats", BRIDGE).splitlines()
    return {re.sub(r"^(cookie=\S+) priority", r"\1 table=0, priority", line.strip()) for line in lines}


def load(switch: Switch, program: Program) -> None:
    wipe(switch)
    groups, flows = Path(switch.dir) / "groups", Path(switch.dir) / "flows"
    groups.write_text("".join(group_text(group) + "\n" for group in program.groups))
    flows.write_text("".join(flow_text(flow) + "\n" for flow in program.flows))
    for meter in program.meters:
        ofctl(switch, "add-meter", BRIDGE, meter_text(meter))
    ofctl(switch, "add-groups", BRIDGE, str(groups))
    ofctl(switch, "add-flows", BRIDGE, str(flows))


def trace(switch: Switch, scenario: str, flow: str, *options: str, mirroring: tuple[str, ...] = ()) -> Trace:
    text = switch.run("ovs-appctl", "-t", f"{switch.dir}/ovs-vswitchd.ctl", "ofproto/trace", BRIDGE, flow, *options)
    program = compile_view(view_of(scenario, "h1"))
    return parse_trace(text, {f.cookie: f for f in program.flows}, {}, (TUNNEL,), mirroring)


def vtep_of(result: Trace) -> str | None:
    return next((end.vtep for end in result.sent if end.vtep), None)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_switch_dumps_flows_as_warren_writes_them(bridge: Switch, scenario: str) -> None:
    program = compile_view(view_of(scenario, "h1"))
    load(bridge, program)
    assert read_back(bridge) == {flow_text(flow) for flow in program.flows}


class Controller:
    """A bare OpenFlow connection: hello, then the bytes of controller/openflow/messages.py, until the commit's answer."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(path)
        self.socket.sendall(bytes([wire.VERSION, 0, 0, 8, 0, 0, 0, 1]))

    def commit(self, program: Program, deletes: list[int], group_deletes: list[int]) -> list[int]:
        """Send a bundle; the types of the switch's messages until it has committed or refused."""
        for meter in program.meters:
            self.socket.sendall(wire.meter_mod(meter))
        adds = map(wire.add_flow, program.flows)
        sender = threading.Thread(
            target=lambda: [self.socket.sendall(c) for c in wire.bundle(program.groups, adds, deletes, group_deletes)]
        )
        sender.start()
        seen: list[int] = []
        while True:
            header = self._read(8)
            kind, length = header[1], int.from_bytes(header[2:4], "big")
            body = self._read(length - 8)
            seen.append(kind)
            if kind == wire.ofp.OFPT_ERROR or (kind == wire.ofp.OFPT_BUNDLE_CONTROL and body[5] == wire.ofp.OFPBCT_COMMIT_REPLY):
                sender.join()
                return seen

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self.socket.recv(size - len(data))
        return data


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_bundle_installs_the_compiled_flows_and_removes_them(bridge: Switch, scenario: str) -> None:
    wipe(bridge)
    program = compile_view(view_of(scenario, "h1"))
    connection = Controller(f"{bridge.dir}/{BRIDGE}.mgmt")
    assert wire.ofp.OFPT_ERROR not in connection.commit(program, [], [])
    assert read_back(bridge) == {flow_text(flow) for flow in program.flows}
    groups = ofctl(bridge, "dump-groups", BRIDGE)
    assert all(f"group_id={group.group_id}," in groups for group in program.groups)
    seen = connection.commit(Program(), [f.cookie for f in program.flows], [g.group_id for g in program.groups])
    assert wire.ofp.OFPT_ERROR not in seen
    assert read_back(bridge) == set()
    assert "group_id" not in ofctl(bridge, "dump-groups", BRIDGE)


SOLICIT = (
    "ipv6_dst=ff02::1:ff00:3,nw_ttl=255,icmpv6_type=135,icmpv6_code=0,nd_target=fd00::3,dl_dst=33:33:ff:00:00:03"
)  # fmt: skip
FROM2 = f"in_port={TUNNEL},tun_src=198.18.0.12"
OWN4 = f"in_port=1,dl_src={MAC1},dl_dst={MAC2},icmp,nw_src=10.0.0.2,nw_dst=10.0.0.3"
VERDICTS = {
    "own IPv4 goes to the other host's VTEP": (OWN4, (TUNNEL,), "198.18.0.12", False),
    "another's IPv4": (OWN4.replace("nw_src=10.0.0.2", "nw_src=10.0.0.9"), (), None, False),
    "another's MAC": (OWN4.replace(MAC1, "02:57:0a:00:00:09"), (), None, False),
    "a tagged frame": (OWN4 + ",dl_vlan=5", (), None, False),
    "an unknown destination": (OWN4.replace(MAC2, "02:57:0a:00:00:09"), (), None, False),
    "a request for a known neighbour is answered": (
        f"in_port=1,arp,dl_src={MAC1},dl_dst=ff:ff:ff:ff:ff:ff,arp_op=1,arp_sha={MAC1},arp_spa=10.0.0.2,arp_tpa=10.0.0.3",
        (), None, True,
    ),
    "a request for oneself is not": (
        f"in_port=1,arp,dl_src={MAC1},dl_dst=ff:ff:ff:ff:ff:ff,arp_op=1,arp_sha={MAC1},arp_spa=10.0.0.2,arp_tpa=10.0.0.2",
        (), None, False,
    ),
    "another's ARP sender": (
        f"in_port=1,arp,dl_src={MAC1},dl_dst=ff:ff:ff:ff:ff:ff,arp_op=1,arp_sha={MAC1},arp_spa=10.0.0.9,arp_tpa=10.0.0.3",
        (), None, False,
    ),
    "a solicitation is answered": (f"in_port=1,icmp6,dl_src={MAC1},ipv6_src=fd00::2,{SOLICIT},nd_sll={MAC1}", (), None, True),
    "another's solicitation": (f"in_port=1,icmp6,dl_src={MAC1},ipv6_src=fd00::9,{SOLICIT},nd_sll={MAC1}", (), None, False),
    "a solicitation with another's MAC": (f"in_port=1,icmp6,dl_src={MAC1},ipv6_src=fd00::2,{SOLICIT},nd_sll={MAC2}", (), None, False),
    "another's advertisement": (
        f"in_port=1,icmp6,dl_src={MAC1},dl_dst={MAC2},ipv6_src=fd00::2,ipv6_dst=fd00::3,icmpv6_type=136,icmpv6_code=0,"
        f"nw_ttl=255,nd_target=fd00::9,nd_tll={MAC1}", (), None, False,
    ),
    "a router advertisement": (
        f"in_port=1,icmp6,dl_src={MAC1},dl_dst=33:33:00:00:00:01,ipv6_src=fe80::57:aff:fe00:2,ipv6_dst=ff02::1,icmpv6_type=134",
        (), None, False,
    ),
    "a broadcast goes to the VTEPs of members": (
        f"in_port=1,udp,dl_src={MAC1},dl_dst=ff:ff:ff:ff:ff:ff,nw_src=10.0.0.2,nw_dst=255.255.255.255", (TUNNEL,), "198.18.0.12", False,
    ),
    "from the tunnel to a local port": (
        f"{FROM2},tun_id=7,icmp,dl_src={MAC2},dl_dst={MAC1},nw_src=10.0.0.3,nw_dst=10.0.0.2", (1,), None, False,
    ),
    "from the tunnel never back into one": (
        f"{FROM2},tun_id=7,icmp,dl_src={MAC1},dl_dst={MAC2},nw_src=10.0.0.2,nw_dst=10.0.0.3", (), None, False,
    ),
    "a broadcast from the tunnel stays here": (
        f"{FROM2},tun_id=7,udp,dl_src={MAC2},dl_dst=ff:ff:ff:ff:ff:ff,nw_src=10.0.0.3,nw_dst=255.255.255.255",
        (1,), None, False,
    ),
    "another endpoint's MAC from the tunnel": (
        f"{FROM2},tun_id=7,icmp,dl_src=02:57:0a:00:00:09,dl_dst={MAC1},nw_src=10.0.0.3,nw_dst=10.0.0.2", (), None, False,
    ),
    "an endpoint's MAC from another host": (
        f"in_port={TUNNEL},tun_src=198.18.0.13,tun_id=7,icmp,dl_src={MAC2},dl_dst={MAC1},nw_src=10.0.0.3,nw_dst=10.0.0.2", (), None, False,
    ),
    "an endpoint's MAC from an IPv6 address": (
        f"in_port={TUNNEL},tun_ipv6_src=::ffff:198.18.0.12,tun_id=7,icmp,dl_src={MAC2},dl_dst={MAC1},nw_src=10.0.0.3,nw_dst=10.0.0.2",
        (), None, False,
    ),
    "the gateway's MAC from the tunnel where no host sends it": (
        f"{FROM2},tun_id=7,icmp,dl_src=02:57:00:00:00:01,dl_dst={MAC1},nw_src=10.0.0.3,nw_dst=10.0.0.2", (), None, False,
    ),
    "a DHCP server": (
        f"in_port=1,udp,dl_src={MAC1},dl_dst={MAC2},nw_src=10.0.0.2,nw_dst=10.0.0.3,udp_src=67,udp_dst=1000", (), None, False,
    ),
    "a DHCP server at another port": (
        f"in_port=1,udp,dl_src={MAC1},dl_dst={MAC2},nw_src=10.0.0.2,nw_dst=10.0.0.3,udp_src=1000,udp_dst=68", (), None, False,
    ),
    "a DHCP client where there is none": (
        f"in_port=1,udp,dl_src={MAC1},dl_dst=ff:ff:ff:ff:ff:ff,nw_src=0.0.0.0,nw_dst=255.255.255.255,udp_src=68,udp_dst=67", (), None, False,
    ),
    "an unknown VNI": (f"in_port={TUNNEL},tun_id=9,icmp,dl_src={MAC2},dl_dst={MAC1},nw_src=10.0.0.3,nw_dst=10.0.0.2", (), None, False),
}  # fmt: skip


def test_each_scenario_has_its_verdict_in_a_trace(bridge: Switch) -> None:
    load(bridge, compile_view(view_of("dual-stack", "h1")))
    wrong = {}
    for what, (flow, outputs, vtep, answered) in VERDICTS.items():
        result = trace(bridge, "dual-stack", flow)
        if (result.outputs, vtep_of(result), result.answered) != (outputs, vtep, answered):
            wrong[what] = result
    assert not wrong


def test_a_trace_names_the_origin_of_each_flow(bridge: Switch) -> None:
    load(bridge, compile_view(view_of("dual-stack", "h1")))
    steps = trace(bridge, "dual-stack", OWN4).steps
    assert [(step.table, step.origin) for step in steps] == [
        ("CLASSIFY", "endpoint/web-1"),
        ("SPOOF_GUARD", "endpoint/web-1"),
        ("ARP", "pipeline/miss"),
        ("DHCP", "pipeline/miss"),
        ("CONNTRACK", "pipeline/miss"),
        ("DNAT", "pipeline/miss"),
        ("ACL_IN", "pipeline/miss"),
        ("ROUTE", "pipeline/miss"),
        ("SNAT", "pipeline/miss"),
        ("FORWARD", "endpoint/web-2"),
        ("ACL_OUT", "pipeline/miss"),
        ("COMMIT", "pipeline/miss"),
        ("MIRROR", "pipeline/miss"),
        ("OUTPUT", "pipeline/output"),
    ]


WATCHED = f"in_port=1,dl_src={MAC1},dl_dst={MAC2},tcp,nw_src=10.0.0.2,nw_dst=10.0.0.3,tcp_dst=80"
SHORT = ("branch", "table", "origin", "port", "vtep", "vni")


def ends(result: Trace) -> list[tuple[object, ...]]:
    return [(end.kind, *(getattr(end, name) for name in SHORT)) for end in result.ends]


def test_the_copies_of_mirrors_are_no_part_of_a_packets_way(bridge: Switch) -> None:
    load(bridge, compile_view(view_of("mirrored", "h1")))
    result = trace(bridge, "mirrored", WATCHED)
    assert ends(result) == [
        ("output", COPY, "COPY", "mirror/suspects", TUNNEL, "198.18.0.13", 4000),
        ("output", COPY, "COPY", "mirror/all", 4096, None, None),
        ("output", "", "OUTPUT", "pipeline/output", TUNNEL, "198.18.0.12", 7),
    ]
    assert result.outputs == (TUNNEL,)
    assert [step.origin for step in result.steps if step.branch] == ["mirror/suspects", "mirror/all"]
    assert result.steps[0].actions[-1] == "goto_table:4"  # what follows a copy is done by the table that made it
    result = trace(
        bridge, "mirrored", WATCHED.replace("nw_src=10.0.0.2", "nw_src=10.0.0.9")
    )  # copied before SPOOF_GUARD drops it
    assert result.outputs == ()
    assert [end for end in ends(result) if end[1] != COPY] == [("drop", "", "SPOOF_GUARD", "endpoint/web-1", None, None, None)]
    result = trace(
        bridge, "mirrored", f"{FROM2},tun_id=7,dl_src={MAC2},dl_dst={MAC1},tcp,nw_src=10.0.0.3,nw_dst=10.0.0.2,tcp_dst=80"
    )
    assert [(end.kind, end.branch, end.port) for end in result.ends] == [("drop", COPY, 1), ("output", "", 1)]


def test_every_copy_of_a_flood_is_followed(bridge: Switch) -> None:
    load(bridge, compile_view(view_of("dual-stack", "h1")))
    flood = f"in_port=1,udp,dl_src={MAC1},dl_dst=ff:ff:ff:ff:ff:ff,nw_src=10.0.0.2,nw_dst=255.255.255.255"
    result = trace(bridge, "dual-stack", flood)
    assert [(end.kind, end.port, end.vtep, end.problem) for end in result.ends] == [
        ("output", 1, None, "skipping output to input port"),
        ("output", TUNNEL, "198.18.0.12", ""),
    ]


STATEFUL = f"in_port=1,dl_src={MAC1},dl_dst={MAC2},tcp,nw_src=10.0.0.2,nw_dst=10.0.0.4,tcp_dst="


def test_a_packet_goes_on_after_connection_tracking(bridge: Switch) -> None:
    """Open vSwitch says `drop` of what ct(...) contains, and begins anew with the clone that comes out of it."""
    load(bridge, compile_view(view_of("policy", "h1")))
    passed, refused = trace(bridge, "policy", f"{STATEFUL}5432"), trace(bridge, "policy", f"{STATEFUL}22")
    assert ends(passed) == [("output", "", "OUTPUT", "pipeline/output", TUNNEL, "198.18.0.13", 0x800007)]
    assert ends(refused) == [("drop", "", "ACL_IN", "policy/amber:in:web", None, None, None)]
    for step in passed.steps:
        assert not any(word in " ".join(step.actions) for word in ("drop", "thaw", "Resuming", "CT_LABEL[64..95] is now")), step


def test_a_rule_that_mirrors_sends_no_packet(bridge: Switch) -> None:
    """`mirror` and `output` are both outputs in the table; only the first output of a rule with `mirror` is a copy."""
    ofctl(bridge, "del-flows", BRIDGE)
    policy = compile_view(view_of("policy", "h1"))
    flow_of = {flow.cookie: flow for flow in policy.flows}
    rule = next(flow for flow in policy.flows if str(flow.origin) == "acl/web#1")
    ofctl(bridge, "add-flow", BRIDGE, f"cookie={rule.cookie:#x},table=24,actions=output:2,output:1")
    ofctl(bridge, "add-flow", BRIDGE, "table=0,actions=goto_table:24")
    text = bridge.run("ovs-appctl", "-t", f"{bridge.dir}/ovs-vswitchd.ctl", "ofproto/trace", BRIDGE, "in_port=3,arp")
    assert parse_trace(text, flow_of, {}, (TUNNEL,)).outputs == (2, 1)
    result = parse_trace(text, flow_of, {}, (TUNNEL,), ["acl/web#1"])
    assert ([end.branch for end in result.ends], result.outputs) == ([COPY, ""], (1,))
    ofctl(bridge, "add-flow", BRIDGE, f"cookie={rule.cookie:#x},table=24,actions=output:2")
    text = bridge.run("ovs-appctl", "-t", f"{bridge.dir}/ovs-vswitchd.ctl", "ofproto/trace", BRIDGE, "in_port=3,arp")
    assert [(e.kind, e.branch) for e in parse_trace(text, flow_of, {}, (TUNNEL,), ["acl/web#1"]).ends] == [
        ("output", COPY),
        ("drop", ""),
    ]


SHOWN_TO_THE_CONTROLLER = {
    f"in_port=1,udp,dl_src={MAC1},dl_dst=ff:ff:ff:ff:ff:ff,nw_src=0.0.0.0,nw_dst=255.255.255.255,udp_src=68,udp_dst=67": True,
    f"in_port=1,udp,dl_src={MAC1},dl_dst=02:57:00:00:00:01,nw_src=10.0.0.2,nw_dst=169.254.67.1,udp_src=68,udp_dst=67": True,
    f"in_port=1,udp6,dl_src={MAC1},dl_dst=33:33:00:01:00:02,ipv6_src=fe80::57:aff:fe00:2,ipv6_dst=ff02::1:2,udp_src=546,udp_dst=547": True,
    f"in_port=1,icmp6,dl_src={MAC1},dl_dst=33:33:00:00:00:02,ipv6_src=::,ipv6_dst=ff02::2,icmpv6_type=133": True,
    f"in_port=1,udp,dl_src={MAC1},dl_dst=ff:ff:ff:ff:ff:ff,nw_src=10.0.0.9,nw_dst=255.255.255.255,udp_src=68,udp_dst=67": False,
    f"in_port=1,udp,dl_src={MAC2},dl_dst=ff:ff:ff:ff:ff:ff,nw_src=0.0.0.0,nw_dst=255.255.255.255,udp_src=68,udp_dst=67": False,
    f"in_port=1,udp,dl_src={MAC1},dl_dst={MAC2},nw_src=10.0.0.2,nw_dst=10.0.0.3,udp_src=68,udp_dst=69": False,
}


def test_dhcp_requests_go_to_the_controller_only(bridge: Switch) -> None:
    program = compile_view(view_of("dhcp", "h1"))
    load(bridge, program)
    for flow, goes in SHOWN_TO_THE_CONTROLLER.items():
        result = trace(bridge, "dhcp", flow)
        shown = [step.origin for step in result.steps if step.table == "DHCP" and any("CONTROLLER" in a for a in step.actions)]
        assert shown == (["endpoint/web-1"] if goes else []), flow
        assert not (goes and result.outputs), flow


LARGE = f"in_port=1,dl_src={MAC1},dl_dst=02:57:00:00:00:01,udp,nw_src=10.0.0.2,nw_dst=10.1.0.2,nw_ttl=64,udp_dst=9"


def test_packets_to_a_network_with_a_smaller_mtu_are_checked_for_size(bridge: Switch) -> None:
    """ofproto/trace follows both ways that it may go."""
    load(bridge, compile_view(view_of("narrow", "h1")))
    result = trace(bridge, "narrow", LARGE)
    assert [(end.port, end.vtep, end.vni) for end in result.sent] == [(TUNNEL, "198.18.0.12", 9)]
    assert [(end.kind, end.branch, end.table) for end in result.ends] == [
        ("controller", LARGER, "MTU_CHECK"),
        ("output", "", "OUTPUT"),
    ]
    measured = [(step.matched.split("reg5=")[1][:3], step.origin) for step in result.steps if step.table == "MTU_CHECK"]
    assert measured == [("0x1", "network/amber"), ("0,v", "router/core")]
    done = bridge.run("ovs-appctl", "-t", f"{bridge.dir}/ovs-vswitchd.ctl", "ofproto/trace", BRIDGE, LARGE)
    assert re.search(r"check_pkt_len\(size=1314,gt\(userspace\(.*\)\),le\(", done)


def test_a_refused_flow_is_named_by_its_cookie() -> None:
    message = wire.add_flow(compile_view(view_of("dual-stack", "h1")).flows[0])
    wrapped = bytes([wire.VERSION, wire.ofp.OFPT_BUNDLE_ADD_MESSAGE, 0, 0]) + bytes(12) + message
    assert wire.cookie_of_error(wrapped[:64]) == compile_view(view_of("dual-stack", "h1")).flows[0].cookie
    assert wire.cookie_of_error(b"") is None
