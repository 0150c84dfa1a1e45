"""The picture of many: hosts as tiles in a grid. A tile lists its endpoints, or counts them by network when they are too many. Pure."""

from __future__ import annotations

from itertools import pairwise
from math import ceil, sqrt

import graphviz

from tools.graph.boxes import page
from tools.graph.label import cell, node, row, table, text
from tools.graph.legend import GREY, RED
from tools.graph.topology import EndpointNode, HostNode, Topology

NAMES = 4  # hosts that a tile names as its peers; more are a number
SQUEEZE = 1.5  # the picture's width to its height


def tiles(whole: Topology, shades: dict[str, str], counts: bool) -> graphviz.Digraph:
    """The picture's source; `counts`: numbers by network instead of endpoints."""
    dot = page(whole, shades)
    dot.attr(ranksep="0.15", nodesep="0.15")
    dot.attr("node", shape="plain", style="")
    lengths = {host.name: _length(whole, host, counts) for host in whole.hosts}
    ratio = (60 + 20 * max(lengths.values(), default=0)) / (130 if counts else 290)  # of a tile's height to its width
    width = max(1, ceil(sqrt(len(whole.hosts) * ratio * SQUEEZE)))
    rows = [whole.hosts[i : i + width] for i in range(0, len(whole.hosts), width)]
    for hosts in rows:
        longest = max(lengths[host.name] for host in hosts)
        with dot.subgraph() as level:
            level.attr(rank="same")
            for host in hosts:
                level.node(node("host", host.name), _tile(whole, host, shades, counts, longest))
        for left, right in pairwise(hosts):
            dot.edge(node("host", left.name), node("host", right.name), style="invis")
    for upper, lower in pairwise(rows):
        for above, below in zip(upper, lower, strict=False):
            dot.edge(node("host", above.name), node("host", below.name), style="invis", weight="10")
    return dot


def _length(whole: Topology, host: HostNode, counts: bool) -> int:
    """The lines of a tile below its heading."""
    endpoints = whole.at(host.name)
    return (
        max(1, len({e.network for e in endpoints}) if counts else len(endpoints)) + bool(host.notes) + bool(_broken(whole, host))
    )


def _broken(whole: Topology, host: HostNode) -> str:
    """The host's broken tunnels in one line."""
    ends = [
        (t.other if t.one == host.name else t.one, t.broken) for t in whole.tunnels if t.broken and host.name in (t.one, t.other)
    ]
    peers = [f"{other} ({state})" for other, state in ends[:NAMES]] + ([f"{len(ends) - NAMES} more"] if len(ends) > NAMES else [])
    return f"broken to {', '.join(peers)}" if peers else ""


def _tile(whole: Topology, host: HostNode, shades: dict[str, str], counts: bool, longest: int) -> str:
    endpoints = whole.at(host.name)
    span = 2 if counts else 5
    peers = [other for t in whole.tunnels if host.name in (t.one, t.other) for other in (t.one, t.other) if other != host.name]
    tunnels = (
        f"tunnels to {', '.join(peers)}"
        if 0 < len(peers) <= NAMES
        else f"tunnels to {len(peers)} hosts"
        if peers
        else "no tunnels"
    )
    rows = [
        row(cell(text(host.name, 13, bold=True), colspan=span, bgcolor="#dde4ec")),
        row(cell(text(f"VTEP {host.vtep}", 9), colspan=span, bgcolor="#dde4ec")),
        row(cell(text(tunnels, 8, colour=GREY), colspan=span)),
    ]
    if broken := _broken(whole, host):
        rows.append(row(cell(text(broken, 8, colour=RED), colspan=span)))
    if host.notes:
        rows.insert(1, row(cell(text(", ".join(host.notes), 9, colour=RED), colspan=span)))
    rows += _counted(endpoints, shades) if counts else [_listed(e, shades) for e in endpoints]
    if not endpoints:
        rows.append(row(cell(text("no endpoints", 9, colour=GREY), colspan=span)))
    fill = row(cell(text(" ", 10), colspan=span))  # all tiles of a row are of one height
    rows += [fill] * (longest - _length(whole, host, counts))
    return table(*rows, border=1, color=RED if host.notes else "#7d8794", style="rounded", cellspacing=1, cellpadding=2)


def _counted(endpoints: tuple[EndpointNode, ...], shades: dict[str, str]) -> list[str]:
    counted = []
    for network in sorted({e.network for e in endpoints}):
        members = [e for e in endpoints if e.network == network]
        closed = sum(bool(e.reason) for e in members)
        number = text(len(members), 10, bold=True) + (text(f" ({closed} closed)", 8, colour=RED) if closed else "")
        counted.append(row(cell(text(network, 10), bgcolor=shades[network], align="left"), cell(number, align="right")))
    return counted


def _listed(endpoint: EndpointNode, shades: dict[str, str]) -> str:
    port = "" if endpoint.ofport is None else endpoint.ofport
    address = endpoint.ipv4 or endpoint.ipv6 or ""
    more = ", ".join([*endpoint.acls, *(p.replace(">", " → ") for p in endpoint.published)])
    if endpoint.reason:
        more = f"closed: {endpoint.reason}"
    return row(
        cell(text(port, 8, colour=GREY), align="right"),
        cell(text(endpoint.name, 10), bgcolor=shades[endpoint.network], align="left"),
        cell(text(address, 9), align="left"),
        cell(text(endpoint.mac, 8, mono=True) if endpoint.mac else text(endpoint.seat, 8), align="left"),
        cell(text(more, 8, colour=RED if endpoint.reason else "#26374a"), align="left"),
    )
