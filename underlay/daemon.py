"""The daemon: reads the metadata repeatedly, and keeps the kernel as the last good reading says."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from underlay import state
from underlay.config import Configuration
from underlay.events import Events
from underlay.fetch import MetadataSource
from underlay.kernel import converge
from underlay.model import Metadata
from underlay.plan import Kernel, NetworkPlan, difference, phrases, plan
from warren.errors import Invalid, Unavailable
from warren.worker import Worker

log = logging.getLogger("warren.underlay")

BACKOFF_S = (1.0, 60.0)
PAUSE_S = 1.0  # at least, between two readings, even if the service reports changes all the time
GATHER_S = 0.1  # events within this time are handled together
INSPECT_S = 30.0  # the kernel is read this often without events
RETRY_S = 10.0  # after the kernel has refused something


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataReading:
    """The last good reading of the metadata, and when it was made (monotonic seconds)."""

    metadata: Metadata
    at_s: float


class Daemon:
    """Three loops: `metadata` reads the service, `kernel` reconciles, `events` listens to the kernel. A bad reading changes nothing."""

    def __init__(
        self, source: MetadataSource, configuration: Configuration, directory: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._source, self._configuration, self._directory, self._clock = source, configuration, directory, clock
        self._reading: MetadataReading | None = None
        self._reason = "not read yet"
        self._failures = 0
        self._refresh = threading.Event()
        self._plan: NetworkPlan | None = None
        self._applied: MetadataReading | None = None  # the reading that was carried out last
        self._kernel = Kernel()
        self._refused: list[str] = []
        self._unknown: set[str] | None = None  # MACs without metadata
        self.reconciled = threading.Event()  # set after the first good reading has been carried out, or a reading failed
        self._reconciled_s = clock()  # when `kernel` last ran
        self._metadata_worker = Worker("metadata", self._read, interval_s=0)
        self._kernel_worker = Worker("kernel", self._reconcile, interval_s=INSPECT_S)
        self._events = Events(self._kernel_worker.wake)
        self.workers = (self._events.worker, self._kernel_worker, self._metadata_worker)

    def start(self) -> None:
        """Start the loops."""
        for worker in self.workers:
            worker.start()
        self._metadata_worker.wake()

    def stop(self) -> None:
        """Let the loops end. The kernel's state stays: packets go on without the daemon."""
        self._refresh.set()
        for worker in self.workers:
            worker.stop()

    def reconfigure(self, configuration: Configuration) -> None:
        """Go on with another configuration; the metadata are read again at once."""
        self._configuration = configuration
        self._refresh.set()
        self._kernel_worker.wake("configuration")

    def idle_s(self) -> float:
        """Return how many seconds ago the kernel was read."""
        return self._clock() - self._reconciled_s

    # ---- metadata

    def _read(self, items: frozenset[str]) -> float | None:
        """Read the metadata, then wait for a change. A worker's step."""
        if self._reading is not None and not self._failures:
            self._source.wait(self._configuration.refresh_s, self._woken)
            if self._metadata_worker.stopping.wait(PAUSE_S):
                return None
        try:
            metadata = self._source.read()
        except (Unavailable, Invalid) as error:
            return self._failed(error)
        if self._failures:
            log.info("underlay.metadata_back failures=%d", self._failures)
        self._failures, self._reason = 0, ""
        if self._reading is None or self._reading.metadata.nics != metadata.nics:
            log.info("underlay.metadata site=%s nics=%s", metadata.location.site, ",".join(nic.mac for nic in metadata.nics))
        self._reading = MetadataReading(metadata=metadata, at_s=self._clock())
        self._kernel_worker.wake("metadata")
        return None

    def _failed(self, error: Unavailable | Invalid) -> float:
        """Note a failed reading; return the seconds until the next try."""
        first_s, longest_s = BACKOFF_S
        pause_s = min(longest_s, max(first_s, self._configuration.refresh_s), first_s * 2 ** min(self._failures, 10))
        if not self._failures:
            log.warning("underlay.metadata_failed reason=%s kept=%s", error, "all" if self._reading else "nothing was set yet")
        self._failures += 1
        self._reason = str(error)
        self.reconciled.set()
        self._woken(pause_s)
        return 0.0

    def _woken(self, timeout_s: float) -> bool:
        """Wait for a reason to read again at once; return whether there is one."""
        woken = self._refresh.wait(timeout_s)
        self._refresh.clear()
        return woken

    # ---- kernel

    def _reconcile(self, items: frozenset[str]) -> float | None:
        """Make the kernel equal to the last good reading. A worker's step."""
        self._reconciled_s = self._clock()
        reading = self._reading
        if reading is None:
            return None
        if not items:
            self._kernel_worker.stopping.wait(GATHER_S)
        metadata, supplementary = reading.metadata, self._configuration.supplementary
        planned, kernel, refused = converge(lambda kernel: plan(metadata.nics, kernel, supplementary))
        for line in set(refused) - set(self._refused):
            log.warning("underlay.refused %s", line)
        for line in set(planned.problems) - set(self._plan.problems if self._plan is not None else ()):
            log.info("underlay.problem %s", line)
        self._plan, self._kernel, self._refused, self._applied = planned, kernel, refused, reading
        self._look_for_new(metadata, kernel)
        self.reconciled.set()
        self._save(metadata, planned)
        return RETRY_S if refused else None

    def _save(self, metadata: Metadata, planned: NetworkPlan) -> None:
        links = {link.index: metadata.links[mac] for mac, link in planned.nics.items()}
        try:
            state.save(self._directory, metadata.system, links)
        except OSError as error:
            raise Unavailable("the state files", str(error)) from None

    def _look_for_new(self, metadata: Metadata, kernel: Kernel) -> None:
        """Read the metadata again when the kernel has a new link without metadata: the cloud may have attached a NIC."""
        macs = {nic.mac for nic in metadata.nics}
        unknown = {link.mac for link in kernel.links if link.mac not in macs and not link.kind}  # virtual ones have a kind
        if self._unknown is not None and unknown - self._unknown:
            self._refresh.set()
        self._unknown = unknown

    # ---- reports

    def problems(self) -> list[str]:
        """Return a line for each problem that somebody should look at."""
        lines = [*self._configuration.problems, *(line for worker in self.workers for line in worker.problems)]
        if self._failures:
            lines.append(f"{self._reason}; tried {self._failures} times" + ("; the last state is kept" if self._reading else ""))
        return lines + ([*self._plan.problems, *self._refused] if self._plan is not None else [])

    def documents(self) -> Mapping[str, Any]:
        """Return what the REST API serves, by paths."""
        reading = self._reading
        documents: dict[str, Any] = {"status": self._status()}
        if reading is None:
            return documents
        identity = {f"dynamicinstanceidentity/{name}": value for name, value in reading.metadata.identity.items()}
        return documents | {"system": reading.metadata.system, "network": reading.metadata.network} | identity

    def _status(self) -> dict[str, Any]:
        planned, reading = self._plan, self._reading
        status: dict[str, Any] = {
            "problems": self.problems(),
            "age_s": None,
            "applied": False,
            "location": None,
            "nics": [],
            "differences": [],
        }
        if reading is None:
            return status
        location = reading.metadata.location
        status["applied"] = self._applied is reading
        status["age_s"] = round(self._clock() - reading.at_s, 1)
        status["location"] = {"cloud": location.cloud, "region": location.region, "vpc": location.vpc, "site": location.site}
        links = planned.nics if planned is not None else {}
        status["nics"] = [
            {
                "mac": nic.mac,
                "link": links[nic.mac].name if nic.mac in links else None,
                "mtu": nic.mtu,
                "addresses": [str(address) for address in nic.addresses],
                "prefixes": [str(prefix) for prefix in nic.prefixes],
                "public": {str(pair.private): str(pair.public) for pair in nic.public},
            }
            for nic in reading.metadata.nics
        ]
        if planned is not None:
            status["differences"] = phrases(difference(planned, self._kernel), self._kernel)
        return status
