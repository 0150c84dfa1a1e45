"""Ends the connections that today's specs do not allow: when an endpoint gives up an address, when policies or published ports
change, at the start, and at each resync.

Open vSwitch keeps the connections of each network in a zone of its own, with the identities of both endpoints in the label
(controller/compiler/features/conntrack.py), so this part needs no memory: it reads the connections, asks intent/connections.py
which of them may stay, and ends the others. agent/gateway/published_connections.py does the same for the host's netfilter.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence

from agent.cache import Cache
from agent.connections.changes import GivenUp, concerned
from agent.connections.datapath import TRIES, Datapath
from agent.feature import Feature
from intent.connections import Allowed, Connection
from specs.snapshot import Decoded, Snapshot
from warren.worker import Worker

log = logging.getLogger("warren.connections")

# The controller applies a change a little later than this agent sees it, and the datapath drops what it has cached of older flows up to half a
# second after that. A connection that a packet has begun again in between ends in the second or third pass.
PASSES_S = (0.0, 1.0, 4.0)
RESYNC_S = 60.0
EVERYTHING = ""  # item that means all networks
SHOWN = 20  # differences that `warren check` shows


class ConnectionReconciler(Feature):
    """Judges the connections of the networks that a change concerns."""

    def __init__(self, cache: Cache, datapath: Datapath) -> None:
        self._cache, self._datapath = cache, datapath
        self._lock = threading.Lock()
        self._given_up: set[GivenUp] = set()
        self._due: dict[int, list[float]] = {}  # conntrack zone -> times at which to judge its connections
        self._resync_at = 0.0
        self._worker = Worker("connections", self._step, interval_s=RESYNC_S)
        cache.updated.add(self._on_change)
        cache.reread.add(self._on_reread)

    def workers(self) -> Sequence[Worker]:
        """Return the worker."""
        return (self._worker,)

    def differences(self) -> list[str]:
        """Return the connections that should have ended."""
        allowed = self._allowed()
        refused = objections(allowed, self._datapath.read(set(allowed.valid.zones.values())))
        return [f"connection {connection}: {reason}" for connection, reason in refused.items()][:SHOWN]

    # ---- what has changed -----------------------------------------------------------------------------------------

    def _on_change(self, before: Snapshot, after: Snapshot, changes: Sequence[Decoded]) -> None:
        if not (news := concerned(before, after, changes)):
            return
        with self._lock:
            self._given_up |= news.addresses
        self._worker.wake(*((EVERYTHING,) if news.networks is None else news.networks))

    def _on_reread(self) -> None:
        self._worker.wake(EVERYTHING)

    # ---- the worker -----------------------------------------------------------------------------------------------

    def _step(self, items: frozenset[str]) -> float | None:
        if not self._cache.synced.is_set():
            return None
        allowed, now = self._allowed(), time.monotonic()
        zones = self._zones(allowed)
        self._end_given_up(allowed, zones, now)
        everything = EVERYTHING in items or now >= self._resync_at
        if everything:  # also in networks that have no endpoint here any more
            self._judge(allowed, set(allowed.valid.zones.values()))
            self._resync_at = now + RESYNC_S
        for zone in zones.values() if EVERYTHING in items else {zones[n] for n in items if n in zones}:
            self._schedule(zone, now, PASSES_S)
        self._judge_due(allowed, now)
        next_at = min([self._resync_at, *(at for times in self._due.values() for at in times)])
        return max(0.0, next_at - time.monotonic())

    def _end_given_up(self, allowed: Allowed, zones: Mapping[str, int], now: float) -> None:
        """End the connections of addresses that endpoints gave up, in their network and in those that a router joins with it."""
        for given_up in list(self._given_up):
            network_id, address, host = given_up
            around = {zones[n] for n in (network_id, *allowed.routed_to.get(network_id, ())) if n in zones}
            if host == self._cache.host and network_id in allowed.valid.zones:  # it may have been the last endpoint here
                around.add(allowed.valid.zones[network_id])
            for zone in around:
                self._datapath.end_of(zone, address)
                self._schedule(zone, now, PASSES_S[1:])
            with self._lock:
                self._given_up.discard(given_up)

    def _schedule(self, zone: int, now: float, passes_s: Iterable[float]) -> None:
        self._due.setdefault(zone, []).extend(now + delay for delay in passes_s)

    def _judge_due(self, allowed: Allowed, now: float) -> None:
        due = [zone for zone, times in self._due.items() if min(times) <= now]
        self._judge(allowed, due)
        for zone in due:
            self._due[zone] = [at for at in self._due[zone] if at > now]
            if not self._due[zone]:
                del self._due[zone]

    def _judge(self, allowed: Allowed, zones: Collection[int]) -> None:
        """End the connections of these zones that may not stay."""
        for _ in range(TRIES):
            connections = self._datapath.read(zones) if zones else []
            refused = objections(allowed, connections)
            if not refused:
                return
            example, reason = next(iter(refused.items()))
            log.info("connections.ended count=%d one=%s reason=%s", len(refused), example, reason)
            self._datapath.end(refused, (connection for connection in connections if connection not in refused))

    def _allowed(self) -> Allowed:
        view = self._cache.view
        return Allowed(view.snapshot, view.valid)

    def _zones(self, allowed: Allowed) -> dict[str, int]:
        """Return the conntrack zones of the networks that have an endpoint here."""
        local_networks = {endpoint.network_id for endpoint in self._cache.view.local_endpoints.values()}
        return {network_id: allowed.valid.zones[network_id] for network_id in local_networks if network_id in allowed.valid.zones}


def objections(allowed: Allowed, connections: Iterable[Connection]) -> dict[Connection, str]:
    """Return the connections that must end, and why. Pure."""
    return {c: reason for c in connections if (reason := allowed.objection(c)) is not None}
