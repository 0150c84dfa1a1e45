"""The detailed picture: a cluster for each host, its bridge, a box for each endpoint, every tunnel. For topologies that fit on a page. Pure."""

from __future__ import annotations

from itertools import pairwise

import graphviz

from tools.graph.label import FONT, cell, lines, node, row, table, text
from tools.graph.legend import GREY, RED, heading
from tools.graph.topology import Copies, EndpointNode, HostNode, Topology, Tunnel

TUNNEL = "#3b6ea5"
COPY = "#8e44ad"
BROKEN = {"down": "nothing comes back", "mtu": "large packets are lost"}


def boxes(whole: Topology, shades: dict[str, str]) -> graphviz.Digraph:
    """The picture's source."""
    dot = page(whole, shades)
    dot.attr(ranksep="0.6", nodesep="0.25", newrank="true")
    for host in whole.hosts:
        _host(dot, whole, host, shades)
    with dot.subgraph() as level:
        level.attr(rank="same")
        for left, right in pairwise(whole.hosts):
            level.edge(node("bridge", left.name), node("bridge", right.name), style="invis", weight="0")
    for tunnel in whole.tunnels:
        _tunnel(dot, whole, tunnel)
    keys = {e.key for e in whole.endpoints}
    for session in whole.copies:
        _copies(dot, session, keys, {host.name for host in whole.hosts})
    return dot


def page(whole: Topology, shades: dict[str, str]) -> graphviz.Digraph:
    """An empty picture with its heading."""
    dot = graphviz.Digraph("warren", engine="dot")
    dot.attr(fontname=FONT, bgcolor="white", pad="0.3", label=heading(whole, shades), labelloc="t", rankdir="TB")
    dot.attr("node", fontname=FONT, fontsize="10", shape="box", style="rounded,filled", fillcolor="white", color="#7d8794")
    dot.attr("edge", fontname=FONT, fontsize="8", color="#7d8794", dir="none")
    return dot


def _host(dot: graphviz.Digraph, whole: Topology, host: HostNode, shades: dict[str, str]) -> None:
    with dot.subgraph(name=f"cluster_{host.name}") as cluster:
        notes = text(", ".join(host.notes), 9, colour=RED)
        cluster.attr(label=lines(text(host.name, 13, bold=True), notes), style="rounded,filled", fillcolor="#f4f6f8",
                     color=RED if host.notes else "#c3cad3", labelloc="t", labeljust="l")  # fmt: skip
        cluster.node(node("bridge", host.name), lines(text("br-warren", 10, bold=True), text(f"VTEP {host.vtep}", 9)), style="filled",
                     fillcolor="#dde4ec")  # fmt: skip
        for endpoint in whole.at(host.name):
            cluster.node(
                node("endpoint", endpoint.key),
                _box(endpoint),
                shape="component" if endpoint.physical else "box",
                fillcolor=shades[endpoint.network],
                color=RED if endpoint.reason else "#7d8794",
            )
            port = f" port {endpoint.ofport}" if endpoint.ofport is not None else ""
            cluster.edge(node("bridge", host.name), node("endpoint", endpoint.key), label=port)
        ways = [n for n in whole.networks if n.gateway and any(e.network == n.name for e in whole.at(host.name))]
        if ways:
            exits = [text(f"{n.name}: {n.mode} via {n.gateway}", 9) for n in ways]
            cluster.node(
                node("out", host.name),
                lines(text("way out", 9, bold=True), *exits),
                shape="note",
                style="filled",
                fillcolor="white",
            )
            cluster.edge(node("bridge", host.name), node("out", host.name), label=" wan")
        for target in sorted({c.target for c in whole.copies if c.target.startswith(f"{host.name}:")}):
            cluster.node(
                node("target", target),
                lines(text(target.partition(":")[2], 10, bold=True), text("interface", 8, colour=GREY)),
                shape="component",
            )
            cluster.edge(node("bridge", host.name), node("target", target))


def _box(endpoint: EndpointNode) -> str:
    closed = text(f"closed: {endpoint.reason}", 8, colour=RED) if endpoint.reason else ""
    acls = text(f"acl {', '.join(endpoint.acls)}", 8.5, colour="#26374a") if endpoint.acls else ""
    published = [text(p.replace(">", " → "), 8.5) for p in endpoint.published]
    addresses = [text(a or "", 9) for a in (endpoint.ipv4, endpoint.ipv6)]
    return lines(text(endpoint.name, 11, bold=True), *addresses, text(endpoint.mac or "", 8, mono=True),
                 text(endpoint.seat, 8.5), acls, *published, closed)  # fmt: skip


def _tunnel(dot: graphviz.Digraph, whole: Topology, tunnel: Tunnel) -> None:
    all_of_them = len(whole.networks) > 1 and len(tunnel.networks) == len(whole.networks) > 3
    shown = "all networks" if all_of_them else ", ".join(tunnel.networks[:3]) + (" ..." if len(tunnel.networks) > 3 else "")
    colour = RED if tunnel.broken else TUNNEL
    parts = [text("VXLAN", 8, bold=True, colour=colour), text(shown, 8, colour=colour)]
    parts += [text(BROKEN[tunnel.broken], 8, bold=True, colour=colour)] if tunnel.broken else []
    label = table(*(row(cell(part)) for part in parts), bgcolor="white", cellpadding=0)
    ends = (node("bridge", tunnel.one), node("bridge", tunnel.other))
    style = {"style": "dashed"} if tunnel.broken else {}
    dot.edge(*ends, xlabel=label, color=colour, penwidth="2.4" if tunnel.broken else "1.6", constraint="false", **style)


def _copies(dot: graphviz.Digraph, session: Copies, keys: set[str], hosts: set[str]) -> None:
    """Draws a mirror session as dashed arrows, to a node of the picture or to a collector."""
    if session.target in keys:
        target = node("endpoint", session.target)
    elif " " in session.target:  # a collector
        target = node("target", session.target)
        dot.node(target, lines(text("collector", 10, bold=True), text(session.target, 9)), shape="component")
    elif session.target.rpartition(":")[0] in hosts:
        target = node("target", session.target)
    else:
        return
    label = lines(text(f"mirror {session.name}", 8, colour=COPY))
    for source in session.sources:
        if source != session.target:
            # not constraint=false: Graphviz 2.43 dies of such edges between clusters
            dot.edge(node("endpoint", source), target, dir="forward", style="dashed", color=COPY, label=label, weight="0")
            label = ""  # once is enough
