"""Which port of a hypervisor an endpoint with an `iface_id` has, and how the two agree. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ovsdb.rows import IFACE_KEY, MAC_KEY, ObservedPort
from specs.model.base import Mac
from specs.model.endpoint import Endpoint
from specs.model.network import Network
from warren.errors import Conflict, Invalid, Unavailable, WarrenError

_MAC = TypeAdapter(Mac)


@dataclass(frozen=True, slots=True, kw_only=True)
class MachinePort:
    """A port that a hypervisor has put on the bridge for a virtual machine, with the MAC of the machine if the hypervisor states it."""

    row: ObservedPort
    mac: str | None


def port_of(iface_id: str, ports: Iterable[ObservedPort]) -> MachinePort:
    """Return the port with an id. Raises `Unavailable` if there is none, `Conflict` if there are several, `Invalid` for a MAC that is none."""
    rows = sorted((port for port in ports if port.iface_id == iface_id), key=lambda port: port.name)
    if not rows:
        raise Unavailable("its port", f"no port of Open vSwitch has external_ids:{IFACE_KEY}={iface_id} (does the machine run?)")
    if len(rows) > 1:
        names = ", ".join(row.name for row in rows)
        raise Conflict(
            f"several ports have external_ids:{IFACE_KEY}={iface_id}: {names}; give each an id of its own", field="iface_id"
        )
    return MachinePort(row=rows[0], mac=attached_mac(rows[0]))


def attached_mac(row: ObservedPort) -> str | None:
    """Return the MAC of the machine behind a port; None if the row has none. Raises `Invalid`."""
    written = row.external_ids.get(MAC_KEY)
    if written is None:
        return None
    try:
        return _MAC.validate_python(written)
    except ValidationError:
        raise Invalid(f"port {row.name}: external_ids:{MAC_KEY}", written, "a unicast MAC address") from None


def require_first(record: Endpoint, local: Iterable[Endpoint], born: Mapping[str, int]) -> None:
    """Raise `Conflict` if another endpoint of the host names the same id: the one created first has the port. `born` are the revisions at which
    records were created, as in a snapshot."""
    rivals = [e for e in local if e.iface_id == record.iface_id and e.active]
    first = min(rivals, key=lambda e: (born.get(f"endpoint/{e.id}", 0), e.id), default=record)
    if first.id != record.id:
        raise Conflict(f"iface_id {record.iface_id} is that of endpoint {first.name or first.id}", field="iface_id")


def at_port(record: Endpoint, network: Network, port: MachinePort) -> Endpoint:
    """Return the record with the interface where its port is now. A MAC that nobody has chosen gives way to the machine's, with the addresses that
    the network reserves for that. Raises `Conflict` if the machine has another MAC than the endpoint."""
    changes: dict[str, Any] = {"device": port.row.name}
    if port.mac is not None and port.mac != record.mac_address:
        if not record.has_default_mac:
            raise Conflict(
                f"port {port.row.name} is for MAC {port.mac} ({MAC_KEY}), the endpoint has {record.mac_address}: give both the same",
                field="mac_address",
            )
        reservation = network.reservation(port.mac)
        reserved = (reservation.ipv4_address, reservation.ipv6_address) if reservation is not None else (None, None)
        pairs = zip(("ipv4_address", "ipv6_address"), reserved, strict=True)
        changes |= {"mac_address": port.mac} | {name: address for name, address in pairs if address is not None}
    return record.model_copy(update=changes)


def differences(record: Endpoint, ports: Mapping[str, ObservedPort]) -> tuple[str, ...]:
    """Return how an endpoint and its port differ, a phrase each."""
    assert record.iface_id is not None
    try:
        port = port_of(record.iface_id, ports.values())
    except WarrenError as error:
        return (str(error),)
    lines = []
    if port.row.name != record.device:
        lines.append(f"its port is {port.row.name} instead of {record.device}")
    if port.mac not in (None, record.mac_address):
        lines.append(f"port {port.row.name} is for MAC {port.mac} instead of {record.mac_address}")
    if port.row.endpoint != record.id:
        lines.append(f"port {port.row.name} is not marked as the endpoint's")
    return tuple(lines)
