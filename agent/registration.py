"""Registers this host in etcd: its record, and its status under a lease, which shows other hosts that the agent is alive."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address

from pyroute2 import IPRoute

from agent.worker import Worker
from specs import keys
from specs.model.base import decode_json, now
from specs.model.host import Host, HostFields
from specs.store.lease import EtcdLease
from specs.store.repository import Repository
from warren import __version__
from warren.errors import Invalid, WarrenError

log = logging.getLogger("warren.registration")

LEASE_S = 10
RETRY_S = 1.0
MTU_S = 5.0  # the longest time until a change of the underlay's MTU is seen
DEFAULT_MTU = 1500
PROBLEMS_SHOWN = 100


class Registration:
    """Writes the host's record once etcd answers, and its status whenever `publish` is called. `problems` returns the
    problems in the status. `measure_mtu` returns the underlay's MTU, which the record follows."""

    def __init__(
        self,
        host: Host,
        repository: Repository,
        problems: Callable[[], Sequence[str]],
        measure_mtu: Callable[[], int | None],
    ) -> None:
        self._measure_mtu = measure_mtu
        self._host, self._repository, self._problems_of_others = host, repository, problems
        self._started_at = now()
        self._lease: EtcdLease | None = None
        self._registered = False
        self.refused: str | None = None  # why the record cannot be written
        self.worker = Worker("registration", self._step, interval_s=MTU_S, on_change=self.publish)

    def problems(self) -> list[str]:
        """Return the problems of this agent for `warren status`, a line each."""
        return [*self._problems_of_others(), *self.worker.problems]

    def publish(self) -> None:
        """Write the status soon, because the problems may have changed."""
        self.worker.wake()

    def close(self) -> None:
        """Revoke the lease, so that other hosts see at once that this agent has stopped."""
        if self._lease is not None:
            try:
                self._lease.close()
            except WarrenError as error:
                log.info("lease.left reason=%s", error)

    def _step(self, items: frozenset[str]) -> float | None:
        try:
            self._follow_mtu()
            if not self._registered:
                revision = self._repository.put_host(self._own_record())
                log.info("host.registered name=%s vtep=%s revision=%d", self._host.name, self._host.vtep, revision)
                self._registered, self.refused = True, None
            if not self.worker.stopping.is_set():
                self._report()
            return None
        except WarrenError as error:
            if str(error) != self.refused:
                log.info("host.not_registered reason=%s", error)
            self.refused = str(error)
            return RETRY_S

    def _follow_mtu(self) -> None:
        mtu = self._measure_mtu()
        if mtu is not None and mtu != self._host.underlay_mtu:
            log.info("host.mtu_changed before=%d now=%d", self._host.underlay_mtu, mtu)
            self._host, self._registered = self._host.model_copy(update={"underlay_mtu": mtu}), False

    def _own_record(self) -> Host:
        """Return this host's record: the administrator sets `HostFields` (`warren apply`), the agent sets the other fields."""
        entry = self._repository.store.get(keys.host(self._host.name))
        try:
            before = decode_json(Host, entry.value, entry.key) if entry else self._host
        except Invalid:
            before = self._host
        return self._host.model_copy(update={name: getattr(before, name) for name in HostFields.model_fields})

    def _report(self) -> None:
        if self._lease is None:
            self._lease = EtcdLease(self._repository.store, ttl_s=LEASE_S)
        status = {"version": __version__, "started_at": self._started_at, "problems": self.problems()[:PROBLEMS_SHOWN]}
        self._lease.put(keys.status_agent(self._host.name), json.dumps(status, sort_keys=True))


def underlay_mtu(vtep: IPv4Address | IPv6Address, setting: int | None) -> int | None:
    """Return the MTU in bytes of the interface that has the VTEP's address, or the setting if that is smaller; None if neither
    is known."""
    known = [mtu for mtu in (setting, _interface_mtu(vtep)) if mtu is not None]
    return min(known, default=None)


def _interface_mtu(vtep: IPv4Address | IPv6Address) -> int | None:
    """Return the MTU of the interface that has an address; None if there is none."""
    with IPRoute() as netlink:
        for address in netlink.get_addr():
            if address.get("local", address.get("address")) == str(vtep) or address.get("address") == str(vtep):
                link = netlink.get_links(address["index"])[0]
                return min(int(link.get("mtu", DEFAULT_MTU)), 65_535)  # lo has 65536
    return None
