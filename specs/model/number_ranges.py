"""Ranges of numbers as people write them: 5000-5099,7000. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from specs.model.base import VNI_FIRST, VNI_LAST

Span = tuple[int, int]  # the first and the last number
SPANS_LIMIT = 32  # of one text
VLAN_FIRST, VLAN_LAST = 1, 4094
_PART = re.compile(r"\s*([0-9]{1,8})\s*(?:-\s*([0-9]{1,8})\s*)?", re.ASCII)


def spans(text: str) -> tuple[Span, ...]:
    """The spans of a text that is well formed, in order."""
    return tuple((int(first), int(last or first)) for first, _, last in (part.partition("-") for part in text.split(",") if part))


def canonical(value: Any, first: int, last: int) -> str:
    """The text in its one form: in order, without blanks. Raises `ValueError` for what is no ranges, lies outside, or overlaps."""
    example = f"ranges within {first}-{last}, such as {min(5000, last - 200)}-{min(5099, last - 101)},{min(7000, last - 1)}"
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        raise ValueError(example)
    parts = str(value).split(",")
    matches = [_PART.fullmatch(part) for part in parts]
    if len(parts) > SPANS_LIMIT or not all(matches):
        raise ValueError(f"{example} (at most {SPANS_LIMIT} of them)")
    found_spans = sorted((int(match[1]), int(match[2] or match[1])) for match in matches if match)
    if any(not first <= low <= high <= last for low, high in found_spans):
        raise ValueError(f"{example}, each from the lower number to the higher one")
    if any(high >= low for (_, high), (low, _) in zip(found_spans, found_spans[1:], strict=False)):
        raise ValueError("ranges that do not overlap each other")
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in found_spans)


def contains(ranges: Iterable[Span], number: int) -> bool:
    """Whether a number lies in one of the ranges."""
    return any(low <= number <= high for low, high in ranges)


def overlap(some: Iterable[Span], others: Sequence[Span]) -> Span | None:
    """The first numbers that two sets of ranges have in common."""
    common = ((max(a, c), min(b, d)) for a, b in some for c, d in others)
    return next((span for span in common if span[0] <= span[1]), None)


def without(ranges: Iterable[Span], taken: Iterable[Span]) -> list[Span]:
    """The ranges less other ranges, in order."""
    rest = sorted(ranges)
    for low, high in taken:
        rest = [
            (a, b)
            for first, last in rest
            for a, b in ((first, min(last, low - 1)), (max(first, high + 1), last))
            if a <= b
        ] if rest else []  # fmt: skip
    return sorted(set(rest))


def _vnis(value: Any) -> str:
    return canonical(value, VNI_FIRST, VNI_LAST)


def _vlans(value: Any) -> str:
    return canonical(value, VLAN_FIRST, VLAN_LAST)


_SCHEMA = WithJsonSchema({"type": ["string", "integer"]})
VniRanges = Annotated[str, BeforeValidator(_vnis), _SCHEMA]
VlanRanges = Annotated[str, BeforeValidator(_vlans), _SCHEMA]
