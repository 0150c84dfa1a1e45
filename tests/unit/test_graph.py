"""Graphs: golden DOT for each kind, what is shown and what is not, and names that Graphviz would misread."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
import yaml

from tools.graph.colours import colours
from tools.graph.geometry import Rect, host, rows, site_frames
from tools.graph.inside import journey, pipeline
from tools.graph.main import main, picture
from tools.graph.mermaid import mermaid
from tools.graph.nodes import Topology
from tools.graph.sample import sample
from tools.graph.topology import graph, restricted, topology

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "golden"
SPECS = yaml.safe_load((HERE / "graph_specs.yaml").read_text())
DEMO = str(HERE.parents[1] / "examples" / "demo.yaml")
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


def of_sites(per_site: int = 1) -> Topology:
    """Two sites, and a host in none. A tunnel is down, one is by IPsec, and the guard of h3 has dropped something."""
    hosts = [{"name": f"h{i}", "vtep": f"192.0.2.{i}", **({"site": f"s{(i - 1) // per_site + 1}"} if i <= 2 * per_site else {})}
             for i in range(1, 2 * per_site + 2)]  # fmt: skip
    endpoints = [{"name": f"web-{h['name']}", "network": "amber", "host": h["name"], "ofport": 1} for h in hosts]
    document = {
        "hosts": hosts,
        "networks": [{"name": "amber", "vxlan_vni": 7, "ip_range": "10.0.0.0/24"}],
        "endpoints": endpoints,
    }
    pairs = [{"peer": "h2", "cipher": "ipsec", "up": True}, {"peer": "h3", "cipher": "wireguard", "up": False}]
    return topology(
        document, reports=[{"name": "h1", "encryption": pairs}, {"name": "h3", "dropped": {"received": 3, "sent": 1}}]
    )


DOTS = {
    "sites": lambda: picture(of_sites()).source,
    "sites-list": lambda: picture(of_sites(2), "list").source,
    "sites-mermaid": lambda: mermaid(of_sites(), colours(of_sites().networks)),
    "boxes": lambda: picture(specs()).source,
    "broken": lambda: picture(broken()).source,
    "broken-list": lambda: picture(broken("mtu"), "list").source,
    "broken-mermaid": lambda: mermaid(broken(), colours(broken().networks)),
    "list": lambda: picture(specs(), "list").source,
    "counts": lambda: picture(topology(sample(8, 200))).source,
    "one-network": lambda: picture(restricted(specs(), network="blue")).source,
    "pipeline": lambda: pipeline("h1", FLOWS).source,
    "path": lambda: journey(trace([STEP, MISS, MISS, STEP], [STEP])).source,
    "path-dropped": lambda: journey(trace([STEP, LOST], verdict="dropped")).source,
    "path-copied": lambda: journey(trace([STEP, COPIED, LOST], verdict="dropped")).source,
    "mermaid": lambda: mermaid(specs(), colours(specs().networks)),
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


def test_tunnels_between_sites_have_their_cipher_and_those_within_none() -> None:
    ciphers = {(t.one, t.other): (t.cipher, t.broken) for t in of_sites(2).tunnels}
    assert ciphers["h1", "h2"] == ("ipsec", ""), "as the host reports it"
    assert ciphers["h1", "h3"] == ("wireguard", "down")
    assert ciphers["h2", "h4"] == ciphers["h4", "h5"] == ("wireguard", "")
    assert ciphers["h3", "h4"] == ("", "")
    assert [(h.name, h.site, h.guarded) for h in of_sites().hosts] == [("h3", "", 4), ("h1", "s1", 0), ("h2", "s2", 0)]
    assert specs().sites() == ()


def test_the_frame_of_a_site_holds_its_hosts_and_no_others() -> None:
    """Also where a site is in two rows; frames do not meet."""
    sites = ["", "s1", "s1", "s2", "s2", "s2", "s2"]
    placed = rows([host([(190, 60)] * 2, 0) for _ in sites])
    assert len({place.frame.y for place in placed}) == 2
    frames = site_frames(sites, placed)
    assert [site for site, _ in frames] == ["", "s1", "s2", "s2"]
    for site, place in zip(sites, placed, strict=True):
        around = [name for name, frame in frames if _holds(frame, place.frame)]
        assert around == [site]
    for (_, one), (_, other) in combinations(frames, 2):
        apart = one.x + one.width < other.x or other.x + other.width < one.x or one.bottom < other.y or other.bottom < one.y
        assert apart


def _holds(outer: Rect, inner: Rect) -> bool:
    return (
        outer.x <= inner.x
        and outer.y <= inner.y
        and outer.x + outer.width >= inner.x + inner.width
        and outer.bottom >= inner.bottom
    )


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


def test_names_are_in_the_order_in_which_people_count() -> None:
    """Endpoints, networks, routers and services: 3 comes before 11."""
    names = ["n11", "n3", "n19", "n15"]
    document = {
        "networks": [{"name": name} for name in names],
        "endpoints": [{"name": f"web-{name}", "network": "n3", "host": "h1"} for name in names],
        "routers": [{"name": name, "networks": ["n3", "n11"]} for name in names],
        "services": [{"name": name, "network": "n3", "host_port": 1, "port": 1, "label": "x"} for name in names],
        "mirrors": [{"name": name, "sources": [{"network": "n3"}], "to": {"gre": "192.0.2.1"}} for name in names],
    }
    whole = topology(document)
    for kind in (whole.networks, whole.routers, whole.services, whole.copies):
        assert [item.name for item in kind] == ["n3", "n11", "n15", "n19"]
    assert [e.name for e in whole.endpoints] == ["web-n3", "web-n11", "web-n15", "web-n19"]


@pytest.mark.parametrize("vnis", [True, False])
def test_a_network_keeps_its_colour_when_another_is_added(vnis: bool) -> None:
    def shades(*names: str) -> dict[str, str]:
        items = [{"name": name, **({"vxlan_vni": ord(name[0])} if vnis else {})} for name in names]
        return colours(topology({"networks": items}).networks)

    before = shades("green", "yellow", "quartz")
    for other in ("amber", "a", "harbour", "zebra"):
        after = shades("green", "yellow", other, "quartz")
        assert {name: after[name] for name in before} == before
        assert len(set(after.values())) == 4


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def test_colours_are_told_apart_and_dark_text_is_legible_on_them() -> None:
    shades = colours(topology({"networks": [{"name": f"n{i}", "vxlan_vni": i} for i in range(1, 25)]}).networks)
    for one, other in combinations(shades.values(), 2):
        assert sum(abs(a - b) for a, b in zip(rgb(one), rgb(other), strict=True)) >= 16, (one, other)
    first = list(shades.values())[:12]
    for one, other in combinations(first, 2):
        assert sum(abs(a - b) for a, b in zip(rgb(one), rgb(other), strict=True)) >= 44, (one, other)
    for shade in shades.values():
        linear = [(part / 255) ** 2.2 for part in rgb(shade)]
        luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        assert (luminance + 0.05) / 0.05 >= 6, shade  # the contrast to black


def placed(source: str, kind: str) -> list[tuple[float, float, float, float]]:
    """The rectangles of a picture's nodes of one kind: left, top, right, bottom in inches, as Graphviz draws them."""
    plain = subprocess.run(["dot", "-Tplain"], input=source, capture_output=True, text=True).stdout
    found_at = re.findall(rf'^node "?{kind} .*?"? (-?[\d.]+) (-?[\d.]+) ([\d.]+) ([\d.]+) ', plain, re.MULTILINE)
    rects = [tuple(map(float, numbers)) for numbers in found_at]
    digits = 3  # Graphviz gives four, whose last one its versions round differently
    return [tuple(round(side, digits) for side in (x - w / 2, y - h / 2, x + w / 2, y + h / 2)) for x, y, w, h in rects]  # type: ignore[misc]


def crowd(hosts: int, each: int) -> dict[str, Any]:
    endpoints = [{"name": f"e{i}", "network": "amber", "host": f"h{i % hosts}", "ofport": i} for i in range(hosts * each)]
    return {"networks": [{"name": "amber", "vxlan_vni": 1}], "endpoints": endpoints}


@pytest.mark.parametrize(("hosts", "each"), [(1, 0), (1, 1), (3, 5), (4, 6), (3, 40), (30, 4), (1, 120)])
def test_boxes_neither_touch_nor_leave_their_host_and_the_picture_is_not_wide(hosts: int, each: int) -> None:
    source = picture(topology(crowd(hosts, each) if each else {"hosts": [{"name": "h0"}]}), "boxes").source
    endpoints, frames = placed(source, "endpoint"), placed(source, "frame")
    assert (len(endpoints), len(frames)) == (hosts * each, hosts)
    for kind in (endpoints, frames, placed(source, "bridge")):
        for (left, low, right, high), (left2, low2, right2, high2) in combinations(kind, 2):
            assert right < left2 or right2 < left or high < low2 or high2 < low
    for left, low, right, high in (*endpoints, *placed(source, "bridge")):
        assert any(a < left and b < low and right < c and high < d for a, b, c, d in frames)
    assert max(frame[2] for frame in frames) <= 2100 / 72


def test_mirror_sessions_move_nothing_and_are_named_once_each() -> None:
    without = picture(topology({**SPECS, "mirrors": []}), "boxes").source
    mirrored = picture(topology({**SPECS, "mirrors": [m for m in SPECS["mirrors"] if m["name"] != "tap"]}), "boxes").source
    frames = [
        [(left, round(right - left, 2), round(high - low, 2)) for left, low, right, high in placed(s, "frame")]
        for s in (without, mirrored)
    ]
    assert frames[0] == frames[1]
    many = {"name": "wide", "sources": [{"network": "blue"}], "to": {"network": "amber", "endpoint": "db"}}
    source = picture(topology({**SPECS, "mirrors": [many]}), "boxes").source
    assert source.count("mirror wide</font>") == 1
    assert source.count('-> "mirror wide"') == 4


def test_every_view_shows_routers_services_acls_ways_out_published_ports_and_mirrors() -> None:
    for detail in ("boxes", "list", "counts"):
        source = picture(topology(SPECS), detail).source  # type: ignore[arg-type]
        shown = [
            "core: amber, blue",
            "shop: tcp 8000 → 80",
            "acl base",
            "nat via 10.0.0.1",
            "suspects: amber/web to blue/ids",
            "far: blue/red",
        ]
        shown += ["2 published ports", "with an ACL"] if detail == "counts" else ["acl web, slow", "tcp 8080 → 80"]
        assert [text for text in shown if text not in source] == [], detail


def test_a_document_needs_no_vni_nor_gateway() -> None:
    """What Warren would choose is shown."""
    document = {
        "networks": [
            {"name": "amber", "ip_range": "10.5.0.0/24", "mode": "nat"},
            {"name": "six", "ipv6_range": "fd00::/64", "mode": "routed"},
        ]
    }
    source = picture(topology(document), "boxes").source
    assert [text for text in ("nat via 10.5.0.1", "routed via fd00::1", "auto") if text not in source] == []


def test_the_legend_has_columns_of_one_length() -> None:
    source = picture(topology(sample(50, 500))).source
    assert source.index("<b>mail </b>") < source.index("<b>backup </b>")  # six and six: mail heads the second column


def test_every_network_has_its_own_colour() -> None:
    shades = colours(topology({"networks": [{"name": f"n{i}"} for i in range(40)]}).networks)
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
        nodes = re.findall(r'^node "?(frame|bridge|endpoint|host) ', dot.stdout, re.MULTILINE)
        assert Counter(nodes) == ({"frame": 2, "bridge": 2, "endpoint": 2} if detail == "boxes" else {"host": 2})


@pytest.mark.parametrize(("ending", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml"), ("mmd", b"flowchart"),
                                               ("dot", b"digraph"), ("json", b"{")])  # fmt: skip
def test_the_command_writes_each_format(ending: str, magic: bytes, tmp_path: Path) -> None:
    output = tmp_path / f"a.{ending}"
    command = [sys.executable, "-m", "tools.graph", "--from", DEMO, "-o", str(output)]
    assert subprocess.run(command, capture_output=True, text=True).stderr == ""
    assert output.read_bytes().startswith(magic)


def test_five_hundred_endpoints_are_drawn_as_tiles() -> None:
    """Tiles with numbers; nothing that grows with the pairs of hosts."""
    source = picture(topology(sample(50, 500))).source
    assert source.count("->") < 150
    assert shutil.which("dot")


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (b"", "it is empty"),
        (b"{}", "expected a document with hosts, networks or endpoints"),
        (b"acls: []", "expected a document with hosts, networks or endpoints"),
        (b"\xff\xfe", "not UTF-8 text"),
        (b"networks: [", "expected YAML"),
        (b"networks: [{name: a}]\nendpoints: [{name: web}]", "endpoints[0].network"),
        (b"networks: [{name: [b]}]", "networks[0].name"),
        (None, "No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_drawn_is_one_line(
    document: bytes | None, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "specs.yaml"
    if document is not None:
        path.write_bytes(document)
    assert refused("--from", str(path), "-o", str(tmp_path / "a.dot"), capsys=capsys).startswith(f"graph_overlay: {path}: ")
    assert problem in refused("--from", str(path), "-o", str(tmp_path / "a.dot"), capsys=capsys)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("-o", "a.xyz"), "--output a.xyz: expected a file that ends in one of png, svg, pdf, dot, json, mmd"),
        (("-o", "a.png", "--detail", "more"), "--detail: 'more': expected one of auto, boxes, list, counts"),
        (("-o", "a.png", "--path", "web"), "Option '--path' requires 2 arguments (see graph_overlay --help)"),
        (("-o", "a.png", "--from", DEMO, "--network", "none"), "network 'none' does not exist; there are: amber, blue"),
        (("-o", "/nowhere/a.png", "--from", DEMO), "/nowhere/a.png: No such file or directory"),
        ((), "--output is missing: "),
        (("--nope",), "No such option: --nope"),
    ],
)
def test_a_wrong_command_line_is_one_line(words: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(*words, capsys=capsys).startswith(f"graph_overlay: {line}")


def refused(*words: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The line of a command that fails with exit code 2."""
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    output = capsys.readouterr()
    assert (ended.value.code, output.out, output.err.count("\n")) == (2, "", 1), output.err
    return output.err
