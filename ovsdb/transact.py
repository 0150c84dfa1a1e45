"""Operations on rows as `transact` operations of RFC 7047 (JSON data). Pure.

Ports are added to and removed from a bridge by mutation, so a bridge with a thousand ports does not send its whole `ports`
column.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ovsdb.operations import (
    ClaimPort,
    CreateBridge,
    CreatePort,
    DeleteBridge,
    DeletePort,
    Op,
    ReleasePort,
    SetControllers,
    UpdateBridge,
    UpdatePort,
)
from ovsdb.rows import CONTROLLER, ENDPOINT_KEY, IFACE_KEY, Bridge, Port
from warren.errors import Conflict, Unavailable

Json = dict[str, Any]


def operations(ops: Iterable[Op], port_uuids: Mapping[str, str], bridge_uuids: Mapping[str, str]) -> list[Json]:
    """Return the operations of one transaction for `ops`. The uuids are those of the rows to delete, by name."""
    requests: list[Json] = []
    for number, op in enumerate(ops):
        requests += _operation(op, f"n{number}", port_uuids, bridge_uuids)
    return requests


def _operation(op: Op, tag: str, port_uuids: Mapping[str, str], bridge_uuids: Mapping[str, str]) -> list[Json]:
    match op:
        case CreateBridge(bridge):
            return _create_bridge(bridge, tag)
        case UpdateBridge():
            return _update_bridge(op)
        case SetControllers(bridge_name, targets):
            return [*_controllers(targets, tag), _update("Bridge", bridge_name, {"controller": _all_named(targets, tag)})]
        case DeleteBridge(name):
            return _delete_bridge(bridge_uuids[name]) if name in bridge_uuids else []
        case CreatePort(bridge_name, port):
            return [*_insert_port(port, tag), _mutate("Bridge", bridge_name, [["ports", "insert", _named(tag + "p")]])]
        case UpdatePort(port):
            return _update_port(port)
        case DeletePort(name):
            return delete_port(port_uuids[name]) if name in port_uuids else []
        case ClaimPort(port, endpoint):
            same = ["external_ids", "includes", _map({IFACE_KEY: port.external_ids[IFACE_KEY]})]
            return [_put("Interface", port.name, "external_ids", {ENDPOINT_KEY: endpoint}, same)]
        case ReleasePort(name, endpoint):
            return [_mutate("Interface", name, [["external_ids", "delete", _map({ENDPOINT_KEY: endpoint})]])]
    raise AssertionError(op)


def _update_bridge(op: UpdateBridge) -> list[Json]:
    changes = [_update("Bridge", op.name, dict(op.columns))] if op.columns else []
    maps = (("external_ids", op.external_ids), ("other_config", op.other_config))
    return changes + [_put("Bridge", op.name, column, values) for column, values in maps if values]


def _update_port(port: Port) -> list[Json]:
    requests = {name: _optional(getattr(port, name)) for name in ("ofport_request", "mtu_request")}
    row = {"type": port.type, "options": _map(port.options), **requests}
    marks = [_put(table, port.name, "external_ids", port.external_ids) for table in ("Interface", "Port")]
    return [_update("Interface", port.name, row), *marks]


def _delete_bridge(uuid: str) -> list[Json]:
    return [{"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["bridges", "delete", ["uuid", uuid]]]}]


def delete_port(uuid: str) -> list[Json]:
    """Remove a port from the bridge that has it. The database then deletes its rows."""
    return [{"op": "mutate", "table": "Bridge", "where": [], "mutations": [["ports", "delete", ["uuid", uuid]]]}]


def member(bridge: str, port_uuid: str) -> Json:
    """Return a query that finds a row only when the port is on the bridge."""
    where = [["name", "==", bridge], ["ports", "includes", ["uuid", port_uuid]]]
    return {"op": "select", "table": "Bridge", "where": where, "columns": ["name"]}


def bump_next_cfg() -> Json:
    """Return the operation that increments `next_cfg`. ovs-vswitchd copies it to `cur_cfg` once it has applied everything
    before it."""
    return {"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["next_cfg", "+=", 1]]}


def _create_bridge(bridge: Bridge, tag: str) -> list[Json]:
    inserts = _insert_port(Port(bridge.name, "internal", external_ids={}), tag)
    ports = [_named(tag + "p")]
    for number, port in enumerate(bridge.ports):
        inserts += _insert_port(port, f"{tag}x{number}")
        ports.append(_named(f"{tag}x{number}p"))
    row = {
        "name": bridge.name,
        "datapath_type": bridge.datapath_type,
        "fail_mode": bridge.fail_mode,
        "controller": _all_named(bridge.controllers, tag),
        "external_ids": _map(bridge.external_ids),
        "other_config": _map(bridge.other_config),
        "ports": ["set", ports],
    }
    return [
        *inserts,
        *_controllers(bridge.controllers, tag),
        {"op": "insert", "table": "Bridge", "uuid-name": tag + "b", "row": row},
        {"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["bridges", "insert", _named(tag + "b")]]},
    ]


def _insert_port(port: Port, tag: str) -> list[Json]:
    interface: Json = {
        "name": port.name,
        "type": port.type,
        "options": _map(port.options),
        "external_ids": _map(port.external_ids),
    }
    if port.ofport_request is not None:
        interface["ofport_request"] = port.ofport_request
    row = {"name": port.name, "interfaces": _named(tag + "i"), "external_ids": _map(port.external_ids)}
    return [
        {"op": "insert", "table": "Interface", "uuid-name": tag + "i", "row": interface},
        {"op": "insert", "table": "Port", "uuid-name": tag + "p", "row": row},
    ]


def _controllers(targets: tuple[str, ...], tag: str) -> Iterable[Json]:
    for number, target in enumerate(targets):
        yield {"op": "insert", "table": "Controller", "uuid-name": f"{tag}c{number}", "row": {"target": target, **CONTROLLER}}


def _all_named(targets: tuple[str, ...], tag: str) -> list[Any]:
    return ["set", [_named(f"{tag}c{number}") for number in range(len(targets))]]


def _update(table: str, name: str, row: Json) -> Json:
    return {"op": "update", "table": table, "where": [["name", "==", name]], "row": row}


def _mutate(table: str, name: str, mutations: list[Any], *where: list[Any]) -> Json:
    return {"op": "mutate", "table": table, "where": [["name", "==", name], *where], "mutations": mutations}


def put_config(key: str, value: str) -> list[Json]:
    """Set a key in the external_ids of the database; other keys stay."""
    mutations = [["external_ids", "delete", ["set", [key]]], ["external_ids", "insert", _map({key: value})]]
    return [{"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": mutations}]


def _put(table: str, name: str, column: str, values: Mapping[str, str], *where: list[Any]) -> Json:
    """Set keys of a map, in a row for which these conditions hold, too; other keys stay."""
    return _mutate(table, name, [[column, "delete", ["set", sorted(values)]], [column, "insert", _map(values)]], *where)


def _named(tag: str) -> list[str]:
    return ["named-uuid", tag]


def _map(values: Mapping[str, str]) -> list[Any]:
    return ["map", [[key, value] for key, value in sorted(values.items())]]


def _optional(value: Any) -> Any:
    return ["set", []] if value is None else value


def results(reply: Any, ops: list[Json]) -> list[Json]:
    """Return the results in a transaction's JSON-RPC reply. Raises `Unavailable`, or `Conflict` for errors in it."""
    if reply is None:
        raise Unavailable("ovsdb", "the connection broke; whether the change was made is not known")
    if reply.error is not None:
        raise Unavailable("ovsdb", str(reply.error))
    replies: list[Json] = reply.result
    for result in replies:
        if result and "error" in result:
            text = f"{result['error']}: {result.get('details', '')}".rstrip(": ")
            raise Conflict(f"OVSDB refused: {text}") if result["error"] == "constraint violation" else Unavailable("ovsdb", text)
    for op, result in zip(ops, replies, strict=False):
        named = op["op"] == "mutate" and op["where"]
        if named and result.get("count") == 0:
            raise Unavailable("ovsdb", f"there is no {op['table'].lower()} {op['where'][0][2]!r}; nothing was changed")
    return replies
