"""Graphviz' graph as a canvas: an empty page, things at their places, texts. Pure."""

from __future__ import annotations

import graphviz

from tools.graph.geometry import Rect
from tools.graph.label import FONT
from tools.graph.legend import heading
from tools.graph.nodes import Topology


def page(whole: Topology, shades: dict[str, str]) -> graphviz.Digraph:
    """An empty picture with its heading."""
    dot = graphviz.Digraph("warren", engine="dot")
    dot.attr(fontname=FONT, bgcolor="white", pad="0.3", label=heading(whole, shades), labelloc="t", rankdir="TB")
    dot.attr("node", fontname=FONT, fontsize="10", shape="box", style="rounded,filled", fillcolor="white", color="#7d8794")
    dot.attr("edge", fontname=FONT, fontsize="8", color="#7d8794", dir="none")
    return dot


def put(dot: graphviz.Digraph, name: str, label: str, place: Rect, **attributes: str) -> None:
    x, y = place.centre
    dot.node(
        name, label, pos=f"{x:.1f},{-y:.1f}", width=f"{place.width / 72:.4f}", height=f"{place.height / 72:.4f}", **attributes
    )


def note(dot: graphviz.Digraph, name: str, label: str, x: float, y: float) -> None:
    """A text beside a line, never on it."""
    put(dot, name, label, Rect(x, y, 0, 0), shape="plain", style="", fixedsize="false")
