"""Limits the number of connections of each network on this host: a limit of its conntrack zone in the datapath
(ovs-dpctl(8), ct-set-limits). So one network cannot fill the tables that all share, the datapath's and the host's.

Open vSwitch keeps limits in the datapath only, so this module compares them with the specs each time and sets those that
differ. It leaves zones that belong to no network alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from agent.cache import Cache, CacheView
from agent.feature import Feature
from ovsdb.control import ZoneLimit, has_datapath, zone_limits
from specs.checks import ValidNetworks
from specs.model.endpoint import Endpoint
from specs.model.network import Network
from warren.worker import Worker

INTERVAL_S = 2.0  # the longest time until a limit that somebody changed is restored
CHANGED = "changed"  # item of a step that a change of endpoints has woken


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one host: conntrack zone -> connections. `networks` has the network of every zone, also of those without an
    endpoint here."""

    by_zone: dict[int, int]
    networks: dict[int, Network]


def limits(valid: ValidNetworks, local_endpoints: Iterable[Endpoint], default: int) -> Limits:
    """Return the limits of the networks with an active local endpoint. `default` is for networks without `ct_limit`; 0 is no limit.
    Pure."""
    used = _used(local_endpoints)
    by_zone = {zone: network.ct_limit or default for zone, network in valid.by_zone.items() if network.id in used}
    return Limits({zone: limit for zone, limit in by_zone.items() if limit}, valid.by_zone)


def _used(local_endpoints: Iterable[Endpoint]) -> set[str]:
    """The networks with an active local endpoint."""
    return {endpoint.network_id for endpoint in local_endpoints if endpoint.active}


@dataclass(frozen=True, slots=True)
class _Basis:
    """What limits follow from: the networks in use here, and all networks, a mapping that a change of one replaces."""

    used: set[str]
    networks: Mapping[str, Network]

    def same_as(self, other: _Basis | None) -> bool:
        return other is not None and self.used == other.used and self.networks is other.networks


class ConnectionLimits(Feature):
    """Reconciles the limits of one datapath. `datapath` returns its name; `appctl` runs a command of ovs-vswitchd and returns
    its output; `on_change` is called when `problems` have changed."""

    def __init__(
        self,
        cache: Cache,
        datapath: Callable[[], str],
        appctl: Callable[..., str],
        default: int,
        on_change: Callable[[], None],
    ) -> None:
        self._cache, self._datapath, self._appctl, self._default = cache, datapath, appctl, default
        self._on_change = on_change
        self._applied: dict[int, int] = {}
        self._basis: _Basis | None = None  # what the limits in force follow from
        self._compared_at = 0.0
        self._reached: list[str] = []
        self._worker = Worker("connection limits", self._step, interval_s=INTERVAL_S, on_change=on_change)
        cache.changed.add(lambda ids: self._worker.wake(CHANGED))

    def workers(self) -> Sequence[Worker]:
        """Return the reconciling worker."""
        return (self._worker,)

    def problems(self) -> list[str]:
        """Return the networks that have reached their limit."""
        return self._reached

    def differences(self) -> list[str]:
        """Return the zones whose limit is another than the specs say."""
        desired = self._desired(self._cache.view)
        current = self._current()
        return [
            f"connections of network {desired.networks[zone].name}: their limit is {_limit(current.get(zone)) or 'none'} instead of {limit}"
            for zone, limit in desired.by_zone.items()
            if _limit(current.get(zone)) != limit
        ]

    def reconcile(self, view: CacheView) -> None:
        """Set and remove limits until they match the specs. Raises `Unavailable` when Open vSwitch refuses."""
        desired, current = self._desired(view), self._current()
        wrong = {zone: limit for zone, limit in desired.by_zone.items() if _limit(current.get(zone)) != limit}
        superfluous = sorted(current.keys() & (desired.networks.keys() | self._applied.keys()) - desired.by_zone.keys())
        if wrong:
            settings = (f"zone={zone},limit={wrong[zone]}" for zone in sorted(wrong))
            self._appctl("dpctl/ct-set-limits", self._datapath(), *settings)
        if superfluous:
            self._appctl("dpctl/ct-del-limits", self._datapath(), f"zone={','.join(map(str, superfluous))}")
        self._applied = desired.by_zone
        self._report_full(desired, current)

    def _step(self, items: frozenset[str]) -> None:
        view, now = self._cache.view, time.monotonic()
        basis = _Basis(_used(view.local_endpoints.values()), view.snapshot.networks)
        if CHANGED in items and basis.same_as(self._basis) and now - self._compared_at < INTERVAL_S:
            return  # one more endpoint of a network asks for no other limit
        if self._cache.synced.is_set() and has_datapath(self._appctl):
            self.reconcile(view)
            self._basis, self._compared_at = basis, now

    def _desired(self, view: CacheView) -> Limits:
        return limits(view.valid, view.local_endpoints.values(), self._default)

    def _current(self) -> dict[int, ZoneLimit]:
        return zone_limits(self._appctl("dpctl/ct-get-limits", self._datapath()))

    def _report_full(self, desired: Limits, current: dict[int, ZoneLimit]) -> None:
        reached = [
            f"network {desired.networks[zone].name} has reached its limit of {limit} connections on this host, so new ones are dropped: "
            f"look for what opens them, or raise ct_limit"
            for zone, limit in sorted(desired.by_zone.items())
            if (zone_limit := current.get(zone)) is not None and zone_limit.connections >= limit
        ]
        if reached != self._reached:
            self._reached = reached
            self._on_change()


def _limit(zone_limit: ZoneLimit | None) -> int | None:
    return zone_limit.limit if zone_limit is not None else None
