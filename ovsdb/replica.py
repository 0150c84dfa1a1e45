"""The client's replica of the database, indexed for the questions asked of it and updated row by row. Pure: a row is an
object with a `uuid` and an attribute per column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from ovsdb.rows import CONTROLLER, ENCRYPTED_KEY, Observed, ObservedBridge, ObservedPort


class Replica:
    """The replica. Only the client's thread writes it; other threads read single entries or copy a whole dict."""

    def __init__(self) -> None:
        self.interfaces: dict[str, ObservedPort] = {}
        self.ofports: dict[str, int] = {}  # endpoint id -> OpenFlow port, only of ports that work
        self.port_uuids: dict[str, str] = {}
        self.bridge_uuids: dict[str, str] = {}
        self.cur_cfg = -1
        self.encrypted: str | None = None
        self.changed: set[str] = set()
        self.endpoints_changed: set[str] = set()  # endpoints whose port was added, changed or deleted
        self._others: dict[str, ObservedPort] = {}  # interfaces that the agent has not made
        self._bridges: dict[str, ObservedBridge] = {}
        self._bridge_rows: dict[Any, Any] = {}
        self._names: dict[tuple[str, Any], str] = {}  # the last known name of each row
        self._interface_uuids: dict[str, str] = {}

    def load(self, tables: Mapping[str, Iterable[Any]]) -> None:
        """Replace everything with the content of the tables."""
        changed = self.changed | {"ports", "bridge", "config"}
        fresh = Replica()
        for table, rows in tables.items():
            for row in list(rows):
                fresh.row_changed(False, table, row)
        for name, value in vars(fresh).items():
            setattr(self, name, value)
        self.changed = changed

    def row_changed(self, deleted: bool, table: str, row: Any) -> None:
        """Apply the insertion, change or deletion of a row."""
        match table:
            case "Interface":
                self._interface(deleted, row)
            case "Port":
                self._uuid(self.port_uuids, deleted, table, row)
            case "Bridge":
                self._uuid(self.bridge_uuids, deleted, table, row)
                if deleted:
                    self._bridge_rows.pop(row.uuid, None)
                else:
                    self._bridge_rows[row.uuid] = row
                self._read_bridges()
            case "Controller":
                self._read_bridges()
            case "Open_vSwitch" if not deleted:
                self.cur_cfg = row.cur_cfg
                self.changed.add("config")
                if (encrypted := row.external_ids.get(ENCRYPTED_KEY)) != self.encrypted:
                    self.encrypted = encrypted
                    self.changed.add("ports")

    def take_changed(self) -> set[str]:
        """Return what changed since the last call."""
        changed, self.changed = self.changed, set()
        return changed

    def take_endpoints_changed(self) -> set[str]:
        """Return the endpoints whose ports have changed since the last call."""
        changed, self.endpoints_changed = self.endpoints_changed, set()
        return changed

    def observed(self, endpoints: bool) -> Observed:
        """Return an immutable view."""
        ports = dict(self.interfaces) if endpoints else dict(self._others)
        bridges = {name: replace(bridge, local=ports.get(name)) for name, bridge in list(self._bridges.items())}
        return Observed(MappingProxyType(bridges), MappingProxyType(ports))

    def _interface(self, deleted: bool, row: Any) -> None:
        if (old_name := self._forget(self._interface_uuids, "Interface", row)) is not None:
            old = self.interfaces.pop(old_name)
            self._others.pop(old_name, None)
            if old.endpoint is not None:
                self.ofports.pop(old.endpoint, None)
            self._note_change(old)
        if deleted:
            return
        port = _port(row)
        self._remember(self._interface_uuids, "Interface", row)
        self.interfaces[port.name] = port
        if port.endpoint is None or not port.ours:
            self._others[port.name] = port
        if port.endpoint is not None and port.works and port.ofport:
            self.ofports[port.endpoint] = port.ofport
        self._note_change(port)

    def _note_change(self, port: ObservedPort) -> None:
        self.changed.add("ports")
        if port.endpoint is None or not port.ours:
            self.changed.add("bridge")
        if port.endpoint is not None:
            self.endpoints_changed.add(port.endpoint)

    def _uuid(self, uuids: dict[str, str], deleted: bool, table: str, row: Any) -> None:
        self._forget(uuids, table, row)
        if not deleted:
            self._remember(uuids, table, row)
        self.changed.add("config")

    def _remember(self, uuids: dict[str, str], table: str, row: Any) -> None:
        self._names[(table, row.uuid)] = row.name
        uuids[row.name] = str(row.uuid)

    def _forget(self, uuids: dict[str, str], table: str, row: Any) -> str | None:
        """Remove a deleted row's name, unless another row has it now (a port that was replaced in one transaction)."""
        name = self._names.pop((table, row.uuid), None)
        if name is None or uuids.get(name) != str(row.uuid):
            return None
        del uuids[name]
        return name

    def _read_bridges(self) -> None:
        bridges = (_bridge(row) for row in list(self._bridge_rows.values()))
        self._bridges = {bridge.name: bridge for bridge in bridges}
        self.changed.add("bridge")


def _port(row: Any) -> ObservedPort:
    return ObservedPort(
        name=row.name,
        type=row.type,
        options=MappingProxyType(row.options),
        ofport=next(iter(row.ofport), None),
        ofport_request=next(iter(row.ofport_request), None),
        external_ids=MappingProxyType(row.external_ids),
        error=next(iter(row.error), None),
        mtu_request=next(iter(row.mtu_request), None),
    )


def _bridge(row: Any) -> ObservedBridge:
    return ObservedBridge(
        name=row.name,
        datapath_type=row.datapath_type,
        fail_mode=next(iter(row.fail_mode), None),
        protocols=tuple(sorted(row.protocols)),
        stp_enable=row.stp_enable,
        rstp_enable=row.rstp_enable,
        controllers=tuple(sorted(controller.target for controller in row.controller)),
        controllers_as_ours=all(
            list(getattr(controller, column)) == [value] for controller in row.controller for column, value in CONTROLLER.items()
        ),
        external_ids=MappingProxyType(row.external_ids),
        other_config=MappingProxyType(row.other_config),
    )
