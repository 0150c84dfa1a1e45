"""Compares Warren's ACL compiler with FAUCET's: the same ACLs and packets must have the same verdicts. See README.md in this folder."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from acl.compile import compile_policy
from acl.policy import PolicyKey, PolicyView, resolve
from pipeline.tables import Table
from specs.model.acl import Acl
from specs.model.meter import Meter
from tests.differential import generate
from tests.differential.differences import DIFFERENCES, Kind, inserted, spoiled
from tests.flowtable import Flow, Packet, accepted, interpret, matches, normalised, refusal
from warren.errors import Invalid

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".venv-faucet" / "bin" / "python"
SEED, VALID, PACKETS = 20480, 500, 6
PAIRS_AT_LEAST, COMPARED_AT_LEAST = 2000, 1500
ONWARD = {"vlan": "onward"}  # FAUCET's table after the ACLs


@dataclass(frozen=True)
class Case:
    """A list of ACLs. `key`: the difference that it must show; "": both must refuse it; None: both do the same."""

    acls: dict[str, Any]
    key: str | None
    packets: tuple[Packet, ...]

    def question(self) -> str:
        """The line for the oracle."""
        return json.dumps({"acls": self.acls, "ports": generate.OFPORTS, "meters": generate.METERS})


class World:
    """What the names in the ACLs mean to Warren: the same ports and meters as in FAUCET's configuration."""

    def __init__(self, bodies: dict[str, Any]) -> None:
        self.acls = {name: Acl(name=name, rules=body) for name, body in bodies.items()}
        self.meters = {name: Meter(name=name, meter_id=number, rate=1000) for name, number in generate.METERS.items()}

    def members(self, network_id: str, who: object) -> tuple[()]:
        """FAUCET's language has no groups."""
        return ()

    def ofport(self, network_id: str, port: str | int) -> int | None:
        """A port by name or number."""
        return generate.OFPORTS.get(port) if isinstance(port, str) else port if port in generate.OFPORTS.values() else None


def cases() -> tuple[Case, ...]:
    """The same ones every time."""
    rng = Random(SEED)
    chosen = []
    for key, rules in [*[(None, [])] * VALID, *spoiled()]:
        bodies = {name: generate.body(rng, generate.acl(rng)) for name in ("first", "second")[: rng.choice((1, 1, 2))]}
        if key is not None:
            bodies["first"] = inserted(rng, key, rules, bodies["first"])
        chosen.append(Case(bodies, key, tuple(generate.packet(rng) for _ in range(20))))
    return tuple(chosen)


def answers_of(all_cases: tuple[Case, ...]) -> list[dict[str, Any]]:
    """FAUCET's answers."""
    lines = "".join(case.question() + "\n" for case in all_cases)
    oracle = subprocess.run(
        [PYTHON, "-W", "ignore", HERE / "oracle.py"], input=lines, capture_output=True, text=True, timeout=150, check=False
    )
    assert oracle.returncode == 0, oracle.stderr
    return [json.loads(line) for line in oracle.stdout.splitlines()]


# ---- Warren's side --------------------------------------------------------------------------------------------------


def compiled(bodies: dict[str, Any]) -> tuple[PolicyView, list[Flow]]:
    """Warren's flows for the ACLs. Raises `Invalid`."""
    view = resolve(PolicyKey("n1", "in", tuple(bodies)), World(bodies))
    return view, [normalised(flow, Table.FORWARD) for flow in compile_policy(view, Table.ACL_IN, Table.FORWARD)]


# ---- the comparison -------------------------------------------------------------------------------------------------


def packets_of(case: Case, table: list[Flow]) -> Iterator[Packet]:
    """Some of its packets: those first that a rule of FAUCET's matches, but two."""
    by_match = sorted(case.packets[2:], key=lambda packet: not any(f["priority"] and matches(f, packet) for f in table))
    yield from (*case.packets[:2], *by_match[: PACKETS - 2])


def shares_actions(view: PolicyView) -> bool:
    """Whether chance made the difference `shared-actions`: the same changes in a rule that allows and in one that does not."""
    made = [{(r.rule.mirror, r.rule.steps) for r in view.rules if r.rule.steps and r.rule.allow is b} for b in (True, False)]
    return bool(made[0] & made[1])


class Tally:
    """What was compared, and the differences that no key explains."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.keys: Counter[str] = Counter()
        self.wrong: list[str] = []

    def judge(self, case: Case, answer: dict[str, Any]) -> None:
        """Compare one list of ACLs."""
        self.seen["pairs"] += PACKETS
        kind = DIFFERENCES[case.key].kind if case.key else None
        try:
            view, flows = compiled(case.acls)
            why = None
        except Invalid as error:
            view, flows, why = None, [], str(error)
        outcome = ("accepts" if "flows" in answer else "refuses", "accepts" if view else "refuses")
        expected = {
            None: [("refuses", "refuses") if case.key == "" else ("accepts", "accepts")],
            Kind.WARREN_REFUSES: [("accepts", "refuses")],
            Kind.FAUCET_REFUSES: [("refuses", "accepts")],
            Kind.WARREN_CLOSES: [("refuses", "accepts")],
            Kind.BEHAVIOUR: [("accepts", "accepts")],
        }[kind]
        if outcome not in expected:
            self.fail(case, f"FAUCET {outcome[0]} ({answer.get('refused')!r}), Warren {outcome[1]} ({why})")
        elif view is not None and kind is Kind.WARREN_CLOSES:
            table = accepted(flows)
            if view.closed is None or any(not interpret(table, packet).dropped for packet in case.packets):
                self.fail(case, "Warren does not close the port")
        elif outcome == ("accepts", "accepts"):
            assert view is not None
            self.compare(case, answer["flows"], flows, "shared-actions" if shares_actions(view) else case.key)
        if case.key and outcome != ("accepts", "accepts"):
            self.keys[case.key] += 1

    def compare(self, case: Case, theirs: list[Flow], ours: list[Flow], key: str | None) -> None:
        """The fate of each packet."""
        kind = DIFFERENCES[key].kind if key else None
        if refused := [why for flow in ours if (why := refusal(flow))]:
            self.fail(case, f"a flow of Warren's that the switch refuses: {refused[0]}")
        if kind is None and (refused := [why for flow in theirs if (why := refusal(flow))]):
            self.fail(case, f"a flow of FAUCET's that the switch refuses: {refused[0]}")
        left, right = accepted(theirs), accepted(ours)
        for packet in packets_of(case, theirs):
            one, other = interpret(left, packet), interpret(right, packet)
            goto = ONWARD.get(one.goto, one.goto) if one.goto else None
            same = (goto, one.packet, one.outputs, one.meter) == (other.goto, other.packet, other.outputs, other.meter)
            if not same and kind is Kind.BEHAVIOUR:
                self.keys[str(key)] += 1
                continue
            self.seen["compared"] += 1
            if not same:
                self.fail(case, f"{packet}\nFAUCET: {one}\nWarren: {other}")
            self.seen["onward"] += one.packet is not None
            self.seen["dropped"] += one.dropped
            self.seen["metered"] += one.meter is not None
            self.seen["copied"] += bool(one.outputs)
            self.seen["rewritten"] += any(p != packet for p in (*(p for _, p in one.outputs), one.packet or packet))

    def fail(self, case: Case, why: str) -> None:
        """A difference that the table does not have."""
        self.wrong.append(f"[{case.key}] {why}\n{json.dumps(case.acls)}")


@pytest.mark.skipif(not PYTHON.exists(), reason="no FAUCET here: tests/differential/install makes .venv-faucet")
def test_warren_does_as_faucet() -> None:
    all_cases = cases()
    answers = answers_of(all_cases)
    assert len(answers) == len(all_cases)
    tally = Tally()
    for case, answer in zip(all_cases, answers, strict=True):
        tally.judge(case, answer)
    print(dict(tally.seen), dict(tally.keys))  # pytest -s
    shown = "\n\n".join(tally.wrong[:5])
    assert not tally.wrong, f"{len(tally.wrong)} differences that no key of DIFFERENCES explains, such as\n{shown}"
    assert not (unseen := set(DIFFERENCES) - set(tally.keys)), f"no longer differences: {unseen}; take them out of the table"
    assert tally.seen["pairs"] >= PAIRS_AT_LEAST
    assert tally.seen["compared"] >= COMPARED_AT_LEAST
    for what in ("onward", "dropped", "metered", "copied", "rewritten"):  # else the pairs say little
        assert tally.seen[what] >= 100, f"{what}: {tally.seen}"


def test_the_readme_lists_the_differences() -> None:
    text = (HERE / "README.md").read_text()
    for key, difference in DIFFERENCES.items():
        assert f"| {key} | {difference.kind.value} | {difference.why} |" in text, f"{key} is not in README.md as in the table"
