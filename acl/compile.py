"""Compiles a policy to the flows of one table. Pure.

The first matching rule decides: each rule has a lower priority than the one before, starting at FAUCET's 0x5000, and a
packet that no rule allows is dropped. A rule about many addresses and ports becomes a conjunctive match (ovs-fields(7)): 100
x 100 members x 10 ports need 211 flows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import product
from math import prod

from acl import fragments
from acl.actions import PopTag, PushTag, SetField, ToPort
from acl.fields import ORDER, value_of
from acl.language import FieldMatch, Rule
from acl.policy import RULES_LIMIT, PolicyView, ResolvedRule
from pipeline.flow import (
    Action,
    Actions,
    Conjunction,
    Flow,
    Goto,
    Origin,
    Output,
    PopVlan,
    PushVlan,
    Set,
    SwitchMeter,
    ToController,
    UseMeter,
    Value,
)
from pipeline.protocols import IPV4, IPV6, IpNetwork
from pipeline.tables import (
    CT_ESTABLISHED,
    CT_INVALID,
    CT_NEW,
    CT_RELATED,
    CT_TRACKED,
    METER_FIRST,
    POLICY,
    REG_RELATED,
    Table,
)  # fmt: skip

FIRST = 0x5000  # FAUCET's priority of a list's first rule
CLOSED = 65_200
REPLIES = 65_100
IMPLICIT = 1
assert FIRST - RULES_LIMIT > IMPLICIT
LOG_BYTES = 128
LATER_IDS = 2 * RULES_LIMIT  # what a rule means for later fragments has conj_ids above all others

STATE_BITS = {"new": CT_NEW, "established": CT_ESTABLISHED, "related": CT_RELATED, "invalid": CT_INVALID}
Fields = tuple[tuple[str, Value], ...]


def compile_policy(policy: PolicyView, table: Table, onward: Table) -> Iterator[Flow]:
    """Return the flows of a policy in `table`. Packets that it allows go on to `onward`."""
    number, key = policy.key.number, policy.key
    origin = Origin("policy", f"{key.network_id}:{key.direction}:{'+'.join(key.acls)}")
    if policy.closed is not None:
        yield Flow(table, CLOSED, ((POLICY, number),), (), origin)
        return
    for position, resolved in enumerate(policy.rules):
        yield from _rule(number, position, resolved, table, onward)
    yield Flow(table, IMPLICIT, ((POLICY, number),), (), origin)


def meters(policy: PolicyView) -> Iterator[SwitchMeter]:
    """Return the meters that the flows of a policy use."""
    for meter in policy.meters:
        yield SwitchMeter(METER_FIRST + meter.meter_id - 1, meter.rate, meter.burst, meter.packets)


def _rule(number: int, position: int, resolved: ResolvedRule, table: Table, onward: Table) -> Iterator[Flow]:
    rule, priority = resolved.rule, FIRST - position
    origin = Origin("acl", f"{resolved.acl}#{resolved.number}")
    for index, variant in enumerate(rule.variants):
        fixed = (*(FieldMatch(name, ((value, None),)) for name, value in variant), *rule.fields)
        exact = {match.name: match.alternatives[0][0] for match in fixed if len(match.alternatives) == 1}
        conj_id = 2 * position + index + 1  # unique in the policy, and every clause names the policy
        one = replace(rule, fields=fixed)
        for meant, ids in ((fragments.whole(one, exact), conj_id), (fragments.later(one, exact), conj_id + LATER_IDS)):
            if meant is not None:
                as_meant = replace(resolved, rule=meant)
                actions = _actions(as_meant, onward)
                for fields, act in _matches(((POLICY, number),), _choices(as_meant, exact.get("eth_type")), actions, ids):
                    yield Flow(table, priority, fields, act, origin)


def _choices(resolved: ResolvedRule, eth_type: int | None) -> list[list[Fields]]:
    """Return the alternatives of everything that a rule matches."""
    choices: list[list[Fields]] = [
        [((match.name, value_of(match.name, alternative)),) for alternative in match.alternatives]
        for match in resolved.rule.fields
    ]
    for end, prefixes in (("src", resolved.sources), ("dst", resolved.targets)):
        if prefixes is not None:
            choices.append(_addresses(end, prefixes, eth_type))
    if resolved.rule.states:
        bits = [CT_TRACKED | STATE_BITS[state] for state in resolved.rule.states]
        choices.append([(("ct_state", (bit, bit)),) for bit in bits])
    return choices


def _matches(base: Fields, choices: list[list[Fields]], actions: Actions, conj_id: int) -> Iterator[tuple[Fields, Actions]]:
    if not all(choices):
        return  # a label without endpoints selects none
    many = [choice for choice in choices if len(choice) > 1]
    for choice in choices:
        if len(choice) == 1:
            base += choice[0]
    if len(many) < 2 or prod(map(len, many)) <= sum(map(len, many)) + 1:
        for combination in product(*many):
            yield _sorted(base, *combination), actions
        return
    yield _sorted(base, (("conj_id", conj_id),)), actions
    for clause, choice in enumerate(many, 1):
        for fields in choice:
            yield _sorted(base, fields), (Conjunction(conj_id, clause, len(many)),)


def _sorted(*parts: Fields) -> Fields:
    """Order fields so that prerequisites come first."""
    return tuple(sorted((item for part in parts for item in part), key=lambda item: ORDER.get(item[0], -1)))


def _addresses(end: str, prefixes: Iterable[IpNetwork], eth_type: int | None) -> list[Fields]:
    fields: list[Fields] = []
    for prefix in prefixes:
        if eth_type == (IPV4 if prefix.version == 4 else IPV6):
            name = f"ipv{prefix.version}_{end}"
            whole = prefix.prefixlen == prefix.max_prefixlen
            value: Value = str(prefix.network_address) if whole else (str(prefix.network_address), str(prefix.netmask))
            fields.append(((name, value),))
    return fields


def _actions(resolved: ResolvedRule, onward: Table) -> Actions:
    rule, ports = resolved.rule, dict(resolved.ports)
    actions: list[Action] = []
    if resolved.meter_id is not None:
        actions.append(UseMeter(METER_FIRST + resolved.meter_id - 1))
    if rule.log:
        actions.append(ToController(LOG_BYTES))
    if rule.mirror is not None:
        actions.append(Output(ports[rule.mirror]))
    actions += _steps(rule, ports)
    if rule.allow:
        if rule.related:
            actions.append(Set(REG_RELATED, 1))
        actions.append(Goto(onward))
    return tuple(actions)


def _steps(rule: Rule, ports: dict[str | int, int]) -> Iterator[Action]:
    last = len(rule.steps) if rule.allow else max((i + 1 for i, s in enumerate(rule.steps) if isinstance(s, ToPort)), default=0)
    for step in rule.steps[:last]:  # steps after the last output of a dropped packet have no effect
        match step:
            case PopTag():
                yield PopVlan()
            case PushTag(tpid):
                yield PushVlan(tpid)
            case SetField(name, value):
                text = value_of(name, (value, None))
                assert not isinstance(text, tuple)
                yield Set(name, text)
            case ToPort(port):
                yield Output(ports[port])
