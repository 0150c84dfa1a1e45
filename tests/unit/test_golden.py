"""Golden files: the flows of each scenario and host, as ovs-ofctl prints them. Read the diff aloud before you commit it."""

from __future__ import annotations

import pkgutil
from hashlib import blake2b
from importlib import import_module
from pathlib import Path

import pytest

from controller.compiler import compile as compiler
from controller.compiler import features
from controller.compiler.compile import compile_view
from intent.recompute import view
from pipeline.tables import OWNER, Table
from pipeline.text import flow_text, group_text, meter_text
from specs.snapshot import snapshot
from tests.unit import worlds
from tests.unit.scenarios import SCENARIOS, view_of

GOLDEN = Path(__file__).parent.parent / "golden"


def dump(scenario: str, host: str) -> str:
    program = compile_view(view_of(scenario, host))
    lines = []
    for table in Table:
        flows = [flow for flow in program.flows if flow.table is table]
        if flows:
            lines += [f"# {table.name}", *(f"{flow_text(f, cookie=False)}  # {f.origin}" for f in flows)]
    if program.meters:
        lines += ["# meters", *map(meter_text, program.meters)]
    if program.groups:
        lines += ["# groups", *(f"{group_text(g)}  # {g.origin}" for g in program.groups)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("host", ["h1", "h2", "h3"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_golden(scenario: str, host: str, update_golden: bool) -> None:
    path = GOLDEN / f"{scenario}.{host}.flows"
    if update_golden:
        path.write_text(dump(scenario, host))
    assert path.read_text() == dump(scenario, host), f"run pytest --update-golden and read the difference of {path.name}"


def test_an_upgrade_finds_the_cookies_that_it_expects(update_golden: bool) -> None:
    """Names of classes, fields and tables are part of digests: a rename that changes them would install every flow anew on every host. When a
    scenario or its flows have changed on purpose, update this file with the others."""
    lines = []
    for scenario in sorted(SCENARIOS):
        for host in ("h1", "h2", "h3"):
            program = compile_view(view_of(scenario, host))
            ids = sorted([flow.cookie for flow in program.flows] + [group.group_id for group in program.groups])
            lines.append(f"{scenario} {host} {len(ids)} {blake2b(repr(ids).encode(), digest_size=8).hexdigest()}\n")
    if update_golden:
        (GOLDEN / "cookies").write_text("".join(lines))
    assert "".join(lines) == (GOLDEN / "cookies").read_text()


def test_the_loser_of_a_conflict_has_no_flow_anywhere() -> None:
    for host in ("h1", "h2", "h3"):
        assert "endpoint/second" not in dump("conflict", host)
    assert ("endpoint/second", "02:57:0a:00:00:02 belongs to endpoint first") in view_of("conflict", "h2").problems


def test_a_host_without_members_has_the_base_only() -> None:
    assert {flow.origin.kind for flow in compile_view(view_of("dual-stack", "h3")).flows} == {"pipeline", "probe"}


def test_a_coprocessor_alone_on_a_network_that_tracks_connections_compiles() -> None:
    """It is no port of the network, and the network is here all the same: what is told to other hosts is told once."""
    entries = [
        worlds.host("h1", "198.18.0.11"), worlds.network("amber", 7, v6=False),
        worlds.acl("ask", [{"proto": "tcp", "allow_related": True}]),
        worlds.behind("function", "amber", "h1", 9, "fun0", coprocessor=1000, acls=("ask",)),
    ]  # fmt: skip
    state = snapshot((key, value, born) for born, (key, value) in enumerate(entries, 1))
    program = compile_view(view(state, "h1", {}, 65279, None, {"fun0": 9}))
    assert [
        flow.origin.name for flow in program.flows if flow.table is Table.COMMIT and dict(flow.match) == {"reg0": 7, "reg3": 1}
    ] == ["amber"]


@pytest.mark.parametrize("unit", ["base", "network", "endpoint", "policy", "session", "service", "virtual"])
def test_the_compiler_lists_every_feature_that_compiles_a_unit(unit: str) -> None:
    modules = {
        module.name: import_module(f"{features.__name__}.{module.name}") for module in pkgutil.iter_modules(features.__path__)
    }
    assert set(OWNER.values()) <= set(modules)
    assert getattr(compiler, unit.upper()) == {name: getattr(m, unit) for name, m in modules.items() if hasattr(m, unit)}
