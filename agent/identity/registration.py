"""Registers this host in etcd: its record, and its status under a lease, which shows other hosts that the agent is alive."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

from agent.config import Config
from agent.identity.notes import Notes
from agent.linux.addresses import interface_mtu
from specs import keys
from specs.identity import Machine
from specs.model.base import decode_json, now
from specs.model.host import Host, HostFields
from specs.store.admission import Admission
from specs.store.etcd import Store
from specs.store.lease import EtcdLease
from specs.store.repository import Repository
from specs.store.values import Entry
from warren import __version__
from warren.errors import Conflict, Invalid, WarrenError
from warren.worker import Worker

log = logging.getLogger("warren.registration")

LEASE_S = 10
RETRY_S = 1.0
CHECK_S = 5.0  # the longest time until a change of the record or of the underlay's MTU is seen
RECORD = "record"
ALLOCATED = frozenset(("created_at", "tunnel_address"))  # by the writer
PROBLEMS_SHOWN = 100


class Registration:
    """Writes the host's record once etcd answers and no other living machine is this host, puts the record right when somebody
    changes it, and writes the host's status whenever `publish` is called. `permit` is told whether this machine is the host.
    `problems` returns the problems in the status. `of_underlay` returns the fields that follow the underlay (its MTU; in a cloud its addresses and
    site); `of_outside` those that follow from the outside address."""

    def __init__(
        self,
        host: Host,
        machine: Machine,
        store: Store,
        problems: Callable[[], Sequence[str]],
        permit: Callable[[str | None], None],
        of_underlay: Callable[[], dict[str, Any]],
        of_outside: Callable[[Host], dict[str, Any]] = lambda host: {},
    ) -> None:
        self._of_underlay, self._of_outside = of_underlay, of_outside
        self._host, self._machine = host.model_copy(update={"machine": machine.id or None}), machine
        self._by_settings = self._host
        self._followed: frozenset[str] = frozenset()  # fields that follow the underlay now
        self._store, self._repository = store, Repository(store)
        self._problems_of_others, self._permit = problems, permit
        self._admission = Admission(store, host.name, machine, "agent", keys.status_agent(host.name))
        self._started_at = now()
        self._lease: EtcdLease | None = None
        self._registered = False
        self._notes = Notes()
        self.refused: str | None = None  # why the record cannot be written
        self.worker = Worker("registration", self._step, interval_s=CHECK_S, on_change=self.publish)

    def problems(self) -> list[str]:
        """Return the problems of this agent for `warren status`, a line each."""
        return [*self._problems_of_others(), *self._notes.lines(), *self.worker.problems]

    def differences(self) -> list[str]:
        """Return how this host's record differs from what this agent registers, a line each."""
        entry = self._store.get(keys.host(self._host.name))
        if entry is None:
            return [f"host {self._host.name}: it has no record"]
        record = _decoded(entry)
        wrong = _wrong(record, self._expected(record))
        return [f"host {self._host.name}: its record has {text}" for text in wrong]

    def publish(self) -> None:
        """Write the status soon, because the problems may have changed."""
        self.worker.wake()

    def check(self) -> None:
        """Compare the record soon, because somebody may have changed it."""
        self.worker.wake(RECORD)

    def close(self) -> None:
        """Revoke the lease, so that other hosts see at once that this agent has stopped."""
        try:
            if self._lease is not None:
                self._lease.close()
            self._admission.admitted()
        except WarrenError as error:
            log.info("lease.left reason=%s", error)

    def _step(self, items: frozenset[str]) -> float | None:
        try:
            self._follow_underlay()
            self._admission.check()
            self._register()
            self._admission.admitted()
            self._registered, self.refused = True, None
            self._permit(None)
            if not self.worker.stopping.is_set():
                self._report()
            return None
        except Conflict as error:
            self._refuse(error)
        except WarrenError as error:
            self._log_refusal(error)
        return RETRY_S

    def _follow_underlay(self) -> None:
        """Take over the fields that follow the underlay; those that follow it no longer get their values by the settings again."""
        fields = self._of_underlay()
        ended = {name: getattr(self._by_settings, name) for name in self._followed - fields.keys() - {"underlay_mtu"}}
        changed = {name: value for name, value in {**ended, **fields}.items() if value != getattr(self._host, name)}
        self._followed = frozenset(fields)
        if changed:
            log.info("host.underlay_changed %s", " ".join(f"{name}={value}" for name, value in sorted(changed.items())))
            self._host, self._registered = self._host.model_copy(update=changed), False

    def _refuse(self, error: Conflict) -> None:
        """Stop acting as this host, and say so where the host that keeps the name or address can see it."""
        self._log_refusal(error)
        self._registered = False
        self._permit(str(error))
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.close()
        try:
            self._admission.refused(error)
        except WarrenError as reason:
            log.info("host.refusal_not_told reason=%s", reason)

    def _log_refusal(self, error: WarrenError) -> None:
        if str(error) != self.refused:
            log.info("host.not_registered reason=%s", error)
        self.refused = str(error)

    def _register(self) -> None:
        """Write the record unless it is right: the administrator sets `HostFields` (`warren apply`), the agent sets the other fields."""
        entry = self._store.get(keys.host(self._host.name))
        before = _decoded(entry) if entry is not None else None
        record = self._expected(before)
        wrong = _wrong(before, record) if entry is not None else ["no record"]
        if record.site is not None and (before is None or before.site != record.site):
            self._repository.make_site(record.site)
        revision = self._repository.put_host(record)
        if not self._registered:
            log.info("host.registered name=%s vtep=%s revision=%d", record.name, record.vtep, revision)
            if before is not None and before.machine not in (None, record.machine):
                self._notes.add(f"{self._machine} has taken this host's name over from machine {before.machine}, which was gone")
        elif wrong and not _follows(before, record):
            self._notes.add(f"somebody changed this host's record in etcd ({', '.join(wrong)}): it was put right")

    def _expected(self, before: Host | None) -> Host:
        """Return the record as it must be, without what is allocated. The administrator's fields stay as they are, but for the site and the outside
        address where this agent's settings or the cloud's metadata have them."""
        kept = {name: getattr(before or self._host, name) for name in HostFields.model_fields}
        by_agent = {name: getattr(self._host, name) for name in ("site", "outside", "underlay")}
        kept |= {name: value for name, value in by_agent.items() if value is not None or name in self._followed}
        record = self._host.model_copy(update=kept)
        return record.model_copy(update=self._of_outside(record))

    def _report(self) -> None:
        if self._lease is None:
            self._lease = EtcdLease(self._store, ttl_s=LEASE_S, admit=self._admission.check)
        status = {
            "version": __version__,
            "started_at": self._started_at,
            "machine": self._machine.data(),
            "problems": self.problems()[:PROBLEMS_SHOWN],
        }
        self._lease.put(keys.status_agent(self._host.name), json.dumps(status, sort_keys=True))


def _follows(before: Host | None, record: Host) -> bool:
    """Return whether the record changes because its outside address has come or gone, and not because somebody has changed what follows."""
    return before is not None and (before.public_key is None) != (record.public_key is None)


def _decoded(entry: Entry) -> Host | None:
    try:
        return decode_json(Host, entry.value, entry.key)
    except Invalid:
        return None


def _wrong(record: Host | None, expected: Host) -> list[str]:
    """Return the fields that the agent sets and that have other values in the record, as text."""
    if record is None:
        return ["an unreadable value"]
    fields = sorted(Host.model_fields.keys() - HostFields.model_fields.keys() - ALLOCATED)
    pairs = [(name, getattr(record, name), getattr(expected, name)) for name in fields]
    return [f"{name} {value} instead of {right}" for name, value, right in pairs if value != right]


def of_underlay(config: Config, host: Host, of_cloud: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the fields that follow the underlay: those of the cloud, and the MTU in bytes of the interface that has the VTEP, or the setting if
    that is smaller. `host` is the host by its settings."""
    fields = of_cloud()
    limits = [mtu for mtu in (config.underlay_mtu, interface_mtu(fields.get("vtep", host.vtep))) if mtu is not None]
    return {**fields, "underlay_mtu": min(limits)} if limits else fields
