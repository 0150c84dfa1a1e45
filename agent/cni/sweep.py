"""Takes away the endpoints of containers that a runtime has forgotten: it was killed, the host was started anew, or it is one that detaches
and never calls DEL. Runtimes that know GC ask for the same."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

from warren.errors import WarrenError

log = logging.getLogger("warren.cni")

LOOK_S = 2.0


class Sweep:
    """A thread. `suspects` are ids of endpoints with which something is wrong; `drop` takes one away if its container is gone."""

    def __init__(self, suspects: Callable[[], Iterable[str]], drop: Callable[[str], None]) -> None:
        self._suspects, self._drop = suspects, drop
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cni sweep", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()

    def _run(self) -> None:
        """What was wrong at the look before, too, may go: a DEL that is on its way comes first."""
        before: set[str] = set()
        while not self._stop.wait(LOOK_S):
            now = set(self._suspects())
            for endpoint_id in sorted(now & before):
                try:
                    self._drop(endpoint_id)
                except WarrenError as error:
                    log.info("sweep.waits id=%s reason=%s", endpoint_id, error)
                except Exception:  # one bad record must not end the thread
                    log.exception("sweep.failed id=%s", endpoint_id)
            before = now
