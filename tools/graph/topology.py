"""Specs to a networkx graph and on to graphviz: hosts as clusters, endpoints coloured by network, tunnels in use. Pure."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import graphviz
import networkx as nx

COLOURS = ("#f6b44b", "#6aa9e9", "#8fd19e", "#d99ad9", "#f08a7a", "#9ad9d4", "#c9c26a", "#b3a3f0")


def topology(document: dict[str, Any]) -> nx.Graph:
    """Nodes: hosts, endpoints; edges: an endpoint and its host, two hosts that share a network (`networks`)."""
    graph = nx.Graph()
    networks = {key: n["name"] for n in document.get("networks", ()) for key in (n.get("id"), n["name"]) if key}
    for host in document.get("hosts", ()):
        graph.add_node(f"host {host['name']}", kind="host", **host)
    members: dict[str, set[str]] = {}
    for endpoint in document.get("endpoints", ()):
        network = endpoint.get("network") or endpoint.get("network_id")
        network = networks.get(network, network)
        name = endpoint.get("name") or endpoint["id"]
        host = f"host {endpoint['host']}"
        if host not in graph:
            graph.add_node(host, kind="host", name=endpoint["host"])
        node = f"{network}/{name}"
        shown = {
            "name": name,
            "ipv4": endpoint.get("ipv4_address"),
            "ipv6": endpoint.get("ipv6_address"),
            "mac": endpoint.get("mac_address"),
        }
        graph.add_node(node, kind="endpoint", network=network, **shown)
        graph.add_edge(host, node)
        members.setdefault(network, set()).add(host)
    for network, hosts in sorted(members.items()):
        for one, other in combinations(sorted(hosts), 2):
            shared = [*graph.get_edge_data(one, other, {}).get("networks", []), network]
            graph.add_edge(one, other, networks=shared)
    return graph


def draw(graph: nx.Graph) -> graphviz.Graph:
    """The picture's source."""
    found = {data["network"] for _, data in graph.nodes(data=True) if data["kind"] == "endpoint"}
    colours = {network: COLOURS[i % len(COLOURS)] for i, network in enumerate(sorted(found))}
    dot = graphviz.Graph("warren", engine="dot")
    dot.attr(fontname="Helvetica", bgcolor="white", nodesep="0.3", ranksep="1.0", compound="true", rankdir="TB", pad="0.3")
    dot.attr("node", fontname="Helvetica", fontsize="11", shape="box", style="rounded,filled", fillcolor="white", color="#555555")
    dot.attr("edge", fontname="Helvetica", fontsize="9", color="#888888")
    for host, data in sorted(graph.nodes(data=True)):
        if data["kind"] != "host":
            continue
        with dot.subgraph(name=f"cluster_{data['name']}") as cluster:
            cluster.attr(label=data["name"], style="rounded,filled", fillcolor="#f5f6f8", color="#c8ccd2", fontsize="14")
            cluster.node(host, f"br-warren\nVTEP {data.get('vtep', '?')}", shape="box", style="filled", fillcolor="#dfe5ec")
            for node in sorted(graph[host]):
                end = graph.nodes[node]
                if end["kind"] == "endpoint":
                    lines = [end["name"], end["ipv4"], end["ipv6"], end["mac"]]
                    cluster.node(node, "\n".join(line for line in lines if line), fillcolor=colours[end["network"]])
                    cluster.edge(host, node)
    for one, other, data in sorted(graph.edges(data=True), key=lambda edge: edge[:2]):
        if "networks" in data:
            dot.edge(
                one, other, label=f"VXLAN\n{', '.join(data['networks'])}", style="dashed", color="#3b6ea5", constraint="false"
            )
    with dot.subgraph(name="cluster_legend") as legend:
        legend.attr(label="networks", style="rounded", color="#c8ccd2", fontsize="11")
        for network, colour in colours.items():
            legend.node(f"legend {network}", network, fillcolor=colour)
    return dot
