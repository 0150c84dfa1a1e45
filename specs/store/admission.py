"""Admits one living machine per host name: reads who reports the host's status, and tells of a machine that is refused."""

from __future__ import annotations

import json

from specs import keys
from specs.identity import Machine, contender, refusal
from specs.store.etcd import Store
from specs.store.lease import EtcdLease
from warren.errors import Conflict


class Admission:
    """Of one process (`agent` or `controller`) of a machine that wants to be host `name`. `key` holds that process's status."""

    def __init__(self, store: Store, name: str, machine: Machine, process: str, key: str) -> None:
        self._store, self._name, self._machine, self._process, self._key = store, name, machine, process, key
        self._lease: EtcdLease | None = None

    def check(self) -> None:
        """Raise `Conflict` if another machine is this host and lives."""
        entry = self._store.get(self._key)
        try:
            report = json.loads(entry.value) if entry is not None else None
        except ValueError:
            report = None
        other = contender(self._machine, report if isinstance(report, dict) else None)
        if other is not None:
            raise Conflict(refusal(self._name, self._process, self._machine, other), field="name", holder=self._name)

    def refused(self, error: Conflict) -> None:
        """Say in the status of the host that keeps the name or address that this machine was refused. Raises `Unavailable`."""
        if self._lease is None:
            self._lease = EtcdLease(self._store)
        process = f"{self._process}-{self._machine.id}-{self._machine.vtep}"
        text = f"{self._machine} wants to be host {self._name} and is refused ({self._process}): {error}"
        self._lease.put(keys.status_claimant(error.holder or self._name, process), json.dumps({"problem": text}))

    def admitted(self) -> None:
        """Take back what `refused` has said."""
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.close()
