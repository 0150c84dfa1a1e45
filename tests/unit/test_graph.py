"""Graphs: golden DOT for each kind, what is shown and what is not, and names that Graphviz would misread."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
import yaml

from tools.graph.inside import journey, pipeline
from tools.graph.main import picture
from tools.graph.mermaid import mermaid
from tools.graph.sample import sample
from tools.graph.topology import Topology, colours, graph, restricted, topology

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "golden"
SPECS = yaml.safe_load((HERE / "graph_specs.yaml").read_text())
FLOWS = [
    {"table": "CLASSIFY", "table_id": 0, "packets": 7, "actions": "set_field:0x7->reg0,goto_table:4"},
    {"table": "CLASSIFY", "table_id": 0, "packets": 2, "actions": "drop"},
    {"table": "SPOOF_GUARD", "table_id": 4, "packets": 7, "actions": "goto_table:40"},
    {"table": "SPOOF_GUARD", "table_id": 4, "packets": 0, "actions": "drop"},
    {"table": "FLOOD", "table_id": 40, "packets": 0, "actions": "group:964312746,group:1441001221"},
    {"table": "CONNTRACK", "table_id": 16, "packets": 0, "actions": "ct(table=40,zone=7)"},
]
STEP = {"table": "CLASSIFY", "matched": "in_port=1 (priority 100)", "origin": "endpoint/web", "actions": ["goto_table:4"]}
MISS = {"table": "ACL_IN", "matched": "any (priority 0)", "origin": "pipeline/miss", "actions": ["goto_table:28"]}
COPIED = {"table": "COPY", "matched": "reg4=1 (priority 100)", "origin": "mirror/m1", "actions": ["output:2"], "branch": "copy"}
LOST = {"table": "SPOOF_GUARD", "matched": "any (priority 0)", "origin": "pipeline/miss", "actions": ["drop"]}


def trace(*hosts: list[dict[str, Any]], verdict: str = "delivered") -> dict[str, Any]:
    hops = [{"host": f"h{i}", "vni": 7, "steps": steps} for i, steps in enumerate(hosts, 1)]
    return {"src": "web", "dst": "db", "proto": "tcp", "verdict": verdict, "reason": "in SPOOF_GUARD on h1", "hosts": hops}


def specs() -> Topology:
    closed = {"id": "e2", "state": "closed", "reason": "acl lost does not exist"}
    dead = {"name": "h10", "agent": "alive", "controller": "dead", "connected": False, "problems": ["x"]}
    return topology(SPECS, [closed], [dead])


def broken(state: str = "down") -> Topology:
    """As one of the two hosts sees it."""
    return topology(SPECS, reports=[{"name": "h2", "tunnels": {"known": 1, "broken": {"h1": state}}}, {"name": "h1"}])


DOTS = {
    "boxes": lambda: picture(specs()).source,
    "broken": lambda: picture(broken()).source,
    "broken-list": lambda: picture(broken("mtu"), "list").source,
    "broken-mermaid": lambda: mermaid(broken(), colours(broken())),
    "list": lambda: picture(specs(), "list").source,
    "counts": lambda: picture(topology(sample(8, 200))).source,
    "one-network": lambda: picture(restricted(specs(), network="blue")).source,
    "pipeline": lambda: pipeline("h1", FLOWS).source,
    "path": lambda: journey(trace([STEP, MISS, MISS, STEP], [STEP])).source,
    "path-dropped": lambda: journey(trace([STEP, LOST], verdict="dropped")).source,
    "path-copied": lambda: journey(trace([STEP, COPIED, LOST], verdict="dropped")).source,
    "mermaid": lambda: mermaid(specs(), colours(specs())),
}


@pytest.mark.parametrize("name", DOTS)
def test_golden(name: str, update_golden: bool) -> None:
    path, source = GOLDEN / f"graph-{name}.dot", DOTS[name]()
    if update_golden:
        path.write_text(source)
    assert source == path.read_text()
    if not name.endswith("mermaid"):
        drawn = subprocess.run(["dot", "-Tsvg"], input=source, capture_output=True, text=True)
        assert (drawn.returncode, drawn.stderr) == (0, "")


def test_only_tunnels_in_use() -> None:
    assert [(t.one, t.other, t.networks) for t in specs().tunnels] == [("h1", "h2", ("amber", "blue"))]


def test_hosts_are_counted_as_people_do() -> None:
    assert [host.name for host in specs().hosts] == ["h1", "h2", "h10"]


def test_one_host_has_its_own_endpoints_and_its_peers() -> None:
    part = restricted(specs(), host="h1")
    assert {e.key for e in part.endpoints} == {"amber/web", "blue/red", "blue/h1.fun0", "blue/web-blue"}
    assert [host.name for host in part.hosts] == ["h1", "h2"]
    with pytest.raises(ValueError, match="h1, h2, h10"):
        restricted(specs(), host="h7")


def test_the_order_of_a_document_does_not_matter() -> None:
    turned = {kind: list(reversed(items)) for kind, items in SPECS.items()}
    assert topology(turned) == topology(SPECS)


def test_every_network_has_its_own_colour() -> None:
    shades = colours(topology({"networks": [{"name": f"n{i}"} for i in range(40)]}))
    assert len(set(shades.values())) == 40


def test_json_is_a_graph_again() -> None:
    written = json.loads(json.dumps(nx.node_link_data(graph(specs()), edges="edges")))
    read = nx.node_link_graph(written, edges="edges")
    assert read.edges["host h1", "host h2"]["networks"] == ["amber", "blue"]
    assert read.nodes["endpoint amber/web"]["acls"] == ["web", "slow"]
    assert read.edges["endpoint amber/web", "endpoint blue/ids"]["session"] == "suspects"


@pytest.mark.parametrize("name", ["a:b", 'quo"te', "<b>", "back\\slash", "a&b", "%3a", "é", "]", "x|y"])
def test_odd_names_are_only_names(name: str, tmp_path: Path) -> None:
    document = {
        "hosts": [{"name": "h1", "vtep": "198.18.0.1"}, {"name": "h2", "vtep": "fd00::2"}],
        "networks": [{"name": name}],
        "endpoints": [{"name": name, "network": name, "host": "h1"}, {"name": "x", "network": name, "host": "h2"}],
    }
    for detail in ("boxes", "list", "counts"):
        dot = subprocess.run(["dot", "-Tplain"], input=picture(topology(document), detail).source, capture_output=True, text=True)  # type: ignore[arg-type]
        assert (dot.returncode, dot.stderr) == (0, "")
        assert dot.stdout.count("\nnode ") == (4 if detail == "boxes" else 2)


@pytest.mark.parametrize(("ending", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml"), ("mmd", b"flowchart"),
                                               ("dot", b"digraph"), ("json", b"{")])  # fmt: skip
def test_the_command_writes_each_format(ending: str, magic: bytes, tmp_path: Path) -> None:
    output = tmp_path / f"a.{ending}"
    command = [sys.executable, "-m", "tools.graph", "--from", str(HERE / "graph_specs.yaml"), "-o", str(output)]
    assert subprocess.run(command, capture_output=True, text=True).stderr == ""
    assert output.read_bytes().startswith(magic)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "a.gif"], "png, svg, pdf, dot, json, mmd"),
        (["-o", "a.png", "--network", "none"], "'none' does not exist; there are: amber"),
        (["-o", "/nowhere/a.png"], "No such file"),
    ],
)
def test_mistakes_are_told_in_one_line(words: list[str], message: str) -> None:
    command = [sys.executable, "-m", "tools.graph", "--from", str(HERE / "graph_specs.yaml"), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_five_hundred_endpoints_are_drawn_as_tiles() -> None:
    """Tiles with numbers; nothing that grows with the pairs of hosts."""
    source = picture(topology(sample(50, 500))).source
    assert source.count("->") < 150
    assert shutil.which("dot")
