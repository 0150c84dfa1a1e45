"""Prints results: tables for people, JSON arrays for scripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

PIPE_WIDTH = 100_000


@dataclass(slots=True)
class PrintedForm:
    """How this command prints its results: table, wide, json, yaml or name; and whether it repeats them (--watch)."""

    format: str = "table"
    watch: bool = False

    @property
    def structured(self) -> bool:
        """Whether the results are printed as data, not as a table."""
        return self.format in ("json", "yaml", "name")


output = PrintedForm()  # of this process; tools/cli/output.py has the options


def as_json(data: Any) -> None:
    """Print data in the form that -o asks for; JSON without it."""
    if output.format == "yaml":
        from specs.documents.export import as_yaml  # only here: PyYAML takes long to import

        print(as_yaml(data), end="")
    elif output.format == "name":
        for item in data if isinstance(data, list) else [data]:
            print(name_of(item))
    else:
        print(json.dumps(data, indent=2, ensure_ascii=False))


def name_of(item: Any) -> str:
    """Return how commands name an object: NETWORK/NAME of an endpoint, the name of others, the id of objects without a name."""
    if not isinstance(item, dict):
        return cell(item)
    name = item.get("name")
    if not name:
        return cell(next((item[key] for key in ("id", "endpoint", "cookie") if item.get(key)), ""))
    return f"{item['network']}/{name}" if "network_id" in item and item.get("network") else str(name)


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
    whole = output.format == "wide" or not sys.stdout.isatty()
    console = Console(width=PIPE_WIDTH if whole else None, highlight=False)  # in a pipe one row is one line
    out = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        out.add_column(column, overflow="fold")
    for line in cells:
        out.add_row(*(Text(text, style=_STYLES.get(text, "")) for text in line))
    console.print(out)


def fields(pairs: Iterable[tuple[str, Any]]) -> None:
    """Print one object, one line for each field that is not empty."""
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
