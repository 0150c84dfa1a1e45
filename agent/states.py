"""The states that this host's controller reports for its endpoints. Attaches wait for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

SETTLED = ("up", "closed")  # final states; an endpoint in another state soon reaches one of them


@dataclass(frozen=True, slots=True)
class State:
    """The state of an endpoint as its host's controller reports it. The controller has applied the endpoint's record of
    `revision`."""

    state: str
    reason: str
    revision: int


class States:
    """The states by endpoint id; the cache feeds them from the store. A report wakes only waiters for that endpoint.
    Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: dict[str, State] = {}
        self._waiters: dict[str, list[threading.Event]] = {}
        self._stopped = False  # the agent is stopping

    def put(self, endpoint_id: str, state: State | None) -> None:
        """Store a report; None: the endpoint has no report (any more)."""
        with self._lock:
            if state is None:
                self._states.pop(endpoint_id, None)
            else:
                self._states[endpoint_id] = state
            for event in self._waiters.get(endpoint_id, ()):
                event.set()

    def replace(self, states: Mapping[str, State]) -> None:
        """Replace all reports after a full read."""
        for endpoint_id in set(self._states) - set(states):
            self.put(endpoint_id, None)
        for endpoint_id, state in states.items():
            self.put(endpoint_id, state)

    def get(self, endpoint_id: str) -> State | None:
        """Return the newest report."""
        return self._states.get(endpoint_id)

    def wait(self, endpoint_id: str, revision: int, timeout_s: float) -> State | None:
        """Return the first report that covers `revision` of the endpoint's record; None if none comes in time."""
        deadline = time.monotonic() + timeout_s
        event = threading.Event()
        with self._lock:
            self._waiters.setdefault(endpoint_id, []).append(event)
        try:
            while not self._stopped:
                event.clear()
                state = self._states.get(endpoint_id)
                if state is not None and state.revision >= revision and state.state in SETTLED:
                    return state
                if not event.wait(max(0.0, deadline - time.monotonic())):
                    return None
            return None
        finally:
            with self._lock:
                waiters = self._waiters[endpoint_id]
                waiters.remove(event)
                if not waiters:
                    del self._waiters[endpoint_id]

    @property
    def stopped(self) -> bool:
        """Return whether the agent is stopping, so that no more reports come."""
        return self._stopped

    def stop(self) -> None:
        """Wake all waiters for good, because the agent is stopping."""
        with self._lock:
            self._stopped = True
            for events in self._waiters.values():
                for event in events:
                    event.set()
