"""Where things of the detailed picture stand: rectangles in points, y downwards, and lines of level and upright pieces. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, sqrt

GAP = 14.0
HEAD, BRIDGE, DROP = 26.0, 32.0, 30.0  # of a host: its name, its bridge, the lines to its endpoints
SITE_MARGIN, SITE_FOOT = 6.0, 19.0  # round the hosts of a site: the frame, and its name below
LANE = 24.0  # from one line between hosts to the next, with room for a text
ROW_WIDTH = 2000.0  # hosts beyond it begin a new row
IN_A_ROW = 6  # boxes of a host that stand side by side; more fill a grid
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Rect:
    """A rectangle by its upper left corner."""

    x: float
    y: float
    width: float
    height: float

    @property
    def centre(self) -> Point:
        """The middle."""
        return self.x + self.width / 2, self.y + self.height / 2

    @property
    def bottom(self) -> float:
        """The lower edge."""
        return self.y + self.height

    def part(self, number: int, count: int) -> float:
        """The x of the `number`th (from 0) of `count` points spread over the width."""
        return self.x + self.width * (number + 1) / (count + 1)

    def moved(self, x: float, y: float) -> Rect:
        """The same, elsewhere."""
        return Rect(self.x + x, self.y + y, self.width, self.height)


@dataclass(frozen=True, slots=True)
class HostPlace:
    """A host: its frame, its bridge, and the boxes in it. `flat`: all boxes are in one row, so each has a line to the bridge."""

    frame: Rect
    bridge: Rect
    boxes: tuple[Rect, ...]
    flat: bool

    def moved(self, x: float, y: float) -> HostPlace:
        """The same, elsewhere."""
        return HostPlace(self.frame.moved(x, y), self.bridge.moved(x, y), tuple(b.moved(x, y) for b in self.boxes), self.flat)


def host(sizes: Sequence[tuple[float, float]], least: float) -> HostPlace:
    """A host with boxes of these sizes (width, height), at least so wide; its upper left corner is the origin."""
    flat = len(sizes) <= IN_A_ROW
    columns = max(1, len(sizes) if flat else ceil(sqrt(len(sizes) * 1.6)))
    widths = [max((width for width, _ in sizes[i::columns]), default=0.0) for i in range(columns)]
    wide = sum(widths) + GAP * (columns - 1)
    inner = max(wide, least)
    lefts = [GAP + (inner - wide) / 2 + sum(widths[:i]) + GAP * i for i in range(columns)]
    y = HEAD + BRIDGE + (DROP if flat else GAP)
    boxes: list[Rect] = []
    for first in range(0, len(sizes), columns):
        row = sizes[first : first + columns]
        height = max(height for _, height in row)
        boxes += [Rect(lefts[i], y, widths[i], height) for i in range(len(row))]
        y += height + GAP
    return HostPlace(Rect(0, 0, inner + 2 * GAP, max(y, HEAD + BRIDGE + GAP)), Rect(GAP, HEAD, inner, BRIDGE), tuple(boxes), flat)


def rows(places: Sequence[HostPlace]) -> list[HostPlace]:
    """The hosts side by side, in as many rows as keep the picture narrow. Those of a row are of one height."""
    placed: list[HostPlace] = []
    row: list[HostPlace] = []
    y = 0.0

    def end() -> None:
        nonlocal y, row
        height = max((p.frame.height for p in row), default=0.0)
        x = 0.0
        for place in row:
            frame = Rect(0, 0, place.frame.width, height)
            placed.append(HostPlace(frame, place.bridge, place.boxes, place.flat).moved(x, y))
            x += place.frame.width + 2 * GAP
        y, row = y + height + 2 * GAP, []

    for place in places:
        if row and sum(p.frame.width + 2 * GAP for p in row) + place.frame.width > ROW_WIDTH:
            end()
        row.append(place)
    end()
    return placed


def site_frames(sites: Sequence[str], places: Sequence[HostPlace]) -> list[tuple[str, Rect]]:
    """A frame round the hosts of each site, one for each row that it is in; `sites` are those of the hosts at these places."""
    groups: dict[tuple[str, float], list[Rect]] = {}
    for site, place in zip(sites, places, strict=True):
        groups.setdefault((site, place.frame.y), []).append(place.frame)
    frames = []
    for (site, y), rects in groups.items():
        left, right = min(r.x for r in rects), max(r.x + r.width for r in rects)
        height = max(r.height for r in rects) + SITE_MARGIN + SITE_FOOT
        frames.append((site, Rect(left - SITE_MARGIN, y - SITE_MARGIN, right - left + 2 * SITE_MARGIN, height)))
    return frames


def lanes(spans: Iterable[tuple[float, float]]) -> list[int]:
    """For each span of x the lane that it runs in, 0 is the nearest: short ones near, and no two of a lane meet."""
    all_spans = list(spans)
    result = [0] * len(all_spans)
    full: list[list[tuple[float, float]]] = []
    for number in sorted(range(len(all_spans)), key=lambda i: (all_spans[i][1] - all_spans[i][0], all_spans[i][0], i)):
        low, high = all_spans[number]
        lane = next((i for i, taken in enumerate(full) if all(high + GAP < a or b + GAP < low for a, b in taken)), len(full))
        if lane == len(full):
            full.append([])
        full[lane].append((low, high))
        result[number] = lane
    return result


def free_spot(low: float, high: float, width: float, uprights: Iterable[float]) -> float:
    """The middle of a box so wide between `low` and `high` that is farthest from the upright lines, and else near the middle."""
    lines = list(uprights)
    spots = [low + (high - low) * i / 24 for i in range(25)] if high - low > width else [(low + high) / 2]
    return max(spots, key=lambda x: (min((min(abs(x - line), width) for line in lines), default=0), -abs(x - (low + high) / 2)))


def spline(points: Sequence[Point], arrow: bool = False) -> str:
    """Graphviz' `pos` of an edge along the points. Its y grows upwards; an arrow's tip is the last point."""
    ends = list(points)
    tip = ""
    if arrow:
        (x1, y1), (x2, y2) = ends[-2:]
        length = max(1.0, abs(x2 - x1) + abs(y2 - y1))
        ends[-1] = (x2 - 8 * (x2 - x1) / length, y2 - 8 * (y2 - y1) / length)
        tip = f"e,{x2:.1f},{-y2:.1f} "
    path = [ends[0]]
    for before, after in zip(ends, ends[1:], strict=False):
        path += [before, after, after]
    return tip + " ".join(f"{x:.1f},{-y:.1f}" for x, y in path)
