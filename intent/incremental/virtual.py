"""Virtual addresses and MACs, updated change by change; part of intent/incremental/index.py. `intent.virtual.virtual_views` says what is
right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from intent.views import EndpointView, VirtualView
from intent.virtual import Holder, Key, held, virtual_view


@dataclass(slots=True)
class Virtuals:
    """The virtual addresses and MACs of one host's endpoints. A change costs what its endpoints share with others."""

    views: dict[Key, VirtualView] = field(default_factory=dict)
    _holders: dict[Key, dict[tuple[str, str], Holder]] = field(default_factory=lambda: defaultdict(dict))  # by id and MAC

    def update(self, changes: Iterable[tuple[EndpointView | None, EndpointView | None]]) -> dict[Key, VirtualView | None]:
        """Take endpoints as they were and as they are. Returns the views that differ (None: no longer here)."""
        touched: set[Key] = set()
        for before, after in changes:
            if before == after:
                continue
            for key, holder in held(before) if before is not None else ():
                self._holders[key].pop((holder.endpoint.id, holder.mac), None)
                touched.add(key)
            for key, holder in held(after) if after is not None else ():
                self._holders[key][holder.endpoint.id, holder.mac] = holder
                touched.add(key)
        changed: dict[Key, VirtualView | None] = {}
        for key in touched:
            old, holders = self.views.pop(key, None), self._holders[key]
            new = virtual_view(key, holders.values()) if holders else None
            if new is not None:
                self.views[key] = new
            else:
                del self._holders[key]
            if new != old:
                changed[key] = new
        return changed
