"""The picture of many: hosts as tiles in a grid. A tile lists its endpoints, or counts them by network when they are too many. Pure."""

from __future__ import annotations

from itertools import pairwise
from math import ceil, sqrt

import graphviz

from tools.graph.canvas import page
from tools.graph.label import cell, node, row, table, text
from tools.graph.legend import COPY, GREY, RED
from tools.graph.nodes import EndpointNode, HostNode, Topology, natural
from tools.graph.wiring import CIPHERS, ENCRYPTED

NAMES = 4  # hosts that a tile names as its peers; more are a number
LINE = 18  # points of height of each line, whatever its size
SQUEEZE = 1.5  # the picture's width to its height


def tiles(whole: Topology, shades: dict[str, str], counts: bool) -> graphviz.Digraph:
    """The picture's source; `counts`: numbers by network instead of endpoints."""
    dot = page(whole, shades)
    dot.attr(ranksep="0.15", nodesep="0.15")
    dot.attr("node", shape="plain", style="")
    lengths = {host.name: _length(whole, host, counts) for host in whole.hosts}
    ratio = (60 + 20 * max(lengths.values(), default=0)) / (130 if counts else 290)  # of a tile's height to its width
    parts = whole.sites() or ("",)
    columns = max(1, ceil(sqrt(len(parts)))) if len(parts) > 1 else 1
    ends: list[tuple[str, str]] = []  # the first and the last tile of each site, at its left
    for number, site in enumerate(parts):
        hosts = [host for host in whole.hosts if host.site == site] if len(parts) > 1 or site else list(whole.hosts)
        width = max(1, ceil(sqrt(len(hosts) * ratio * SQUEEZE)))
        rows = [hosts[i : i + width] for i in range(0, len(hosts), width)]
        if whole.sites():
            with dot.subgraph(name=f"cluster site {number}") as cluster:
                cluster.attr(label=f"site {site}" if site else "no site", style="rounded,dashed", color="#b9a77c", fontsize="11")
                _grid(cluster, whole, rows, shades, counts, lengths)
        else:
            _grid(dot, whole, rows, shades, counts, lengths)
        if rows:
            ends.append((node("host", rows[0][0].name), node("host", rows[-1][0].name)))
    for number, (first, _) in enumerate(ends[columns:]):
        dot.edge(ends[number][1], first, style="invis", weight="10")
    return dot


def _grid(
    dot: graphviz.Digraph,
    whole: Topology,
    rows: list[list[HostNode]],
    shades: dict[str, str],
    counts: bool,
    lengths: dict[str, int],
) -> None:
    """The tiles of hosts, row by row."""
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


def _length(whole: Topology, host: HostNode, counts: bool) -> int:
    """The lines of a tile below its heading."""
    endpoints = whole.at(host.name)
    listed = max(1, len({e.network for e in endpoints}) if counts else len(endpoints))
    return listed + bool(host.notes) + len(_extras(whole, host, counts))


def _extras(whole: Topology, host: HostNode, counts: bool) -> list[str]:
    """Lines below the heading: broken tunnels, ways out, mirror sessions and, where endpoints are numbers, what they publish."""
    ways = ", ".join(f"{n.name} ({n.mode})" for n in whole.ways_out(host.name))
    copied = ", ".join(c.name for c in whole.mirrored(host.name))
    published = sum(len(e.published) for e in whole.at(host.name))
    acls = sum(bool(e.acls) for e in whole.at(host.name))
    broken, encrypted = _broken(whole, host), _encrypted(whole, host)
    return [
        *([text(_short(line, counts), 8, colour=ENCRYPTED) for line in encrypted]),
        *([text(broken, 8, colour=RED)] if broken else []),
        *([text(_short(f"way out: {ways}", counts), 8)] if ways else []),
        *([text(_short(f"mirror {copied}", counts), 8, colour=COPY)] if copied else []),
        *([text(f"{published} published port{'s' * (published != 1)}", 8)] if counts and published else []),
        *([text(f"{acls} with an ACL of {'its' if acls == 1 else 'their'} own", 8)] if counts and acls else []),
    ]


def _short(phrase: str, counts: bool) -> str:
    """A phrase that widens no tile."""
    limit = 34 if counts else 80
    return phrase if len(phrase) <= limit else f"{phrase[: limit - 1]}…"


def _broken(whole: Topology, host: HostNode) -> str:
    """The host's broken tunnels in one line."""
    ends = [
        (t.other if t.one == host.name else t.one, t.broken) for t in whole.tunnels if t.broken and host.name in (t.one, t.other)
    ]
    peers = [f"{other} ({state})" for other, state in ends[:NAMES]] + ([f"{len(ends) - NAMES} more"] if len(ends) > NAMES else [])
    return f"broken to {', '.join(peers)}" if peers else ""


def _encrypted(whole: Topology, host: HostNode) -> list[str]:
    """The host's encrypted tunnels, a line for each cipher."""
    peers: dict[str, list[str]] = {}
    for tunnel in whole.tunnels:
        if tunnel.cipher and host.name in (tunnel.one, tunnel.other):
            peers.setdefault(tunnel.cipher, []).append(tunnel.other if tunnel.one == host.name else tunnel.one)
    return [
        f"{CIPHERS.get(cipher, cipher)} to {', '.join(names) if len(names) <= NAMES else f'{len(names)} hosts'}"
        for cipher, names in sorted(peers.items())
    ]


def _tile(whole: Topology, host: HostNode, shades: dict[str, str], counts: bool, longest: int) -> str:
    endpoints = whole.at(host.name)
    span = 2 if counts else 5
    peers = whole.peers(host.name)
    tunnels = (
        f"tunnels to {', '.join(peers)}"
        if 0 < len(peers) <= NAMES
        else f"tunnels to {len(peers)} hosts"
        if peers
        else "no tunnels"
    )
    rows = [
        row(cell(text(" ", 2), colspan=span)),  # clears the round corners
        row(cell(text(host.name, 13, bold=True), colspan=span, bgcolor="#dde4ec")),
        row(cell(text(host.underlay, 9), colspan=span, bgcolor="#dde4ec")),
        row(cell(text(tunnels, 8, colour=GREY), colspan=span)),
    ]
    rows += [row(cell(line, colspan=span, height=LINE)) for line in _extras(whole, host, counts)]
    if host.notes:
        rows.insert(2, row(cell(text(", ".join(host.notes), 9, colour=RED), colspan=span, height=LINE)))
    rows += _counted(endpoints, shades) if counts else [_listed(e, shades) for e in endpoints]
    if not endpoints:
        rows.append(row(cell(text("no endpoints", 9, colour=GREY), colspan=span)))
    fill = row(
        cell(text(" ", 8), colspan=span, height=LINE)
    )  # all tiles of a row are of one height, and the last line clears the round corners
    rows += [fill] * (longest - _length(whole, host, counts)) + [row(cell(text(" ", 3), colspan=span))]
    return table(*rows, border=1, color=RED if host.notes else "#7d8794", style="rounded", cellspacing=1, cellpadding=2)


def _counted(endpoints: tuple[EndpointNode, ...], shades: dict[str, str]) -> list[str]:
    counted = []
    for network in sorted({e.network for e in endpoints}, key=natural):
        members = [e for e in endpoints if e.network == network]
        closed = sum(bool(e.reason) for e in members)
        number = text(len(members), 10, bold=True) + (text(f" ({closed} closed)", 8, colour=RED) if closed else "")
        counted.append(
            row(
                cell(text(network, 10), bgcolor=shades[network], align="left", height=LINE),
                cell(number, align="right", bgcolor=shades[network]),
            )
        )
    return counted


def _listed(endpoint: EndpointNode, shades: dict[str, str]) -> str:
    port = "" if endpoint.ofport is None else endpoint.ofport
    address = endpoint.ipv4 or endpoint.ipv6 or ""
    acl = [f"acl {', '.join(endpoint.acls)}"] if endpoint.acls else []
    seat = [endpoint.seat] if endpoint.seat and endpoint.mac else []
    more = ", ".join([*seat, *acl, *(p.replace(">", " → ") for p in endpoint.published)])
    if endpoint.reason:
        more = f"closed: {endpoint.reason}"
    return row(
        cell(text(port, 8, colour=GREY), align="right", height=LINE),
        cell(text(endpoint.name, 10), bgcolor=shades[endpoint.network], align="left"),
        cell(text(address, 9), align="left"),
        cell(text(endpoint.mac, 8, mono=True) if endpoint.mac else text(endpoint.seat, 8), align="left"),
        cell(text(more, 8, colour=RED if endpoint.reason else "#1d2733"), align="left"),
    )
