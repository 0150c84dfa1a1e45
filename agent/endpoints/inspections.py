"""The schedule of inspections: when an endpoint is compared with the host, and when a repair may run. Pure: time comes in as
an argument, in seconds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

CYCLE_S = 30.0  # each endpoint is inspected this often although no event announced damage
AT_ONCE = 10  # inspections of a turn, which bounds their cost: an inspection takes 4 ms
SETTLE_S = 0.3  # from an event to its inspection: a series of events is one change
FREE_REPAIRS = 10  # repairs of the same damage in a row without a pause
PAUSE_S = (2.0, 300.0)  # the first and the longest pause between further repairs
CALM_S = 60.0  # without a repair for so long (and two pauses) an endpoint counts as calm again


@dataclass(slots=True)
class _Series:
    """Repairs of the same damage to one endpoint, one after the other."""

    count: int
    last: float

    @property
    def pause_s(self) -> float:
        excess = self.count - FREE_REPAIRS
        first_s, longest_s = PAUSE_S
        return min(longest_s, first_s * 2 ** min(excess, 10)) if excess >= 0 else 0.0


@dataclass(slots=True)
class Inspections:
    """Decides which endpoints to inspect, and when they may be repaired. Not thread-safe."""

    _suspected: dict[str, float] = field(default_factory=dict)  # endpoint -> when it is due
    _inspected: dict[str, float] = field(default_factory=dict)  # endpoint -> when it was inspected last
    _series: dict[tuple[str, str], _Series] = field(default_factory=dict)  # endpoint and difference -> its repairs

    def suspect(self, endpoint_ids: Iterable[str], now: float) -> None:
        """Inspect these endpoints soon: an event has announced damage."""
        for endpoint_id in endpoint_ids:
            self._suspected.setdefault(endpoint_id, now + SETTLE_S)

    def due(self, endpoints: Iterable[str], now: float) -> set[str]:
        """Return the endpoints to inspect now, and count them as inspected: suspects, and those of `endpoints` whose last
        inspection is longest ago, a few at a time. A new endpoint was just plugged in."""
        for endpoint_id in endpoints:
            self._inspected.setdefault(endpoint_id, now)
        suspects = {endpoint_id for endpoint_id, at in self._suspected.items() if at <= now}
        old = sorted((at, endpoint_id) for endpoint_id, at in self._inspected.items() if at <= now - CYCLE_S)
        chosen = suspects | {endpoint_id for _, endpoint_id in old[:AT_ONCE]}
        for endpoint_id in chosen:
            self._suspected.pop(endpoint_id, None)
            self._inspected[endpoint_id] = now
        return chosen

    def next_s(self, now: float) -> float:
        """Return the seconds until the next turn."""
        return max(0.0, min([*self._suspected.values(), now + 1.0]) - now)

    def forget(self, endpoints: Iterable[str]) -> None:
        """Forget all but these endpoints."""
        stay = set(endpoints)
        for times in (self._suspected, self._inspected):
            for endpoint_id in times.keys() - stay:
                del times[endpoint_id]
        self._series = {key: series for key, series in self._series.items() if key[0] in stay}

    def pause_s(self, endpoint_id: str, differences: Iterable[str], now: float) -> float:
        """Return how long a repair must wait, because others cause one of these differences again and again."""
        series = [repeated for line in differences if (repeated := self._series.get((endpoint_id, line))) is not None]
        return max([each.last + each.pause_s - now for each in series] + [0.0])

    def repaired(self, endpoint_id: str, differences: Iterable[str], now: float) -> None:
        """Count a repair."""
        for line in differences:
            series = self._series.get((endpoint_id, line))
            if series is None or now - series.last > CALM_S + 2 * series.pause_s:
                self._series[endpoint_id, line] = _Series(1, now)
            else:
                series.count, series.last = series.count + 1, now
