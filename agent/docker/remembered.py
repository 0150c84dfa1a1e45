"""Remembers in etcd what the engine has told of its containers (`docker/HOST/containers/ID`).

An engine that starts its containers answers nobody meanwhile. A container's labels never change, so what they said last time
holds at once; the container's id comes from the control group of its process.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from agent.docker.engine import Container
from agent.linux.processes import container_ids, in_namespace
from specs import keys
from specs.store.etcd import Store
from specs.store.values import Delete, Put


class _Entry(NamedTuple):
    """A container's name and labels, and the engine's names of its networks by Docker's id."""

    name: str
    labels: Mapping[str, str]
    networks: Mapping[str, str]


class Remembered:
    """The containers of the engine on one host. Thread-safe. `keep` does not wait for etcd; `write` does."""

    def __init__(self, store: Store, host: str) -> None:
        self._store, self._prefix = store, keys.docker_containers(host)
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] | None = None  # as etcd has them, and what is to be written
        self._unwritten: set[str] = set()

    def keep(self, container: Container, network_id: str) -> bool:
        """Remember a container on a Docker network. Returns whether there is something to write."""
        if not container.id:
            return False
        with self._lock:
            entries = self._read()
            old = entries.get(container.id)
            networks = {**(old.networks if old is not None else {}), network_id: container.network}
            new = _Entry(container.name, container.labels, networks)
            if new != old:
                entries[container.id] = new
                self._unwritten.add(container.id)
            return bool(self._unwritten)

    def container(self, network_id: str, sandbox: str, veth: str) -> Container | None:
        """Return the container whose processes are in a namespace, if it is remembered."""
        for container_id in container_ids(in_namespace(sandbox, veth)):
            with self._lock:
                entry = self._read().get(container_id)
            if entry is not None:
                return Container(entry.name, dict(entry.labels), entry.networks.get(network_id, ""), container_id)
        return None

    def name_of(self, container_id: str) -> str | None:
        """Return a container's name, as it was told last."""
        with self._lock:
            entry = self._read().get(container_id)
        return entry.name if entry is not None else None

    def rename(self, container_id: str, name: str) -> None:
        """Remember that a container has another name."""
        with self._lock:
            entry = self._read().get(container_id)
            if entry is not None and entry.name != name:
                self._read()[container_id] = entry._replace(name=name)
                self._unwritten.add(container_id)

    def ids(self) -> set[str]:
        """Return the ids of all containers that are remembered."""
        with self._lock:
            return set(self._read())

    def write(self) -> None:
        """Write to etcd what is not there yet. Raises `Unavailable`."""
        with self._lock:
            waiting = {i: entry for i in self._unwritten if (entry := self._read().get(i)) is not None}
            self._unwritten.clear()
        try:
            for container_id, entry in waiting.items():
                self._store.txn((), [Put(self._prefix + container_id, json.dumps(entry._asdict()))])
        except Exception:
            with self._lock:
                self._unwritten |= waiting.keys()
            raise

    def forget(self, ids: Collection[str]) -> None:
        """Forget containers that the engine does not have any more. Raises `Unavailable`."""
        for container_id in sorted(ids):
            self._store.txn((), [Delete(self._prefix + container_id)])
            with self._lock:
                self._read().pop(container_id, None)
                self._unwritten.discard(container_id)

    def _read(self) -> dict[str, _Entry]:
        if self._entries is None:
            listed = self._store.list(self._prefix)[1]
            self._entries = {entry.key.removeprefix(self._prefix): _decoded(json.loads(entry.value)) for entry in listed}
        return self._entries


def _decoded(data: Mapping[str, Any]) -> _Entry:
    return _Entry(str(data["name"]), data.get("labels") or {}, data.get("networks") or {})
