"""Keeps a DHCP client for each endpoint on networks with `dhcp: external` (agent/dhcp_client/udhcpc.py), and puts the leased
address into the endpoint's record and on its interface.

A client keeps its lease by itself, whether an agent runs or not. A leased address counts once it is in the record, because
the switches let nobody use another one. So when a client reports another address, the record changes first, and then the
interface.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from ipaddress import IPv4Interface
from pathlib import Path

from agent.cache import Cache, CacheView
from agent.dhcp_client import addresses
from agent.dhcp_client.lease_file import ReportedLease, parse
from agent.dhcp_client.udhcpc import Clients
from agent.feature import Feature
from agent.linux.netns import of_processes, path_of
from agent.linux.reading import far_end_of
from specs.model.endpoint import Endpoint
from specs.ports import is_subport
from specs.store.repository import Repository
from warren.errors import NotFound, WarrenError
from warren.worker import Worker

log = logging.getLogger("warren.leases")

INTERVAL_S = 0.2  # the hook writes a file: no other way works while no agent runs
RETRY_S = 2.0
INSPECT_S = 5.0  # how often the interface of an endpoint with a lease is compared with the lease


class DhcpClients(Feature):
    """Keeps a client for each endpoint that needs one. `on_change` is called when `problems` have changed."""

    def __init__(self, directory: Path, repository: Repository, cache: Cache, on_change: Callable[[], None]) -> None:
        self._clients, self._repository, self._cache, self._on_change = Clients(directory), repository, cache, on_change
        self._reasons: dict[str, str] = {}  # per endpoint, why it has no address
        self._sandboxes: dict[str, str] = {}  # endpoint -> the namespace that its container engine moves its interface into
        self._leaving: set[str] = set()
        self._versions_handled: dict[str, tuple[int, int]] = {}  # endpoint -> the version of its lease file that was handled last
        self._retry_at: dict[str, float] = {}  # endpoint -> when a failed step is tried again
        self._inspect_at: dict[str, float] = {}  # endpoint -> when its interface is compared with its lease
        self._started_at: dict[str, float] = {}  # endpoint -> when its client was started
        self._lock = threading.Lock()  # held while one endpoint is reconciled
        self._worker = Worker("DHCP clients", self._step, interval_s=INTERVAL_S, on_change=on_change)

    def workers(self) -> Sequence[Worker]:
        """The loop that reconciles the clients, which outlive it."""
        return (self._worker,)

    def problems(self) -> list[str]:
        """A line for each endpoint without an address."""
        local = self._cache.view.local_endpoints
        names = {i: record.name or i for i in self._reasons if (record := local.get(i)) is not None}
        return [f"endpoint {names.get(i, i)}: {reason}" for i, reason in sorted(self._reasons.copy().items())]

    def differences(self) -> list[str]:
        """What the interfaces of endpoints lack of their leases, a line each."""
        lines = []
        for endpoint in self._cache.view.local_endpoints.values():
            lease_file, netns = self._clients.read_lease_file(endpoint.id), self._clients.namespace(endpoint.id)
            if endpoint.leased_prefix is not None and lease_file is not None and netns is not None:
                try:
                    phrases = _missing(endpoint, netns, parse(lease_file[1]))
                except WarrenError as error:
                    phrases = [str(error)]
                lines += [f"endpoint {endpoint.name or endpoint.id}: {phrase}" for phrase in phrases]
        return lines

    # ---- called by others ---------------------------------------------------------------------------------------------

    def joins(self, endpoint_id: str, netns: str) -> None:
        """A container engine moves the endpoint's interface into this namespace."""
        with self._lock:
            self._sandboxes[endpoint_id] = netns
            self._retry_at.pop(endpoint_id, None)
            self._leaving.discard(endpoint_id)

    def leave(self, endpoint_id: str) -> None:
        """Give the endpoint's lease back while its packets still flow, and ask for no other."""
        with self._lock:
            self._leaving.add(endpoint_id)
            self._sandboxes.pop(endpoint_id, None)
        self._clients.end(endpoint_id)
        self._forget(endpoint_id)

    @contextlib.contextmanager
    def leaving(self, endpoint: Endpoint) -> Iterator[None]:
        """Gives the lease back around the end of an endpoint. If that end fails, a client may start again."""
        self.leave(endpoint.id)
        try:
            yield
        except BaseException:
            self._leaving.discard(endpoint.id)
            raise

    # ---- the loop -------------------------------------------------------------------------------------------------------

    def _step(self, items: frozenset[str]) -> None:
        if not self._cache.synced.is_set():
            return
        before = dict(self._reasons)
        self._reconcile(self._cache.view)
        if self._reasons != before:
            self._on_change()

    def _reconcile(self, view: CacheView) -> None:
        local = view.local_endpoints
        external = {n.id for n in view.snapshot.networks.values() if n.external}
        need = {e.id for e in local.values() if e.network_id in external and e.active and not e.spare and not is_subport(e)}
        self._leaving &= set(local)
        for endpoint_id in sorted(self._clients.endpoints() - need - self._leaving):
            self._clients.end(endpoint_id, partial(_remove_address, local.get(endpoint_id)))
            self._forget(endpoint_id)
        need_no_more = {e.id for e in local.values() if e.leased_prefix is not None and e.id not in need}
        for endpoint_id in sorted(need | need_no_more):
            with self._lock:
                if endpoint_id in self._leaving or self._retry_at.get(endpoint_id, 0) > time.monotonic():
                    continue
                self._retry_at.pop(endpoint_id, None)
                try:
                    self._reconcile_endpoint(local[endpoint_id], endpoint_id in need)
                except WarrenError as error:
                    self._report_failure(endpoint_id, str(error))
                    self._retry_at[endpoint_id] = time.monotonic() + RETRY_S

    def _reconcile_endpoint(self, endpoint: Endpoint, needs_client: bool) -> None:
        if not needs_client:
            self._record(endpoint, None)
        elif self._clients.lives(endpoint.id) and not self._end_if_left_behind(endpoint):
            self._on_lease(endpoint)
        else:
            self._start_client(endpoint)

    def _start_client(self, endpoint: Endpoint) -> None:
        """Start the endpoint's client, once its packets flow and its interface is in the container's namespace."""
        self._versions_handled.pop(endpoint.id, None)
        state, now = self._cache.states.get(endpoint.id), time.monotonic()
        if state is None or state.state != "up" or now - self._started_at.get(endpoint.id, -RETRY_S) < RETRY_S:
            return
        for netns in self._candidate_namespaces(endpoint, now):
            try:
                interface = far_end_of(endpoint.veth, netns)
            except WarrenError:  # the namespace has ended, or does not exist yet
                continue
            if interface is not None and interface.up:
                self._started_at[endpoint.id] = now
                self._clients.start(endpoint.id, netns, interface.name, endpoint.name, endpoint.ipv4_address)
                return

    def _candidate_namespaces(self, endpoint: Endpoint, now: float) -> Iterable[str]:
        """Return the paths of the namespaces where the endpoint's interface may be: the one that is known, or those of all processes, because an agent
        that runs in a container does not see the mounts of a container engine. Searching all costs more."""
        path = self._expected_namespace(endpoint)
        if endpoint.netns is not None or (path is not None and os.path.exists(path)):
            return (path,) if path is not None else ()
        self._retry_at[endpoint.id] = now + RETRY_S
        return of_processes()

    def _expected_namespace(self, endpoint: Endpoint) -> str | None:
        return path_of(endpoint.netns) if endpoint.netns is not None else self._sandboxes.get(endpoint.id)

    def _end_if_left_behind(self, endpoint: Endpoint) -> bool:
        """End a client that runs in another namespace than its endpoint's interface is in now, and return whether that was so. Such a client keeps the
        container's former namespace alive."""
        path, current = self._expected_namespace(endpoint), self._clients.namespace(endpoint.id)
        if path is None or current is None:
            return False
        try:
            if os.stat(current).st_ino == os.stat(path).st_ino:
                return False
        except OSError:
            if endpoint.netns is None:
                return False
        self._clients.end(endpoint.id)
        self._versions_handled.pop(endpoint.id, None)
        self._record(endpoint, None)
        return True

    def _on_lease(self, endpoint: Endpoint) -> None:
        """Apply the lease file of the endpoint's client if it has changed: to the record, and to the interface."""
        lease_file, netns = self._clients.read_lease_file(endpoint.id), self._clients.namespace(endpoint.id)
        if lease_file is None or netns is None:
            return
        if self._versions_handled.get(endpoint.id) == lease_file[0]:
            self._inspect(endpoint, netns, lease_file[1])
            return
        lease = parse(lease_file[1])
        if lease.address is None:
            addresses.put(netns, endpoint.veth, None, ())
        changed = self._record(endpoint, lease.address)
        if lease.address is not None:
            addresses.put(netns, endpoint.veth, lease.address, lease.routes)
            if self._reasons.pop(endpoint.id, None) or changed:
                log.info("lease.held endpoint=%s address=%s lease_s=%d", endpoint.id, lease.address, lease.lease_s)
        else:
            self._report_failure(endpoint.id, lease.reason)
        self._versions_handled[endpoint.id] = lease_file[0]

    def _inspect(self, endpoint: Endpoint, netns: str, text: str) -> None:
        """Put back what somebody has taken from the interface of an endpoint with a lease, and report it until the next inspection."""
        now = time.monotonic()
        if endpoint.leased_prefix is None or now < self._inspect_at.get(endpoint.id, 0.0):
            return
        self._inspect_at[endpoint.id] = now + INSPECT_S
        lease = parse(text)
        if lines := _missing(endpoint, netns, lease):
            self._report_failure(endpoint.id, "; ".join(lines))
            addresses.put(netns, endpoint.veth, lease.address, lease.routes)
        else:
            self._reasons.pop(endpoint.id, None)

    def _record(self, endpoint: Endpoint, address: IPv4Interface | None) -> bool:
        """Write the leased address into the endpoint's record (None: no address). Returns whether the record changed."""
        leased = (address.ip, address.network.prefixlen) if address is not None else (None, None)
        if (endpoint.ipv4_address, endpoint.leased_prefix) == leased:
            return False
        with contextlib.suppress(NotFound):
            self._repository.lease(endpoint.network_id, endpoint.id, address)
        return True

    def _report_failure(self, endpoint_id: str, reason: str) -> None:
        if self._reasons.get(endpoint_id) != reason:
            log.info("lease.missing endpoint=%s reason=%s", endpoint_id, reason)
        self._reasons[endpoint_id] = reason

    def _forget(self, endpoint_id: str) -> None:
        self._versions_handled.pop(endpoint_id, None)
        self._retry_at.pop(endpoint_id, None)
        self._started_at.pop(endpoint_id, None)
        self._inspect_at.pop(endpoint_id, None)
        if self._reasons.pop(endpoint_id, None):
            self._on_change()


def _missing(endpoint: Endpoint, netns: str, lease: ReportedLease) -> list[str]:
    return addresses.missing(netns, endpoint.veth, lease.address, lease.routes) if lease.address is not None else []


def _remove_address(endpoint: Endpoint | None, netns: str) -> None:
    """Take the leased address from the interface of an endpoint that needs no client any more, because its network has
    changed."""
    if endpoint is not None:
        addresses.put(netns, endpoint.veth, None, ())
