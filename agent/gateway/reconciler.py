"""Reconciles the host's side of gateways: the interface to the host, its routes, IP forwarding, one nftables table, and
conntrack limits.

Networks in mode nat appear on the host as addresses of the transit range (intent/gateway.py). The nftables table masquerades
traffic from these addresses that leaves the host, and translates published ports to them. The reconciler derives this
configuration from the specs alone, repairs it when somebody changes it, and removes it with the last network that needs it.
The table's comment stores the values that the forwarding sysctls had before.
"""

from __future__ import annotations

import json
import logging
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from agent.cache import Cache, View
from agent.feature import Feature
from agent.gateway.conntrack_limits import Limits
from agent.gateway.rules import TABLE, Outside, kept_switches, outside, ruleset
from agent.linux import uplink
from agent.worker import Worker
from warren.errors import Unavailable, WarrenError

log = logging.getLogger("warren.gateway")

INTERVAL_S = 2.0  # the longest time until a change of routes or rules by others is repaired
NFT_TIMEOUT_S = 10.0
FORWARDING = {4: Path("/proc/sys/net/ipv4/ip_forward"), 6: Path("/proc/sys/net/ipv6/conf/all/forwarding")}


class GatewayReconciler(Feature):
    """Reconciles every two seconds and whenever the specs change. `on_change` is called when `problems` have changed."""

    def __init__(self, cache: Cache, limits: Limits, on_change: Callable[[], None]) -> None:
        self._cache, self._limits, self._on_change = cache, limits, on_change
        self._problem: str | None = None
        self._applied: tuple[Outside, str] | None = None  # what the table was generated from, and how nft printed it afterwards
        self._worker = Worker("gateway", self._step, interval_s=INTERVAL_S, on_change=on_change)
        cache.changed.add(lambda ids: self._worker.wake())

    def workers(self) -> Sequence[Worker]:
        """Return the reconciling worker."""
        return (self._worker,)

    def problems(self) -> list[str]:
        """Return why the gateway does not match the specs, if so."""
        return [self._problem] if self._problem else []

    def _step(self, items: frozenset[str]) -> None:
        if not self._cache.synced.is_set():
            return
        view = self._cache.view
        problem = self._attempt(self._reconcile, view) or self._attempt(self._reconcile_limits, view)
        if problem != self._problem:
            self._problem = problem
            log.info("gateway.reconciled problem=%s", problem or "none")
            self._on_change()

    def _attempt(self, reconcile: Callable[[View], None], view: View) -> str | None:
        try:
            reconcile(view)
        except WarrenError as error:
            return str(error)
        except OSError as error:
            return f"the gateway of this host: {error.strerror or error}"
        return None

    def _reconcile_limits(self, view: View) -> None:
        self._limits.reconcile(view.snapshot, view.local_endpoints.values())

    def _reconcile(self, view: View) -> None:
        desired = outside(view.snapshot, self._cache.host, view.local_endpoints.values())
        table = _table()
        if not desired.active:
            if table is not None:
                _restore(kept_switches(table))
                _nft("delete", "table", "inet", TABLE)
            uplink.down()
            self._applied = None
            return
        before = kept_switches(table) if table is not None else _switches()
        uplink.up(desired.versions, desired.routes, desired.mtu)
        for version in desired.versions:
            if FORWARDING[version].read_text().strip() != "1":
                FORWARDING[version].write_text("1")
        if self._applied is None or self._applied != (desired, table):
            _nft(commands=ruleset(desired, json.dumps(before)))
            self._applied = (desired, _nft("list", "table", "inet", TABLE))


def _switches() -> dict[str, str]:
    """Return the current values of the forwarding sysctls, by version of IP."""
    return {str(version): path.read_text().strip() for version, path in FORWARDING.items()}


def _restore(before: dict[str, str]) -> None:
    for version, path in FORWARDING.items():
        if (value := before.get(str(version))) is not None and path.read_text().strip() != value:
            path.write_text(value)


def _table() -> str | None:
    """Return Warren's table as nft prints it; None if it does not exist."""
    tables = json.loads(_nft("-j", "list", "tables", "inet"))
    names = {item["table"]["name"] for item in tables.get("nftables", ()) if "table" in item}
    return _nft("list", "table", "inet", TABLE) if TABLE in names else None


def _nft(*arguments: str, commands: str | None = None) -> str:
    command = ["-f", "-"] if commands is not None else list(arguments)
    try:
        completed = subprocess.run(
            ["nft", *command], input=commands, capture_output=True, text=True, timeout=NFT_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable("nftables", f"nft does not run ({getattr(error, 'strerror', None) or error})") from None
    if completed.returncode != 0:
        raise Unavailable("nftables", (completed.stderr.strip().splitlines() or ["nft failed"])[0])
    return completed.stdout
