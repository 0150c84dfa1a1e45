"""Reconciles the host's side of gateways: the interface to the host, its routes, IP forwarding, and one
nftables table.

Networks in mode nat appear on the host as addresses of the transit range (intent/gateway.py). The nftables table masquerades
traffic from these addresses that leaves the host, and translates published ports to them. The reconciler derives this
configuration from the specs alone, repairs it when somebody changes it, and removes it with the last network that needs it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from agent.cache import Cache, CacheView
from agent.feature import Feature
from agent.gateway.filters import Forwarding
from agent.gateway.held_ports import HeldPorts
from agent.gateway.host_access import Machines
from agent.gateway.names import Resolver, hostname
from agent.gateway.published_connections import PublishedConnections
from agent.gateway.routes import GatewayRoutes
from agent.gateway.rules import TABLE, Outside, outside, ruleset
from agent.gateway.switches import FORWARDING, Switches
from agent.linux import nft, uplink
from agent.linux.bridges import BridgeReader, Bridges
from agent.linux.kernel import has_address
from warren.errors import WarrenError
from warren.worker import Worker

log = logging.getLogger("warren.gateway")

INTERVAL_S = 2.0  # the longest time until a change of routes or rules by others is repaired
SPECS = "specs"  # the worker's item when nothing but the specs may have changed


class GatewayReconciler(Feature):
    """Reconciles every two seconds and whenever the specs change. `on_change` is called when `problems` have changed. With
    `forwards_for_others`, the host also forwards packets that have nothing to do with Warren. `etcd` are its URLs."""

    def __init__(
        self,
        cache: Cache,
        switches: Switches,
        held_ports: HeldPorts,
        routes: GatewayRoutes,
        on_change: Callable[[], None],
        *,
        forwards_for_others: bool,
        etcd: Sequence[str],
    ) -> None:
        self._cache, self._switches, self._held_ports = cache, switches, held_ports
        self._on_change = on_change
        self._routes, self._connections = routes, PublishedConnections()
        self._problem: str | None = None
        self._names, self._etcd = Resolver("machines"), tuple(name for url in etcd if (name := hostname(url)) is not None)
        self._forwards_for_others, self._bridges = forwards_for_others, BridgeReader()
        # what the table was generated from, and how nft printed it afterwards
        self._applied: tuple[Outside, Forwarding, str | None] | None = None
        self._worker = Worker("gateway", self._step, interval_s=INTERVAL_S, on_change=on_change)
        self._reconciled: Outside | None = None  # what the host needed at the last step, if that succeeded
        self._due = 0.0  # when the host is read again, whatever the specs say (monotonic clock)
        cache.changed.add(lambda ids: self._worker.wake(SPECS))

    def workers(self) -> Sequence[Worker]:
        """Return the reconciling worker, and the one that resolves names."""
        return (self._worker, self._names.worker)

    def problems(self) -> list[str]:
        """Return why the gateway does not match the specs, if so."""
        return [*([self._problem] if self._problem else []), *self._held_ports.problems]

    def close(self) -> None:
        """Release the held ports."""
        self._held_ports.close()

    def differences(self) -> list[str]:
        """Read Warren's routes, sysctls and nftables table, and return how they differ from the specs."""
        desired = self._possible(self._needed(self._cache.view))
        switches = self._switches.differences(desired.versions)
        return [*self._routes.differences(desired), *switches, *self._table_differences(desired)]

    def _table_differences(self, desired: Outside) -> list[str]:
        table = nft.table(TABLE)
        if (table is not None) != (desired.active or self._others_need_forwarding(table)):
            return [f"nftables table inet {TABLE}: {'is missing' if desired.active else 'belongs to no network of this host'}"]
        applied = self._applied
        if table is not None and (applied is None or (applied[0], applied[2]) != (desired, table)):
            return [f"nftables table inet {TABLE}: differs from the specs, or was changed by others"]
        return []

    def _step(self, items: frozenset[str]) -> float | None:
        if not self._cache.synced.is_set():
            return None
        needed, clock = self._needed(self._cache.view), time.monotonic()
        if SPECS in items and needed == self._reconciled and clock < self._due:
            return (
                self._due - clock
            )  # most changes are of endpoints without ports, and reading the table costs as much as an attach
        before = self.problems()
        self._problem = self._attempt(needed)
        self._reconciled, self._due = needed if self._problem is None else None, clock + INTERVAL_S
        if before != self.problems():
            log.info("gateway.reconciled problems=%s", "; ".join(self.problems()) or "none")
            self._on_change()
        return None

    def _attempt(self, needed: Outside) -> str | None:
        try:
            self._reconcile(needed)
        except WarrenError as error:
            return str(error)
        except OSError as error:
            return f"the gateway of this host: {error.strerror or error}"
        return None

    def _reconcile(self, needed: Outside) -> None:
        self._held_ports.reconcile(
            *({p.host_port for p in needed.published if p.held is held and p.askers is None} for held in (True, False))
        )
        desired = self._possible(needed)
        table = nft.table(TABLE)
        if not desired.active:
            uplink.down()
            if not self._others_need_forwarding(table):
                self._switches.restore(table)
                if table is not None:
                    nft.run("delete", "table", "inet", TABLE)
                self._applied = None
                self._connections.follow((), desired.transit)
                return
        before = self._switches.before(table)
        if desired.active:
            self._up(desired)
        forwarding = self._forwarding(before)
        if self._applied is None or self._applied != (desired, forwarding, table):
            nft.run(commands=ruleset(desired, forwarding, json.dumps(before)))
            self._applied = (desired, forwarding, nft.table(TABLE))
        self._connections.follow(desired.published, desired.transit, desired.routed)
        self._switches.on(desired.versions)  # after the table, which keeps packets of others out

    def _up(self, desired: Outside) -> None:
        uplink.up(desired.versions, desired.transit)
        self._routes.reconcile(desired)

    def _others_need_forwarding(self, table: str | None) -> bool:
        """Return whether containers or virtual machines on bridges of others may rely on the forwarding that Warren has switched
        on: Docker does not switch it on if it is on when Docker starts. Forwarding then stays on, and guarded."""
        return table is not None and bool(self._forwarding(self._switches.before(table)).bridges.internal)

    def needed(self) -> Outside | None:
        """Return what the host needs; None before the specs have been read."""
        return self._needed(self._cache.view) if self._cache.synced.is_set() else None

    def _possible(self, needed: Outside) -> Outside:
        """Return what the host needs, without published ports on which a process of the host listens, and without a source address that
        the host lacks, because the kernel refuses such an address in routes."""
        published = tuple(p for p in needed.published if p.host_port not in self._held_ports.taken)
        source = needed.source if needed.source is not None and has_address(str(needed.source)) else None
        return replace(needed, published=published, source=source)

    def _needed(self, view: CacheView) -> Outside:
        apis = (hostname(host.api) for host in view.snapshot.hosts.values() if host.api is not None)
        self._names.want(name for name in (*apis, *self._etcd) if name is not None)
        machines = Machines(etcd=self._etcd, addresses=self._names.addresses, publishers=tuple(view.publishers.values()))
        return outside(view.snapshot, view.valid, self._cache.host, view.local_endpoints.values(), machines)

    def _forwarding(self, before: Mapping[str, str]) -> Forwarding:
        """Return what this host forwards besides Warren's packets; `before` are the switches' values before Warren."""
        guarded = () if self._forwards_for_others else tuple(v for v in FORWARDING if before.get(str(v)) == "0")
        return Forwarding(guarded=guarded, bridges=self._bridges.read() if guarded else Bridges())
