"""Makes and keeps the network namespaces of endpoints with `keep_netns`: /run/netns/NAME outlives the containers that use it, and is made again
after the host's reboot.

A namespace of Warren's has a mark inside (agent/linux/named_namespaces.py); a namespace without the mark is neither used nor removed. Files
below WARREN_RUN list the namespaces, one file for each.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from threading import RLock

from agent.cache import Cache
from agent.feature import Feature
from agent.linux import named_namespaces
from agent.listeners import Listeners
from specs.model.endpoint import Endpoint, kept_name
from warren.errors import MISSING, Conflict, Invalid
from warren.worker import Worker

log = logging.getLogger("warren.namespaces")


def needed(endpoints: Iterable[Endpoint]) -> frozenset[str]:
    """Return the names of the namespaces below /run/netns that these endpoints are in. Pure."""
    return frozenset(name for e in endpoints if e.active and (name := kept_name(e.netns)) is not None)


class KeptNamespaces(Feature):
    """The namespaces of one host that Warren has made. Thread-safe. `on_change` is called when `problems` have changed."""

    def __init__(self, directory: Path, cache: Cache, on_change: Listeners[[]]) -> None:
        self._directory, self._cache = directory, cache
        self._lock = RLock()
        self._attaching: list[str] = []  # names of namespaces whose endpoints have no record yet
        self._worker = Worker("namespaces", self._step, on_change=on_change)
        cache.changed.add(lambda ids: self._worker.wake())
        cache.reread.add(self._worker.wake)

    def workers(self) -> Sequence[Worker]:
        """Return the worker that removes namespaces without an endpoint."""
        return (self._worker,)

    def differences(self) -> list[str]:
        """Return the namespaces that no endpoint needs. Missing namespaces are differences of their endpoints."""
        return (
            [f"namespace {name}: belongs to no endpoint" for name in sorted(self._strays())]
            if self._cache.synced.is_set()
            else []
        )

    @contextlib.contextmanager
    def making(self, netns: str | None) -> Iterator[None]:
        """A context that makes a new namespace for an attach, and removes it if the attach fails. Raises `Conflict` if the
        namespace exists, `Invalid` for a path that is not below /run/netns, `Unavailable`."""
        name = kept_name(netns)
        if name is None:
            raise Invalid("netns", netns if netns else MISSING, "a namespace below /run/netns, such as /run/netns/web1")
        with self._lock:
            if name in self._attaching or named_namespaces.exists(name):
                raise Conflict(f"namespace {name!r} already exists", field="netns", holder=name)
            self._attaching.append(name)
        try:
            self._make(name)
            yield
        finally:
            with self._lock:
                self._attaching.remove(name)
            self._sweep({name} & self._strays())

    def ensure(self, endpoint: Endpoint) -> None:
        """Make the namespace of an endpoint with `keep_netns`, unless it exists. Raises `Conflict` if a namespace that is not Warren's has
        the name, `Unavailable`."""
        name = endpoint.kept_namespace
        if name is None:
            return
        with self._lock:
            if not named_namespaces.exists(name):
                self._make(name)
                log.info("namespace.made name=%s endpoint=%s", name, endpoint.id)
            elif not named_namespaces.is_ours(name):
                raise Conflict(f"namespace {name!r} exists and is not Warren's; remove it: ip netns delete {name}")

    @contextlib.contextmanager
    def leaving(self, endpoint: Endpoint) -> Iterator[None]:
        """A context that removes an endpoint's namespace together with the endpoint. Raises `Conflict` while processes run in it."""
        others = needed(e for e in self._cache.view.local_endpoints.values() if e.id != endpoint.id)
        name = kept_name(endpoint.netns)
        last = name is not None and name not in others and self._is_ours(name)
        if name is not None and last:
            processes = [f"{pid} ({command})" for pid, command in named_namespaces.users(name)]
            if processes:
                more = f" and {len(processes) - 1} others" if len(processes) > 1 else ""
                raise Conflict(f"namespace {name!r} is in use by process {processes[0]}{more}: stop the container first")
        yield
        if name is not None and last:
            self._sweep({name})

    def _step(self, items: frozenset[str]) -> None:
        if self._cache.synced.is_set():
            self._sweep(self._strays())

    def _strays(self) -> set[str]:
        return self._marked() - needed(self._cache.view.local_endpoints.values()) - set(self._attaching)

    def _sweep(self, names: Iterable[str]) -> None:
        with self._lock:
            for name in sorted(set(names) - set(self._attaching)):
                if self._is_ours(name):
                    named_namespaces.delete(name)
                    log.info("namespace.removed name=%s", name)
                (self._directory / name).unlink(missing_ok=True)

    # ---- files ----------------------------------------------------------------------------------------------------

    def _make(self, name: str) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        (self._directory / name).touch()  # first: a namespace without a file would stay for good
        named_namespaces.add(name)

    def _marked(self) -> set[str]:
        return {path.name for path in self._directory.glob("*")} if self._directory.is_dir() else set()

    def _is_ours(self, name: str) -> bool:
        return (self._directory / name).exists() and named_namespaces.is_ours(name)
