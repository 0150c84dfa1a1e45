"""Adopts interfaces of other programs (nspawn's `ve-web`, a tap of libvirt or QEMU) by rule: each is an endpoint as long as it exists.

This feature writes the record that a rule describes, with a label that names the rule; the record is plugged in as any other
(agent/endpoints/repairs.py). Warren never deletes such an interface.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from agent.cache import Cache, CacheView
from agent.endpoints.adopted_records import AdoptedRecords, as_drafted, draft_of, require_network
from agent.endpoints.devices import Devices
from agent.feature import Feature
from agent.linux import devices, netns
from agent.linux.devices import Device
from agent.linux.first_frame import FirstFrame
from agent.listeners import Listeners
from specs.model.adoption import Adoption, rule_for
from specs.model.endpoint import ADOPTED_BY, Endpoint
from specs.snapshot import Decoded, Snapshot
from warren.errors import Conflict, Unavailable, WarrenError
from warren.worker import Worker

log = logging.getLogger("warren.adopted_devices")

RETRY_S = 5.0
LISTEN_S = 1.0  # between two attempts to read the first frame of a virtual machine
CALM_S = 15.0  # between comparisons without an event: a container may have changed its MAC
SILENT = "no frame has come from it yet, which would tell the MAC of the machine behind it"


@dataclass(slots=True)
class _Listening:
    """The machine behind a tap: the tap's index, the socket that waits for its first frame, and its MAC once that is known."""

    index: int
    frames: FirstFrame | None
    mac: str | None = None


class AdoptedDevices(Feature):
    """Creates an endpoint for each interface that a rule names, and removes it with the interface or the rule. `on_change` is called when
    `problems` have changed; `link_changed` calls its listeners with the name of an interface that is not Warren's. Those that `hypervisors` returns are put on the
    bridge by somebody else (agent/endpoints/machine_ports.py)."""

    def __init__(
        self,
        *,
        cache: Cache,
        records: AdoptedRecords,
        hypervisors: Callable[[], Container[str]],
        taken: Devices,
        link_changed: Listeners[[str]],
        userspace: Callable[[], bool],
        on_change: Listeners[[]],
    ) -> None:
        self._cache, self._records, self._taken, self._on_change = cache, records, taken, on_change
        self._userspace, self._hypervisors = userspace, hypervisors
        self._reasons: dict[str, str] = {}  # interface -> why it has no endpoint, or one that does not work
        self._listening: dict[str, _Listening] = {}
        self._made: frozenset[str] = frozenset()  # ids of the endpoints that rules have made
        self._worker = Worker("adopted devices", self._step, on_change=on_change)
        cache.changed.add(self._endpoints_changed)
        cache.updated.add(self._specs_updated)
        cache.reread.add(self._worker.wake)
        link_changed.add(self._link_changed)

    def workers(self) -> Sequence[Worker]:
        """Return the reconciling worker."""
        return (self._worker,)

    def problems(self) -> list[str]:
        """Return a line for each interface that a rule names and that has no endpoint."""
        return [f"interface {name}, named by an adoption rule: {reason}" for name, reason in sorted(self._reasons.copy().items())]

    # ---- events ---------------------------------------------------------------------------------------------------

    def _endpoints_changed(self, ids: Iterable[str]) -> None:
        if not self._made.isdisjoint(ids):
            self._worker.wake()

    def _specs_updated(self, before: Snapshot, after: Snapshot, changes: Iterable[Decoded]) -> None:
        if any(change.kind == "adoption" or (change.kind == "network" and after.adoptions) for change in changes):
            self._worker.wake()

    def _link_changed(self, name: str) -> None:
        rules = self._cache.view.snapshot.adoptions.values()
        if rules and rule_for(self._records.host, name, rules) is not None:
            self._worker.wake()

    # ---- the worker -----------------------------------------------------------------------------------------------

    def _step(self, items: frozenset[str]) -> float | None:
        view = self._cache.view
        if not self._cache.synced.is_set():
            return None
        adopted = {
            e.device: e for e in view.local_endpoints.values() if e.device and e.iface_id is None and ADOPTED_BY in e.labels
        }
        self._made = frozenset(e.id for e in adopted.values())
        noted = self._taken.noted()
        if not (view.snapshot.adoptions or adopted or self._reasons or noted):
            return None
        rules = self._rules(view)
        reasons: dict[str, str] = {}
        for name in sorted({*adopted, *rules}):
            try:
                if (reason := self._reconcile(view, name, rules.get(name), adopted.get(name))) is not None:
                    reasons[name] = reason
            except WarrenError as error:
                reasons[name] = str(error)
        for name in self._listening.keys() - rules.keys():
            self._forget(name)
        self._give_back(noted - rules.keys())
        if reasons != self._reasons:
            self._reasons = reasons
            self._on_change()
        if any(listening.frames is not None for listening in self._listening.values()):
            return LISTEN_S
        return RETRY_S if reasons else CALM_S

    def _rules(self, view: CacheView) -> dict[str, Adoption]:
        """Return the rule of each interface of this host that has one, without those that a spec names itself."""
        declared = {e.device for e in view.local_endpoints.values() if e.device and ADOPTED_BY not in e.labels}
        rules, hypervisors = list(view.snapshot.adoptions.values()), self._hypervisors()
        names = (name for name in netns.interfaces() if name not in declared and name not in hypervisors)
        chosen = ((name, rule_for(self._records.host, name, rules)) for name in names)
        return {name: rule for name, rule in chosen if rule is not None}

    def _reconcile(self, view: CacheView, name: str, rule: Adoption | None, endpoint: Endpoint | None) -> str | None:
        """Make the endpoint of an interface as its rule says; return a problem of an interface that has one. Raises `WarrenError`."""
        device = devices.read(name) if rule is not None else None
        if (
            rule is None or device is None
        ):  # an interface of another kind, such as a network card, gets no endpoint, whatever its name
            self._remove(name, endpoint)
            return None
        if (problem := devices.obstacle(device)) is not None:
            self._remove(name, endpoint)
            raise Conflict(f"it {problem}")
        draft = self._draft(view, rule, device, endpoint)
        if endpoint is not None and not as_drafted(endpoint, draft):
            self._records.remove(endpoint)
            endpoint = None
        if endpoint is None:
            self._records.create(name, draft)
            self._stop_listening(name)
        return devices.HEADERS if device.headers and self._userspace() else None

    def _draft(self, view: CacheView, rule: Adoption, device: Device, endpoint: Endpoint | None) -> dict[str, Any]:
        network_id = require_network(rule, view.snapshot)
        return draft_of(rule, network_id, self._mac(device, endpoint))

    def _remove(self, name: str, endpoint: Endpoint | None) -> None:
        self._forget(name)
        if endpoint is not None:
            self._records.remove(endpoint)

    # ---- the MAC of the machine behind an interface -----------------------------------------------------------------

    def _mac(self, device: Device, endpoint: Endpoint | None) -> str:
        """Return the MAC of the container or the virtual machine. Raises `Unavailable` while it is not known."""
        if device.kind == "veth":
            if device.far is None:
                raise Unavailable("its other end", "it is not to be found in any namespace of this host")
            return device.far.mac
        listening = self._listen(device)
        if listening.frames is not None and (mac := listening.frames.mac()) is not None:
            listening.mac = mac
        if listening.mac is None and endpoint is None:
            raise Unavailable("its MAC", SILENT)
        if listening.mac is not None and endpoint is not None and listening.mac == endpoint.mac_address:
            self._stop_listening(device.link.name)
        return listening.mac or endpoint.mac_address  # type: ignore[union-attr]

    def _listen(self, device: Device) -> _Listening:
        """Return what is known of the machine behind a tap. Listens to each new tap, until an endpoint has the MAC."""
        name, index = device.link.name, device.link.index
        if (before := self._listening.get(name)) is not None and before.index == index:
            return before
        self._forget(name)
        self._taken.note(device)
        devices.raise_up(device)
        self._listening[name] = _Listening(index, FirstFrame(name))
        return self._listening[name]

    def _stop_listening(self, name: str) -> None:
        if (listening := self._listening.get(name)) is not None and listening.frames is not None:
            listening.frames.close()
            listening.frames = None

    def _forget(self, name: str) -> None:
        """Forget the machine behind a tap that is gone, or that no rule names any more."""
        self._stop_listening(name)
        self._listening.pop(name, None)

    def _give_back(self, names: Iterable[str]) -> None:
        """Give back those of these interfaces that no endpoint has."""
        needed = {e.device for e in self._cache.view.local_endpoints.values()}  # read last, because attaches continue meanwhile
        hypervisors = self._hypervisors()
        for name in sorted(name for name in set(names) - needed if name not in hypervisors):
            try:
                self._taken.give_back(name)
            except WarrenError as error:
                log.warning("device.not_given_back name=%s reason=%s", name, error)
