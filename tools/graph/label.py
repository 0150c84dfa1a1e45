"""Graphviz's HTML-like labels, from Python values. Pure."""

from __future__ import annotations

from html import escape

FONT = "Helvetica"
MONO = "Courier"


def text(value: object, size: float = 10, bold: bool = False, colour: str | None = None, mono: bool = False) -> str:
    """Escaped text with a size, colour and typeface."""
    escaped = escape(str(value)).replace("]", "&#93;")  # Graphviz 2.43 stumbles over a text of one bracket
    escaped = f"<b>{escaped}</b>" if bold and escaped else escaped
    attributes = f'point-size="{size:g}"' + (f' color="{colour}"' if colour else "") + (f' face="{MONO}"' if mono else "")
    return f"<font {attributes}>{escaped}</font>" if escaped else ""


def cell(content: str, **attributes: object) -> str:
    """A table's cell."""
    written = "".join(f' {name}="{value}"' for name, value in attributes.items())
    return f"<td{written}>{content or ' '}</td>"


def row(*cells: str) -> str:
    """A table's row."""
    return f"<tr>{''.join(cells)}</tr>"


def table(*rows: str, **attributes: object) -> str:
    """A label that is a table."""
    all_attributes = {"border": 0, "cellborder": 0, "cellspacing": 0, "cellpadding": 3} | attributes
    written = "".join(f' {name}="{value}"' for name, value in all_attributes.items())
    return f"<<table{written}>{''.join(rows)}</table>>"


def lines(*parts: str) -> str:
    """A label of lines; empty ones are left out."""
    return f"<{'<br/>'.join(part for part in parts if part)}>"


def node(kind: str, name: object) -> str:
    """A node's id: colons would be Graphviz's ports."""
    return f"{kind} {name}".replace("%", "%25").replace(":", "%3a").replace("\\", "%5c")


def width(value: str, size: float, bold: bool = False, mono: bool = False) -> float:
    """About how many points a text is wide, on the generous side: which font is drawn is the reader's machine's choice."""
    return len(value) * size * (0.61 if mono else 0.66 if bold else 0.58)
