"""The base class of all writers of specs: one transaction per change, tried again if another writer was faster.

Two writers never get the same number, and a writer that dies half-way has written nothing.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from specs import keys
from specs.model.base import Record, decode_json, now
from specs.model.network import Network
from specs.model.profile import Profile, all_profiles
from specs.model.publish import Publish
from specs.store.values import Compare, Delete, Entry, Outcome, Put, Transactions, TxnOperation, Unchanged
from warren.errors import MISSING, Conflict, Invalid, NotFound, Unavailable

TRIES = 60
RECORD_LIMIT = 1_000_000  # bytes; etcd allows 1.5 MiB a request (--max-request-bytes)
OUTRUN = f"{TRIES} transactions in a row lost against other writers; nothing was changed"
Written = Sequence[tuple[str, str | None]]  # keys below spec/ and their new values; None: deleted
OnWrite = Callable[[Written, int], None]  # what a transaction wrote, and its revision

CheckPorts = Callable[[str | None, Network, tuple[Publish, ...]], None]  # host (None: those of the network), network, ports


def _unchecked(host: str | None, network: Network, publish: tuple[Publish, ...]) -> None:
    """The default check."""


def _unobserved(written: Written, revision: int) -> None:
    """The default observer."""


class Writer:
    """Writes to a store. `on_write` is called with what each successful transaction wrote below `spec/`, before the writer returns.
    `check_ports` is called before ports of hosts are published, and raises `Conflict` for those in use."""

    def __init__(self, store: Transactions, on_write: OnWrite = _unobserved, check_ports: CheckPorts = _unchecked) -> None:
        self.store, self.ask_hosts = store, check_ports
        self._on_write = on_write
        self._locks: dict[str, threading.Lock] = {}
        self._locks_lock = threading.Lock()

    def check_ports(self, host: str | None, network_id: str, publish: tuple[Publish, ...]) -> None:
        """Raises `Conflict` for ports in use on the host (None: on those of the network), and for the tunnel's on every host."""
        published = {port for p in publish if p.proto == "udp" for port, _ in p.pairs}
        for profile in all_profiles(self.profiles()) if published else ():
            if profile.port in published:
                raise Conflict(f"udp port {profile.port} of all hosts is the tunnel's (profile {profile.name})", field="publish")
        entry = self.store.get(keys.network(network_id))
        network = decoded(Network, entry) if entry is not None else None
        if network is not None:
            self.ask_hosts(host, network, publish)

    def profiles(self) -> dict[str, Profile]:
        """All tunnel profiles with a record; malformed records are left out."""
        profiles = (decoded(Profile, entry) for entry in self.store.list(keys.PROFILES)[1])
        return {profile.name: profile for profile in profiles if profile is not None}

    def commit(
        self, compares: Sequence[Compare], operations: Sequence[TxnOperation], failure: Sequence[TxnOperation] = ()
    ) -> Outcome:
        """One transaction; tells the observer what it wrote. All writes of specs come through here."""
        for operation in operations:
            if isinstance(operation, Put) and len(operation.value) > RECORD_LIMIT:
                problem = f"it takes {len(operation.value)} bytes in etcd: expected at most {RECORD_LIMIT}"
                raise Invalid("", MISSING, f"at most {RECORD_LIMIT} bytes", problem=problem)
        outcome = self.store.txn(compares, operations, failure)
        if outcome.succeeded:
            written = [
                (operation.key, operation.value if isinstance(operation, Put) else None)
                for operation in operations
                if isinstance(operation, Put | Delete) and operation.key.startswith(keys.SPEC)
            ]
            if written:
                self._on_write(written, outcome.revision)
        return outcome

    def one_at_a_time(self, what: str) -> threading.Lock:
        """A lock for one thing that this process writes to: threads that wait for it need not lose a race in etcd."""
        with self._locks_lock:
            return self._locks.setdefault(what, threading.Lock())

    def retry(self, attempt: Callable[[], Any]) -> Any:
        """Repeat an attempt until it returns something; None means that another writer was faster. Raises `Unavailable`."""
        for tries in range(TRIES):
            result = attempt()
            if result is not None:
                return result
            time.sleep(random.uniform(0, min(0.05, 0.001 * 2**tries)))
        raise Unavailable("etcd", OUTRUN)

    def put_record(self, key: str, record: Any) -> tuple[Any, int]:
        """Create or replace a record that allocates nothing; returns it with the revision."""

        def attempt() -> tuple[Any, int] | None:
            entry = self.store.get(key)
            old = decoded(type(record), entry) if entry else None
            new = dated(record, old)
            if entry is not None and old == new:
                return new, entry.mod_revision
            outcome = self.commit([Unchanged(key, entry.mod_revision if entry else 0)], [Put(key, new.encode())])
            return (new, outcome.revision) if outcome.succeeded else None

        return self.retry(attempt)  # type: ignore[no-any-return]

    def delete_record(self, kind: str, name: str, key: str, claim: str | None = None) -> int:
        """Delete a record and the claim that it holds. Raises `NotFound`. Returns the revision."""

        def attempt() -> int | None:
            entry = self.store.get(key)
            if entry is None:
                raise NotFound(kind, name)
            changes: list[TxnOperation] = [Delete(each) for each in (key, claim) if each]
            outcome = self.commit([Unchanged(key, entry.mod_revision)], changes)
            return outcome.revision if outcome.succeeded else None

        return self.retry(attempt)  # type: ignore[no-any-return]


def decoded(kind: type[Record], entry: Entry) -> Any:
    """The record of an entry, or None for one that cannot be parsed."""
    try:
        return decode_json(kind, entry.value, entry.key)
    except Invalid:
        return None


def dated(record: Any, old: Any) -> Any:
    """The record with the time at which it was first written."""
    return record.model_copy(update={"created_at": (old and old.created_at) or record.created_at or now()})
