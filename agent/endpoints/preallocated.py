"""Preallocated endpoints: of each network that says `preallocate: N` this host keeps N ready, with record, veth, OVS port and flows.

An attach that asks for no address, MAC, port or id of its own takes one: its record gets the container's names in one transaction and
its cable moves into the namespace. Neither OVSDB nor the switch is asked. Another takes its place in the background.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Iterator
from ipaddress import IPv4Network, IPv6Network

from agent.api.sand import EndpointCreate
from agent.cache import Known
from specs.model.records import Endpoint
from warren.errors import WarrenError

log = logging.getLogger("warren.spares")

CALM_S = 0.5  # after the last one that was taken: an attach that goes on, or the next of several, is not slowed down
RETRY_S = 5.0  # what could not be made (no address is left, the controller is away) is tried again
ONLY_HOST = "docker.host"  # label of a network that an engine has made for itself: no other host will use it
OWN = ("ipv4_address", "ipv6_address", "mac_address", "ofport", "id")  # who asks for one of these gets a port of his own


class Spares:
    """The spare endpoints of one host. `make` makes one of a network, `drop` takes one away; both raise `WarrenError`."""

    def __init__(self, known: Known, make: Callable[[str], None], drop: Callable[[Endpoint], None]) -> None:
        self._known, self._make, self._drop = known, make, drop
        self._lock, self._making = threading.Lock(), threading.RLock()
        self._taken: set[str] = set()
        self._changed, self._ended = threading.Event(), threading.Event()
        self._calm_at = 0.0

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="spares", daemon=True).start()

    def stop(self) -> None:
        """End the thread after the endpoint that it is at."""
        self._ended.set()
        self._changed.set()

    def look(self) -> None:
        """The specs have changed."""
        self._changed.set()

    @contextlib.contextmanager
    def none_made(self) -> Iterator[None]:
        """Meanwhile none is made: an address that is given back stays free."""
        with self._making:
            yield

    def take(
        self, request: EndpointCreate, addresses: Collection[str] = (), within: IPv4Network | IPv6Network | None = None
    ) -> Endpoint | None:
        """A spare endpoint for a request, nobody else's from now on; None where there is none ready, or none would do. With
        `addresses` that somebody else has given out, the one that has them all, ready or not; with a range, one that has an address
        `within`."""
        network = self._known.snapshot.networks.get(request.network_id)
        if network is None or not network.preallocate or any(getattr(request, name) is not None for name in OWN):
            return None
        with self._lock:
            for endpoint in self._of(network.id):
                state = self._known.states.get(endpoint.id)
                own = {endpoint.ipv4_address, endpoint.ipv6_address} - {None}
                fits = {str(address) for address in own}.issuperset(addresses) if addresses else state and state.state == "up"
                if endpoint.id not in self._taken and fits and (within is None or any(address in within for address in own)):
                    self._taken.add(endpoint.id)
                    self._calm_at = math.inf
                    return endpoint
        return None

    def settled(self, endpoint_id: str) -> None:
        """What was taken is an endpoint now, or is spare again."""
        with self._lock:
            self._taken.discard(endpoint_id)
            self._calm_at = math.inf if self._taken else time.monotonic() + CALM_S
        self._changed.set()

    def _of(self, network_id: str) -> list[Endpoint]:
        found = [e for e in list(self._known.mine.values()) if e.spare and e.network_id == network_id]
        return sorted(found, key=lambda e: (e.created_at or "", e.id))

    def _run(self) -> None:
        wait_s: float | None = None
        while not self._ended.is_set():
            self._changed.wait(wait_s)
            self._changed.clear()
            calm_s = self._calm_at - time.monotonic()
            if calm_s > 0:
                wait_s = min(calm_s, RETRY_S)
            elif self._known.read.is_set():
                wait_s = None if self._fill() else RETRY_S

    def _fill(self) -> bool:
        """One step at a time, and what an attach waits for comes first; whether there are as many as there should be."""
        full = True
        networks = list(self._known.snapshot.networks.values())
        wanted = {n.id: n.preallocate for n in networks if n.labels.get(ONLY_HOST, self._known.host) == self._known.host}
        for network_id in {*wanted, *(e.network_id for e in list(self._known.mine.values()) if e.spare)}:
            there = [e for e in self._of(network_id) if e.id not in self._taken]
            try:
                for extra in there[wanted.get(network_id, 0) :]:
                    if self._hold(extra.id):
                        self._drop(extra)
                        self.settled(extra.id)
                if len(there) < wanted.get(network_id, 0) and not self._ended.is_set():
                    began = time.monotonic()
                    with self._making:
                        self._make(network_id)
                    log.info("spare.made network=%s ms=%.1f", network_id, (time.monotonic() - began) * 1000)
                    self._changed.set()  # perhaps another
            except WarrenError as error:
                full = False
                log.info("spare.waits network=%s reason=%s", network_id, error)
        return full

    def _hold(self, endpoint_id: str) -> bool:
        with self._lock:
            if endpoint_id in self._taken:
                return False
            self._taken.add(endpoint_id)
            return True
