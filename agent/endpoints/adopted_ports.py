"""Ports that somebody has put on the bridge by hand and says which network of: endpoints behind interfaces, as long as they are there.

    ovs-vsctl add-port br-warren eth5 -- set Interface eth5 external_ids:warren-network=amber external_ids:warren-acl=wall

The row stays his: Warren never changes or removes it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from acl.policy import network_of
from agent.api.sand import EndpointCreate
from agent.cache import Known
from agent.endpoints.endpoints import Endpoints
from ovsdb.client import Ovsdb
from ovsdb.rows import ObservedPort
from specs.model.records import Endpoint
from specs.model.validation import invalid
from warren.errors import Invalid, NotFound, WarrenError

log = logging.getLogger("warren.lent")

LENT = "ovs.lent"  # label of an endpoint that is there because of such a port
RETRY_S = 5.0


class Lent:
    """Makes and removes the endpoints. `problems` says per interface why there is none; `on_change` hears of news."""

    def __init__(self, bridge: str, known: Known, ovsdb: Ovsdb, endpoints: Endpoints, on_change: Callable[[], None]) -> None:
        self._bridge, self._known, self._ovsdb, self._endpoints, self._on_change = bridge, known, ovsdb, endpoints, on_change
        self.problems: dict[str, str] = {}
        self._changed, self._ended = threading.Event(), threading.Event()

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="lent", daemon=True).start()

    def stop(self) -> None:
        """End the thread after the port that it is at."""
        self._ended.set()
        self._changed.set()

    def look(self) -> None:
        """Ports or specs have changed."""
        self._changed.set()

    def _run(self) -> None:
        while True:
            self._changed.wait(RETRY_S if self.problems else None)
            self._changed.clear()
            if self._ended.is_set():
                return
            if self._known.read.is_set() and self._ovsdb.connected:
                self._settle()

    def _settle(self) -> None:
        marked = {name: port for name, port in self._ovsdb.observed().ports.items() if port.lent}
        held = {e.port: e for e in list(self._known.mine.values()) if e.port is not None and LENT in e.labels}
        if not marked and not held and not self.problems:
            return
        problems: dict[str, str] = {}
        try:
            here = self._ovsdb.on_bridge(self._bridge, marked) if marked else {}
            problems = {name: f"it is not on {self._bridge}" for name in marked if name not in here}
            for name in sorted({*held, *here}):
                try:
                    self._one(marked[name] if name in here else None, held.get(name))
                except WarrenError as error:
                    problems[name] = str(error)
        except WarrenError as error:
            problems = {name: str(error) for name in marked}
        if problems != self.problems:
            self.problems = problems
            self._on_change()

    def _one(self, port: ObservedPort | None, held: Endpoint | None) -> None:
        wanted = self._draft(port) if port is not None else None
        if held is not None and wanted is not None and _says(held) == wanted:
            return
        if held is not None:
            self._endpoints.detach(held)
        if wanted is None or port is None or self._specified(wanted):
            return
        body = {**wanted, "ofport": port.ofport, "labels": {LENT: ""}}
        try:
            made, network = self._endpoints.attach(EndpointCreate.model_validate(body))
        except ValidationError as error:
            raise invalid(error, "external_ids") from None
        log.info("port.lent interface=%s network=%s endpoint=%s", port.name, network.name, made.id)

    def _specified(self, wanted: dict[str, Any]) -> bool:
        """A spec has put the interface on that network."""
        there = ((e.port, e.network_id) for e in list(self._known.mine.values()) if LENT not in e.labels)
        return (wanted["port"], wanted["network_id"]) in there

    def _draft(self, port: ObservedPort) -> dict[str, Any]:
        """What the row says. Raises `NotFound` for a network, `Invalid`."""
        said: Mapping[str, str] = port.external_ids
        network_id = network_of(str(port.lent), dict(self._known.snapshot.networks))
        if network_id is None:
            raise NotFound("network", str(port.lent))
        draft: dict[str, Any] = {"network_id": network_id, "port": port.name, "acls": None, "vlan": None}
        if acls := said.get("warren-acl"):
            draft["acls"] = [acl.strip() for acl in acls.split(",")]
        if vlan := said.get("warren-vlan"):
            if not vlan.isascii() or not vlan.isdigit():
                raise Invalid("external_ids:warren-vlan", vlan, "a VLAN id, 1 to 4094")
            draft["vlan"] = int(vlan)
        return draft


def _says(held: Endpoint) -> dict[str, Any]:
    acls = list(held.acls) if held.acls is not None else None
    return {"network_id": held.network_id, "port": held.port, "acls": acls, "vlan": held.vlan}
