"""This host's own record, and the sign of life under a lease."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from pyroute2 import IPRoute

from agent.config import VERSION
from specs.model.host import Host, HostFields
from specs.model.records import decode_json, now
from specs.store import keys
from specs.store.lease import Lease
from specs.store.repository import Specs
from warren.errors import Invalid, WarrenError

log = logging.getLogger("warren.registration")

LEASE_S = 10
RETRY_S = 1.0
DEFAULT_MTU = 1500


class Registration:
    """Writes the host's record once etcd answers, and its status whenever it is `told`."""

    def __init__(self, host: Host, specs: Specs, problems: Callable[[], list[str]]) -> None:
        self._host, self._specs, self._problems = host, specs, problems
        self._started_at = now()
        self._lease: Lease | None = None
        self._news, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="registration", daemon=True)
        self.refused: str | None = None  # why the record cannot be written

    def start(self) -> None:
        """Start the thread."""
        self._news.set()
        self._thread.start()

    def tell(self) -> None:
        """The problems have changed."""
        self._news.set()

    def stop(self) -> None:
        """End the lease: everybody sees at once that this agent has gone."""
        self._stop.set()
        self._news.set()
        if self._lease is not None:
            try:
                self._lease.close()
            except WarrenError as error:
                log.info("lease.left reason=%s", error)

    def _run(self) -> None:
        registered = False
        while not self._stop.is_set():
            self._news.wait()
            self._news.clear()
            try:
                if not registered:
                    revision = self._specs.put_host(self._as_administered())
                    log.info("host.registered name=%s vtep=%s revision=%d", self._host.name, self._host.vtep, revision)
                    registered, self.refused = True, None
                if not self._stop.is_set():
                    self._report()
            except WarrenError as error:
                if str(error) != self.refused:
                    log.info("host.not_registered reason=%s", error)
                self.refused = str(error)
                self._stop.wait(RETRY_S)
                self._news.set()

    def _as_administered(self) -> Host:
        """`HostFields` are the administrator's (`warren apply`); all else is this agent's to say."""
        entry = self._specs.store.get(keys.host(self._host.name))
        try:
            known = decode_json(Host, entry.value, entry.key) if entry else self._host
        except Invalid:
            known = self._host
        return self._host.model_copy(update={name: getattr(known, name) for name in HostFields.model_fields})

    def _report(self) -> None:
        if self._lease is None:
            self._lease = Lease(self._specs.store, ttl_s=LEASE_S)
        status = {"version": VERSION, "started_at": self._started_at, "problems": self._problems()[:100]}
        self._lease.put(keys.status_agent(self._host.name), json.dumps(status, sort_keys=True))


def underlay_mtu(vtep: IPv4Address | IPv6Address) -> int:
    """The MTU in bytes of the interface that has the VTEP's address; 1500 when there is none."""
    with IPRoute() as netlink:
        for address in netlink.get_addr():
            if address.get("local", address.get("address")) == str(vtep) or address.get("address") == str(vtep):
                link = netlink.get_links(address["index"])[0]
                return min(int(link.get("mtu", DEFAULT_MTU)), 65_535)  # lo has 65536
    return DEFAULT_MTU
