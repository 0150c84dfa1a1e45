"""Prints results: tables for people, JSON arrays for scripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

PIPE_WIDTH = 100_000


def as_json(data: Any) -> None:
    """Print data as JSON."""
    print(json.dumps(data, indent=2, ensure_ascii=False))


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], empty: str) -> None:
    """Print a table, or the line `empty` on standard error when it has no rows."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [[cell(value) for value in row] for row in rows]
    if not cells:
        print(empty, file=sys.stderr)
        return
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)  # in a pipe one row is one line
    out = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        out.add_column(column, overflow="fold")
    for line in cells:
        out.add_row(*(Text(text, style=_STYLES.get(text, "")) for text in line))
    console.print(out)


def fields(pairs: Iterable[tuple[str, Any]]) -> None:
    """Print one object, a field a line; empty ones are left out."""
    shown = [(name, cell(value)) for name, value in pairs if value not in (None, "", {}, [])]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        print(f"{name:<{width}}  {value}")


_STYLES = {"up": "green", "alive": "green", "closed": "red", "dead": "red", "no": "red"}


def cell(value: Any, absent: str = "") -> str:
    """A value as text for people: no brackets, no quotes."""
    if value is None:
        return absent
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return " ".join(f"{key}={cell(inner)}" for key, inner in value.items() if inner not in (None, {}, []))
    if isinstance(value, list | tuple):
        return "; ".join(map(cell, value)) or absent
    return str(value)
