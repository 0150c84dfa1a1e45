"""The detailed picture: a frame for each host, its bridge, a box for each endpoint, every tunnel and mirror session. Pure.

Warren places everything itself (geometry.py): Graphviz draws. Its layout moves hosts about for a mirror session, and Graphviz 2.43 ends
with an error for edges between clusters that have labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap

import graphviz

from tools.graph.canvas import note, page, put
from tools.graph.geometry import GAP, SITE_FOOT, HostPlace, Rect, host, rows, site_frames, spline
from tools.graph.label import lines, node, text, width
from tools.graph.legend import GREY, RED
from tools.graph.nodes import EndpointNode, HostNode, Topology
from tools.graph.wiring import TUNNELS_LIMIT, mirrors, tunnels

INK = "#1d2733"
NARROWEST, WIDEST = 96.0, 190.0  # of an endpoint's box


@dataclass(frozen=True, slots=True)
class Words:
    """A text of a box, in one line or, where it is too long, in several."""

    value: str
    size: float = 9
    bold: bool = False
    mono: bool = False
    colour: str | None = None

    def folded(self, room: float) -> list[str]:
        """The lines that fit into so many points."""
        letters = max(8, int(room / width("m" * 10, self.size, self.bold, self.mono) * 10))
        return wrap(self.value, letters) or [""]


@dataclass(frozen=True, slots=True)
class Box:
    """What hangs on a bridge: an endpoint, an interface that copies go to, or the host's part as a gateway. `port` labels its line."""

    node: str
    words: tuple[Words, ...]
    fill: str = "white"
    colour: str = "#7d8794"
    shape: str = "box"
    port: str = ""

    def shown(self, flat: bool) -> list[Words]:
        """Its texts; the port is one of them where it has no line."""
        port = [Words(self.port, 8, colour=INK)] if self.port and not flat else []
        return [words for words in (*self.words, *port) if words.value]


def boxes(whole: Topology, shades: dict[str, str]) -> graphviz.Digraph:
    """The picture's source."""
    dot = page(whole, shades)
    dot.attr(layout="nop2", outputorder="nodesfirst")
    dot.attr("node", fixedsize="true")
    content = {h.name: _content(whole, h, shades) for h in whole.hosts}
    sizes = {name: _sizes(items) for name, items in content.items()}
    placed = rows([host(sizes[h.name], _head_width(h)) for h in whole.hosts])
    places = dict(zip((h.name for h in whole.hosts), placed, strict=True))
    one_row = len({p.frame.y for p in placed}) <= 1
    drawn = whole.tunnels if one_row and len(whole.tunnels) <= TUNNELS_LIMIT else ()
    _sites(dot, whole, placed)
    for number, h in enumerate(whole.hosts):
        peers = f"tunnels to {len(whole.peers(h.name))} hosts" if whole.tunnels and not drawn else ""
        _host(dot, h, places[h.name], number, peers)
        for box, place in zip(content[h.name], places[h.name].boxes, strict=True):
            _box(dot, node("bridge", h.name), box, place, places[h.name].flat)
    tunnels(dot, whole, drawn, places)
    at = {box.node: place for h in whole.hosts for box, place in zip(content[h.name], places[h.name].boxes, strict=True)}
    if one_row and all(p.flat for p in placed):
        below = SITE_FOOT if whole.sites() else 0.0
        mirrors(dot, whole, at, max((p.frame.bottom for p in places.values()), default=0.0) + below)
    return dot


def _sites(dot: graphviz.Digraph, whole: Topology, placed: Sequence[HostPlace]) -> None:
    """A frame round the hosts of each site, with its name below them."""
    frames = site_frames([h.site for h in whole.hosts], placed) if whole.sites() else []
    for number, (site, frame) in enumerate(frames):
        put(dot, f"site {number}", "", frame, fillcolor="#fbf8f1", color="#b9a77c", style="rounded,filled,dashed")
        name = f"site {site}" if site else "no site"
        left = frame.x + GAP + width(name, 10, bold=True) / 2
        note(dot, f"site name {number}", lines(text(name, 10, bold=True, colour="#7a6a3f")), left, frame.bottom - SITE_FOOT / 2)


def _head_width(h: HostNode) -> float:
    name = width(h.name, 13, bold=True) + width(", ".join(h.notes), 9) + 2 * GAP
    return max(name, width(f"{h.underlay}, tunnels to 99 hosts", 9))


def _sizes(items: Sequence[Box]) -> list[tuple[float, float]]:
    """The width and height of each box. Endpoints' boxes are equally wide."""
    flat = host([(0, 0)] * len(items), 0).flat
    need = [max(width(w.value, w.size, w.bold, w.mono) for w in box.words) + 16 for box in items]
    common = max((n for n, box in zip(need, items, strict=True) if box.shape != "note"), default=0.0)
    wides = [
        min(WIDEST, max(NARROWEST, n if flat and box.shape == "note" else common)) for n, box in zip(need, items, strict=True)
    ]
    return [(wide, _height(box, wide, flat)) for wide, box in zip(wides, items, strict=True)]


def _height(box: Box, wide: float, flat: bool) -> float:
    return 14 + sum(1.22 * words.size * len(words.folded(wide - 12)) for words in box.shown(flat))


def _host(dot: graphviz.Digraph, h: HostNode, place: HostPlace, number: int, peers: str) -> None:
    notes = ", ".join(h.notes)
    put(dot, f"frame {number}", "", place.frame, fillcolor="#f4f6f8", color=RED if notes else "#c3cad3")
    left = place.frame.x + GAP + width(h.name, 13, bold=True) / 2
    note(dot, f"name {number}", lines(text(h.name, 13, bold=True)), left, place.frame.y + 14)
    if notes:
        right = place.frame.x + place.frame.width - GAP - width(notes, 9) / 2
        note(dot, f"notes {number}", lines(text(notes, 9, colour=RED)), right, place.frame.y + 14)
    vtep = h.underlay + (f", {peers}" if peers else "")
    label = lines(text("br-warren", 10, bold=True), text(vtep, 9))
    put(dot, node("bridge", h.name), label, place.bridge, style="filled", fillcolor="#dde4ec")


def _box(dot: graphviz.Digraph, bridge: str, box: Box, place: Rect, flat: bool) -> None:
    parts = [
        text(line, words.size, words.bold, words.colour, words.mono)
        for words in box.shown(flat)
        for line in words.folded(place.width - 12)
    ]
    style = "filled" if box.shape == "note" else "rounded,filled"
    put(dot, box.node, lines(*parts), place, shape=box.shape, style=style, fillcolor=box.fill, color=box.colour)
    x = place.centre[0]
    if flat:
        dot.edge(bridge, box.node, pos=spline([(x, place.y - 30), (x, place.y)]))
        if box.port:
            beside = x + 4 + width(box.port, 8) / 2
            note(dot, f"port {box.node}", lines(text(box.port, 8, colour=GREY)), beside, place.y - 15)
    else:
        dot.edge(bridge, box.node, style="invis")


def _content(whole: Topology, h: HostNode, shades: dict[str, str]) -> list[Box]:
    content = [_endpoint(e, shades[e.network], whole) for e in whole.at(h.name)]
    for target in sorted({c.target for c in whole.copies if c.target.startswith(f"{h.name}:")}):
        name = Words(target.partition(":")[2], 11, bold=True)
        content.append(Box(node("target", target), (name, Words("interface for copies", 8.5)), shape="component"))
    if gateway := _gateway(whole, h.name):
        words = (Words("gateway", 11, bold=True), *(Words(line) for line in gateway))
        content.append(Box(node("out", h.name), words, shape="note", port="warren-gw" if whole.ways_out(h.name) else ""))
    return content


def _gateway(whole: Topology, name: str) -> list[str]:
    """What the host does between networks and towards the outside."""
    used = {e.network for e in whole.at(name)}
    ways = [f"{n.name}: {n.way_out}" for n in whole.ways_out(name)]
    routers = [f"router {r.name}: {', '.join(r.networks)}" for r in whole.routers if used.intersection(r.networks)]
    services = [f"service {s.name}: {s.port.replace('>', ' → ')}" for s in whole.services if s.network in used]
    return ways + routers + services


def _endpoint(e: EndpointNode, fill: str, whole: Topology) -> Box:
    served = [s.name for s in whole.services if e.key in s.members]
    words = (
        Words(e.name, 11, bold=True), Words(e.ipv4 or ""), Words(e.ipv6 or ""), Words(e.mac or "", 8, mono=True), Words(e.seat, 8.5),
        Words(f"acl {', '.join(e.acls)}" if e.acls else "", 8.5),
        *(Words(p.replace(">", " → "), 8.5) for p in e.published), Words(f"service {', '.join(served)}" if served else "", 8.5),
        Words(f"closed: {e.reason}" if e.reason else "", 8, bold=True, colour="#a01010"),
    )  # fmt: skip
    port = f"port {e.ofport}" if e.ofport is not None else ""
    shape = "component" if e.physical else "box"
    return Box(node("endpoint", e.key), words, fill, RED if e.reason else "#7d8794", shape, port)
