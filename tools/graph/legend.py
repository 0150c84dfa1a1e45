"""The legend of every picture: each network with its colour and figures, and the totals. Pure."""

from __future__ import annotations

from tools.graph.label import cell, row, table, text
from tools.graph.topology import NetworkNode, Topology

COLUMN = 8  # networks in one column of the legend
GREY = "#667080"
RED = "#c62828"


def heading(whole: Topology, shades: dict[str, str]) -> str:
    """The label of the whole picture: the totals, and the networks as a table."""
    columns = [whole.networks[i : i + COLUMN] for i in range(0, len(whole.networks), COLUMN)]
    head = ("network", "VNI", "subnets", "way out", "hosts", "endpoints")
    rows = [row(*(cell(text(word, 8, colour=GREY), align="left") for _ in columns for word in ("", *head, "")))]
    for position in range(min(COLUMN, len(whole.networks))):
        cells: list[str] = []
        for column in columns:
            cells += (
                _network(whole, shades, column[position])
                if position < len(column)
                else [cell(text(" ", 16))] + [cell(text(" ", 9))] * 7
            )
        rows.append(row(*cells))
    parts = [row(cell(text(title(whole), 14)))]
    if columns:
        parts.append(row(cell(table(*rows, cellpadding=1).removeprefix("<").removesuffix(">"), align="center")))
    return table(*parts)


def _network(whole: Topology, shades: dict[str, str], network: NetworkNode) -> list[str]:
    members = [e for e in whole.endpoints if e.network == network.name]
    way_out = f"{network.mode} via {network.gateway}" if network.gateway else network.mode if network.mode != "flat" else "none"
    values = (network.name, network.vni, ", ".join(network.ranges), way_out, len({e.host for e in members}), len(members))
    colour = cell(text("■", 16, colour=shades[network.name]), align="right")
    return [
        colour,
        *(cell(text("" if t is None else t, 9, bold=not i), align="left") for i, t in enumerate(values)),
        cell(text("   ")),
    ]


def title(whole: Topology) -> str:
    """The totals in one line."""
    counted = ((len(whole.hosts), "host"), (len(whole.endpoints), "endpoint"), (len(whole.networks), "network"))
    pairs = len(whole.hosts) * (len(whole.hosts) - 1) // 2
    parts = [f"{count} {what}{'s' * (count != 1)}" for count, what in counted]
    return ", ".join([*parts, f"{len(whole.tunnels)} of {pairs} VXLAN tunnels in use"])
