"""Limits the number of connections of each network on this host: a limit of its conntrack zone in the datapath
(ovs-dpctl(8), ct-set-limits).

Open vSwitch keeps limits in the datapath only, so this module compares them with the specs each time and sets those that
differ. It leaves zones that belong to no network alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from specs.checks import valid_networks, zones
from specs.model.endpoint import Endpoint
from specs.snapshot import Snapshot


def limits(snapshot: Snapshot, local_endpoints: Iterable[Endpoint]) -> tuple[dict[int, int], set[int]]:
    """Return the limits of the zones of networks with an active local endpoint (zone -> connections), and the zones of all
    networks."""
    valid, _ = valid_networks(snapshot)
    zone = zones(snapshot, valid)
    used = {endpoint.network_id for endpoint in local_endpoints if endpoint.active}
    desired = {zone[n.id]: n.ct_limit for n in valid.values() if n.id in used and n.ct_limit is not None}
    return desired, set(zone.values())


class Limits:
    """Reconciles the limits of one datapath. `datapath` returns its name; `appctl` runs a command of ovs-vswitchd and
    returns its output."""

    def __init__(self, datapath: Callable[[], str], appctl: Callable[..., str]) -> None:
        self._datapath, self._appctl = datapath, appctl
        self._applied: Mapping[int, int] | None = None  # None: an earlier process may have set some

    def reconcile(self, snapshot: Snapshot, local_endpoints: Iterable[Endpoint]) -> None:
        """Set and remove limits until they match the specs. Raises `Unavailable` when Open vSwitch refuses."""
        desired, zones_of_networks = limits(snapshot, local_endpoints)
        if not desired and self._applied is not None and not self._applied:
            return
        current = parse_limits(self._appctl("dpctl/ct-get-limits", self._datapath()))
        wrong = {zone: limit for zone, limit in desired.items() if current.get(zone) != limit}
        superfluous = sorted(current.keys() & (zones_of_networks | set(self._applied or ())) - desired.keys())
        if wrong:
            settings = (f"zone={zone},limit={wrong[zone]}" for zone in sorted(wrong))
            self._appctl("dpctl/ct-set-limits", self._datapath(), *settings)
        if superfluous:
            self._appctl("dpctl/ct-del-limits", self._datapath(), f"zone={','.join(map(str, superfluous))}")
        self._applied = desired


def parse_limits(text: str) -> dict[int, int]:
    """Return the limit of each zone from the output of ct-get-limits, without the default limit."""
    return {int(zone): int(limit) for zone, limit in re.findall(r"^zone=(\d+),limit=(\d+),count=\d+$", text, re.MULTILINE)}
