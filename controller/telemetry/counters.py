"""The switch's counters: answers assembled from their parts, and totals that never fall. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Reading(NamedTuple):
    """The counters of one source now. `key` is the total that they belong to; `age_s` is how long the source has been
    counting."""

    source: Hashable
    key: str
    counts: tuple[int, ...]
    age_s: float


@dataclass(slots=True)
class Totals:
    """Totals by key over sources that come and go, such as a flow that is replaced or a port that is removed.

    Totals begin with the process, at 0. A sum of the present sources would fall when a source goes; Prometheus would take
    that for a reset and count the rest once more.
    """

    totals: dict[str, tuple[int, ...]] = field(default_factory=dict)
    _last: dict[Hashable, tuple[int, ...]] = field(default_factory=dict)
    _begun: bool = False

    def take(self, readings: Iterable[Reading], since_s: float) -> None:
        """Take all present sources. `since_s` is how long ago the last readings were: a younger source counts whole, an
        older one that was never seen begins now."""
        last: dict[Hashable, tuple[int, ...]] = {}
        keys: set[str] = set()
        for source, key, counts, age_s in readings:
            keys.add(key)
            before = self._last.get(source)
            if before is None or any(now < then for now, then in zip(counts, before, strict=True)):
                fresh = before is not None or (self._begun and age_s <= since_s)
                before = (0,) * len(counts) if fresh else counts
            last[source] = counts
            total = self.totals.get(key, (0,) * len(counts))
            self.totals[key] = tuple(t + now - then for t, now, then in zip(total, counts, before, strict=True))
        for key in self.totals.keys() - keys:  # no source of it is left: its series end
            del self.totals[key]
        self._last, self._begun = last, True


@dataclass(slots=True)
class Parts:
    """Assembles answers that come in several messages (64 KiB each at most), by xid."""

    _gathered: dict[int, list[Any]] = field(default_factory=dict)

    def take(self, xid: int, body: Iterable[Any], more: bool) -> list[Any] | None:
        """The whole answer with its last part, None before."""
        parts = self._gathered.setdefault(xid, [])
        parts.extend(body)
        return None if more else self._gathered.pop(xid)

    def clear(self) -> None:
        """The connection has ended: incomplete answers will never be complete."""
        self._gathered.clear()


@dataclass(slots=True)
class Answers:
    """Assembles the answers to several questions of one kind, among answers to somebody else's questions."""

    _open: set[int] = field(default_factory=set)
    _gathered: list[Any] = field(default_factory=list)

    def expect(self, xids: Iterable[int]) -> None:
        """Wait for these answers; what is missing of earlier ones is given up."""
        self._open, self._gathered = set(xids), []

    def take(self, xid: int, body: Iterable[Any], more: bool) -> list[Any] | None:
        """All answers with the last part of the last of them; None before, and for answers to others."""
        if xid not in self._open:
            return None
        self._gathered.extend(body)
        if not more:
            self._open.remove(xid)
        return None if self._open else self._gathered
