"""A lease: keys that say that their writer is alive."""

from __future__ import annotations

import logging
import threading

from specs.errors import Unavailable
from specs.store import Store

log = logging.getLogger("warren.lease")


class Lease:
    """Keys that live as long as this process and its connection do: `ttl_s` seconds beyond its end."""

    def __init__(self, store: Store, ttl_s: int = 10) -> None:
        self.store, self.ttl_s = store, ttl_s
        self.id = 0
        self._values: dict[str, str] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        threading.Thread(target=self._keep, name="lease", daemon=True).start()

    def put(self, key: str, value: str) -> None:
        """Write a key under the lease. Raises `Unavailable`; the value is then written once etcd is back."""
        with self._lock:
            self._values[key] = value
            if not self.id:
                self.id = self.store.grant(self.ttl_s)
            self.store.put(key, value, self.id)

    def _keep(self) -> None:
        while not self._stop.wait(self.ttl_s / 4):
            try:
                if self.id and not self.store.keep_alive(self.id):
                    log.info("lease.expired id=%x", self.id)
                    self._renew()
            except Unavailable as error:
                log.info("lease.waits reason=%s", error)

    def _renew(self) -> None:
        with self._lock:
            self.id = self.store.grant(self.ttl_s)
            for key, value in self._values.items():
                self.store.put(key, value, self.id)

    def close(self) -> None:
        """End the lease: its keys vanish now."""
        self._stop.set()
        if self.id:
            self.store.revoke(self.id)
