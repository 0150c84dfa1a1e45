"""Removes what Docker no longer has: endpoints of containers that ended while the agent was away, addresses that Docker
requested and never used, networks and pools. It also asks again for labels that the engine could not tell at once.

It removes only what the engine, asked twice with a pause between, does not have. An engine that does not answer proves
nothing.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from agent.core import Core
from agent.docker.driver import Driver
from agent.docker.engine import Engine, EngineError, Members
from agent.docker.ledger import LABEL, UNNAMED
from specs.model.endpoint import Endpoint
from warren.errors import Conflict, Invalid, WarrenError
from warren.worker import Worker

log = logging.getLogger("warren.docker")

QUICK_S, QUICKLY_S = 0.05, 15.0  # how often, and how long, to look for the labels of a container that starts
UNUSED_S = 20.0  # an address without an endpoint, a pool without a network: the engine repeats a call for 15 s, and gives up
LABELS_S = 1.0
NAMES_S = 5.0  # until the engine, which has ended, is asked for news again


class DockerSweep:
    """Sweeps every `every_s` seconds, and asks for missing labels every second."""

    def __init__(self, core: Core, driver: Driver, engine: Engine, every_s: float) -> None:
        self._core, self._driver, self._engine, self._every_s = core, driver, engine, every_s
        self._next_sweep = time.monotonic() + every_s
        self._suspects: set[str] = set()
        self.wrong: dict[str, str] = {}  # endpoints whose labels are wrong, and why; they stay without labels
        self._unlabelled: dict[str, float] = {}  # when an endpoint without labels was seen first
        self._open: dict[str, float] = {}  # when a pool without a network was seen first
        self.worker = Worker("Docker sweep", self._step, interval_s=min(LABELS_S, every_s))
        driver.awaited.add(self.worker.wake)
        self.names = Worker("Docker names", self._follow_names, interval_s=NAMES_S)

    def _step(self, items: frozenset[str]) -> float | None:
        if not self._core.cache.synced.is_set():
            return None
        try:
            self._driver.remembered.write()
            self.tell_labels()
            if time.monotonic() >= self._next_sweep:
                self._next_sweep = time.monotonic() + self._every_s
                self.sweep()
        except WarrenError as error:
            log.info("sweep.waits reason=%s", error)
        now = time.monotonic()
        return QUICK_S if any(now - since < QUICKLY_S for since in self._unlabelled.values()) else None

    def tell_labels(self) -> None:
        """Ask for the labels of endpoints that joined without them."""
        endpoints, now = self._driver.ledger.endpoints(), time.monotonic()
        self.wrong = {e.id: self.wrong[e.id] for e in endpoints if e.id in self.wrong}
        unlabelled = [e for e in endpoints if e.active and not e.labelled and e.id not in self.wrong]
        self._unlabelled = {e.id: self._unlabelled.get(e.id, now) for e in unlabelled}
        if not unlabelled:
            return
        networks = self._driver.ledger.networks()
        for endpoint in unlabelled:
            for docker_id in (i for i, kept in networks.items() if kept["network"] == endpoint.network_id):
                try:
                    if self._driver.tell_labels(docker_id, endpoint):
                        break
                except Invalid as error:  # the container runs already: it cannot be refused any more
                    self.wrong[endpoint.id] = str(error)
                    log.warning("labels.wrong id=%s reason=%s", endpoint.id, error)

    def sweep(self) -> None:
        """Remove what is missing now and was missing at the last sweep."""
        networks, pools = self._driver.ledger.networks(), self._driver.ledger.pools()
        self._forget_containers()
        by_network = self._engine.endpoints(sorted(networks))
        if by_network is None:
            self._suspects = set()
            return
        missing = lost(
            self._driver.ledger.endpoints(), {e for entry in by_network.values() for e in entry or ()}, datetime.now(UTC)
        )
        self._rename(by_network)
        self._name_networks(networks)
        self._read_aliases(_containers(by_network))
        gone = {docker_id for docker_id, entry in by_network.items() if entry is None}
        for endpoint in missing:
            if endpoint.id in self._suspects:
                log.info("endpoint.container_gone id=%s", endpoint.id)
                self._core.endpoints.detach(endpoint)
        for docker_id in sorted(gone & self._suspects):
            log.info("network.gone docker=%s", docker_id)
            self._driver.networks.delete({"NetworkID": docker_id})
        self._suspects = {endpoint.id for endpoint in missing} | gone
        now = time.monotonic()
        served = {entry["network"] for docker_id, entry in networks.items() if docker_id not in gone}
        unused = {pool_id for pool_id, entry in pools.items() if entry.get("network") not in served}
        self._open = {pool_id: self._open.get(pool_id, now) for pool_id in unused}
        for pool_id in [pool_id for pool_id, since in self._open.items() if now - since > UNUSED_S]:
            log.info("pool.unused pool=%s", pool_id)
            self._driver.ledger.forget(pool_id)

    def _rename(self, by_network: Mapping[str, Members | None]) -> None:
        """Give endpoints that bear the name of their container its new one (`docker rename`)."""
        containers = {docker_id: member for members in by_network.values() for docker_id, member in (members or {}).items()}
        for endpoint in self._driver.ledger.endpoints():
            container_id, name = containers.get(endpoint.labels[LABEL], ("", ""))
            former = self._driver.remembered.name_of(container_id)
            if name and former not in (None, name) and endpoint.name == former:
                log.info("endpoint.renamed id=%s from=%s to=%s", endpoint.id, former, name)
                with contextlib.suppress(Conflict):  # another endpoint has the name: it keeps the former one
                    self._core.repository.update_endpoint(endpoint.model_copy(update={"name": name}), renames=True)
        for container_id, name in containers.values():
            self._driver.remembered.rename(container_id, name)

    def _name_networks(self, networks: Mapping[str, Mapping[str, Any]]) -> None:
        """Give networks that Docker has made the names that their users gave: the call that makes one does not say it."""
        for docker_id, entry in networks.items():
            if entry.get(UNNAMED) and (name := self._engine.network_name(docker_id)) is not None:
                self._driver.networks.name(docker_id, name)

    def _follow_names(self, items: frozenset[str]) -> None:
        try:
            for container_id in self._engine.news_of_names():
                if not self._core.cache.synced.is_set():
                    continue
                if container_id:
                    self._read_aliases([container_id])
                    continue
                networks = self._driver.ledger.networks()
                self._name_networks(networks)
                if answer := self._engine.endpoints(sorted(networks)):
                    self._rename(answer)
                    self._read_aliases(_containers(answer))
        except EngineError as error:
            log.debug("engine.events_end reason=%s", error)

    def _read_aliases(self, containers: list[str]) -> None:
        if self._driver.aliases.awaited():
            self._driver.aliases.read(containers)

    def _forget_containers(self) -> None:
        """Forget the labels of containers that the engine does not have any more."""
        remembered = self._driver.remembered.ids()
        containers = self._engine.containers() if remembered else None
        if containers is not None:
            self._driver.remembered.forget(remembered - containers)


def _containers(by_network: Mapping[str, Members | None]) -> list[str]:
    """Return the ids of the containers of some networks."""
    return sorted({container for members in by_network.values() for container, _ in (members or {}).values()})


def lost(endpoints: Iterable[Endpoint], existing: set[str], now: datetime) -> list[Endpoint]:
    """Return Docker's endpoints that are not among `existing`; those that only wait for a container count when they are old."""
    endpoints_lost = []
    for endpoint in endpoints:
        docker_id = endpoint.labels[LABEL]
        made = datetime.fromisoformat(endpoint.created_at) if endpoint.created_at else now
        waits = (not endpoint.active or docker_id == "") and (now - made).total_seconds() < UNUSED_S
        if docker_id not in existing and not waits:
            endpoints_lost.append(endpoint)
    return endpoints_lost
