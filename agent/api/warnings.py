"""Says in an answer what a record names that does not exist."""

from __future__ import annotations

from typing import Any

from agent.core import Core
from agent.references import references
from specs.snapshot import Problem


def lines(problems: list[Problem]) -> list[str]:
    """A line for each problem, such as `service shop: ...`."""
    return [f"{problem.about.replace('/', ' ', 1)}: {problem.reason}" for problem in problems]


def with_warnings(core: Core, kind: str, identity: str, data: dict[str, Any]) -> dict[str, Any]:
    """The data of a record that was just written, with `warnings` if there are any."""
    problems = references(core.store, core.cache.view).of(kind, identity)
    return data | {"warnings": lines(problems)} if problems else data
