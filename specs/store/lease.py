"""A lease: its keys say that their writer is alive."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from specs.store.etcd import Store
from warren.errors import LeaseExpired, Unavailable, WarrenError

log = logging.getLogger("warren.lease")


class EtcdLease:
    """Keys that exist as long as this process and its connection do, and for `ttl_s` seconds longer. `admit` raises `WarrenError`
    if the keys may not be written under a new lease: another process may have taken them over meanwhile."""

    def __init__(self, store: Store, ttl_s: int = 10, admit: Callable[[], None] = lambda: None) -> None:
        self.store, self.ttl_s, self._admit = store, ttl_s, admit
        self.id = 0
        self._values: dict[str, str] = {}
        self._written: dict[str, str] = {}  # under the lease `id`
        self._lock = threading.Lock()
        self._stop = threading.Event()
        threading.Thread(target=self._keep, name="lease", daemon=True).start()

    def put(self, key: str, value: str) -> None:
        """Write a key under the lease, unless it has that value already. Raises `Unavailable`; then the value is written
        once etcd is back."""
        with self._lock:
            self._values[key] = value
            self._settle()

    def anew(self) -> None:
        """Write everything again under a new lease, because etcd was restored. Raises `Unavailable`."""
        with self._lock:
            self.id = 0
            self._settle()

    def _settle(self) -> None:
        """Write what is not written yet, under a new lease when there is none. The caller holds the lock."""
        for again in (True, False):
            try:
                if not self.id and self._values and not self._stop.is_set():
                    self._admit()
                    self.id, self._written = self.store.grant(self.ttl_s), {}
                for key, value in self._values.items():
                    if self.id and self._written.get(key) != value:
                        self.store.put(key, value, self.id)
                        self._written[key] = value
                return
            except LeaseExpired:
                if not again:
                    raise
                self.id = 0

    def _keep(self) -> None:
        while not self._stop.wait(self.ttl_s / 4):
            lease = self.id
            try:
                expired = lease and not self.store.keep_alive(lease)
                with self._lock:
                    if expired and self.id == lease:
                        log.info("lease.expired id=%x", lease)
                        self.id = 0
                    self._settle()
            except WarrenError as error:
                log.info("lease.waits reason=%s", error)

    def close(self) -> None:
        """End the lease. Its keys are deleted now, or when it expires if etcd is away."""
        self._stop.set()
        with self._lock:
            lease, self.id = self.id, 0
        try:
            if lease:
                self.store.revoke(lease)
        except Unavailable as error:
            log.info("lease.runs_out reason=%s", error)
