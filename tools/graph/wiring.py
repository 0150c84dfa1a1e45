"""The lines of the detailed picture: tunnels above the hosts, mirror sessions below them. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import graphviz

from tools.graph.canvas import note, put
from tools.graph.geometry import GAP, LANE, SITE_MARGIN, HostPlace, Point, Rect, free_spot, lanes, spline
from tools.graph.label import lines, node, text, width
from tools.graph.legend import COPY, RED
from tools.graph.nodes import Copies, Topology, Tunnel

TUNNEL, ENCRYPTED = "#3b6ea5", "#2e7d4f"
CIPHERS = {"wireguard": "WireGuard", "ipsec": "IPsec"}
LOCK = 10.0  # the room of a padlock beside a tunnel's text
BROKEN = {"down": "nothing comes back", "mtu": "large packets are lost"}
TUNNELS_LIMIT = 15  # more are a number at each host


def tunnels(dot: graphviz.Digraph, whole: Topology, drawn: Sequence[Tunnel], places: dict[str, HostPlace]) -> None:
    """Each tunnel in a lane above the hosts, its networks beside the line."""
    middle = {name: place.frame.centre[0] for name, place in places.items()}
    ends: dict[str, list[tuple[float, float, Tunnel]]] = defaultdict(list)
    for t in drawn:
        for name, other in ((t.one, t.other), (t.other, t.one)):  # those to the left leave on the left, and the farthest inmost
            apart = middle[other] - middle[name]
            ends[name].append((0 if apart < 0 else 1, -abs(apart) if apart > 0 else abs(apart), t))
    xs: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for name, tunnels in ends.items():
        ordered = sorted(tunnels, key=lambda end: end[:2])
        for number, (_, _, t) in enumerate(ordered):
            xs[t.one, t.other][name] = places[name].frame.part(number, len(ordered))
    spans = [(min(x.values()), max(x.values())) for t in drawn for x in (xs[t.one, t.other],)]
    for number, (t, (left, right), lane) in enumerate(zip(drawn, spans, lanes(spans), strict=True)):
        top = min(p.frame.y for p in places.values()) - (SITE_MARGIN if whole.sites() else 0)
        y = top - GAP - LANE * (lane + 0.5)
        bridges = sorted((t.one, t.other), key=lambda name: xs[t.one, t.other][name])
        colour = RED if t.broken else ENCRYPTED if t.cipher else TUNNEL
        style = {"style": "dashed"} if t.broken else {}
        foot = places[t.one].bridge.y
        dot.edge(*(node("bridge", name) for name in bridges), color=colour, penwidth="2.4" if t.broken else "1.6",
                 pos=spline([(left, foot), (left, y), (right, y), (right, foot)]), **style)  # fmt: skip
        label, wide = _tunnel_label(whole, t, colour)
        middle_x = (left + right) / 2 + (LOCK if t.cipher else 0) / 2
        note(dot, f"tunnel {number}", label, middle_x, y - 8)
        if t.cipher:
            _lock(dot, number, middle_x - wide / 2 - LOCK, y - 8, colour)


def _lock(dot: graphviz.Digraph, number: int, x: float, y: float, colour: str) -> None:
    """A padlock: few fonts have one. Its body covers the lower half of the ring."""
    put(dot, f"ring {number}", "", Rect(x - 2.5, y - 5.5, 5, 8), shape="ellipse", style="", penwidth="1.4", color=colour)
    put(dot, f"lock {number}", "", Rect(x - 4, y - 1.5, 8, 6), style="filled", fillcolor=colour, color=colour)


def _tunnel_label(whole: Topology, tunnel: Tunnel, colour: str) -> tuple[str, float]:
    """The text beside a tunnel's line, and about how wide it is."""
    all_of_them = len(whole.networks) > 1 and len(tunnel.networks) == len(whole.networks) > 3
    shown = "all networks" if all_of_them else ", ".join(tunnel.networks[:3]) + (" ..." if len(tunnel.networks) > 3 else "")
    word = f": {BROKEN[tunnel.broken]}" if tunnel.broken else ""
    kind = CIPHERS.get(tunnel.cipher, tunnel.cipher) if tunnel.cipher else "VXLAN"
    label = f"<{text(kind, 8, bold=True, colour=colour)} {text(shown + word, 8, bold=bool(word), colour=colour)}>"
    return label, width(f"{kind} ", 8, bold=True) + width(shown + word, 8, bold=bool(word))


@dataclass(frozen=True, slots=True)
class Session:
    """A mirror session: `sources` are nodes with the x where their lines leave; `to` is the x at the target's node, None for a collector."""

    copies: Copies
    sources: tuple[tuple[str, float], ...]
    target: str
    to: float | None


def mirrors(dot: graphviz.Digraph, whole: Topology, at: dict[str, Rect], bottom: float) -> None:
    """Each mirror session in a lane below the hosts: from its sources to its name, and on to its target."""
    all_of = _sessions(whole, at)
    uprights = [x for s in all_of for x in (*(left for _, left in s.sources), *([] if s.to is None else [s.to]))]
    for lane, session in enumerate(all_of):
        _session(dot, session, at, bottom + GAP + 30 * (lane + 0.5), uprights)


def _sessions(whole: Topology, at: dict[str, Rect]) -> list[Session]:
    ends: dict[str, list[str]] = defaultdict(list)  # the sessions at each node: each has a line of its own there
    targets = {c.name: _target(c, at) for c in whole.copies}
    sources = {c.name: [node("endpoint", key) for key in c.sources if key != c.target] for c in whole.copies}
    shown = [c for c in whole.copies if sources[c.name]]
    for c in shown:
        for end in (*sources[c.name], targets[c.name]):
            ends[end].append(c.name)

    def x(end: str, session: str) -> float:
        return at[end].part(ends[end].index(session), len(ends[end]))

    return [
        Session(
            c, tuple((end, x(end, c.name)) for end in sources[c.name]), targets[c.name],
            x(targets[c.name], c.name) if targets[c.name] in at else None,
        )
        for c in shown
    ]  # fmt: skip


def _session(dot: graphviz.Digraph, session: Session, at: dict[str, Rect], y: float, uprights: list[float]) -> None:
    name, target = session.copies.name, session.target
    label, style = f"mirror {name}", {"color": COPY, "style": "dashed"}
    wide = width(label, 9) + 20
    xs = [x for _, x in session.sources]
    if session.to is None:  # a collector stands behind the last source
        middle = max(xs) + wide / 2 + GAP
    else:
        middle = free_spot(min(*xs, session.to), max(*xs, session.to), wide, uprights)
    pill = node("mirror", name)
    place = Rect(middle - wide / 2, y - 9, wide, 18)
    put(dot, pill, lines(text(label, 9, colour=COPY)), place, color=COPY, style="rounded,filled")
    for source, x in session.sources:
        dot.edge(source, pill, pos=spline([(x, at[source].bottom), *_beside(place, x)]), **style)
    if session.to is None:
        box = Rect(place.x + wide + 40, y - 9, width(session.copies.target, 9) + 24, 18)
        put(dot, target, lines(text(session.copies.target, 9)), box, shape="box", style="filled")
        dot.edge(pill, target, pos=spline([(place.x + wide, y), (box.x, y)], True), dir="forward", **style)
    else:
        path = [*reversed(_beside(place, session.to)), (session.to, at[target].bottom)]
        dot.edge(pill, target, pos=spline(path, True), dir="forward", **style)


def _beside(place: Rect, x: float) -> list[Point]:
    """From an upright line at `x` to the rectangle: into its top, or level into its side."""
    middle, y = place.centre
    if abs(x - middle) < place.width / 2:
        return [(x, place.y)]
    return [(x, y), (place.x if x < middle else place.x + place.width, y)]


def _target(session: Copies, at: dict[str, Rect]) -> str:
    """The node of the target: in a host, or a collector's box, of which each session has its own."""
    names = (node("endpoint", session.target), node("target", session.target))
    return next((name for name in names if name in at), node("target", f"{session.target} of {session.name}"))
