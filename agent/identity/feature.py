"""HostIdentity: what `warren status` and `warren check HOST` say about this host's record and about the store that it acts on."""

from __future__ import annotations

from collections.abc import Sequence

from agent.cache import Cache
from agent.feature import Feature
from agent.identity.registration import Registration
from warren.worker import Worker

CONSIDER_S = 2.0  # while the host holds: how often it looks whether its containers have ended


class HostIdentity(Feature):
    """Reports why the host holds or is refused, and other hosts that have its VTEP."""

    def __init__(self, cache: Cache, registration: Registration) -> None:
        self._cache, self._registration = cache, registration
        self._worker = Worker("store", self._step, interval_s=CONSIDER_S, on_change=registration.publish)

    def workers(self) -> Sequence[Worker]:
        """Return the worker that considers a held store again."""
        return (self._worker,)

    def problems(self) -> list[str]:
        """Return why the host holds, and which records of other hosts have its VTEP."""
        hosts = self._cache.view.snapshot.hosts
        ours = hosts.get(self._cache.host)
        lines = [f"etcd: {self._cache.held}"] if self._cache.held is not None else []
        for name, host in sorted(hosts.items()):
            if ours is not None and name != ours.name and host.vtep == ours.vtep:
                lines.append(
                    f"the record of host {name} has this host's VTEP {host.vtep}: start its agent, or warren host remove {name}"
                )
        return lines

    def differences(self) -> list[str]:
        """Return how this host's record differs from what its agent registers."""
        return self._registration.differences()

    def _step(self, items: frozenset[str]) -> None:
        held = self._cache.held
        if held is not None:
            self._cache.consider()
        if self._cache.held != held:
            self._registration.publish()
