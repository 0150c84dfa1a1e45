"""Values that no engine and no runtime sends, for fuzzes of what they do send."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any, TypeVar

T = TypeVar("T")
ODD: tuple[Any, ...] = (None, 0, -1, 70000, 1e308, True, "", " ", "x" * 5000, "\0", "../../etc", "\ud800", "é", "10.0.0.0/33", "::/0", "1.2.3.4",
                        [], {}, [[]], [None], {"": None}, {"a": {"b": []}}, "ff:ff:ff:ff:ff:ff", "9" * 400)  # fmt: skip


def spoiled(chance: random.Random, body: T) -> T:
    """A copy of a body in which one or two values are odd."""
    body = copy.deepcopy(body)
    for _ in range(chance.choice((1, 1, 2))):
        holder, key = chance.choice(list(_places(body)))
        holder[key] = copy.deepcopy(chance.choice(ODD))
    return body


def _places(part: Any) -> Iterator[tuple[Any, Any]]:
    """Every value of a body, by what holds it."""
    for key, value in part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ():
        yield part, key
        yield from _places(value)
