"""The difference between what is desired and what is installed, by id. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

Value = TypeVar("Value")


def difference(
    changed: Iterable[int], desired: Mapping[int, Value], installed: Collection[int]
) -> tuple[tuple[Value, ...], tuple[int, ...]]:
    """What to add, and the ids of what to delete, among the ids that changed."""
    adds = tuple(desired[key] for key in changed if key in desired and key not in installed)
    return adds, tuple(key for key in changed if key not in desired and key in installed)
