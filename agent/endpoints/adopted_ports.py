"""Adopts ports that an operator adds to the bridge: each becomes an endpoint behind an interface until the port is removed.

    ovs-vsctl add-port br-warren eth5 -- set Interface eth5 external_ids:warren-network=amber external_ids:warren-acl=wall

The operator owns the OVSDB row: Warren never changes or removes it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import ValidationError

from acl.policy import network_of
from agent.cache import Cache, CacheView
from agent.endpoints.endpoints import Endpoints
from agent.endpoints.request import EndpointCreate
from agent.feature import Feature
from agent.listeners import Listeners
from ovsdb.client import Ovsdb
from ovsdb.rows import ObservedPort
from specs.model.endpoint import ADOPTED, Endpoint
from specs.model.validation import invalid
from warren.errors import Invalid, NotFound, WarrenError
from warren.worker import Worker

log = logging.getLogger("warren.adopted_ports")

RETRY_S = 5.0


class AdoptedPorts(Feature):
    """Creates an endpoint for each adopted port and removes it with the port. `on_change` is called when `problems` have
    changed."""

    def __init__(
        self,
        bridge: str,
        *,
        cache: Cache,
        ovsdb: Ovsdb,
        ovsdb_changed: Listeners[[set[str]]],
        endpoints: Endpoints,
        on_change: Callable[[], None],
    ) -> None:
        self._bridge, self._cache, self._ovsdb, self._endpoints, self._on_change = bridge, cache, ovsdb, endpoints, on_change
        self._reasons: dict[str, str] = {}  # interface name -> why the interface has no endpoint
        self._worker = Worker("adopted ports", self._step, on_change=on_change)
        cache.changed.add(lambda ids: self._worker.wake())
        ovsdb_changed.add(lambda what: self._worker.wake())

    def workers(self) -> Sequence[Worker]:
        """Return the reconciling worker."""
        return (self._worker,)

    def problems(self) -> list[str]:
        """Return a line for each port that has no endpoint."""
        return [f"port {name}, added to the bridge by hand: {reason}" for name, reason in sorted(self._reasons.copy().items())]

    def _step(self, items: frozenset[str]) -> float | None:
        if self._cache.synced.is_set() and self._ovsdb.connected:
            self._reconcile(self._cache.view)
        return RETRY_S if self._reasons else None

    def _reconcile(self, view: CacheView) -> None:
        marked = {name: port for name, port in self._ovsdb.observed().ports.items() if port.lent}
        adopted = {e.port: e for e in view.local_endpoints.values() if e.port is not None and ADOPTED in e.labels}
        if not marked and not adopted and not self._reasons:
            return
        try:
            on_bridge = self._ovsdb.on_bridge(self._bridge, marked) if marked else {}
            reasons = {name: f"it is not on {self._bridge}" for name in marked if name not in on_bridge}
            for name in sorted({*adopted, *on_bridge}):
                try:
                    self._reconcile_port(view, marked[name] if name in on_bridge else None, adopted.get(name))
                except WarrenError as error:
                    reasons[name] = str(error)
        except WarrenError as error:
            reasons = {name: str(error) for name in marked}
        if reasons != self._reasons:
            self._reasons = reasons
            self._on_change()

    def _reconcile_port(self, view: CacheView, port: ObservedPort | None, endpoint: Endpoint | None) -> None:
        draft = _draft(view, port) if port is not None else None
        if endpoint is not None and draft is not None and _fields(endpoint) == draft:
            return
        if endpoint is not None:
            self._endpoints.detach(endpoint)
        if draft is None or port is None or _declared(view, draft):
            return
        body = {**draft, "ofport": port.ofport, "labels": {ADOPTED: ""}}
        try:
            made, network = self._endpoints.attach(EndpointCreate.model_validate(body))
        except ValidationError as error:
            raise invalid(error, "external_ids") from None
        log.info("port.adopted interface=%s network=%s endpoint=%s", port.name, network.name, made.id)


def _declared(view: CacheView, draft: dict[str, Any]) -> bool:
    """Return whether a spec already puts the interface on that network."""
    declared = {(e.port, e.network_id) for e in view.local_endpoints.values() if ADOPTED not in e.labels}
    return (draft["port"], draft["network_id"]) in declared


def _draft(view: CacheView, port: ObservedPort) -> dict[str, Any]:
    """Return the endpoint that the row describes. Raises `NotFound` for a network that does not exist, `Invalid` for a bad
    VLAN id."""
    network_id = network_of(str(port.lent), view.snapshot.networks)
    if network_id is None:
        raise NotFound("network", str(port.lent))
    draft: dict[str, Any] = {"network_id": network_id, "port": port.name, "acls": None, "vlan": None}
    if acls := port.external_ids.get("warren-acl"):
        draft["acls"] = [acl.strip() for acl in acls.split(",")]
    if vlan := port.external_ids.get("warren-vlan"):
        if not vlan.isascii() or not vlan.isdigit():
            raise Invalid("external_ids:warren-vlan", vlan, "a VLAN id, 1 to 4094")
        draft["vlan"] = int(vlan)
    return draft


def _fields(endpoint: Endpoint) -> dict[str, Any]:
    acls = list(endpoint.acls) if endpoint.acls is not None else None
    return {"network_id": endpoint.network_id, "port": endpoint.port, "acls": acls, "vlan": endpoint.vlan}
