"""What the commands print: tables for people, JSON arrays for scripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any


def as_json(data: Any) -> None:
    """Print data as JSON."""
    print(json.dumps(data, indent=2, ensure_ascii=False))


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], empty: str) -> None:
    """Print a table; `empty` is said when it has no rows."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    found = [[_cell(value) for value in row] for row in rows]
    if not found:
        print(empty, file=sys.stderr)
        return
    console = Console(width=None if sys.stdout.isatty() else 240, highlight=False)
    out = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        out.add_column(column, overflow="fold")
    for row in found:
        out.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    console.print(out)


def fields(pairs: Iterable[tuple[str, Any]]) -> None:
    """Print one object, a field a line; empty ones are left out."""
    shown = [(name, _cell(value)) for name, value in pairs if value not in (None, "", {}, [])]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        print(f"{name:<{width}}  {value}")


_STYLES = {"up": "green", "alive": "green", "closed": "red", "dead": "red", "no": "red"}


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return " ".join(f"{k}={v}" for k, v in value.items())
    if isinstance(value, list):
        return "; ".join(map(str, value))
    return str(value)
