"""Changes of Open vSwitch's rows as values, and the changes that turn observed rows into wanted ones. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ovsdb.rows import (
    IFINDEX_KEY,
    OPENFLOW,
    OWNER,
    Bridge,
    Observed,
    ObservedBridge,
    ObservedPort,
    Port,
    StringMap,
    frozen,
    missing,
)
from warren.errors import Conflict


@dataclass(frozen=True, slots=True)
class CreateBridge:
    """Insert the bridge with its local port, its controller and its ports."""

    bridge: Bridge


@dataclass(frozen=True, slots=True)
class UpdateBridge:
    """Set columns, and keys in maps. Everything else stays."""

    name: str
    columns: Mapping[str, Any] = field(default_factory=dict)
    external_ids: StringMap = field(default_factory=dict)
    other_config: StringMap = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SetControllers:
    """Make `targets` the bridge's only controllers. The rows are replaced, but ovs-vswitchd identifies connections by
    target, so a connection to a target that stays is not interrupted."""

    bridge: str
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeleteBridge:
    """Delete the bridge with all its ports."""

    name: str


@dataclass(frozen=True, slots=True)
class CreatePort:
    """Insert a port into a bridge."""

    bridge: str
    port: Port


@dataclass(frozen=True, slots=True)
class UpdatePort:
    """Replace the type, the options and the requests of a port's interface, and set Warren's keys in the external_ids of both
    rows."""

    port: Port


@dataclass(frozen=True, slots=True)
class DeletePort:
    """Take a port off its bridge."""

    name: str


@dataclass(frozen=True, slots=True)
class ClaimPort:
    """Mark a hypervisor's port as an endpoint's, if it still has the id that the hypervisor gave it."""

    port: ObservedPort
    endpoint: str


@dataclass(frozen=True, slots=True)
class ReleasePort:
    """Remove the mark of an endpoint from a hypervisor's port. Another endpoint's stays."""

    name: str
    endpoint: str


Op = CreateBridge | UpdateBridge | SetControllers | DeleteBridge | CreatePort | UpdatePort | DeletePort | ClaimPort | ReleasePort


def diff(desired: tuple[Bridge, ...], observed: Observed) -> tuple[Op, ...]:
    """Return the operations that turn `observed` into `desired`. Removes rows of the controller that are not desired; never
    touches endpoints' ports and foreign rows. Raises `Conflict` where a foreign row has a name that Warren needs."""
    ops: list[Op] = []
    for bridge in sorted(desired, key=lambda row: row.name):
        ops += _bridge_ops(bridge, observed)
    wanted_bridges = {bridge.name for bridge in desired}
    wanted_ports = {port.name for bridge in desired for port in bridge.ports}
    for name, port in sorted(observed.ports.items()):
        if port.ours and port.endpoint is None and name not in wanted_ports | wanted_bridges:
            ops.append(DeletePort(name))
    for name, observed_bridge in sorted(observed.bridges.items()):
        if observed_bridge.ours and name not in wanted_bridges:
            ops.append(DeleteBridge(name))
    return tuple(ops)


def _bridge_ops(bridge: Bridge, observed: Observed) -> list[Op]:
    current = observed.bridge(bridge.name)
    if current is None:
        names = (bridge.name, *(port.name for port in bridge.ports))
        holders = [name for name in names if observed.port(name) is not None]
        if holders:
            raise Conflict(f"OVSDB already has a port named {holders[0]!r}, which bridge {bridge.name!r} needs")
        return [CreateBridge(bridge)]
    if not current.ours and current.other_config.get("datapath-id") != bridge.other_config["datapath-id"]:
        raise Conflict(f"bridge {bridge.name!r} exists and is not Warren's (no external_ids:owner=warren)")
    ops: list[Op] = []
    columns = _bridge_columns(bridge, current)
    ids, other = missing(bridge.external_ids, current.external_ids), missing(bridge.other_config, current.other_config)
    if columns or ids or other:
        ops.append(UpdateBridge(bridge.name, MappingProxyType(columns), frozen(ids), frozen(other)))
    if current.controllers != bridge.controllers or not current.controllers_as_ours:
        ops.append(SetControllers(bridge.name, bridge.controllers))
    for port in sorted(bridge.ports, key=lambda row: row.name):
        ops += _port_ops(bridge.name, port, observed.port(port.name))
    return ops


def _bridge_columns(bridge: Bridge, row: ObservedBridge) -> dict[str, Any]:
    """Return the columns to set. A spanning tree would block ports. Further versions of OpenFlow are the administrator's."""
    desired = {"datapath_type": bridge.datapath_type, "fail_mode": bridge.fail_mode, "stp_enable": False, "rstp_enable": False}
    columns = {name: value for name, value in desired.items() if getattr(row, name) != value}
    if row.protocols and OPENFLOW not in row.protocols:
        columns["protocols"] = ["set", sorted({*row.protocols, OPENFLOW})]
    return columns


def _port_ops(bridge: str, port: Port, row: ObservedPort | None) -> list[Op]:
    if row is None:
        return [CreatePort(bridge, port)]
    same = (row.type, dict(row.options), row.ofport_request) == (port.type, dict(port.options), port.ofport_request)
    unmarked = same and port.type != "" and row.external_ids.get(OWNER[0]) is None and row.lent is None
    if row.endpoint is not None or not (row.ours or unmarked):
        raise Conflict(f"port {port.name!r} exists and is not the controller's")
    index = row.external_ids.get(IFINDEX_KEY)
    if index is not None and index != port.external_ids.get(IFINDEX_KEY):
        return [DeletePort(port.name)]  # made anew under its name: see `is_stale`; it is put in again once it is out
    if same and port.type != "" and (row.error or row.ofport == -1):
        return [DeletePort(port.name)]  # ovs-vswitchd does not try again when a row that it refused is right again
    same = same and row.mtu_request == port.mtu_request and not missing(port.external_ids, row.external_ids)
    return [] if same else [UpdatePort(port)]
