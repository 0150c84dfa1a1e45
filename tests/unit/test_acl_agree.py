"""Compares the ACL evaluator with the compiled flows, interpreted by an independent flow table: random ACLs, random packets."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import product
from random import Random

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from acl.compile import compile_policy
from acl.evaluate import Verdict, evaluate
from acl.policy import PolicyKey, resolve
from pipeline.tables import Table
from tests import acl_cases
from tests.depth import examples
from tests.differential.generate import METERS, OFPORTS
from tests.flowtable import IN_PORT, Packet, Result, Tag, accepted, interpret, normalised, refusal

PACKETS = 12


@settings(max_examples=examples(2000))
@given(st.integers(0, 2**32))
def test_the_evaluator_and_the_flows_agree(seed: int) -> None:
    rng = Random(seed)
    world, view = acl_cases.policy(rng)
    note(str({name: acl.rules for name, acl in world.acls.items()}))
    assert view.closed is None
    flows = [normalised(flow, Table.FORWARD) for flow in compile_policy(view, Table.ACL_IN, Table.FORWARD)]
    assert not [why for flow in flows if (why := refusal(flow))]
    table = accepted(flows)
    rules = [(resolved.acl, resolved.number, resolved.rule) for resolved in view.rules]
    for _ in range(PACKETS):
        sent = acl_cases.aimed(rng, world) if rng.random() < 0.5 else acl_cases.packet(rng)
        note(str(sent))
        verdict = evaluate(rules, sent.evaluated(), world.prefixes)
        agree(verdict, interpret(table, sent.looked_up()), sent)


@pytest.mark.parametrize("frag", ["no", "first", acl_cases.LATER])
def test_addresses_of_different_alternatives_do_not_combine_in_a_fragment(frag: str) -> None:
    """One rule with many sources, targets and ports becomes one set of conj_ids for whole packets, and one for later fragments."""
    world = acl_cases.World(
        {
            "first": [
                {
                    "proto": "udp",
                    "udp_dst": [22, 80, 443],
                    "from": {"network": "amber"},
                    "to": {"label": "web"},
                    "actions": {"allow": 1},
                }
            ]
        }
    )
    view = resolve(PolicyKey("amber", "in", tuple(world.acls)), world)
    table = accepted(normalised(flow, Table.FORWARD) for flow in compile_policy(view, Table.ACL_IN, Table.FORWARD))
    rules = [(resolved.acl, resolved.number, resolved.rule) for resolved in view.rules]
    template = acl_cases.packet(Random(0), "udp4")
    ends = [int(ip_address(text)) for text in ("10.0.0.1", "10.0.0.2", "10.0.1.1", "10.9.9.9")]
    verdicts = set()
    for source, target, port in product(ends, ends, (22, 23)):
        fields = template.fields | {"ipv4_src": source, "ipv4_dst": target, "udp_dst": port}
        sent = acl_cases.Sent(fields, frag=frag)
        verdict = evaluate(rules, sent.evaluated(), world.prefixes)
        agree(verdict, interpret(table, sent.looked_up()), sent)
        verdicts.add(verdict.allow)
    assert verdicts == {True, False}


def agree(verdict: Verdict, result: Result, sent: acl_cases.Sent) -> None:
    """Whether both say the same, and do the same to the packet."""
    decider = f"{verdict.acl}#{verdict.rule}" if verdict.rule else "amber:in:"
    assert result.origin.startswith(decider), f"{decider} decides, says the evaluator; {result.origin}, says the table"
    assert (result.goto == "onward") == verdict.allow
    assert ("related" in result.marks) == verdict.related
    assert result.meter == (METERS[verdict.meter] if verdict.meter else None)
    expected = [(OFPORTS.get(port, port), seen(copy, sent)) for port, copy in verdict.outputs]
    assert [(port, stripped(copy, sent)) for port, copy in result.outputs] == [pair for pair in expected if pair[0] != IN_PORT]
    if verdict.allow:
        assert result.packet is not None
        assert stripped(result.packet, sent) == seen(verdict.packet, sent)


def seen(packet: acl_cases.Packet, sent: acl_cases.Sent) -> Packet:
    """A packet of the evaluator's as the table shows it."""
    tags = tuple(Tag(*tag) for tag in packet.tags)
    return stripped(acl_cases.Sent(dict(packet.fields), tags, packet.frag, sent.states).looked_up(), sent)


def stripped(packet: Packet, sent: acl_cases.Sent) -> Packet:
    """Without what the frame does not carry."""
    without = ("ct_state", *(acl_cases.L4 if sent.frag == acl_cases.LATER else ()))
    return Packet({name: value for name, value in packet.fields.items() if name not in without}, packet.tags)
