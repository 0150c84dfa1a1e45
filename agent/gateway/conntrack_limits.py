"""How many connections a network may have on this host: a limit of its conntrack zone, in the datapath (ovs-dpctl(8), ct-set-limits).

Open vSwitch keeps it nowhere else, so it is set again whenever it is found wrong. Zones of networks are Warren's; others are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from specs.checks import valid_networks, zones
from specs.model.records import Endpoint
from specs.snapshot import Snapshot


def limits(state: Snapshot, mine: Iterable[Endpoint]) -> tuple[dict[int, int], set[int]]:
    """The limits of the zones of networks with an active endpoint among `mine`, this host's, and the zones of all networks."""
    networks, _ = valid_networks(state)
    zone = zones(state, networks)
    here = {e.network_id for e in mine if e.active}
    wanted = {zone[n.id]: n.ct_limit for n in networks.values() if n.id in here and n.ct_limit is not None}
    return wanted, set(zone.values())


class Limits:
    """Keeps the limits of one datapath. `datapath` tells its name, `appctl` runs a command of ovs-vswitchd and returns what it says."""

    def __init__(self, datapath: Callable[[], str], appctl: Callable[..., str]) -> None:
        self._datapath, self._appctl = datapath, appctl
        self._set: Mapping[int, int] | None = None  # None: nothing is known of a former life's

    def settle(self, state: Snapshot, mine: Iterable[Endpoint]) -> None:
        """Put right what differs. Raises `Unavailable` when Open vSwitch refuses."""
        wanted, ours = limits(state, mine)
        if not wanted and self._set is not None and not self._set:
            return
        found = parsed(self._appctl("dpctl/ct-get-limits", self._datapath()))
        wrong = {zone: limit for zone, limit in wanted.items() if found.get(zone) != limit}
        gone = sorted(found.keys() & (ours | set(self._set or ())) - wanted.keys())
        if wrong:
            self._appctl("dpctl/ct-set-limits", self._datapath(), *(f"zone={zone},limit={wrong[zone]}" for zone in sorted(wrong)))
        if gone:
            self._appctl("dpctl/ct-del-limits", self._datapath(), f"zone={','.join(map(str, gone))}")
        self._set = wanted


def parsed(text: str) -> dict[int, int]:
    """Zone to limit, from what ct-get-limits prints; the default of all others is none of ours."""
    return {int(zone): int(limit) for zone, limit in re.findall(r"^zone=(\d+),limit=(\d+),count=\d+$", text, re.MULTILINE)}
