"""The legend of every picture: each network with its colour and figures, routers, services, mirror sessions, and the totals. Pure."""

from __future__ import annotations

from math import ceil

from tools.graph.label import cell, row, table, text
from tools.graph.nodes import NetworkNode, Topology

COLUMN = 8  # networks in one column of the legend, at most
LISTED = 12  # routers, services and mirror sessions of each kind that are listed
GREY = "#667080"
RED = "#c62828"
COPY = "#8e44ad"
HEAD = ("network", "VNI", "subnets", "way out", "ACLs", "hosts", "endpoints")


def heading(whole: Topology, shades: dict[str, str]) -> str:
    """The label of the whole picture: the totals, the networks as a table, and what joins or copies them."""
    columns = ceil(len(whole.networks) / COLUMN)
    parts = [
        row(cell(text(line, 14 if not number else 10, colour=None if not number else GREY)))
        for number, line in enumerate(title(whole))
    ]
    if columns:
        each = ceil(len(whole.networks) / columns)  # columns of one length, but for the last
        shown = [name for name in HEAD if name != "ACLs" or any(n.acls for n in whole.networks)]
        gap = cell(text("   "))
        head = gap.join("".join(cell(text(word, 8, colour=GREY), align="left") for word in ("", *shown)) for _ in range(columns))
        rows = [row(head)]
        for position in range(each):
            column = [whole.networks[i] if i < len(whole.networks) else None for i in range(position, each * columns, each)]
            rows.append(row(gap.join("".join(_network(whole, shades, n, shown)) for n in column)))
        parts.append(row(cell(_inner(*rows), align="center")))
    if joined := [row(cell(f"{text(kind, 8, colour=GREY)} {text(words, 9)}", align="left")) for kind, words in _joined(whole)]:
        parts.append(row(cell(_inner(*joined, cellspacing=0))))
    return table(*parts, row(cell(text(" ", 6))))


def _inner(*rows: str, cellspacing: int = 2) -> str:
    return table(*rows, cellpadding=1, cellspacing=cellspacing).removeprefix("<").removesuffix(">")


def _network(whole: Topology, shades: dict[str, str], network: NetworkNode | None, shown: list[str]) -> list[str]:
    if network is None:
        return [cell(text(" ", 13))] + [cell(text(" ", 9))] * len(shown)
    members = [e for e in whole.endpoints if e.network == network.name]
    values: dict[str, object] = {
        "network": network.name, "VNI": "auto" if network.vni is None else network.vni, "subnets": ", ".join(network.ranges) or "none",
        "way out": network.way_out or "none", "ACLs": f"acl {', '.join(network.acls)}" if network.acls else "none",
        "hosts": len({e.host for e in members}), "endpoints": len(members),
    }  # fmt: skip
    colour = cell(text("■", 13, colour=shades[network.name]), align="right")
    # the space keeps columns apart where the reader's font is wider than Graphviz takes it to be
    return [colour, *(cell(text(f"{values[word]} ", 9, bold=word == "network"), align="left") for word in shown)]


def _joined(whole: Topology) -> list[tuple[str, str]]:
    """Routers, services and mirror sessions, each a kind and a text."""
    routers = [f"{r.name}: {', '.join(r.networks)}" for r in whole.routers]
    services = [
        f"{s.name}: {s.port.replace('>', ' → ')} of {s.network}, {len(s.members)} endpoint{'s' * (len(s.members) != 1)}"
        + (f" with {s.label}" if s.label else "")
        for s in whole.services
    ]
    mirrors = [f"{c.name}: {_few(c.sources)} to {c.target}" for c in whole.copies]
    kinds = (("router", routers), ("service", services), ("mirror", mirrors))
    return [(kind, words) for kind, all_of in kinds for words in _cut(all_of)]


def _cut(items: list[str]) -> list[str]:
    return items if len(items) <= LISTED else [*items[: LISTED - 1], f"{len(items) - LISTED + 1} more"]


def _few(keys: tuple[str, ...]) -> str:
    return ", ".join(keys) if len(keys) <= 3 else f"{', '.join(keys[:2])} and {len(keys) - 2} more"


def title(whole: Topology) -> tuple[str, str]:
    """The totals: what there is, and what joins it."""
    pairs = len(whole.hosts) * (len(whole.hosts) - 1) // 2
    tunnels = f"{len(whole.tunnels)} of {pairs} VXLAN tunnels in use"
    first = ((len(whole.hosts), "host"), (len(whole.endpoints), "endpoint"), (len(whole.networks), "network"))
    more = ((len(whole.routers), "router"), (len(whole.services), "service"), (len(whole.copies), "mirror session"))
    return ", ".join(_counted(*pair) for pair in first), ", ".join([tunnels, *(_counted(*pair) for pair in more if pair[0])])


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
