"""Compares the ACL evaluator with a real switch: random ACLs as flows, random frames through ofproto/trace."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from ovs.unixctl.client import UnixctlClient

from acl.actions import PopTag, PushTag
from acl.compile import compile_policy, meters
from acl.evaluate import Verdict, evaluate
from acl.fields import FIELDS
from controller.compiler.packet_trace import parse_trace
from pipeline.flow import Flow
from pipeline.tables import Table
from pipeline.text import flow_text, meter_text
from tests import acl_cases
from tests.differential.generate import OFPORTS
from tests.flowtable import Tag
from tests.ovs.conftest import Switch, _switch

BRIDGE = "br0"
PLAIN, TRACKED = 5, 6  # the ports that packets come from; of the second, connections are tracked
PACKETS, ROUNDS = 12, 400


@pytest.fixture(scope="module")
def bridge() -> Iterator[Switch]:
    for switch in _switch(dummy=True):
        words = ["add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "fail-mode=secure"]
        for port in (*OFPORTS.values(), PLAIN, TRACKED):
            words += ["--", "add-port", BRIDGE, f"p{port}", "--", "set", "interface", f"p{port}", "type=dummy",
                      f"ofport_request={port}"]  # fmt: skip
        switch.vsctl(*words)
        switch.vsctl("set", "open_vswitch", ".", "other_config:vlan-limit=2")
        switch.exec("ovs-ofctl", "set-frags", BRIDGE, "nx-match")  # as controller/openflow/session.py sets it
        yield switch


@pytest.fixture
def appctl(bridge: Switch) -> Iterator[Callable[..., str]]:
    error, client = UnixctlClient.create(f"{bridge.dir}/ovs-vswitchd.ctl")
    assert not error

    def text_of(command: str, *arguments: str) -> str:
        failed, wrong, text = client.transact(command, list(arguments))
        assert not failed
        assert wrong is None, wrong
        return str(text)

    yield text_of
    client.close()


def load(switch: Switch, number: int, flows: list[Flow]) -> None:
    """The policy's flows, and those that bring packets to them."""
    begin = f"set_field:{number:#x}->metadata,goto_table:{Table.ACL_IN.value}"
    steer = [f"table=0,in_port={PLAIN},actions={begin}", f"table=1,actions={begin}"]
    steer += [f"table=0,in_port={TRACKED},{kind},actions=ct(table=1)" for kind in ("ip", "ipv6")]
    file = Path(switch.dir) / "policy"
    file.write_text("".join(line + "\n" for line in (*steer, *map(flow_text, flows))))
    switch.exec("ovs-ofctl", "-O", "OpenFlow14", "--bundle", "replace-flows", BRIDGE, str(file))
    held = switch.exec("ovs-ofctl", "-O", "OpenFlow14", "dump-flows", "--no-stats", BRIDGE, f"table={Table.ACL_IN.value}")
    assert {line.strip() for line in held.splitlines()} == set(map(flow_text, flows)), "the text is not what the switch prints"


def test_the_evaluator_and_the_switch_agree(bridge: Switch, appctl: Callable[..., str]) -> None:
    rng = Random(11)
    seen: Counter[str] = Counter()
    proved: set[str] = set()
    world, view = acl_cases.policy(rng)
    for meter in world.meters.values():
        (made,) = meters(replace(view, rules=(), meters=(meter,)))
        bridge.exec("ovs-ofctl", "-O", "OpenFlow14", "add-meter", BRIDGE, meter_text(made))
    for _ in range(ROUNDS):
        world, view = acl_cases.policy(rng)
        flows = list(compile_policy(view, Table.ACL_IN, Table.FORWARD))
        load(bridge, view.key.number, flows)
        flow_of = {flow.cookie: flow for flow in flows}
        rules = [(resolved.acl, resolved.number, resolved.rule) for resolved in view.rules]
        for _ in range(PACKETS):
            sent = acl_cases.aimed(rng, world) if rng.random() < 0.5 else acl_cases.packet(rng)
            verdict = evaluate(rules, sent.evaluated(), world.prefixes)
            tracking = ["--ct-next", "trk," + ",".join(OVS_STATES[s] for s in sent.states)] if sent.states else []
            port = TRACKED if sent.states else PLAIN
            text = appctl("ofproto/trace", BRIDGE, f"in_port={port}", *tracking, sent.frame().hex())
            trace = parse_trace(text, flow_of, {}, ())
            steps = [step for step in trace.steps if step.table in ("ACL_IN", "FORWARD")]
            case = f"{ {n: a.rules for n, a in world.acls.items()} }\n{sent}\n{verdict}\n{text}"
            expected = f"acl/{verdict.acl}#{verdict.rule}" if verdict.rule else "policy/amber:in:" + "+".join(world.acls)
            assert steps[0].origin == expected, case
            assert (len(steps) == 2) == verdict.allow, case
            assert trace.outputs == tuple(OFPORTS.get(p, p) for p, _ in verdict.outputs), case
            meter = re.search(r"meter:(\d+)", text)
            assert (meter is not None) == (verdict.meter is not None), case
            if verdict.allow and most_tags(world, verdict, len(sent.tags)) <= 2:  # Open vSwitch knows of two
                final = [line for line in text.splitlines() if line.startswith("Final flow:")][-1]
                left = acl_cases.Sent(dict(verdict.packet.fields), tuple(Tag(*t) for t in verdict.packet.tags), sent.frag)
                read = appctl("ofproto/trace", BRIDGE, f"in_port={PLAIN}", left.frame().hex()).splitlines()[0]
                assert headers(final) == headers(read), case
            proved |= decisive(world, verdict)
            seen.update({"allowed": verdict.allow, "denied": not verdict.allow, "ruled": verdict.rule is not None,
                         "copied": bool(verdict.outputs), "later": sent.frag == "later", "metered": meter is not None,
                         "tracked": bool(sent.states), "twice": len(sent.tags) == 2})  # fmt: skip
    assert all(seen[what] > 50 for what in ("allowed", "denied", "ruled", "copied", "later", "metered", "tracked", "twice")), seen
    assert proved >= (set(FIELDS) - {"in_port"}) | ACTIONS, "docs/acl.md says that this test proves each of them"


ACTIONS = {
    "allow",
    "meter",
    "mirror",
    "PopTag",
    "PushTag",
    "SetField",
    "ToPort",
    "from",
    "to",
    "state",
    "allow_related",
    "proto",
}


def most_tags(world: acl_cases.World, verdict: Verdict, tags: int) -> int:
    """How many VLAN tags the packet has at most while the rule is carried out."""
    assert verdict.acl is not None
    assert verdict.rule is not None
    counts = [tags]
    for step in world.acls[verdict.acl].parsed[verdict.rule - 1].steps:
        counts.append(counts[-1] + isinstance(step, PushTag) - isinstance(step, PopTag))
    return max(counts)


def decisive(world: acl_cases.World, verdict: Verdict) -> set[str]:
    """The fields, words and actions of the rule that decided."""
    if verdict.rule is None or verdict.acl is None:
        return set()
    rule = world.acls[verdict.acl].parsed[verdict.rule - 1]
    words = set(world.acls[verdict.acl].rules[verdict.rule - 1]) & ACTIONS
    done = (
        {type(step).__name__ for step in rule.steps}
        | ({"meter"} if rule.meter else set())
        | ({"mirror"} if rule.mirror else set())
    )
    return {match.name for match in rule.fields} | words | done | ({"allow"} if rule.allow else set())


OVS_STATES = {"new": "new", "established": "est", "related": "rel", "invalid": "inv"}


def headers(line: str) -> set[str]:
    """What a flow of a trace says of the headers."""
    words = line.partition(": ")[2].split(",")
    return {
        w for w in words if not re.match(r"(recirc_id|ct_|reg\d|metadata|in_port)", w) and w not in ("eth", "vlan_tci1=0x0000")
    }
