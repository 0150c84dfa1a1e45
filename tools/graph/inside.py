"""Pictures of what happens in a host: the tables with their flows, and a packet's way through the tables of both hosts. Pure."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import groupby, pairwise
from typing import Any

import graphviz

from tools.graph.label import FONT, cell, lines, row, text
from tools.graph.label import table as rows_of
from tools.graph.legend import GREY, RED
from tools.graph.wiring import TUNNEL

GREEN = "#2e7d32"
_TO = re.compile(r"goto_table:(\d+)|resubmit\(,(\d+)\)|ct\([^)]*table=(\d+)")


def _page(name: str, title: str) -> graphviz.Digraph:
    dot = graphviz.Digraph(name, engine="dot")
    dot.attr(fontname=FONT, bgcolor="white", pad="0.3", label=lines(text(title, 13), text(" ", 8)), labelloc="t", rankdir="TB")
    dot.attr("node", fontname=FONT, fontsize="10", shape="box", style="rounded,filled", fillcolor="white", color="#7d8794")
    dot.attr("edge", fontname=FONT, fontsize="8", color="#7d8794", fontcolor=GREY, arrowsize="0.7")
    return dot


def pipeline(host: str, flows: Iterable[Mapping[str, Any]]) -> graphviz.Digraph:
    """The tables of one host with counts of flows and packets; arrows are where flows send packets on, with how many do."""
    rows = sorted(flows, key=lambda f: int(f["table_id"]))
    names = {int(f["table_id"]): str(f["table"]) for f in rows}
    ways: Counter[tuple[int, int]] = Counter()
    ends: dict[int, Counter[str]] = defaultdict(Counter)
    for flow in rows:
        number, actions = int(flow["table_id"]), str(flow["actions"])
        for numbers in set(_TO.findall(actions)):
            ways[number, int("".join(numbers))] += 1
        for what in ("group:", "output:", "CONTROLLER", "IN_PORT"):
            if what in actions:
                ends[number][what.strip(":").lower()] += 1
        ends[number]["drop"] += actions == "drop"
    dot = _page("pipeline", f"{host}: {len(rows)} flows in {len(names)} tables")
    dot.attr(ranksep="0.22", nodesep="0.3")
    entered = {*list(names)[:1], *(target for _, target in ways)}
    for number, table in names.items():
        in_table = [f for f in rows if int(f["table_id"]) == number]
        note = "" if number in entered else "no flow leads here"
        used = any(int(f["packets"]) for f in in_table)
        dot.node(
            f"table {number}",
            _table(f"{number} {table}", in_table, ends[number], note),
            fillcolor="#e3f1e4" if used else "#f4f6f8",
        )
    for before, after in pairwise(names):
        if after not in entered:  # it stands below the table before it, not beside the first
            dot.edge(f"table {before}", f"table {after}", style="invis")
    for (source, target), count in sorted(ways.items()):
        busy = max(1.0, min(4.0, 1 + count.bit_length() / 4))
        weight = "10" if list(names).index(target) - list(names).index(source) == 1 else "1"
        dot.edge(f"table {source}", f"table {target}", label=f" {count}", penwidth=f"{busy:g}", weight=weight)
    return dot


def _table(name: str, flows: list[Mapping[str, Any]], ends: Counter[str], note: str) -> str:
    """A table's label."""
    packets = sum(int(f["packets"]) for f in flows)
    dropped = sum(int(f["packets"]) for f in flows if f["actions"] == "drop")
    totals = f"{len(flows)} flow{'s' * (len(flows) != 1)}, {packets} packets"
    more = ", ".join(f"{count} to {end}" for end, count in sorted(ends.items()) if count and end != "drop")
    drops = f"{ends['drop']} drop ({dropped} packets)" if ends["drop"] else ""
    words = (
        text(name, 11, bold=True),
        text(totals, 9),
        text(drops, 8, colour=RED),
        text(more, 8, colour=GREY),
        text(note, 8, colour=GREY),
    )
    return _rows(*words)


def _rows(*words: str) -> str:
    """A label of rows: an underscore of `lines` runs into the line below it."""
    return rows_of(*(row(cell(part)) for part in words if part), cellpadding=1)


def journey(trace: Mapping[str, Any]) -> graphviz.Digraph:
    """A packet's way, from the answer to POST /trace. Tables that a packet only passes by are drawn together."""
    delivered = trace["verdict"] == "delivered"
    dot = _page("path", f"{trace['src']} to {trace['dst']}, {trace['proto']}: {trace['verdict']}")
    dot.attr(ranksep="0.25")
    last = "source"
    dot.node("source", lines(text(trace["src"], 11, bold=True)), fillcolor="#f6b44b")
    for position, hop in enumerate(trace["hosts"]):
        with dot.subgraph(name=f"cluster_{position}") as cluster:
            cluster.attr(
                label=lines(text(hop["host"], 13, bold=True)), style="rounded,filled", fillcolor="#f4f6f8", color="#c3cad3"
            )
            cluster.attr(labeljust="l")
            previous = None
            packet_steps = [step for step in hop["steps"] if not step.get("branch")]
            for number, (passed_by, steps) in enumerate(groupby(packet_steps, key=lambda s: s["origin"] == "pipeline/miss")):
                for node, label, colour in _steps(f"{position}.{number}", passed_by, list(steps)):
                    cluster.node(node, label, fillcolor=colour)
                    if previous is not None:
                        cluster.edge(previous, node)
                    elif last == "source":
                        dot.edge(last, node)
                    else:  # beside the sender's host, not below it
                        via = lines(
                            text("   VXLAN", 9, bold=True, colour=TUNNEL),
                            text(f"   VNI {trace['hosts'][0].get('vni')}", 8, colour=TUNNEL),
                        )
                        dot.edge(last, node, label=via, color=TUNNEL, penwidth="2", constraint="false")
                    previous = node
            _copies(cluster, f"{position}", hop)
            last = previous or last
    label = lines(text(trace["dst"], 11, bold=True), "" if delivered else text("not reached", 9, colour=RED))
    dot.node("target", label, fillcolor="#f6b44b" if delivered else "white", color=GREEN if delivered else RED)
    reason = (
        {} if delivered else {"label": lines(text(f"  {trace['verdict']} {trace['reason']}", 9, colour=RED)), "style": "dashed"}
    )
    dot.edge(last, "target", color=GREEN if delivered else RED, penwidth="2", **reason)
    return dot


def _copies(cluster: graphviz.Digraph, prefix: str, hop: Mapping[str, Any]) -> None:
    """A note on the copies that mirrors take of the packet on this host: they are not on its way."""
    origins = sorted({str(step["origin"]) for step in hop["steps"] if step.get("branch") == "copy"})
    if origins:
        label = lines(text("copied for", 9, colour=GREY), *(text(origin, 9, colour=GREY) for origin in origins))
        cluster.node(f"{prefix}.copies", label, style="rounded,dashed", color=GREY)


def _steps(prefix: str, passed_by: bool, steps: list[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    if passed_by:
        last = steps[-1]
        dropped = "drop" in last["actions"]
        names = [str(s["table"]) for s in steps]
        passed = [text(", ".join(names[i : i + 4]), 8, colour=GREY) for i in range(0, len(names), 4)]
        end = text("no flow: dropped", 9, colour=RED) if dropped else text("passed by", 8, colour=GREY)
        return [(f"{prefix}", lines(*passed, end), "white")]
    boxes = []
    for number, step in enumerate(steps):
        matched = _folded(str(step["matched"]))
        actions = [a for a in step["actions"] if not a.startswith(("goto_table", "->"))]
        matches = [text(part, 8, mono=True) for part in matched]
        does = [text(part, 8, colour="#26374a", mono=True) for action in actions[:4] for part in _folded(action)]
        label = _rows(text(step["table"], 10, bold=True), text(step["origin"], 9), *matches, *does)
        boxes.append((f"{prefix}.{number}", label, "#e3f1e4" if "drop" not in actions else "#fbe3e3"))
    return boxes


def _folded(phrase: str, width: int = 46) -> list[str]:
    """Wraps text at commas into lines of about 46 characters."""
    folded: list[str] = []
    line = ""
    for part in phrase.split(","):
        if line and len(line) + len(part) > width:
            folded, line = [*folded, line + ","], part
        else:
            line = f"{line},{part}" if line else part
    return [*folded, line]
