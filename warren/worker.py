"""Worker: the class for the loops of Warren's daemons. It survives any exception and reports it in `warren status`."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from warren.errors import WarrenError

log = logging.getLogger("warren.worker")

BACKOFF_S = (1.0, 30.0)  # the first and the longest pause after an unexpected exception
RETRY_S = 2.0  # the pause after a `WarrenError`: the step is not possible now
REST, LONGEST_REST_S = 40.0, 0.2  # after a step, as a multiple of the processor time that it took
Step = Callable[[frozenset[str]], float | None]


def _nobody() -> None:
    """The default for `on_change`: does nothing."""


class Worker:
    """A thread that runs `step` after each `wake`, and every `interval_s` seconds (None: only after `wake`).

    `step` receives the items that were passed to `wake` since its last success, and may return the number of seconds until
    it must run again. An exception does not end the thread: it is logged and reported by `problems`, and after 1 to 30
    seconds the step runs again with the same items. `on_change` is called when `problems` has changed. `stop` sets
    `stopping` at once, so that a running step can see it.

    While wakes pour in, a step takes many of them at once: after each step the thread rests for a multiple of the processor time that the
    step took, at most a fifth of a second. So a step may look at all endpoints of a host, and a document of thousands still does not pay
    that for each of them. With an interval of 0 the step itself waits for its events, and the thread does not rest.
    """

    def __init__(
        self, name: str, step: Step, *, interval_s: float | None = None, on_change: Callable[[], None] = _nobody
    ) -> None:
        self.name, self.interval_s = name, interval_s
        self.stopping = threading.Event()
        self._step, self._on_change = step, on_change
        self._condition = threading.Condition()
        self._items: set[str] = set()
        self._woken = False
        self._problem: str | None = None
        self._failed = False  # whether the last step failed
        self._failures = 0  # steps with unexpected exceptions since the last success
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float = 0.0) -> None:
        """Let the thread end after its current step; wait for that at most `timeout_s` seconds."""
        self.stopping.set()
        with self._condition:
            self._condition.notify_all()
        if timeout_s and self._thread.is_alive():
            self._thread.join(timeout_s)

    def wake(self, *items: str) -> None:
        """Run the step soon, with these items in addition to those that are waiting."""
        with self._condition:
            self._items.update(items)
            self._woken = True
            self._condition.notify_all()

    @property
    def alive(self) -> bool:
        """Return whether the thread runs."""
        return self._thread.is_alive()

    @property
    def problems(self) -> list[str]:
        """Return the error of the last step; empty if it succeeded."""
        return [] if self._problem is None else [f"{self.name}: {self._problem}"]

    def run_once(self, items: frozenset[str] = frozenset()) -> float | None:
        """Run one step; return the seconds until the next one (None: only after `wake`)."""
        try:
            again_s = self._step(items)
        except WarrenError as error:
            if str(error) != self._problem:
                log.info("worker.waits name=%s reason=%s", self.name, error)
            self._failed = True
            self._report(str(error))
            return RETRY_S
        except Exception as error:
            log.exception("worker.failed name=%s", self.name)
            self._failed, self._failures = True, self._failures + 1
            self._report(f"internal error: {type(error).__name__}")
            first_s, longest_s = BACKOFF_S
            return min(longest_s, first_s * 2 ** min(self._failures - 1, 10))
        self._failed, self._failures = False, 0
        self._report(None)
        return again_s if again_s is not None else self.interval_s

    def _report(self, problem: str | None) -> None:
        changed, self._problem = problem != self._problem, problem
        if changed:
            try:
                self._on_change()
            except Exception:
                log.exception("worker.failed name=%s", self.name)

    def _run(self) -> None:
        wait_s = self.interval_s
        while not self.stopping.is_set():
            items = self._next_items(wait_s)
            if self.stopping.is_set():
                return
            began_s = time.thread_time()
            wait_s = self.run_once(items)
            if self._failed:
                with self._condition:
                    self._items |= items
                self.stopping.wait(wait_s)  # `wake` does not shorten this pause, so that a failing step does not spin
                wait_s = 0.0
            elif self.interval_s != 0:
                rest_s = min(LONGEST_REST_S, REST * (time.thread_time() - began_s))
                self.stopping.wait(rest_s)
                wait_s = max(0.0, wait_s - rest_s) if wait_s is not None else None

    def _next_items(self, wait_s: float | None) -> frozenset[str]:
        """Wait until `wake` is called, or for `wait_s` seconds; return the items to handle."""
        with self._condition:
            self._condition.wait_for(lambda: self._woken or self.stopping.is_set(), wait_s)
            items, self._items, self._woken = frozenset(self._items), set(), False
            return items
