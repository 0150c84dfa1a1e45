"""Firewall: reconciles the allow list of this host's outside interface, and reverts an allow list that nobody confirms."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from agent.cache import Cache
from agent.encryption.allowlist import TABLE, AllowList, ruleset
from agent.encryption.outside import outside_interface
from agent.encryption.trial import Trial
from agent.feature import Feature
from agent.linux.nft import OwnTable
from agent.remote import Forwarded, Remote
from ovsdb.client import Ovsdb
from specs.model.firewall import ConfirmWithin, Firewall, FirewallSettings, Mode, peers
from specs.model.host import Host
from specs.store.repository import Repository
from warren.errors import WarrenError
from warren.worker import Worker

log = logging.getLogger("warren.firewall")

INTERVAL_S = 2.0
OFF = "firewall is off: the outside interface takes and sends tunnel packets in clear text; to drop them: warren firewall guard"
TRIAL = "firewall: the allow list is on trial, and is reverted unless you confirm it: warren firewall confirm"


class FirewallBody(BaseModel):
    """POST /firewall: `sources` with mode allowlist, which hosts try for `confirm_within_s` seconds."""

    model_config = ConfigDict(extra="forbid")

    mode: Mode
    sources: tuple[str, ...] = ()
    confirm_within_s: ConfirmWithin | None = None


class HostFirewall(Feature):
    """Reconciles the allow list every two seconds and whenever the specs change. `on_change` is called when `problems` have changed."""

    def __init__(self, cache: Cache, repository: Repository, ovsdb: Ovsdb, remote: Remote, on_change: Callable[[], None]) -> None:
        self._cache, self._repository, self._ovsdb, self._remote = cache, repository, ovsdb, remote
        self._on_change = on_change
        self._trial, self._table = Trial(time.monotonic), OwnTable(TABLE, "allow list")
        self._settings = FirewallSettings()  # those in force
        self._lines: list[str] = []
        self._worker = Worker("firewall", self._step, interval_s=INTERVAL_S, on_change=on_change)
        cache.updated.add(lambda before, after, changes: self._look(changes))

    def workers(self) -> Sequence[Worker]:
        """Return the reconciling worker."""
        return (self._worker,)

    def problems(self) -> list[str]:
        """Return that the firewall is off, or that an allow list waits to be confirmed."""
        return self._lines

    def differences(self) -> list[str]:
        """Return how the nftables table differs from the settings in force."""
        return self._table.differences(self._wanted(self._settings)) if self._cache.synced.is_set() else []

    def router(self) -> APIRouter:
        """Return the routes of the firewall."""
        router = APIRouter(tags=["Warren"])

        @router.get("/firewall")
        def firewall() -> dict[str, Any]:
            """The settings of the firewall, and the allow list that waits to be confirmed."""
            return {"firewall": _shown(self._repository.firewall())}

        @router.post("/firewall")
        def put_firewall(body: FirewallBody) -> dict[str, Any]:
            """Set the mode of the firewall. guard: drop tunnel packets in clear text. allowlist: also refuse all packets but those of other hosts,
            of administrators' sources and replies; it is reverted unless it is confirmed in time. off: accept everything."""
            return {"firewall": _shown(self._repository.put_firewall(body.model_dump(mode="json"))[0])}

        @router.post("/firewall/confirm")
        def confirm() -> dict[str, Any]:
            """Keep the allow list that is on trial."""
            return {"firewall": _shown(self._repository.confirm_firewall()[0])}

        @router.get("/hosts/{name}/firewall")
        def of_host(name: str, forwarded: Forwarded = None) -> Any:
            """The settings in force on a host, and how many packets its allow list has refused."""
            if not self._remote.is_local(name, forwarded):
                return self._remote.request_json(name, "GET", "/firewall")
            left_s = self._trial.left_s(self._cache.view.snapshot.firewall)
            settings = self._settings.model_dump(mode="json")
            local = self._local()
            applies = local is not None and local.outside is not None
            return {"host": name, **settings, "applies": applies, "trial_left_s": round(left_s), **self._table.packets()}

        return router

    def _look(self, changes: Sequence[Any]) -> None:
        if any(change.kind in ("host", "firewall") for change in changes):
            self._worker.wake()

    def _local(self) -> Host | None:
        return self._cache.view.snapshot.hosts.get(self._cache.host)

    def _wanted(self, settings: FirewallSettings) -> str | None:
        """Return the rules of the table; None without an allow list. Raises `Invalid`."""
        local = self._local()
        if settings.mode != "allowlist" or local is None or local.outside is None:
            return None
        snapshot, interface = self._cache.view.snapshot, outside_interface(local, self._ovsdb)
        proposal = snapshot.firewall.proposal
        trial_s = proposal.confirm_within_s if proposal is not None and settings != snapshot.firewall.settings else None
        others = peers(local.name, snapshot.hosts.values())
        return ruleset(AllowList(interface=interface, peers=others, sources=settings.sources, trial_s=trial_s))

    def _step(self, items: frozenset[str]) -> float | None:
        if not self._cache.synced.is_set():
            return None
        firewall = self._cache.view.snapshot.firewall
        settings, left_s = self._trial.settings(firewall), self._trial.left_s(firewall)
        rules = self._wanted(settings)
        if rules is not None:
            self._table.reconcile(rules)
        else:
            self._table.remove()
        if settings != self._settings:
            log.info("firewall.changed mode=%s trial=%s", settings.mode, left_s > 0)
        self._settings = settings
        self._report(firewall, left_s)
        return min(left_s, INTERVAL_S) if left_s else None

    def _report(self, firewall: Firewall, left_s: float) -> None:
        if firewall.proposal is not None and not left_s:
            try:
                self._repository.drop_proposal(firewall.proposal.id)
            except WarrenError as error:  # the settings are not in force on this host, whatever etcd says
                log.info("firewall.proposal_not_dropped reason=%s", error)
        local = self._local()
        outside = local is not None and local.outside is not None
        lines = [TRIAL] if left_s and outside else [OFF] if self._settings.mode == "off" and outside else []
        if lines != self._lines:
            self._lines = lines
            self._on_change()


def _shown(firewall: Firewall) -> dict[str, Any]:
    data = firewall.settings.model_dump(mode="json")
    proposal = firewall.proposal.model_dump(mode="json", exclude={"id"}) if firewall.proposal is not None else None
    return {**data, "proposal": proposal}
